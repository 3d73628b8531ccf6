//! [`Ticket`]: a client's claim to the answer of one append.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, status, v1};
use cairn_types::{ChunkId, Sequence, WriterId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::slow::Begun;

/// A reply on its way to the client. Its seat is free again when the reply is taken for sending.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: v1::AppendReply,
    /// When the append came, and for which operation.
    pub begun: Begun,
    _seat: OwnedSemaphorePermit,
}

/// The claim. Whoever holds it must answer it; dropped, it says that the chunk is fenced.
#[derive(Debug)]
pub struct Ticket {
    chunk: ChunkId,
    writer: WriterId,
    sequence: Sequence,
    begun: Begun,
    // Taken when the ticket is answered.
    way: Option<(mpsc::Sender<Answer>, OwnedSemaphorePermit)>,
}

impl Ticket {
    /// The claim of `request`, which has come `now`. There must be no more seats than `replies` has places: then an
    /// answer never waits for a slow client.
    #[must_use]
    pub fn new(
        request: &v1::AppendRequest,
        now: Duration,
        replies: mpsc::Sender<Answer>,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            chunk: ChunkId(request.chunk),
            writer: WriterId(request.writer),
            sequence: Sequence(request.sequence),
            begun: Begun::at(now, request.trace),
            way: Some((replies, seat)),
        }
    }

    /// The append is acknowledged: it lies at `offset` of the chunk.
    pub fn acknowledge(mut self, offset: u64, committed: u64) {
        self.send(v1::append_reply::Outcome::Offset(offset), committed);
    }

    /// The append is refused, or its outcome is for the seal to decide ([`ServiceError::ChunkFenced`],
    /// [`ServiceError::DiskFull`]).
    pub fn refuse(mut self, error: &WireError, committed: u64) {
        self.send(v1::append_reply::Outcome::Error(detail(error)), committed);
    }

    fn send(&mut self, outcome: v1::append_reply::Outcome, committed: u64) {
        let Some((replies, seat)) = self.way.take() else { return };
        let reply = v1::AppendReply {
            chunk: self.chunk.0,
            writer: self.writer.0,
            sequence: self.sequence.0,
            outcome: Some(outcome),
            committed,
        };
        // A client that is gone asks again elsewhere; there is always a place (see `new`).
        let _ = replies.try_send(Answer { reply, begun: self.begun, _seat: seat });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.way.is_some() {
            let fenced = WireError::Service(ServiceError::ChunkFenced { chunk: self.chunk });
            self.send(v1::append_reply::Outcome::Error(detail(&fenced)), 0);
        }
    }
}

/// The typed detail of an error, for replies that carry it inside a stream.
#[must_use]
pub fn detail(error: &WireError) -> v1::ErrorDetail {
    match error {
        WireError::Fs(error) => status::fs_error_detail(error),
        WireError::Service(error) => status::service_error_detail(error),
        // The peer of a peer could not be reached: the caller can do nothing but go elsewhere.
        WireError::Transport { .. } => status::service_error_detail(&ServiceError::Stopping),
    }
}

/// Bytes of an append in flight: room in its chunk and in its node, given back when dropped. A node
/// has room for a chunk's at least.
#[derive(Debug)]
pub struct Room {
    _chunk: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl Room {
    /// Bytes in flight in one chunk, at most.
    pub const CHUNK_BYTES: usize = 4 << 20;
    /// What the smallest append counts for, so that their number is bounded too.
    const APPEND_BYTES: usize = 512;
    /// Messages that a link may hold: every append in flight, and hints and the close record.
    pub const MESSAGES_MAX: usize = Self::CHUNK_BYTES / Self::APPEND_BYTES + 16;

    /// Waits for room for an append of `bytes`.
    ///
    /// # Errors
    /// [`ServiceError::Stopping`] when one of the two is closed.
    pub async fn acquire(
        chunk: &Arc<Semaphore>,
        node: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<Self, ServiceError> {
        let permits = u32::try_from(bytes.clamp(Self::APPEND_BYTES, Self::CHUNK_BYTES)).unwrap_or(u32::MAX);
        let closed = |_| ServiceError::Stopping;
        let of_chunk = Arc::clone(chunk).acquire_many_owned(permits).await.map_err(closed)?;
        let of_node = Arc::clone(node).acquire_many_owned(permits).await.map_err(closed)?;
        Ok(Self { _chunk: of_chunk, _node: of_node })
    }
}

/// An append on its way to its chunk.
#[derive(Debug)]
pub struct Append {
    /// What the client sent; its checksum was verified.
    pub request: v1::AppendRequest,
    /// Its claim to an answer.
    pub ticket: Ticket,
    /// Its bytes in flight.
    pub room: Room,
}
