//! [`Transaction`]: several changes in one entry, all or none.

use bytes::Bytes;
use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::step::Operation as Step;
use cairn_types::limits::TRANSACTION_PARTS_MAX;
use cairn_types::{FsError, FsPath, Inode, InodeId};

use crate::attributes::AttrChange;
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::growth::PolicyAt;
use crate::names::RenameMode;
use crate::put::{ExtentWriter, TRIES_MAX, may_write_again};
use crate::share::{clone_wire, concat_wire, copy_wire};
use crate::target::At;

const ACTION: &str = "commit the transaction";

/// Changes that are made together in one entry, or not at all, if everything that is demanded holds.
///
/// ```no_run
/// # async fn run(client: cairn_sdk::Client) -> Result<(), cairn_sdk::Error> {
/// let pointer = client.stat("/table/current").await?;
/// let outcome = client
///     .transaction()
///     .same("/table/current", &pointer)         // nobody has moved it since
///     .create("/table/v2.json", 0o644, &b"{}"[..])
///     .put("/table/current", 0o644, &b"v2.json"[..])
///     .commit()
///     .await;
/// # outcome.map(|_| ())
/// # }
/// ```
///
/// Demands are checked first, in their order; then the changes are made in theirs, and each sees what
/// those before it made: a path may lead through a directory that the transaction makes. Nothing is
/// checked or sent before [`commit`](Self::commit). At most 256 demands and 256 changes; together
/// they touch at most 4,096 rows of the metadata.
#[must_use = "nothing happens before commit"]
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    preconditions: Vec<(String, v1::Precondition)>,
    parts: Vec<(String, Part)>,
    /// The first thing that cannot be asked for.
    wrong: Option<Error>,
}

#[derive(Debug)]
enum Part {
    Ready(Step),
    /// A file whose bytes are written before the entry names them.
    Content {
        at: At,
        create: v1::Create,
        data: Bytes,
    },
}

impl Client {
    /// Begins a transaction, which changes nothing before it is committed.
    pub fn transaction(&self) -> Transaction {
        Transaction { client: self.clone(), preconditions: Vec::new(), parts: Vec::new(), wrong: None }
    }
}

impl Transaction {
    /// Something must be at the path; a symlink at its end is followed.
    pub fn exists(self, at: impl Into<At>) -> Self {
        self.demand("exists", at.into(), false, |_| {})
    }

    /// Nothing may have that name, not even a symlink.
    pub fn absent(self, at: impl Into<At>) -> Self {
        self.demand("absent", at.into(), true, |p| p.absent = true)
    }

    /// The inode at the path must be at this version. A file replaced by another one may have the same
    /// version: [`same`](Self::same) tells them apart. A growing file is sealed first.
    pub fn version(self, at: impl Into<At>, version: u64) -> Self {
        self.demand("version", at.into(), false, |p| p.version = Some(version))
    }

    /// The file at the path must be so long. A growing file is sealed first.
    pub fn length(self, at: impl Into<At>, length: u64) -> Self {
        self.demand("length", at.into(), false, |p| p.length = Some(length))
    }

    /// The path must lead to this inode, unchanged since `inode` was read.
    pub fn same(self, at: impl Into<At>, inode: &Inode) -> Self {
        let (ino, version) = (Some(inode.ino.0), Some(inode.version));
        self.demand("unchanged", at.into(), false, |p| (p.ino, p.version) = (ino, version))
    }

    /// Something must be at the path, with the number, version and length that are named. A growing
    /// file is sealed first when its version or length is.
    pub fn present(
        self,
        at: impl Into<At>,
        ino: Option<InodeId>,
        version: Option<u64>,
        length: Option<u64>,
    ) -> Self {
        self.demand("present", at.into(), false, |p| {
            (p.ino, p.version, p.length) = (ino.map(|i| i.0), version, length);
        })
    }

