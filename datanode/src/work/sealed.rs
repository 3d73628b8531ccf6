//! What becomes of a replica once its chunk's end is decided: kept, cut, brought up or dropped
//! (rules R5, R8). And of replicas that a start finds unsealed (R6).

use std::sync::Arc;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Chain, ChunkId, Epoch, FsError, NodeId};
use futures::StreamExt;

use crate::chunk::{ChunkView, ReplicaPhase, SealedOutcome, SealedSpec};
use crate::replicate::extend::{self, Goal};
use crate::replicate::mend;
use crate::replicate::seal::{self, Reason};
use crate::replicate::{Context, record, refusal};

/// Chunks of an earlier life whose seals are asked for at once.
const SEALS_AT_ONCE: usize = 8;

/// Obeys a notice. Durable when it returns.
///
/// # Errors
/// Why it could not be obeyed yet: it is offered again.
pub async fn obey(context: &Context, notice: v1::SealedNotice) -> Result<(), WireError> {
    let sealed = SealedSpec {
        chunk: ChunkId(notice.chunk),
        epoch: Epoch(notice.epoch),
        length: notice.length,
        chain: Chain(notice.chain),
        holder: notice.holder,
    };
    if !sealed.holder && is_holder_since(context, sealed.chunk).await? {
        tracing::info!(chunk = notice.chunk, "a notice from before this node's copy is left alone");
        return Ok(());
    }
    let learned = learn(context, sealed).await?;
    tracing::debug!(chunk = notice.chunk, length = notice.length, holder = notice.holder, ?learned, "sealed");
    match learned {
        SealedOutcome::Holder | SealedOutcome::Dropped => Ok(()),
        SealedOutcome::Unknown if !notice.holder => Ok(()),
        SealedOutcome::Short { .. } | SealedOutcome::Unknown | SealedOutcome::Diverged => {
            let found = context.metadata.get_chunk(sealed.chunk).await?;
            become_holder(context, &found, sealed.length, sealed.chain, &found.replicas).await
        }
    }
}

/// True when this node's sealed replica is one that counts: a notice that it is none was said before
/// the copy was made, and waited in between.
async fn is_holder_since(context: &Context, chunk: ChunkId) -> Result<bool, WireError> {
    if context.store.chunk(chunk).is_none_or(|view| view.phase != ReplicaPhase::Sealed) {
        return Ok(false);
    }
    match context.metadata.get_chunk(chunk).await {
        Ok(found) => Ok(found.replicas.iter().any(|replica| NodeId(replica.node) == context.node)),
        Err(WireError::Fs(FsError::NotFound)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn learn(context: &Context, sealed: SealedSpec) -> Result<SealedOutcome, WireError> {
    context.store.learn_sealed(sealed).await.map_err(|error| refusal::of_change(context.node, &error))
}

/// Makes this node a holder of a sealed chunk: pulls what it lacks from another holder, checks the
/// chain, seals. Durable when it returns.
///
/// # Errors
/// [`ServiceError::NoSuchChunk`] when no source has it; what the last one answered.
pub async fn become_holder(
    context: &Context,
    found: &v1::Chunk,
    length: u64,
    chain: Chain,
    sources: &[v1::Replica],
) -> Result<(), WireError> {
    let chunk = ChunkId(found.chunk);
    // Its seal's epoch; a planned roll raised none, and a pull needs a fence above the opening.
    let epoch = Epoch(found.epoch.max(record::OPENED.0 + 1));
    let spec = record::spec(found, context.store.incarnation()).map_err(ServiceError::from)?;
    extend::extend(context, Goal { spec, epoch, length, chain, sources }).await?;
    let sealed = SealedSpec { chunk, epoch, length, chain, holder: true };
    let mut learned = learn(context, sealed).await?;
    if let SealedOutcome::Short { .. } = learned {
        // It is long enough, and not all of it reads.
        mend::mend(context, chunk, sources).await;
        learned = learn(context, sealed).await?;
    }
    match learned {
        SealedOutcome::Holder => Ok(()),
        SealedOutcome::Dropped
        | SealedOutcome::Unknown
        | SealedOutcome::Short { .. }
        | SealedOutcome::Diverged => Err(ServiceError::Corrupt { chunk }.into()),
    }
}

/// Asks for the seal of every replica that an earlier process left unsealed, and obeys it.
pub async fn after_restart(context: Arc<Context>) {
    let left = context.store.list().into_iter().filter(|view| view.phase != ReplicaPhase::Sealed);
    let left: Vec<ChunkView> = left.collect();
    if left.is_empty() {
        return;
    }
    tracing::info!(chunks = left.len(), "ask for the seals of chunks that a restart left open");
    let seals = futures::stream::iter(left).map(|view| resolve(Arc::clone(&context), view));
    seals.buffer_unordered(SEALS_AT_ONCE).collect::<()>().await;
}

async fn resolve(context: Arc<Context>, view: ChunkView) {
    let chunk = view.chunk;
    let sealed =
        seal::ask(&context.metadata, chunk, view.opened_epoch, Reason::Restarted, Some(context.node)).await;
    // A seal that is not decided yet comes as a notice.
    let Ok(found) = sealed else { return };
    if found.state() != v1::ChunkState::Sealed {
        return;
    }
    let holder = found.replicas.iter().any(|replica| NodeId(replica.node) == context.node);
    let notice = v1::SealedNotice {
        chunk: chunk.0,
        epoch: found.epoch,
        length: found.length,
        chain: found.chain,
        holder,
    };
    if let Err(error) = obey(&context, notice).await {
        tracing::warn!(chunk = chunk.0, %error, "obey a seal after the restart");
    }
}
