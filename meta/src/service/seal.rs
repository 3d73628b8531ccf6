//! `SealChunk`: begins a chunk's seal and waits until its end is decided.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::{ChunkId, Epoch, FsError, NodeId};
use tokio::sync::broadcast::error::RecvError;

use super::Context;
use super::call::malformed;
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::leader::Tenure;
use crate::namespace::Command;

/// How often the state is looked at while nothing was heard.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes of a reason that are logged.
const REASON_BYTES_MAX: usize = 256;

/// Seals a chunk. The caller's deadline bounds the wait; asking again is safe.
pub async fn seal(
    ctx: &Context,
    request: v1::SealChunkRequest,
    deadline: Duration,
) -> Result<v1::Chunk, WireError> {
    if request.chunk == 0 {
        return Err(malformed("chunk"));
    }
    if request.reason.len() > REASON_BYTES_MAX {
        return Err(malformed("reason"));
    }
    let tenure = ctx.tenure()?;
    let chunk = ChunkId(request.chunk);
    if request.blame_node != 0 {
        tenure.registry.blame_for(NodeId(request.blame_node), &request.reason);
    }
    tracing::info!(%chunk, reason = request.reason, blame = request.blame_node, "a seal is asked for");
    let epoch = match request.epoch {
        // The caller does not know the epoch: whatever is open now.
        0 => tenure.chunk(chunk).map_err(super::fault)?.ok_or(FsError::NotFound)?.epoch,
        epoch => Epoch(epoch),
    };
    let (_, reply) = ctx.node.propose(Command::BeginSeal { chunk, epoch }, deadline).await?;
    let record = match reply {
        Ok(answer) => answer.chunk.ok_or(cairn_proto::ServiceError::Internal)?,
        Err(FsError::ChunkGone { .. }) => return Err(FsError::NotFound.into()),
        Err(error) => return Err(error.into()),
    };
    let sealed = decided(&tenure, record).await?;
    ctx.wire_chunk(&*tenure.local()?.store, &sealed)
}

/// Waits until a chunk that is `Sealing` is sealed; the caller bounds the wait.
///
/// # Errors
/// `NotFound` when it was collected meanwhile; `NotLeader` when leadership moved.
pub async fn decided(tenure: &Tenure, mut record: ChunkRecord) -> Result<ChunkRecord, WireError> {
    let chunk = record.chunk;
    let mut decided = tenure.seals.subscribe();
    while record.state != ChunkState::Sealed {
        tenure.seals.ask(chunk);
        let told = async {
            loop {
                match decided.recv().await {
                    Ok(told) if told == chunk => break,
                    Ok(_) => {}
                    // Something was missed: look.
                    Err(RecvError::Lagged(_)) | Err(RecvError::Closed) => break,
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(LOOK, told) => {}
            () = tenure.stop.cancelled() => {
                return Err(cairn_proto::ServiceError::NotLeader { leader_address: String::new() }.into());
            }
        }
        record = tenure.chunk(chunk).map_err(super::fault)?.ok_or(FsError::NotFound)?;
    }
    Ok(record)
}
