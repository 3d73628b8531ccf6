//! Offers the intents' work to the nodes they are assigned to, and takes it from those that are
//! gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{IntentId, NodeId};

use super::board::WorkKey;
use super::leaving::Leaving;
use super::nodes::View;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{notice, rows};
use crate::keys;
use crate::keys::intents::{IntentRecord, UploadChunk, Work};
use crate::keys::mounts::{MountRecord, MountSource};
use crate::namespace::{Command, read};

/// Intents looked at in one turn, at most.
const PER_TURN: usize = 16_384;
/// How long a node may keep an intent before another one gets it.
const LEASE: Duration = Duration::from_secs(180);

/// How often a node may fail at an intent before another one gets it.
const FAILURES_MAX: u32 = 5;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "intents", Duration::from_secs(1));
    let mut given: Given = HashMap::new();
    let mut next = None;
    while turns.next().await {
        turns.ended(turn(&tenure, &mut given, &mut next).await);
    }
}

type Given = HashMap<(IntentId, NodeId), Duration>;

async fn turn(tenure: &Arc<Tenure>, given: &mut Given, next: &mut Option<IntentId>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || {
        let count = read::cluster(&*view.store)?.counts.intents;
        let intents = rows::look_at_intents(&*view.store, after, PER_TURN)?;
        let unfinished = intents.try_filter_map(|record| {
            if record.failed {
                return None;
            }
            let source = mount_source(&*view.store, &record.work);
            Some(source.map(|source| (record, source)))
        })?;
        Ok::<_, keys::RowFault>((count, unfinished))
    };
    let (count, found) = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    metrics::gauge!("cairn_meta_intents_count").set(count as f64);
    let now = tenure.clock.boottime();
    let current: HashSet<(IntentId, NodeId)> =
        found.rows.iter().map(|(r, _)| (r.intent, r.assignee)).collect();
    // What this turn did not look at stays as it is.
    let stands = |intent: IntentId, node: NodeId| current.contains(&(intent, node)) || !found.covers(intent);
    given.retain(|(intent, node), _| stands(*intent, *node));
    tenure.board.retain(|node, key| match key {
        WorkKey::Intent(intent) => stands(intent, node),
        WorkKey::Delete(_) | WorkKey::Copy(_) => true,
    });
    for (record, source) in found.rows {
        let since = *given.entry((record.intent, record.assignee)).or_insert(now);
        let assignee = tenure.registry.get(record.assignee).filter(View::is_live);
        let live = assignee.is_some();
        let leaves = assignee.is_some_and(|v| v.registered.leaving != Leaving::No);
        let failures = tenure.board.failures(record.assignee, WorkKey::Intent(record.intent));
        // What a node is at that leaves it may end, but for what any other can do as well.
        let leaves = leaves && !matches!(record.work, Work::Upload { .. });
        if !live || leaves || now.saturating_sub(since) > LEASE || failures >= FAILURES_MAX {
            given.remove(&(record.intent, record.assignee));
            if reassign(tenure, &record, live).await? {
                continue;
            }
        }
        if live && matches!(record.work, Work::Merge { .. }) {
            offer_merge(tenure, record).await?;
        } else if live && let Some(work) = notice::intent(&record, source) {
            tenure.board.offer(record.assignee, WorkKey::Intent(record.intent), work);
        }
    }
    Ok(())
}

/// Offers a merge, whose pieces are looked up once: as they are now, some may have moved since it was made.
async fn offer_merge(tenure: &Arc<Tenure>, record: IntentRecord) -> Result<(), JobFault> {
    let (node, intent) = (record.assignee, record.intent);
    let key = WorkKey::Intent(intent);
    if tenure.board.is_offered(node, key) {
        return Ok(());
    }
    let (view, asked) = (tenure.local()?, Arc::clone(tenure));
    let read = move || {
        let address = |node| asked.address(node);
        notice::merge(&*view.store, asked.cluster, &record, &address)
    };
    match tokio::task::spawn_blocking(read).await?? {
        Some(work) => drop(tenure.board.offer(node, key, work)),
        // A file has changed, and what it was is gone. What is left of the runs is found again.
        None => drop(tenure.try_propose(Command::CancelUpload { intent }).await?),
    }
    Ok(())
}

