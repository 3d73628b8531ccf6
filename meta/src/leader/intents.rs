//! Offers the intents' work to the nodes they are assigned to, and takes it from those that are
//! gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use cairn_types::{IntentId, NodeId};

use super::board::WorkKey;
use super::leaving::Leaving;
use super::nodes::View;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{board, notice, rows};
use crate::keys::RowFault;
use crate::keys::intents::{IntentRecord, UploadChunk, Work};
use crate::namespace::{Command, read};
use crate::store::Rows;

/// Intents looked at in one turn, at most.
const PER_TURN: usize = 16_384;
/// How long a node may keep an intent before another one gets it.
const LEASE: Duration = Duration::from_secs(180);
/// How fast an object is written at least: a larger one may take longer.
const PUT_BYTES_PER_SECOND: u64 = 4 << 20;

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

/// The intents that nodes have.
type Given = HashMap<(IntentId, NodeId), Gift>;

struct Gift {
    since: Duration,
    /// How often the node had failed at it when its work was last put together.
    failures: u32,
}

/// How much longer than others a piece of work may take.
fn takes(work: &Work) -> Duration {
    match work {
        Work::PutObject { length, .. } => Duration::from_secs(length / PUT_BYTES_PER_SECOND),
        _ => Duration::ZERO,
    }
}

async fn turn(tenure: &Arc<Tenure>, given: &mut Given, next: &mut Option<IntentId>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || {
        let count = read::cluster(&*view.store)?.counts.intents;
        let intents = rows::look_at_intents(&*view.store, after, PER_TURN)?;
        let unfinished = intents.try_filter_map(|record| {
            if record.failed {
                return None;
            }
            let bucket = bucket(&*view.store, &record.work);
            Some(bucket.map(|bucket| (record, bucket)))
        })?;
        Ok::<_, RowFault>((count, unfinished))
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
    let mut looked_up = Vec::new();
    for (record, bucket) in found.rows {
        let gift = given.entry((record.intent, record.assignee)).or_insert(Gift { since: now, failures: 0 });
        let assignee = tenure.registry.get(record.assignee).filter(View::is_live);
        let live = assignee.is_some();
        let leaves = assignee.is_some_and(|v| v.registered.leaving != Leaving::No);
        let failures = tenure.board.failures(record.assignee, WorkKey::Intent(record.intent));
        // What a node is at that leaves it may end, but for what any other can do as well.
        let leaves = leaves && !matches!(record.work, Work::Upload { .. });
        let late = now.saturating_sub(gift.since) > LEASE.saturating_add(takes(&record.work));
        let anew = failures > std::mem::replace(&mut gift.failures, failures);
        if !live || leaves || late || failures >= FAILURES_MAX {
            given.remove(&(record.intent, record.assignee));
            if reassign(tenure, &record, live).await? {
                continue;
            }
        }
        let is_offered = tenure.board.is_offered(record.assignee, WorkKey::Intent(record.intent));
        match record.work {
            _ if !live => {}
            Work::Merge { .. } if is_offered => {}
            Work::PutObject { .. } if is_offered && !anew => {}
            Work::Merge { .. } | Work::PutObject { .. } => looked_up.push(record),
            _ => {
                if let Some(work) = notice::intent(&record, bucket) {
                    tenure.board.offer(record.assignee, WorkKey::Intent(record.intent), work);
                }
            }
        }
    }
    offer(tenure, looked_up).await
}

/// Offers merges and puts, whose pieces are looked up: as they are now, some may have moved since they were made,
/// or since a node failed at them.
async fn offer(tenure: &Arc<Tenure>, records: Vec<IntentRecord>) -> Result<(), JobFault> {
    if records.is_empty() {
        return Ok(());
    }
    let (view, asked) = (tenure.local()?, Arc::clone(tenure));
    let read = move || {
        let rows: &dyn Rows = &*view.store;
        let address = |node| asked.address(node);
        let with_work = |record: IntentRecord| {
            let work = match &record.work {
                Work::PutObject { .. } => notice::put(rows, asked.cluster, &record, &address)?,
                _ => notice::merge(rows, asked.cluster, &record, &address)?,
            };
            Ok((record, work))
        };
        records.into_iter().map(with_work).collect::<Result<Vec<_>, RowFault>>()
    };
    for (record, work) in tokio::task::spawn_blocking(read).await?? {
        let (node, key) = (record.assignee, WorkKey::Intent(record.intent));
        match work {
            Some(work) if tenure.board.is_offered(node, key) => tenure.board.renew(node, key, work),
            Some(work) => {
                let resend = board::RESEND.saturating_add(takes(&record.work));
                tenure.board.offer_long(node, key, work, resend);
            }
            None => withdraw(tenure, &record).await?,
        }
    }
    Ok(())
}

/// Ends work of which something is gone: a file has changed, and what it was is no more. What is left to do is
/// found again. A put's bytes are kept until it ends: without them it has ended, or never can.
async fn withdraw(tenure: &Tenure, record: &IntentRecord) -> Result<(), JobFault> {
    let intent = record.intent;
    let message = "bytes that the object is made of are gone".to_owned();
    let command = match record.work {
        Work::PutObject { .. } => Command::FailIntent { intent, permanent: true, message },
        _ => Command::CancelUpload { intent },
    };
    if tenure.try_propose(command).await?.is_some() {
        tenure.board.done(record.assignee, WorkKey::Intent(intent));
        tenure.stir();
    }
    Ok(())
}

/// The bucket that the work is done in, where it is a mount's.
fn bucket(rows: &dyn Rows, work: &Work) -> Result<Option<v1::MountedBucket>, RowFault> {
    match work {
        Work::Import { mount, .. } | Work::DeleteObject { mount, .. } | Work::ProbeMount { mount, .. } => {
            notice::bucket(rows, *mount)
        }
        _ => Ok(None),
    }
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
