//! Groups sealed chunks into packs and makes the intents that upload them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{IntentId, NodeId, Persist};
use futures::future::join_all;

use super::first_seen::{FirstSeen, Now};
use super::group::{self, Pack, Ripe};
use super::rows::{self, Queued};
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::uploads::Uploads;
use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::keys::queues::Queue;
use crate::namespace::jobs::Waiting;
use crate::namespace::{Command, read};

/// Chunks looked at in one turn, at most.
const CHUNKS_PER_TURN: usize = 4096;
/// Uploads that a node has at a time, at most.
pub const UPLOADS_PER_NODE_MAX: usize = 4;

/// What the job keeps between turns.
#[derive(Default)]
struct Job {
    seen: FirstSeen,
    next: Option<Waiting>,
    uploads: Uploads,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "persist", Duration::from_millis(500));
    let mut job = Job::default();
    while turns.next().await {
        turns.ended(turn(&tenure, &mut job).await);
    }
    // Another server leads, and tells.
    metrics::gauge!("cairn_meta_lag_bytes").set(0.0);
    metrics::gauge!("cairn_meta_lag_age_seconds").set(0.0);
}

async fn turn(tenure: &Arc<Tenure>, job: &mut Job) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let now = Now::of(&*tenure.clock);
    // When the read breaks off, they are all searched for anew.
    let (after, mut uploads) = (job.next, std::mem::take(&mut job.uploads));
    let read = move || {
        uploads.refresh(&*view.store, now.boot)?;
        let chunks = rows::look_at_chunks(&*view.store, Queue::Unpersisted, after, CHUNKS_PER_TURN)?;
        let lag_bytes = read::cluster(&*view.store)?.counts.unpersisted_bytes;
        Ok::<_, RowFault>((chunks, uploads, lag_bytes))
    };
    let (chunks, uploads, lag_bytes) = tokio::task::spawn_blocking(read).await??;
    (job.uploads, job.next) = (uploads, chunks.next);
    job.seen.update(&chunks, |q| q.place, now.boot);
    let age_ms = |q: &Queued| job.seen.age_ms(q.place, q.record.activation.time, now);
    let oldest_ms = chunks.rows.iter().map(age_ms).chain(job.uploads.oldest_ms(now)).max();
    tenure.note_lag_age(oldest_ms, now.boot);
    metrics::gauge!("cairn_meta_lag_bytes").set(lag_bytes as f64);
    metrics::gauge!("cairn_meta_lag_age_seconds").set(oldest_ms.unwrap_or(0) as f64 / 1000.0);
    let ripe: Vec<Ripe> = chunks.rows.iter().filter_map(|q| ripe(tenure, &q.record, age_ms(q))).collect();
    let packs = group::group(&ripe, &slots(tenure, &job.uploads));
    let created = join_all(packs.into_iter().map(|pack| create(tenure, pack))).await;
    if created.iter().any(Result::is_ok) {
        tenure.stir();
    }
    let mut outcome = Ok(());
    for made in created {
        match made {
            Ok(Some(intent)) => job.uploads.made(intent),
            Ok(None) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// A chunk as the grouping sees it; `None` when it stays on the data nodes.
fn ripe(tenure: &Tenure, record: &ChunkRecord, age_ms: u64) -> Option<Ripe> {
    let sealed = record.sealed.as_ref()?;
    let urgent = tenure.is_urgent(record.chunk);
    let waits = record.place.is_none() && record.upload.is_none() && !record.is_dead();
    if !waits || sealed.length == 0 || record.policy.persist == Persist::Never {
        return None;
    }
    Some(Ripe {
        chunk: record.chunk,
        length: sealed.length,
        age_ms,
        max_lag_ms: record.policy.max_lag_ms,
        urgent: urgent || record.policy.persist == Persist::Sync,
        holders: sealed.holders.clone(),
    })
}

/// The live nodes and how many more packs each may take.
fn slots(tenure: &Tenure, uploads: &Uploads) -> BTreeMap<NodeId, usize> {
    let live = tenure.registry.all().into_iter().filter(super::nodes::View::is_live);
    let mut slots: BTreeMap<NodeId, usize> =
        live.map(|v| (v.registered.node, UPLOADS_PER_NODE_MAX)).collect();
    for assignee in uploads.assignees() {
        slots.entry(assignee).and_modify(|n| *n = n.saturating_sub(1));
    }
    slots
}

/// Makes the intent of an upload; `None` when the state has moved on.
async fn create(tenure: &Tenure, pack: Pack) -> Result<Option<IntentId>, JobFault> {
    let Pack { node, chunks, bytes } = pack;
    let count = chunks.len();
    let command = Command::CreateUpload { assignee: node, chunks };
    let Some(answer) = tenure.try_propose(command).await? else { return Ok(None) };
    tracing::info!(intent = ?answer.intent, %node, chunks = count, bytes, "a pack goes up");
    metrics::counter!("cairn_meta_uploads_created_total").increment(1);
    Ok(answer.intent)
}
