//! Growth: one writer's appends, over as many chunks as they take.
//!
//! A task owns the writer. It keeps a chunk open, streams appends to the chunk's primary and
//! completes them in order. Whatever goes wrong, the chunk is sealed, its decided end tells
//! which appends are in, and the rest is sent again to the next chunk (append protocol R10).

mod hold;
mod place;
mod resolve;
mod task;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cairn_proto::v1;
use cairn_proto::v1::StatRequest;
use cairn_types::{ChunkId, Generation, InodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::connection::Connections;
use crate::error::{Cause, Error, Result};
use crate::gather::Gather;
use crate::meta::Leader;
use crate::options::ConnectOptions;
use crate::session::Session;
use crate::slow::SlowWork;
use crate::trace::{self, TraceId};

pub(crate) use hold::{Hold, Holds};
pub(crate) use resolve::seal;

/// Appends queued towards the task, at most; their bytes are bounded by the options.
const QUEUE: usize = 1024;
/// What the smallest append counts for, so that their number is bounded too.
const APPEND_BYTES_MIN: usize = 512;

/// What the client's parts reach the cluster with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) connections: Connections,
    pub(crate) leader: Leader,
    pub(crate) session: Session,
    pub(crate) stats: Gather<StatRequest>,
    pub(crate) options: Arc<ConnectOptions>,
    pub(crate) slow: Arc<SlowWork>,
}

/// Where the chunks come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The tail of a file, for a writer of this generation.
    Tail { ino: InodeId, generation: Generation },
    /// The session's own chunks, under the policy in force at this inode: that of the append for
    /// which a chunk was opened last.
    Shared { policy_of: InodeId },
}

/// A policy in force, and an inode under which it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicyAt {
    pub(crate) policy: v1::Policy,
    pub(crate) ino: InodeId,
}

/// Where appended bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) chunk: ChunkId,
    /// In the chunk.
    pub(crate) chunk_offset: u64,
    /// In the file, for a tail; for a shared chunk the same as `chunk_offset`.
    pub(crate) file_offset: u64,
    /// Keeps a shared chunk until the bytes are committed.
    pub(crate) hold: Option<Hold>,
}

/// What is asked of the task.
enum Message {
    Append(Pending),
    /// Open a chunk for appends that are to come.
    Open(InodeId),
    /// Close the open chunk, so that its length is in the metadata.
    Roll(oneshot::Sender<Result<()>>),
}

/// An append on its way.
struct Pending {
    data: Bytes,
    crc32c: u32,
    /// The file offset it must land at.
    expected: Option<u64>,
    /// In a shared chunk: the policy that it must be kept by.
    under: Option<PolicyAt>,
    /// The operation that it is part of.
    trace: TraceId,
    /// When it was handed over.
    since: Instant,
    reply: oneshot::Sender<Result<Placed>>,
    _room: OwnedSemaphorePermit,
}

/// A handle on the task. It ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Growth {
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    failed: Arc<AtomicBool>,
}

/// An append that was sent and is not answered yet.
pub(crate) struct Ticket(oneshot::Receiver<Result<Placed>>);

impl Ticket {
    /// Waits for the acknowledgement.
    pub(crate) async fn placed(self) -> Result<Placed> {
        self.0.await.unwrap_or_else(|_| Err(Error::new("append", "", Cause::Closed)))
    }
}

impl Growth {
    /// Starts a writer. Its chunk is opened at the first append, or by [`Growth::open_now`].
    ///
    /// With `holds`, whoever has bytes in one of its chunks keeps that chunk.
    pub(crate) fn start(reach: Reach, source: Source, holds: Option<Holds>) -> Result<Self> {
        let writer = reach.session.new_writer()?;
        let room_bytes = reach.options.in_flight_bytes_max.max(cairn_types::limits::APPEND_BYTES_MAX);
        let (messages, queue) = mpsc::channel(QUEUE);
        let failed = Arc::new(AtomicBool::new(false));
        tokio::spawn(task::Task::new(reach, source, writer, holds, Arc::clone(&failed)).run(queue));
        Ok(Self { messages, room: Arc::new(Semaphore::new(room_bytes)), room_bytes, failed })
    }

    /// True once the writer has failed for good: another one is needed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Hands one append to a file's tail over, in order; waits while too many bytes are under way.
    /// `data` has 1 byte to 1 MiB.
    pub(crate) async fn submit(&self, data: Bytes, expected: Option<u64>) -> Result<Ticket> {
        self.hand_over(data, expected, None).await
    }

    /// As [`submit`](Self::submit), to a shared chunk under this policy.
    pub(crate) async fn submit_under(&self, data: Bytes, under: PolicyAt) -> Result<Ticket> {
        self.hand_over(data, None, Some(under)).await
    }

    async fn hand_over(&self, data: Bytes, expected: Option<u64>, under: Option<PolicyAt>) -> Result<Ticket> {
        let closed = || Error::new("append", "", Cause::Closed);
        let permits =
            u32::try_from(data.len().clamp(APPEND_BYTES_MIN, self.room_bytes)).map_err(|_| closed())?;
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let crc32c = crc32c::crc32c(&data);
        let (trace, since) = (trace::current(), Instant::now());
        let pending = Pending { data, crc32c, expected, under, trace, since, reply, _room: room };
        self.messages.send(Message::Append(pending)).await.map_err(|_| closed())?;
        Ok(Ticket(answer))
    }

    /// Has a shared chunk opened, under the policy in force at this inode, for appends that are to come. What
    /// becomes of it shows at the first of them.
    pub(crate) fn open_now(&self, policy_of: InodeId) {
        // A queue that is full has appends in it, which open one.
        let _ = self.messages.try_send(Message::Open(policy_of));
    }

    /// True for another handle on the same writer.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.failed, &other.failed)
    }

    /// Closes the open chunk once everything submitted is acknowledged. The error of a close and
    /// a seal that both came to nothing is told.
    pub(crate) async fn roll(&self) -> Result<()> {
        let closed = || Error::new("close the chunk", "", Cause::Closed);
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Roll(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}
