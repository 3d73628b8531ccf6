//! Bringing a replica up to a length by pulling records from another one: between fence and seal
//! (rule R5), and for repair of a sealed chunk.

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Chain, ChunkId, Epoch};
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use super::context::Context;
use super::pull::Pull;
use super::refusal;
use crate::chunk::{ChunkSpec, Completion, Durable, FenceAnswer, FenceSpec};

/// Records on their way to the disk.
const PENDING_MAX: usize = 256;

/// What a replica is to be brought to.
#[derive(Debug)]
pub struct Goal<'a> {
    /// The replica as it would have been created, for a node that lacks it.
    pub spec: ChunkSpec,
    /// The epoch of the seal.
    pub epoch: Epoch,
    /// The length wanted.
    pub length: u64,
    /// The chain there.
    pub chain: Chain,
    /// Replicas that have it.
    pub sources: &'a [v1::Replica],
}

/// Fences the replica at the goal's epoch (so that nothing else is written to it), then pulls what
/// is missing from the first source that gives it. Durable when it returns: (length, chain).
///
/// # Errors
/// [`ServiceError::Corrupt`] when the chain there is another; what the last source answered.
pub async fn extend(context: &Context, goal: Goal<'_>) -> Result<(u64, Chain), WireError> {
    let chunk = goal.spec.chunk;
    if goal.length > CHUNK_BYTES_MAX {
        return Err(ServiceError::Malformed { field: "length".to_owned() }.into());
    }
    let mut held = fence(context, goal.spec.clone(), goal.epoch).await?;
    let mut last = WireError::Service(ServiceError::NoSuchChunk { chunk });
    let others = goal.sources.iter().filter(|source| source.node != context.node.0);
    for source in others {
        if held.length >= goal.length {
            break;
        }
        if let Err(error) = pull(context, source, chunk, goal.epoch, held.length, goal.length).await {
            tracing::warn!(chunk = chunk.0, source = source.node, %error, "extend a replica");
            last = error;
        }
        // The fence again: it answers what is durable now.
        held = fence(context, goal.spec.clone(), goal.epoch).await?;
    }
    if held.length < goal.length {
        return Err(last);
    }
    if held.length == goal.length && held.chain != goal.chain {
        return Err(ServiceError::Corrupt { chunk }.into());
    }
    Ok((held.length, held.chain))
}

async fn fence(context: &Context, spec: ChunkSpec, epoch: Epoch) -> Result<FenceAnswer, WireError> {
    context
        .store
        .fence(FenceSpec { spec, epoch })
        .await
        .map_err(|error| refusal::of_change(context.node, &error))
}

/// Pulls the records of `[from, until)` from one source and stores them, pipelined.
async fn pull(
    context: &Context,
    source: &v1::Replica,
    chunk: ChunkId,
    epoch: Epoch,
    from: u64,
    until: u64,
) -> Result<(), WireError> {
    let mut records = Pull::from(context, source, chunk, (from, until)).await?;
    let mut pending: FuturesOrdered<Completion<Durable>> = FuturesOrdered::new();
    while let Some(record) = records.next().await? {
        context.store.ready().await;
        metrics::counter!("cairn_data_extended_bytes").increment(record.payload.len() as u64);
        pending.push_back(context.store.extend(epoch, record));
        if pending.len() >= PENDING_MAX {
            settle(context, &mut pending, 1).await?;
        }
    }
    let all = pending.len();
    settle(context, &mut pending, all).await
}

async fn settle(
    context: &Context,
    pending: &mut FuturesOrdered<Completion<Durable>>,
    count: usize,
) -> Result<(), WireError> {
    for _ in 0..count {
        if let Some(Err(error)) = pending.next().await {
            return Err(refusal::of_change(context.node, &error));
        }
    }
    Ok(())
}
