//! [`Client`]: a connection to a cluster, and the calls that name a path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{
    self, StatRequest, StatusReply, StatusRequest, WaitIntentRequest, WaitPersistedRequest,
};
use cairn_types::{
    ChunkId, ClusterId, FsError, Inode, InodeId, IntentId, NodeId, Policy, SessionId, Timestamp,
};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::answer::inode_of;
use crate::append::Appender;
use crate::chunk_writer::SharedChunks;
use crate::connection::Connections;
use crate::error::{Cause, Error, Result};
use crate::fetch;
use crate::file::File;
use crate::growth::{PolicyAt, Reach};
use crate::listing::{Listing, ListingOptions};
use crate::meta::Leader;
use crate::options::ConnectOptions;
use crate::put::{PutWriter, put_bytes};
use crate::read;
use crate::session::Session;
use crate::suspects::Suspects;
use crate::target::At;

/// Directories whose policy is remembered, at most.
const POLICIES_MAX: usize = 1024;
/// How long a directory's policy and the list of nodes are remembered.
const REMEMBER: Duration = Duration::from_secs(5);
/// How long one question about an intent waits at the server.
const WAIT_MS: u64 = 2_000;

/// A connection to a cluster with one session. Cheap to clone; share it between tasks.
#[derive(Clone)]
pub struct Client {
    reach: Reach,
    chunks: SharedChunks,
    suspects: Suspects,
    owner: (u32, u32),
    // Guards: what is remembered for a few seconds to save round trips, never for safety.
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    policies: HashMap<At, (PolicyAt, Instant)>,
    nodes: Option<(Vec<String>, Instant)>,
}

/// What [`Client::set_attr`] changes; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// Permission bits, 0–0o7777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes: cut, or grown with zeros.
    pub size: Option<u64>,
    /// Time of the last change of content.
    pub mtime: Option<Timestamp>,
    /// Time of the last access.
    pub atime: Option<Timestamp>,
    /// Refuse with `VersionMismatch` unless the inode is at this version.
    pub expected_version: Option<u64>,
}

/// What a rename does about an existing destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as rename(2) does.
    #[default]
    Replace,
    /// Refuse with `Exists` (RENAME_NOREPLACE of renameat2(2)).
    NoReplace,
    /// Swap the two (RENAME_EXCHANGE of renameat2(2)).
    Exchange,
}