    fn demand(
        mut self,
        what: &str,
        at: At,
        no_follow: bool,
        fill: impl FnOnce(&mut v1::Precondition),
    ) -> Self {
        match at.wire(ACTION, no_follow) {
            Ok(target) => {
                let mut precondition = v1::Precondition { target: Some(target), ..Default::default() };
                fill(&mut precondition);
                self.preconditions.push((format!("({what}: {at})"), precondition));
            }
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    fn part(mut self, label: String, part: Result<Part>) -> Self {
        match part {
            Ok(part) => self.parts.push((format!("({label})"), part)),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    fn step(self, label: String, step: Result<Step>) -> Self {
        self.part(label, step.map(Part::Ready))
    }

    /// As [`Client::mkdir`].
    pub fn mkdir(self, at: impl Into<At>, mode: u32) -> Self {
        let at = at.into();
        let (uid, gid) = (self.client.uid(), self.client.gid());
        let mkdir = at
            .wire(ACTION, false)
            .map(|target| Step::Mkdir(v1::Mkdir { target: Some(target), mode, uid, gid, parents: false }));
        self.step(format!("mkdir {at}"), mkdir)
    }

    /// Makes a file with this content; nothing may be there. The bytes are written, and on the
    /// policy's replicas, before the entry is asked for.
    pub fn create(self, at: impl Into<At>, mode: u32, data: impl Into<Bytes>) -> Self {
        self.content("create", at.into(), mode, (true, false), data.into())
    }

    /// Makes a file with this content, or replaces the content of the one that is there. As
    /// [`create`](Self::create).
    pub fn put(self, at: impl Into<At>, mode: u32, data: impl Into<Bytes>) -> Self {
        self.content("put", at.into(), mode, (false, true), data.into())
    }

    /// Makes an empty file where none is; one that is there stays as it is.
    pub fn touch(self, at: impl Into<At>, mode: u32) -> Self {
        self.content("touch", at.into(), mode, (false, false), Bytes::new())
    }

    fn content(
        self,
        what: &str,
        at: At,
        mode: u32,
        (exclusive, truncate): (bool, bool),
        data: Bytes,
    ) -> Self {
        let (uid, gid) = (self.client.uid(), self.client.gid());
        let label = format!("{what} {at}");
        let part = at.wire(ACTION, false).map(|target| {
            let target = Some(target);
            let create = v1::Create { target, mode, uid, gid, exclusive, truncate, extents: Vec::new() };
            if data.is_empty() {
                return Part::Ready(Step::Create(create));
            }
            Part::Content { at, create, data }
        });
        self.part(label, part)
    }

    /// As [`Client::symlink`].
    pub fn symlink(self, to: impl AsRef<[u8]>, at: impl Into<At>) -> Self {
        let at = at.into();
        let (to, uid, gid) = (to.as_ref().to_vec().into(), self.client.uid(), self.client.gid());
        let symlink = at
            .wire(ACTION, true)
            .map(|target| Step::Symlink(v1::Symlink { target: Some(target), to, uid, gid }));
        self.step(format!("symlink {at}"), symlink)
    }

    /// As [`Client::link`].
    pub fn link(self, from: impl Into<At>, to: impl Into<At>) -> Self {
        let (from, to) = (from.into(), to.into());
        let link = both(&from, &to).map(|(from, to)| Step::Link(v1::Link { from, to }));
        self.step(format!("link {from} to {to}"), link)
    }

    /// As [`Client::rename`].
    pub fn rename(self, from: impl Into<At>, to: impl Into<At>, mode: RenameMode) -> Self {
        let (from, to) = (from.into(), to.into());
        let (no_replace, exchange) = (mode == RenameMode::NoReplace, mode == RenameMode::Exchange);
        let rename =
            both(&from, &to).map(|(from, to)| Step::Rename(v1::Rename { from, to, no_replace, exchange }));
        self.step(format!("rename {from} to {to}"), rename)
    }

    /// As [`Client::unlink`].
    pub fn unlink(self, at: impl Into<At>) -> Self {
        let at = at.into();
        let unlink = at.wire(ACTION, true).map(|t| Step::Unlink(v1::Unlink { target: Some(t) }));
        self.step(format!("remove {at}"), unlink)
    }

    /// As [`Client::rmdir`].
    pub fn rmdir(self, at: impl Into<At>) -> Self {
        let at = at.into();
        let rmdir = at.wire(ACTION, true).map(|t| Step::Rmdir(v1::Rmdir { target: Some(t) }));
        self.step(format!("remove the directory {at}"), rmdir)
    }

    /// As [`Client::set_attr`].
    pub fn set_attr(self, at: impl Into<At>, change: AttrChange) -> Self {
        let at = at.into();
        let set = at.wire(ACTION, false).map(|target| Step::SetAttr(change.wire(target)));
        self.step(format!("set attributes of {at}"), set)
    }

    /// As [`Client::clone_file`].
    pub fn clone_file(self, from: impl Into<At>, to: impl Into<At>, replace: bool) -> Self {
        let (from, to) = (from.into(), to.into());
        let clone = clone_wire(&self.client, &from, &to, replace, false).map(Step::CloneFile);
        self.step(format!("clone {from} to {to}"), clone)
    }

    /// As [`Client::clone_tree`].
    pub fn clone_tree(self, from: impl Into<At>, to: impl Into<At>) -> Self {
        let (from, to) = (from.into(), to.into());
        let clone = clone_wire(&self.client, &from, &to, false, true).map(Step::CloneFile);
        self.step(format!("clone {from} to {to}"), clone)
    }

    /// As [`Client::copy_range`].
    pub fn copy_range(
        self,
        (from, from_offset): (impl Into<At>, u64),
        (to, to_offset): (impl Into<At>, u64),
        length: Option<u64>,
    ) -> Self {
        let (from, to) = (from.into(), to.into());
        let copy = copy_wire((&from, from_offset), (&to, to_offset), length).map(Step::CloneFile);
        self.step(format!("copy a range of {from} to {to}"), copy)
    }

    /// As [`Client::concat`].
    pub fn concat(self, to: impl Into<At>, from: &[At]) -> Self {
        let to = to.into();
        let concat = concat_wire(&to, from).map(Step::Concat);
        self.step(format!("concatenate to {to}"), concat)
    }

    /// As [`Client::punch_hole`].
    pub fn punch_hole(self, at: impl Into<At>, offset: u64, length: u64) -> Self {
        let at = at.into();
        let punch = at.wire(ACTION, false).map(|target| {
            Step::PunchHole(v1::PunchHole { target: Some(target), offset, length, keep_size: true })
        });
        self.step(format!("punch a hole in {at}"), punch)
    }

    /// As [`Client::allocate`].
    pub fn allocate(self, at: impl Into<At>, offset: u64, length: u64) -> Self {
        let at = at.into();
        let allocate = at.wire(ACTION, false).map(|target| {
            Step::Allocate(v1::Allocate { target: Some(target), offset, length, keep_size: false })
        });
        self.step(format!("allocate {at}"), allocate)
    }

    /// Makes all of it, or nothing. Answers for each change the inode that it made or changed, as it
    /// was right after it. When this returns every change is durable on a majority of the metadata
    /// servers, and seen by everybody at once; the bytes of its files are on the disks of the policy's
    /// replicas, and with `persist = sync` in S3 too. Growing files whose length counts are sealed
    /// first.
    ///
    /// # Errors
    /// Nothing is changed unless the kind is `Unknown`. [`Error::fs`] says which part it was, from 0:
    /// [`FsError::PreconditionFailed`] with what is there now, [`FsError::PreconditionRefused`], or
    /// [`FsError::OperationRefused`] with that change's own refusal. `TooLarge` for more than 256
    /// demands or changes; `InvalidRequest` for no change at all. With `persist = sync`, `Unavailable`
    /// when S3 does not take the bytes in time: the changes are made then.
    pub async fn commit(mut self) -> Result<Vec<Option<Inode>>> {
        if let Some(error) = self.wrong.take() {
            return Err(error);
        }
        if self.parts.is_empty() {
            return Err(Error::new(ACTION, "", FsError::InvalidRequest));
        }
        if self.parts.len().max(self.preconditions.len()) > TRANSACTION_PARTS_MAX {
            return Err(Error::new(ACTION, "", FsError::TooLarge));
        }
        let mut tries = 0;
        let Made { steps, waited_for } = loop {
            tries += 1;
            match self.attempt().await {
                Ok(made) => break made,
                Err(failed) if tries < TRIES_MAX && failed.may_be_tried_again() => {
                    self.client.forget_policies();
                }
                Err(Failed::Content(error) | Failed::Entry(error)) => return Err(error),
            }
        };
        // It is made: whatever is met from here on, it is not made again.
        for ino in waited_for {
            match self.client.sync(ino).await {
                // A file that went, in the transaction itself or since, has no bytes to wait for.
                Err(error) if matches!(error.fs(), Some(FsError::NotFound | FsError::Stale)) => {}
                outcome => outcome?,
            }
        }
        Ok(steps)
    }

    /// Writes the contents, then asks for the entry.
    async fn attempt(&self) -> std::result::Result<Made, Failed> {
        let (mut operations, mut writers) = (Vec::new(), Vec::new());
        for (index, (_, part)) in self.parts.iter().enumerate() {
            let operation = match part {
                Part::Ready(step) => step.clone(),
                Part::Content { at, create, data } => {
                    let ground = ground(&self.client, at).await.map_err(Failed::Content)?;
                    let mut writer = ExtentWriter::new(ground, at.to_string());
                    writer.write(&self.client, 0, data).await.map_err(Failed::Content)?;
                    let extents = writer.finish(&self.client).await.map_err(Failed::Content)?;
                    // Kept up to the entry: with its writer the chunk may go.
                    writers.push((index, ground, writer));
                    Step::Create(v1::Create { extents, ..create.clone() })
                }
            };
            operations.push(v1::Step { operation: Some(operation) });
        }
        let preconditions = self.preconditions.iter().map(|(_, p)| p.clone()).collect();
        let transact = Operation::Transact(v1::Transact { preconditions, operations });
        let asked = self.client.change_named(ACTION, "", transact).await;
        let reply = asked.map_err(|error| Failed::Entry(self.named(error)))?;
        let steps = self.taken(reply).map_err(Failed::Entry)?;
        let waits = |(index, ground, _): &(usize, PolicyAt, ExtentWriter)| {
            let inode = steps.get(*index).and_then(Option::as_ref)?;
            (ground.policy.persist == 1).then_some(inode.ino)
        };
        let waited_for = writers.iter().filter_map(waits).collect();
        Ok(Made { steps, waited_for })
    }

    fn taken(&self, reply: v1::MutateReply) -> Result<Vec<Option<Inode>>> {
        let steps = reply.transact.unwrap_or_default().steps;
        if steps.len() != self.parts.len() {
            return Err(Error::new(ACTION, "", Cause::MalformedAnswer("transact.steps")));
        }
        let inode = |step: &v1::StepReply| step.inode.as_ref().map(Inode::try_from).transpose();
        let steps = steps.iter().map(inode).collect::<std::result::Result<_, _>>();
        steps.map_err(|e| Error::new(ACTION, "", e))
    }

    /// The same error, with the part that it is about.
    fn named(&self, error: Error) -> Error {
        let label = match error.fs() {
            Some(FsError::PreconditionFailed { index, .. } | FsError::PreconditionRefused { index, .. }) => {
                self.preconditions.get(*index as usize).map(|(label, _)| label)
            }
            Some(FsError::OperationRefused { index, .. }) => {
                self.parts.get(*index as usize).map(|(label, _)| label)
            }
            _ => None,
        };
        match label {
            Some(label) => error.about(label),
            None => error,
        }
    }
}

type Targets = (Option<v1::Target>, Option<v1::Target>);

/// Two names whose last components are not followed.
fn both(from: &At, to: &At) -> Result<Targets> {
    Ok((Some(from.wire(ACTION, true)?), Some(to.wire(ACTION, true)?)))
}

/// The policy for a new file; where its directory is not there yet, that of the nearest one above.
async fn ground(client: &Client, at: &At) -> Result<PolicyAt> {
    let mut at = at.clone();
    loop {
        let refused = match client.policy_for_new(&at).await {
            Err(error) if error.fs() == Some(&FsError::NotFound) => error,
            outcome => return outcome,
        };
        let above = match &at {
            At::Path(bytes) => FsPath::parse(bytes).ok().and_then(|path| path.parent()),
            At::Inode(_) => None,
        };
        match above {
            Some(path) => at = At::Path(path.to_bytes()),
            None => return Err(refused),
        }
    }
}

/// A transaction that is made.
struct Made {
    steps: Vec<Option<Inode>>,
    /// Files whose policy is to be in S3 before it is acknowledged.
    waited_for: Vec<InodeId>,
}

/// Why an attempt failed.
enum Failed {
    /// Before the entry was asked for: nothing is changed.
    Content(Error),
    /// With it: it is made if the kind is `Unknown`, perhaps.
    Entry(Error),
}

impl Failed {
    /// True when bytes that no file names yet are lost with their session, and may be written anew.
    fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Content(error) => may_write_again(error),
            Self::Entry(error) => matches!(
                error.fs(),
                Some(FsError::OperationRefused { why, .. }) if matches!(**why, FsError::ChunkGone { .. })
            ),
        }
    }
}
