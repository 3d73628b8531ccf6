//! [`LagWalk`]: what is acknowledged and not in S3 yet.

use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::{self, LagRequest, TailLengthRequest};
use cairn_types::{ChunkId, InodeId, Policy};
use futures::{StreamExt, stream};
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::freshness::Freshness;
use crate::progress;
use crate::target::At;
use crate::wire_stream;

/// The server says something at least every second or so.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long the primary of a tail may take to tell its length.
const ASK: Duration = Duration::from_secs(1);
/// Primaries asked at once, at most.
const ASKED_AT_ONCE: usize = 32;
const ACTION: &str = "ask for the lag";

/// What of a file is not in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLag {
    /// The file.
    pub ino: InodeId,
    /// By which name it was found; empty when it has none.
    pub path: Vec<u8>,
    /// Bytes that are to be persisted and are not, those of an open tail included.
    pub bytes: u64,
    /// Since the first of the chunks that hold them was opened, in milliseconds; 0 without such bytes.
    pub age_ms: u64,
    /// Bytes in chunks that are never persisted: no lag.
    pub never_bytes: u64,
    /// The policy in force at the file: its bounds.
    pub policy: Policy,
    /// The tail, open and to be persisted.
    pub tail: Option<TailLag>,
}

/// What an open tail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailLag {
    /// The chunk.
    pub chunk: ChunkId,
    /// Acknowledged bytes in it; `None` when its primary did not say in time: they are not counted then.
    pub bytes: Option<u64>,
}

/// Files found since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagFound {
    /// Those with bytes that are not in S3. A walk that is of one file tells of it in any case.
    pub files: Vec<FileLag>,
    /// Names looked at so far.
    pub names: u64,
    /// Directories that the client's user may not list, so far.
    pub passed_over: u64,
}

/// A walk over a file, or a directory with all below it, at one point in time. Dropping it ends it.
pub struct LagWalk {
    client: Client,
    subject: String,
    messages: Streaming<v1::LagProgress>,
    done: bool,
}

impl Client {
    /// The cluster's lag: what sealed chunks hold that is not in S3, how old it is, its bound, what its
    /// data nodes may not evict, how S3 does. The cluster's bound is that of files under the root's policy.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn cluster_lag(&self) -> Result<v1::ClusterLag> {
        let mut messages = self.open_lag(None, "").await?;
        let first = next(&mut messages, "").await?;
        first.cluster.ok_or_else(|| Error::new(ACTION, "", Cause::MalformedAnswer("cluster")))
    }

    /// Looks for bytes that are not in S3, in a file or in all files below a directory, at one point in
    /// time; the lengths of open tails are asked of their primaries after. It runs beside the server's
    /// other work, for as long as it takes.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat); `Overloaded` while too many walks run on the leader.
    pub async fn lag(&self, at: impl Into<At>) -> Result<LagWalk> {
        let at = at.into();
        let subject = at.to_string();
        let target = at.wire(ACTION, false)?;
        let messages = self.open_lag(Some(target), &subject).await?;
        Ok(LagWalk { client: self.clone(), subject, messages, done: false })
    }

    async fn open_lag(
        &self,
        target: Option<v1::Target>,
        subject: &str,
    ) -> Result<Streaming<v1::LagProgress>> {
        let request = |session| LagRequest { group: 0, target: target.clone(), session };
        self.ask_imported(ACTION, subject, (Freshness::Newest, request), |mut meta, mut request| async move {
            // The stream outlives the deadline of the call that opens it.
            request.metadata_mut().remove("grpc-timeout");
            meta.lag(request).await
        })
        .await
    }

    /// What a data node says of itself, with what it has asked of S3 since its process began.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer within a second.
    pub async fn node_status(&self, node: &v1::DataNode) -> Result<v1::NodeStatusReply> {
        let connections = &self.reach().connections;
        let asked = async {
            let request = connections.request(v1::NodeStatusRequest { node: node.node }, ASK);
            Ok::<_, Cause>(connections.data(&node.address)?.node_status(request).await?.into_inner())
        };
        let answer = tokio::time::timeout(ASK, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(ServiceError::Deadline.into()));
        answer.map_err(|cause| {
            Error::new("ask a data node", &node.address, cause).with_kind(ErrorKind::Unavailable)
        })
    }

    /// The acknowledged length of an open chunk, by its primary; `None` when it does not say in time.
    pub(crate) async fn tail_bytes(&self, chunk: &v1::Chunk) -> Option<u64> {
        let primary = chunk.replicas.iter().find(|r| r.node == chunk.primary && !r.address.is_empty())?;
        let connections = &self.reach().connections;
        let request = TailLengthRequest { chunk: chunk.chunk, epoch: chunk.epoch };
        let asked = wire_stream::tail_length(connections, &primary.address, request, ASK);
        match tokio::time::timeout(ASK, asked).await {
            Ok(Ok(committed)) => Some(committed),
            Ok(Err(cause)) => {
                tracing::debug!(chunk = chunk.chunk, %cause, "the length of a tail is unknown");
                None
            }
            Err(_) => None,
        }
    }

    pub(crate) async fn file_lag(&self, wire: v1::FileLag) -> Result<FileLag> {
        let policy = wire.policy.unwrap_or_default();
        let policy = Policy::try_from(&policy).map_err(|error| Error::new(ACTION, "", error))?;
        let tail = match &wire.tail {
            Some(chunk) => Some(TailLag { chunk: ChunkId(chunk.chunk), bytes: self.tail_bytes(chunk).await }),
            None => None,
        };
        let bytes = wire.bytes.saturating_add(tail.and_then(|tail| tail.bytes).unwrap_or(0));
        Ok(FileLag {
            ino: InodeId(wire.ino),
            path: wire.path.to_vec(),
            bytes,
            age_ms: if bytes == 0 { 0 } else { wire.age_ms },
            never_bytes: wire.never_bytes,
            policy,
            tail,
        })
    }
}

impl LagWalk {
    /// What was found since the last call, or `None` when the walk is over.
    ///
    /// # Errors
    /// When it could not finish: what was not told is not known.
    pub async fn next(&mut self) -> Result<Option<LagFound>> {
        if self.done {
            return Ok(None);
        }
        let message = next(&mut self.messages, &self.subject).await?;
        self.done = message.done;
        let client = &self.client;
        let mut asked = Vec::with_capacity(message.files.len());
        for file in message.files {
            asked.push(client.file_lag(file));
        }
        let files: Vec<Result<FileLag>> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        let files = files.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Some(LagFound { files, names: message.names, passed_over: message.passed_over }))
    }
}

/// The next message; `None` when there are no more, though none was the last.
async fn next(messages: &mut Streaming<v1::LagProgress>, subject: &str) -> Result<v1::LagProgress> {
    let message = progress::next(messages, SILENCE_MAX).await;
    message.map_err(|cause| progress::broken_off(ACTION, subject, cause))
}

impl std::fmt::Debug for LagWalk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LagWalk").field("of", &self.subject).finish_non_exhaustive()
    }
}