impl Client {
    /// Connects: finds the leader, checks the cluster, opens a session.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers within the retry budget, `Invalid` when the servers
    /// belong to another cluster than [`ConnectOptions::cluster_id`].
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let options = Arc::new(options);
        let connections = Connections::new(Duration::from_secs(1));
        let leader = Leader::connect(connections.clone(), Arc::clone(&options)).await?;
        let session = Session::open(leader.clone(), &options.name).await?;
        let reach = Reach { connections, leader, session, options };
        let chunks = SharedChunks::new(reach.clone());
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Ok(Self { reach, chunks, suspects: Suspects::default(), owner, memory: Arc::default() })
    }

    /// The same connection, which gives what it creates to this owner and group.
    #[must_use]
    pub fn with_owner(&self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self.clone() }
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.reach.connections.cluster()
    }

    /// The session in force.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.reach.session.id()
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn chunks(&self) -> &SharedChunks {
        &self.chunks
    }

    pub(crate) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    pub(crate) fn uid(&self) -> u32 {
        self.owner.0
    }

    pub(crate) fn gid(&self) -> u32 {
        self.owner.1
    }

    /// Closes the open chunks and ends the session. Handles still open fail from then on. The
    /// chunks' ends and the session's are on a majority of the metadata servers when this returns;
    /// bytes that a handle holds back are not written. A client whose last copy is dropped without
    /// it ends with its lease.
    ///
    /// # Errors
    /// When a chunk's end or the session's could not be told to the cluster: both then happen
    /// at the end of the session's lease. Nothing acknowledged is lost.
    pub async fn close(self) -> Result<()> {
        let rolled = self.chunks.roll_all().await;
        let closed = self.reach.session.close().await;
        rolled.and(closed)
    }

    /// Leaves without a word, as a crash would: the servers release what the session holds
    /// when its lease ends. For tests.
    pub fn abandon(self) {
        self.reach.session.abandon();
    }

    async fn change(&self, action: &'static str, at: &At, operation: Operation) -> Result<v1::MutateReply> {
        let subject = at.to_string();
        loop {
            match self.reach.session.change(action, &subject, operation.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => self.seal_or_give_up(error).await?,
            }
        }
    }

    /// Seals the open tail, or waits for the import, that `error` names; any other error is
    /// given back.
    pub(crate) async fn seal_or_give_up(&self, error: Error) -> Result<()> {
        match error.fs() {
            Some(FsError::TailOpen { chunk } | FsError::ChunkState { chunk }) => {
                self.seal(*chunk, "a change depends on the file's length").await
            }
            Some(FsError::Importing { intent }) => self.wait_intent(*intent).await,
            _ => Err(error),
        }
    }

    pub(crate) async fn seal(&self, chunk: ChunkId, reason: &str) -> Result<()> {
        let request =
            v1::SealChunkRequest { chunk: chunk.0, epoch: 0, reason: reason.to_owned(), blame_node: 0 };
        let sealed = self
            .reach
            .leader
            .call("seal", &chunk.to_string(), request, |mut meta, request| async move {
                meta.seal_chunk(request).await
            })
            .await;
        match sealed {
            // Sealed and collected already.
            Err(error) if error.fs() == Some(&FsError::NotFound) => Ok(()),
            sealed => sealed.map(|_| ()),
        }
    }

    async fn wait_intent(&self, intent: IntentId) -> Result<()> {
        let deadline = Instant::now() + self.reach.options.retry_budget;
        loop {
            let request = WaitIntentRequest { intent: intent.0, timeout_ms: WAIT_MS };
            let reply = self
                .reach
                .leader
                .call("wait for S3", &intent.to_string(), request, |mut meta, request| async move {
                    meta.wait_intent(request).await
                })
                .await?;
            if reply.done && reply.failure.is_empty() {
                return Ok(());
            }
            if !reply.failure.is_empty() || Instant::now() >= deadline {
                let seconds = self.reach.options.retry_budget.as_secs();
                let last = if reply.failure.is_empty() {
                    "S3 has not answered yet".to_owned()
                } else {
                    reply.failure
                };
                return Err(Error::new("wait for S3", "", Cause::RetriesUsedUp { seconds, last }));
            }
        }
    }

    /// A read of the metadata that waits for an import when one is needed.
    pub(crate) async fn ask_imported<M, R, F, Fut>(
        &self,
        action: &'static str,
        subject: &str,
        message: M,
        send: F,
    ) -> Result<R>
    where
        M: Clone,
        F: Fn(MetaClient<Channel>, Request<M>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        loop {
            match self.reach.leader.call(action, subject, message.clone(), &send).await {
                Ok(reply) => return Ok(reply),
                Err(error) => match error.fs() {
                    Some(FsError::Importing { intent }) => self.wait_intent(*intent).await?,
                    _ => return Err(error),
                },
            }
        }
    }

    async fn stat_wire(&self, action: &'static str, at: &At, no_follow: bool) -> Result<v1::StatReply> {
        let target = at.wire(action, no_follow)?;
        let request = StatRequest { group: 0, target: Some(target), consistency: 0 };
        self.ask_imported(action, &at.to_string(), request, |mut meta, request| async move {
            meta.stat(request).await
        })
        .await
    }

    /// Attributes; a symlink that is the last component is followed. Linearizable. For a growing
    /// file the size is that of all acknowledged bytes.
    ///
    /// # Errors
    /// What path resolution met: `NotFound`, `NotDirectory`, `TooManySymlinks`.
    pub async fn stat(&self, at: impl Into<At>) -> Result<Inode> {
        self.stat_at(&at.into(), false).await
    }

    /// As [`stat`](Self::stat), of a symlink itself.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    pub async fn symlink_stat(&self, at: impl Into<At>) -> Result<Inode> {
        self.stat_at(&at.into(), true).await
    }

    async fn stat_at(&self, at: &At, no_follow: bool) -> Result<Inode> {
        let reply = self.stat_wire("stat", at, no_follow).await?;
        let mut inode = inode_of("stat", &at.to_string(), reply.inode.as_ref())?;
        if inode.tail.is_some() {
            let target = At::Inode(inode.ino).wire("stat", true)?;
            let view = read::View::load(self, &target, &at.to_string()).await?;
            let length = view.length();
            inode = view.inode;
            inode.size = length;
        }
        Ok(inode)
    }

    /// Makes a directory. It is durable, on a majority of the metadata servers, and seen by
    /// everybody when this returns.
    ///
    /// # Errors
    /// `Exists`, `NotFound` (its parent), `NotDirectory`, `NameTooLong`, `ReadOnlyMount`.
    pub async fn mkdir(&self, at: impl Into<At>, mode: u32) -> Result<Inode> {
        self.mkdir_with(&at.into(), mode, false).await
    }

    /// Makes a directory and those above it that are missing; one that exists is answered. All are
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir); `Exists` when the path is no directory.
    pub async fn mkdir_all(&self, at: impl Into<At>, mode: u32) -> Result<Inode> {
        self.mkdir_with(&at.into(), mode, true).await
    }

    async fn mkdir_with(&self, at: &At, mode: u32, parents: bool) -> Result<Inode> {
        let target = Some(at.wire("mkdir", false)?);
        let mkdir = v1::Mkdir { target, mode, uid: self.uid(), gid: self.gid(), parents };
        let reply = self.change("mkdir", at, Operation::Mkdir(mkdir)).await?;
        inode_of("mkdir", &at.to_string(), reply.inode.as_ref())
    }

    /// Makes a symlink at `at` that leads to `to`, which need not exist. It is durable, on a
    /// majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Exists`, `InvalidTarget` and those of [`mkdir`](Self::mkdir).
    pub async fn symlink(&self, to: impl AsRef<[u8]>, at: impl Into<At>) -> Result<Inode> {
        let at = at.into();
        let target = Some(at.wire("symlink", true)?);
        let to = to.as_ref().to_vec().into();
        let symlink = v1::Symlink { target, to, uid: self.uid(), gid: self.gid() };
        let reply = self.change("symlink", &at, Operation::Symlink(symlink)).await?;
        inode_of("symlink", &at.to_string(), reply.inode.as_ref())
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// `NotSymlink`, and those of [`stat`](Self::stat).
    pub async fn read_link(&self, at: impl Into<At>) -> Result<Vec<u8>> {
        let at = at.into();
        let inode = self.stat_at(&at, true).await?;
        inode.target.ok_or_else(|| Error::new("read the link", &at, FsError::NotSymlink))
    }

    /// Gives the file at `from` one more name, `to`. The name is durable, on a majority of the
    /// metadata servers, when this returns.
    ///
    /// # Errors
    /// `LinkDirectory`, `TooManyLinks`, `CrossMount`, `Exists`.
    pub async fn link(&self, from: impl Into<At>, to: impl Into<At>) -> Result<Inode> {
        let (from, to) = (from.into(), to.into());
        let link = v1::Link { from: Some(from.wire("link", true)?), to: Some(to.wire("link", true)?) };
        let reply = self.change("link", &to, Operation::Link(link)).await?;
        inode_of("link", &to.to_string(), reply.inode.as_ref())
    }

    /// Renames a file or a directory, whatever it holds, in one atomic step. It is durable, on a
    /// majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `NotFound`, `Exists` (with [`RenameMode::NoReplace`]), `NotEmpty`, `IsDirectory`,
    /// `NotDirectory`, `IntoItself`, `CrossMount`, `ReadOnlyMount`.
    pub async fn rename(&self, from: impl Into<At>, to: impl Into<At>, mode: RenameMode) -> Result<()> {
        let (from, to) = (from.into(), to.into());
        let rename = v1::Rename {
            from: Some(from.wire("rename", true)?),
            to: Some(to.wire("rename", true)?),
            no_replace: mode == RenameMode::NoReplace,
            exchange: mode == RenameMode::Exchange,
        };
        self.change("rename", &from, Operation::Rename(rename)).await.map(|_| ())
    }

    /// Removes the name of a file or symlink. The removal is durable, on a majority of the
    /// metadata servers, when this returns; the bytes are deleted later.
    ///
    /// # Errors
    /// `IsDirectory`, `NotFound`, `ReadOnlyMount`.
    pub async fn unlink(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        let unlink = v1::Unlink { target: Some(at.wire("remove", true)?) };
        self.change("remove", &at, Operation::Unlink(unlink)).await.map(|_| ())
    }

    /// Removes an empty directory. The removal is durable, on a majority of the metadata servers,
    /// when this returns.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `IsMountRoot`, `IsRoot`.
    pub async fn rmdir(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        let rmdir = v1::Rmdir { target: Some(at.wire("remove the directory", true)?) };
        self.change("remove the directory", &at, Operation::Rmdir(rmdir)).await.map(|_| ())
    }

    /// Removes a file, a symlink or an empty directory. The removal is durable, on a majority of
    /// the metadata servers, when this returns.
    ///
    /// # Errors
    /// Those of [`unlink`](Self::unlink) and [`rmdir`](Self::rmdir).
    pub async fn remove(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        match self.unlink(&at).await {
            Err(error) if error.fs() == Some(&FsError::IsDirectory) => self.rmdir(&at).await,
            outcome => outcome,
        }
    }

    /// Changes attributes. A growing file is sealed first when its size is set. The change is
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `VersionMismatch`, `FileTooLarge`, `IsDirectory` (for a size).
    pub async fn set_attr(&self, at: impl Into<At>, change: AttrChange) -> Result<Inode> {
        let at = at.into();
        let set = v1::SetAttr {
            target: Some(at.wire("set attributes", false)?),
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            mtime_ns: change.mtime.map(|t| t.0),
            atime_ns: change.atime.map(|t| t.0),
            expected_version: change.expected_version,
        };
        let reply = self.change("set attributes", &at, Operation::SetAttr(set)).await?;
        inode_of("set attributes", &at.to_string(), reply.inode.as_ref())
    }

    /// Sets a directory's policy for what is written under it from now on; `None` inherits again.
    /// It is durable, on a majority of the metadata servers, when this returns. Other clients may
    /// write by the old policy for some seconds more.
    ///
    /// # Errors
    /// `InvalidPolicy`, `NotDirectory`.
    pub async fn set_policy(&self, at: impl Into<At>, policy: Option<Policy>) -> Result<()> {
        let at = at.into();
        let target = Some(at.wire("set the policy", false)?);
        let set = v1::SetPolicy { target, policy: policy.as_ref().map(v1::Policy::from) };
        self.change("set the policy", &at, Operation::SetPolicy(set)).await?;
        self.forget_policies();
        Ok(())
    }

    /// The policy in force at a path.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat).
    pub async fn policy(&self, at: impl Into<At>) -> Result<Policy> {
        let at = at.into();
        let reply = self.stat_wire("read the policy", &at, false).await?;
        let policy = reply.policy.unwrap_or_default();
        Policy::try_from(&policy).map_err(|e| Error::new("read the policy", &at, e))
    }

    /// A directory's entries with their attributes, in order, from one point in time.
    pub fn list(&self, at: impl Into<At>, options: ListingOptions) -> Listing {
        Listing::new(self.clone(), at.into(), options)
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`.
    pub async fn open(&self, at: impl Into<At>) -> Result<File> {
        File::open(self.clone(), at.into()).await
    }

    /// Makes a file, or opens and empties the one there is. The entry is durable, on a majority of
    /// the metadata servers, and seen when this returns; the bytes written to the handle are, at
    /// its `fsync` and `close`.
    ///
    /// # Errors
    /// Those of [`mkdir`](Self::mkdir); `IsDirectory`.
    pub async fn create(&self, at: impl Into<At>, mode: u32) -> Result<File> {
        let at = at.into();
        let inode = self.create_entry(&at, mode, false, true).await?;
        File::open(self.clone(), At::Inode(inode.ino)).await
    }

    /// Makes a file that must not exist. The entry is durable, on a majority of the metadata
    /// servers, when this returns.
    ///
    /// # Errors
    /// `Exists`, and those of [`create`](Self::create).
    pub async fn create_new(&self, at: impl Into<At>, mode: u32) -> Result<File> {
        let at = at.into();
        let inode = self.create_entry(&at, mode, true, false).await?;
        File::open(self.clone(), At::Inode(inode.ino)).await
    }

    /// Makes an empty file where none is; one that exists is answered as it is, or emptied with
    /// `truncate`. The entry is durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Exists` when it must not exist and does; `IsDirectory`.
    pub async fn create_entry(&self, at: &At, mode: u32, exclusive: bool, truncate: bool) -> Result<Inode> {
        let create = v1::Create {
            target: Some(at.wire("create", false)?),
            mode,
            uid: self.uid(),
            gid: self.gid(),
            exclusive,
            truncate,
            extents: Vec::new(),
        };
        let reply = self.change("create", at, Operation::Create(create)).await?;
        inode_of("create", &at.to_string(), reply.inode.as_ref())
    }

    /// Opens a file for appending, making it when it is missing. Many may append to it at once;
    /// each append lands whole at the end. The entry of a file that was made is durable, on a
    /// majority of the metadata servers, when this returns; [`Appender::append`] says when a
    /// record is.
    ///
    /// # Errors
    /// `IsDirectory`, `ReadOnlyMount`, and those of [`create`](Self::create).
    pub async fn open_append(&self, at: impl Into<At>) -> Result<Appender> {
        Appender::shared(self.clone(), at.into()).await
    }

    /// Opens a file for appending by this handle alone: every earlier writer is fenced off for
    /// ever. [`Appender::end`] is then the exact end of all acknowledged bytes. The fence is
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Fenced` when another exclusive opening overtakes this one.
    pub async fn open_exclusive(&self, at: impl Into<At>) -> Result<Appender> {
        Appender::exclusive(self.clone(), at.into()).await
    }

    /// Starts a whole new content for a path, seen at once when it is finished. Nothing is durable
    /// or seen before [`PutWriter::finish`] returns.
    ///
    /// # Errors
    /// Those of path resolution.
    pub async fn put_writer(&self, at: impl Into<At>, mode: u32) -> Result<PutWriter> {
        PutWriter::start(self.clone(), at.into(), mode, false).await
    }

    /// Puts a whole content at a path: one append and one metadata entry for up to 1 MiB. When
    /// it returns the bytes are on the disks of the policy's replicas and the entry is on a
    /// majority of the metadata servers; with `persist = sync` the bytes are in S3 too.
    ///
    /// # Errors
    /// Those of [`PutWriter::finish`].
    pub async fn put(&self, at: impl Into<At>, mode: u32, data: impl AsRef<[u8]>) -> Result<Inode> {
        put_bytes(self, &at.into(), mode, false, data.as_ref()).await
    }

    /// As [`put`](Self::put), and as durable, for a path where nothing is.
    ///
    /// # Errors
    /// `Exists`, and those of [`put`](Self::put).
    pub async fn put_new(&self, at: impl Into<At>, mode: u32, data: impl AsRef<[u8]>) -> Result<Inode> {
        put_bytes(self, &at.into(), mode, true, data.as_ref()).await
    }

    /// Waits until every byte of the file that is acknowledged now is in S3 and recorded there.
    /// An open tail is sealed for it.
    ///
    /// # Errors
    /// `Unavailable` when S3 does not take them within the retry budget; they stay on the data
    /// nodes and go up later.
    pub async fn sync(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        self.chunks.roll_all().await?;
        let deadline = Instant::now() + self.reach.options.retry_budget;
        loop {
            let target = Some(at.wire("sync", false)?);
            let request = WaitPersistedRequest { target, timeout_ms: WAIT_MS };
            let reply = self
                .reach
                .leader
                .call("sync", &at.to_string(), request, |mut meta, request| async move {
                    meta.wait_persisted(request).await
                })
                .await?;
            if reply.done {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let last = format!("{} bytes are not in S3 yet", reply.unpersisted_bytes);
                let seconds = self.reach.options.retry_budget.as_secs();
                return Err(Error::new("sync", &at, Cause::RetriesUsedUp { seconds, last }));
            }
        }
    }

    /// The cluster's state: servers, data nodes, lag.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn status(&self) -> Result<StatusReply> {
        self.reach
            .leader
            .call("ask for the status", "", StatusRequest {}, |mut meta, request| async move {
                meta.status(request).await
            })
            .await
    }

    /// Hands the lead to another metadata server, or to any. Answers the new leader.
    ///
    /// # Errors
    /// `Unavailable` when it did not take over in time.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId> {
        let request = v1::TransferLeaderRequest { to: to.map_or(0, |n| n.0) };
        let reply = self
            .reach
            .leader
            .call("transfer the lead", "", request, |mut meta, request| async move {
                meta.transfer_leader(request).await
            })
            .await?;
        Ok(NodeId(reply.leader))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy in force for a new file at `at`: that of its directory.
    pub(crate) async fn policy_for_new(&self, at: &At) -> Result<PolicyAt> {
        let directory = match at {
            At::Inode(_) => at.clone(),
            At::Path(bytes) => {
                let path = cairn_types::FsPath::parse(bytes).map_err(|e| Error::new("put", at, e))?;
                At::Path(path.parent().ok_or_else(|| Error::new("put", at, FsError::IsDirectory))?.to_bytes())
            }
        };
        if let Some((known, asked)) = self.memory().policies.get(&directory)
            && asked.elapsed() < REMEMBER
        {
            return Ok(*known);
        }
        let reply = self.stat_wire("put", &directory, false).await?;
        let inode = inode_of("put", &directory.to_string(), reply.inode.as_ref())?;
        let policy = reply.policy.unwrap_or_default();
        let at = PolicyAt { policy, ino: inode.ino };
        let mut memory = self.memory();
        if memory.policies.len() >= POLICIES_MAX {
            memory.policies.clear();
        }
        memory.policies.insert(directory, (at, Instant::now()));
        Ok(at)
    }

    /// Forgets the policies that were remembered: a directory they name may be gone.
    pub(crate) fn forget_policies(&self) {
        self.memory().policies.clear();
    }

    /// The addresses of the data nodes that are alive, remembered for a few seconds.
    pub(crate) async fn alive_nodes(&self, fresh: bool) -> Result<Vec<String>> {
        if !fresh
            && let Some((nodes, asked)) = &self.memory().nodes
            && asked.elapsed() < REMEMBER
        {
            return Ok(nodes.clone());
        }
        let nodes = fetch::alive_nodes(self).await?;
        self.memory().nodes = Some((nodes.clone(), Instant::now()));
        Ok(nodes)
    }

    pub(crate) async fn commit(&self, ino: InodeId, extents: Vec<v1::Extent>) -> Result<Inode> {
        let at = At::Inode(ino);
        let commit = v1::Commit { ino: ino.0, extents, expected_length: None };
        let reply = self.change("commit", &at, Operation::Commit(commit)).await?;
        inode_of("commit", &at.to_string(), reply.inode.as_ref())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("session", &self.session_id()).finish_non_exhaustive()
    }
}