fn mount_source(
    rows: &(impl crate::store::Rows + ?Sized),
    work: &Work,
) -> Result<Option<MountSource>, keys::RowFault> {
    let Work::Import { mount, .. } = work else { return Ok(None) };
    let record: Option<MountRecord> = keys::get(rows, &keys::mounts::key(*mount))?;
    Ok(record.map(|m| m.source))
}

/// Gives an intent to another node, if there is one that can do it; false when it stays.
async fn reassign(tenure: &Tenure, record: &IntentRecord, live: bool) -> Result<bool, JobFault> {
    let able: Vec<NodeId> = match &record.work {
        Work::Upload { chunks, .. } => holders_of_all(tenure, chunks)?,
        Work::Import { .. }
        | Work::DeletePack { .. }
        | Work::Compact { .. }
        | Work::Merge { .. }
        | Work::PutObject { .. }
        | Work::DeleteObject { .. }
        | Work::ProbeMount { .. } => live_nodes(tenure),
    };
    let others: Vec<NodeId> = able.iter().copied().filter(|n| *n != record.assignee).collect();
    let command = match pick(tenure, &others) {
        Some(node) => Command::Reassign { intent: record.intent, node },
        None if live || able.contains(&record.assignee) => return Ok(false),
        // No node holds all of the pack any more: its chunks are grouped anew.
        None if matches!(record.work, Work::Upload { .. }) && some_node_is_live(tenure) => {
            let message = "no live node holds all chunks of the pack".to_owned();
            Command::FailIntent { intent: record.intent, permanent: true, message }
        }
        None => return Ok(false),
    };
    tracing::info!(intent = %record.intent, from = %record.assignee, ?command, "an intent is given away");
    metrics::counter!("cairn_meta_intents_reassigned_total").increment(1);
    if tenure.try_propose(command).await?.is_none() {
        return Ok(false);
    }
    tenure.board.done(record.assignee, WorkKey::Intent(record.intent));
    tenure.stir();
    Ok(true)
}

/// Live nodes that hold every one of `chunks`.
fn holders_of_all(tenure: &Tenure, chunks: &[UploadChunk]) -> Result<Vec<NodeId>, JobFault> {
    let live = tenure.registry.all().into_iter().filter(View::is_live);
    let mut able: Vec<NodeId> = live.map(|v| v.registered.node).collect();
    for upload in chunks {
        let record = tenure.chunk(upload.chunk)?;
        able.retain(|node| record.as_ref().is_some_and(|r| r.is_holder(*node)));
    }
    Ok(able)
}

/// The nodes that are not silent; those that leave only when there are no others.
#[must_use]
pub fn live_nodes(tenure: &Tenure) -> Vec<NodeId> {
    let live = tenure.registry.all().into_iter().filter(View::is_live);
    let (stay, leave): (Vec<View>, Vec<View>) = live.partition(|v| v.registered.leaving == Leaving::No);
    let nodes = if stay.is_empty() { leave } else { stay };
    nodes.into_iter().map(|v| v.registered.node).collect()
}

fn some_node_is_live(tenure: &Tenure) -> bool {
    !live_nodes(tenure).is_empty()
}

/// One of `nodes` by chance, preferring those with less work.
#[must_use]
pub fn pick(tenure: &Tenure, nodes: &[NodeId]) -> Option<NodeId> {
    let start = usize::try_from(tenure.random.next_u64() % nodes.len().max(1) as u64).unwrap_or(0);
    let turned = nodes[start..].iter().chain(&nodes[..start]);
    turned.min_by_key(|n| tenure.board.offered(**n)).copied()
}
