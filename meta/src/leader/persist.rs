//! Groups sealed chunks into packs and makes the intents that upload them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{NodeId, Persist, Timestamp};
use futures::future::join_all;

use super::group::{self, Pack, Ripe};
use super::rows;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::keys::chunks::ChunkRecord;
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::queues::Queue;
use crate::namespace::Command;

/// Chunks looked at in one turn, at most.
const CHUNKS_PER_TURN: usize = 4096;
/// Intents looked at in one turn, at most.
const INTENTS_PER_TURN: usize = 16_384;
/// Uploads that a node has at a time, at most.
pub const UPLOADS_PER_NODE_MAX: usize = 4;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "persist", Duration::from_millis(500));
    while turns.next().await {
        turns.ended(turn(&tenure).await);
    }
}

async fn turn(tenure: &Arc<Tenure>) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let read = move || {
        let chunks = rows::queued_chunks(&*view.store, Queue::Unpersisted, CHUNKS_PER_TURN)?;
        let intents =
            if chunks.is_empty() { Vec::new() } else { rows::intents(&*view.store, INTENTS_PER_TURN)? };
        Ok::<_, crate::keys::RowFault>((chunks, intents))
    };
    let (chunks, intents) = tokio::task::spawn_blocking(read).await??;
    let now = tenure.clock.wall();
    let ripe: Vec<Ripe> = chunks.iter().filter_map(|c| ripe(tenure, c, now)).collect();
    let packs = group::group(&ripe, &slots(tenure, &intents));
    let created = join_all(packs.into_iter().map(|pack| create(tenure, pack))).await;
    if created.iter().any(Result::is_ok) {
        tenure.stir();
    }
    created.into_iter().collect()
}

/// A chunk as the grouping sees it; `None` when it stays on the data nodes.
fn ripe(tenure: &Tenure, record: &ChunkRecord, now: Timestamp) -> Option<Ripe> {
    let sealed = record.sealed.as_ref()?;
    let urgent = tenure.is_urgent(record.chunk);
    let waits = record.place.is_none() && record.upload.is_none() && !record.is_dead();
    if !waits || sealed.length == 0 || record.policy.persist == Persist::Never {
        return None;
    }
    Some(Ripe {
        chunk: record.chunk,
        length: sealed.length,
        age_ms: age_ms(record.activation.time, now),
        max_lag_ms: record.policy.max_lag_ms,
        urgent: urgent || record.policy.persist == Persist::Sync,
        holders: sealed.holders.clone(),
    })
}

/// Milliseconds from `then` to `now`, 0 when the clocks disagree.
#[must_use]
pub fn age_ms(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.0.saturating_sub(then.0) / 1_000_000).unwrap_or(0)
}

/// The live nodes and how many more packs each may take.
fn slots(tenure: &Tenure, intents: &[IntentRecord]) -> BTreeMap<NodeId, usize> {
    let live = tenure.registry.all().into_iter().filter(super::nodes::View::is_live);
    let mut slots: BTreeMap<NodeId, usize> =
        live.map(|v| (v.registered.node, UPLOADS_PER_NODE_MAX)).collect();
    let uploads = intents.iter().filter(|i| !i.failed && matches!(i.work, Work::Upload { .. }));
    for intent in uploads {
        slots.entry(intent.assignee).and_modify(|n| *n = n.saturating_sub(1));
    }
    slots
}

async fn create(tenure: &Tenure, pack: Pack) -> Result<(), JobFault> {
    let Pack { node, chunks, bytes } = pack;
    let count = chunks.len();
    let command = Command::CreateUpload { assignee: node, chunks };
    let Some(answer) = tenure.try_propose(command).await? else { return Ok(()) };
    tracing::info!(intent = ?answer.intent, %node, chunks = count, bytes, "a pack goes up");
    metrics::counter!("cairn_meta_uploads_created_total").increment(1);
    Ok(())
}
