//! Bad records of a replica that takes no appends any more, replaced by those of another holder.

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::ChunkId;

use super::context::Context;
use super::pull::Pull;
use super::refusal;
use crate::chunk::Faults;

/// Reads a replica through, on a thread that may block. `None` when it is not here any more.
pub async fn faults(context: &Context, chunk: ChunkId) -> Option<Faults> {
    let store = context.store.clone();
    let checked = tokio::task::spawn_blocking(move || store.check(chunk)).await;
    checked.ok()?.ok().map(|(faults, _)| faults)
}

/// Replaces what is bad by what the sources have; answers what is left. `None` when the replica is not
/// here any more.
pub async fn mend(context: &Context, chunk: ChunkId, sources: &[v1::Replica]) -> Option<Faults> {
    for (from, until) in faults(context, chunk).await?.ranges {
        // What fails is found below.
        let _ = from_any(context, sources, chunk, from, until).await;
    }
    faults(context, chunk).await
}

/// The records of a range from the first of the sources that gives them, each written again here,
/// durably.
///
/// # Errors
/// What the last source, or the store, answered.
pub async fn from_any(
    context: &Context,
    sources: &[v1::Replica],
    chunk: ChunkId,
    from: u64,
    until: u64,
) -> Result<(), WireError> {
    let mut last = WireError::Service(ServiceError::NoSuchChunk { chunk });
    for source in sources.iter().filter(|source| source.node != context.node.0) {
        match from_peer(context, source, chunk, from, until).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!(%chunk, peer = source.node, %error, "repair a replica from a peer");
                last = error;
            }
        }
    }
    Err(last)
}

async fn from_peer(
    context: &Context,
    source: &v1::Replica,
    chunk: ChunkId,
    from: u64,
    until: u64,
) -> Result<(), WireError> {
    let mut records = Pull::from(context, source, chunk, (from, until)).await?;
    while let Some(record) = records.next().await? {
        context.store.ready().await;
        context.store.repair(record).await.map_err(|error| refusal::of_change(context.node, &error))?;
    }
    if records.is_whole() { Ok(()) } else { Err(ServiceError::Corrupt { chunk }.into()) }
}
