//! Resolving: what a sealed chunk's decided end says about appends that were not answered.

use std::collections::HashMap;
use std::time::Duration;

use cairn_proto::v1::{self, CloseRequest, ReadRecordsRequest, SealChunkRequest};
use cairn_types::{ChunkId, WriterId};
use tokio::time::Instant;

use super::Reach;
use crate::error::{Cause, Error, Result};
use crate::meta::{BACKOFF_FIRST, BACKOFF_MAX};

/// Seals `chunk` and answers it with its decided length and marks. Safe to repeat.
pub(crate) async fn seal(
    reach: &Reach,
    chunk: ChunkId,
    epoch: u32,
    reason: &str,
    blame_node: u64,
) -> Result<v1::Chunk> {
    let request = SealChunkRequest { chunk: chunk.0, epoch, reason: reason.to_owned(), blame_node };
    reach
        .leader
        .call("seal", &chunk.to_string(), request, |mut client, request| async move {
            client.seal_chunk(request).await
        })
        .await
}

/// A chunk that is sealed, and the file's next tail where the roll has opened it already.
pub(super) struct Closed {
    pub(super) sealed: v1::Chunk,
    pub(super) next: Option<v1::Chunk>,
}

/// Asks the primary at `address` for a planned roll of `chunk`, with `go_on` into the next one; seals it
/// when that fails.
pub(super) async fn close(
    reach: &Reach,
    (chunk, epoch): (ChunkId, u32),
    address: &str,
    go_on: bool,
) -> Result<Closed> {
    let limit = Duration::from_secs(2).min(reach.options.rpc_deadline);
    let asked = async {
        let request = reach.connections.request(CloseRequest { chunk: chunk.0, go_on }, limit);
        let reply = reach.connections.data(address)?.close(request).await?.into_inner();
        let sealed = reply.chunk.ok_or(Cause::MalformedAnswer("chunk"))?;
        Ok::<_, Cause>(Closed { sealed, next: reply.next })
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(closed)) if closed.sealed.state == v1::ChunkState::Sealed as i32 => Ok(closed),
        outcome => {
            if let Ok(Err(cause)) = outcome {
                tracing::debug!(%chunk, %cause, "the planned roll failed, sealing");
            }
            let sealed = seal(reach, chunk, epoch, "a planned roll failed", 0).await?;
            Ok(Closed { sealed, next: None })
        }
    }
}

/// The last sequence of `writer` that a sealed chunk's marks decide, and its file offset.
pub(super) fn decided(sealed: &v1::Chunk, writer: WriterId) -> Option<(u64, u64)> {
    let mark = sealed.marks.iter().find(|m| m.writer == writer.0)?;
    Some((mark.sequence, mark.offset))
}

/// Where each of `writer`'s records lies in a sealed chunk from `from` on, by sequence: asked
/// of its holders, since marks tell only the last one and other writers may lie between.
pub(super) async fn offsets(
    reach: &Reach,
    sealed: &v1::Chunk,
    writer: WriterId,
    from: u64,
) -> Result<HashMap<u64, u64>> {
    // They may have restarted just now: a connection from before breaks at the first call, and a node that
    // is not back yet takes none.
    let until = Instant::now() + reach.options.retry_budget;
    let mut pause = BACKOFF_FIRST;
    loop {
        let last = match offsets_of_any(reach, sealed, writer, from).await {
            Ok(offsets) => return Ok(offsets),
            Err(cause) => cause,
        };
        if Instant::now() + pause >= until {
            return Err(Error::new("resolve appends", ChunkId(sealed.chunk), last));
        }
        tracing::debug!(chunk = sealed.chunk, cause = %last, "no holder tells where the records lie");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Asks one holder after the other, once.
async fn offsets_of_any(
    reach: &Reach,
    sealed: &v1::Chunk,
    writer: WriterId,
    from: u64,
) -> std::result::Result<HashMap<u64, u64>, Cause> {
    let mut last = Cause::MalformedAnswer("chunk.replicas");
    for replica in sealed.replicas.iter().filter(|r| !r.address.is_empty()) {
        let asked = offsets_at(reach, replica, sealed, writer, from);
        match tokio::time::timeout(reach.options.rpc_deadline, asked).await {
            Ok(Ok(offsets)) => return Ok(offsets),
            Ok(Err(cause)) => last = cause,
            Err(_) => last = cairn_proto::ServiceError::Deadline.into(),
        }
    }
    Err(last)
}

async fn offsets_at(
    reach: &Reach,
    holder: &v1::Replica,
    sealed: &v1::Chunk,
    writer: WriterId,
    from: u64,
) -> std::result::Result<HashMap<u64, u64>, Cause> {
    let (chunk, node) = (sealed.chunk, holder.node);
    let request = ReadRecordsRequest { chunk, from, until: sealed.length, node };
    let request = reach.connections.request(request, reach.options.rpc_deadline);
    let mut frames = reach.connections.data(&holder.address)?.read_records(request).await?.into_inner();
    let mut offsets = HashMap::new();
    while let Some(frame) = frames.message().await? {
        for record in frame.records.iter().filter(|r| r.writer == writer.0 && !r.close) {
            offsets.insert(record.sequence, record.offset);
        }
    }
    Ok(offsets)
}
