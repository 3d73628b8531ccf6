//! Opening the next chunk.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, OpenChunk, OpenTail};
use cairn_types::limits::LAG_PAUSE_MS_MAX;
use cairn_types::{ChunkId, FsError, WriterId};

use super::resolve::seal;
use super::{Hold, Holds, Reach, Source};
use crate::answer::chunk_of;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::wire_stream::WireStream;

/// Rounds of sealing an old tail before the caller is told to retry.
const ROUNDS_MAX: usize = 16;

/// An open chunk and the stream to its primary.
pub(super) struct Open {
    pub(super) chunk: ChunkId,
    pub(super) epoch: u32,
    pub(super) primary: u64,
    pub(super) address: String,
    pub(super) base: u64,
    pub(super) generation: u64,
    pub(super) policy: Option<v1::Policy>,
    pub(super) stream: WireStream,
    /// Keeps the chunk, when it is a shared one.
    pub(super) hold: Option<Hold>,
}

/// Opens a chunk for `source` and connects to its primary. `ahead` is a tail that a roll has opened for
/// it. Nodes in `avoid` are not placed on while others will do.
pub(super) async fn open(
    reach: &Reach,
    source: Source,
    writer: WriterId,
    holds: Option<&Holds>,
    mut ahead: Option<v1::Chunk>,
    avoid: &mut Vec<u64>,
) -> Result<Open> {
    let mut last = None;
    for _ in 0..ROUNDS_MAX {
        if reach.session.id() != writer.session() {
            let error = Error::new("append", "", FsError::SessionExpired);
            return Err(error.with_kind(ErrorKind::Unknown));
        }
        let ready = ahead.take().filter(|chunk| is_for(source, chunk));
        let asked = match ready {
            Some(chunk) => Ok(chunk),
            None => ask(reach, source, writer, avoid).await,
        };
        let chunk = match asked {
            Ok(chunk) => chunk,
            Err(error) => match error.fs() {
                // The old tail is being sealed: wait for its decided end.
                Some(FsError::ChunkState { chunk } | FsError::TailOpen { chunk }) => {
                    seal(reach, *chunk, 0, "its successor is wanted", 0).await.map_err(not_begun)?;
                    continue;
                }
                _ => return Err(error),
            },
        };
        // From here on: one that is not used is let go again.
        let hold = holds.map(|holds| holds.hold(writer.session(), ChunkId(chunk.chunk)));
        match connect(reach, &chunk, hold).await {
            Ok(open) => return Ok(open),
            Err(cause) => {
                tracing::debug!(chunk = chunk.chunk, primary = chunk.primary, %cause, "no stream to the primary");
                avoid.push(chunk.primary);
                seal(reach, ChunkId(chunk.chunk), chunk.epoch, "its primary is not reachable", chunk.primary)
                    .await
                    .map_err(not_begun)?;
                last = Some(cause);
            }
        }
    }
    let last = last.map_or_else(|| "the old tail is not sealed yet".to_owned(), |c| c.to_string());
    let seconds = reach.options.retry_budget.as_secs();
    Err(Error::new("open a chunk", "", Cause::RetriesUsedUp { seconds, last }))
}

/// True for a tail of this file and this generation: any other is the metadata's to judge.
fn is_for(source: Source, chunk: &v1::Chunk) -> bool {
    match (source, &chunk.activation) {
        (Source::Tail { ino, generation }, Some(activation)) => {
            (activation.ino, activation.generation) == (ino.0, generation.0)
        }
        _ => false,
    }
}

/// A seal that was not decided in time, before any record was sent: nothing was appended.
fn not_begun(error: Error) -> Error {
    if error.kind() == ErrorKind::Unknown { error.with_kind(ErrorKind::Unavailable) } else { error }
}

async fn ask(reach: &Reach, source: Source, writer: WriterId, avoid: &[u64]) -> Result<v1::Chunk> {
    let avoid = avoid.to_vec();
    let (action, reply) = match source {
        // The writer is its session's: in another one it is a stranger.
        Source::Tail { ino, generation } => {
            let open = OpenTail { ino: ino.0, generation: generation.0, writer: writer.0, avoid };
            let (action, operation) = ("open the tail", Operation::OpenTail(open));
            (action, reach.session.change_in(writer.session(), action, "", operation).await?)
        }
        Source::Shared { policy_of } => {
            let open = OpenChunk { policy_of: policy_of.0, avoid };
            let (action, operation) = ("open a chunk", Operation::OpenChunk(open));
            (action, reach.session.change(action, "", &operation).await?)
        }
    };
    let chunk = chunk_of(action, reply.chunk)?;
    if reply.pause_ms > 0 {
        // S3 is behind, and the lag near its bound: what is written is slowed down.
        tracing::debug!(chunk = chunk.chunk, pause_ms = reply.pause_ms, "slowed: the lag is near its bound");
        tokio::time::sleep(Duration::from_millis(u64::from(reply.pause_ms).min(LAG_PAUSE_MS_MAX))).await;
    }
    Ok(chunk)
}

async fn connect(reach: &Reach, chunk: &v1::Chunk, hold: Option<Hold>) -> std::result::Result<Open, Cause> {
    let primary = chunk
        .replicas
        .iter()
        .find(|r| r.node == chunk.primary && !r.address.is_empty())
        .ok_or(Cause::MalformedAnswer("chunk.primary"))?;
    let activation = chunk.activation.as_ref().ok_or(Cause::MalformedAnswer("chunk.activation"))?;
    let connecting = WireStream::open(&reach.connections, &primary.address);
    let stream = match tokio::time::timeout(reach.options.append_deadline, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(cause)) => {
            reach.connections.forget(&primary.address);
            return Err(cause);
        }
        Err(_) => {
            reach.connections.forget(&primary.address);
            return Err(cairn_proto::ServiceError::Deadline.into());
        }
    };
    Ok(Open {
        chunk: ChunkId(chunk.chunk),
        epoch: chunk.epoch,
        primary: chunk.primary,
        address: primary.address.clone(),
        base: activation.base,
        generation: activation.generation,
        policy: chunk.policy,
        stream,
        hold,
    })
}
