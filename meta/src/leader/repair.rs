//! Makes further copies of sealed chunks that have too few and are not in S3.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, NodeId, Policy};

use super::board::WorkKey;
use super::rows::Queued;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{notice, placement, rows};
use crate::keys::chunks::ChunkRecord;
use crate::keys::queues::Queue;
use crate::namespace::jobs::Waiting;

/// Chunks looked at in one turn, at most.
const PER_TURN: usize = 4096;
/// Copies that a node makes at a time, at most.
const PER_NODE_MAX: usize = 16;
/// How long a node may take for a copy before another one is asked.
const COPY: Duration = Duration::from_secs(120);

/// A copy that a node is at.
struct Copying {
    until: Duration,
    place: Waiting,
}

type Copies = HashMap<(ChunkId, NodeId), Copying>;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "repair", Duration::from_secs(1));
    let mut copies: Copies = HashMap::new();
    let mut next = None;
    while turns.next().await {
        turns.ended(turn(&tenure, &mut copies, &mut next).await);
    }
}

async fn turn(tenure: &Arc<Tenure>, copies: &mut Copies, next: &mut Option<Waiting>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || rows::look_at_chunks(&*view.store, Queue::UnderReplicated, after, PER_TURN);
    let found = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    let now = tenure.clock.boottime();
    let places: BTreeSet<Waiting> = found.rows.iter().map(|q| q.place).collect();
    copies.retain(|(chunk, node), copying| {
        let wanted = places.contains(&copying.place) || !found.covers(copying.place);
        let keep = copying.until > now && wanted;
        if !keep {
            tenure.board.done(*node, WorkKey::Copy(*chunk));
        }
        keep
    });
    for Queued { place, record } in &found.rows {
        for node in targets(tenure, record, copies) {
            let address = |node| tenure.address(node);
            let Some(work) = notice::copy(record, &address) else { continue };
            if tenure.board.offer(node, WorkKey::Copy(record.chunk), work) {
                metrics::counter!("cairn_meta_copies_offered_total").increment(1);
                copies.insert((record.chunk, node), Copying { until: now + COPY, place: *place });
            }
        }
    }
    Ok(())
}

/// Nodes that shall make a copy of a sealed chunk, beside those that are at it.
fn targets(tenure: &Tenure, record: &ChunkRecord, copies: &Copies) -> Vec<NodeId> {
    let Some(sealed) = &record.sealed else { return Vec::new() };
    let alive = sealed.holders.iter().any(|h| tenure.registry.is_healthy(*h));
    if record.place.is_some() || sealed.length == 0 || !alive {
        return Vec::new();
    }
    let at_it = copies.keys().filter(|(chunk, _)| *chunk == record.chunk).count();
    let missing = usize::from(record.policy.replicas).saturating_sub(sealed.holders.len() + at_it);
    let mut candidates = tenure.registry.candidates(&[]);
    candidates.retain(|c| {
        !c.shunned
            && record.replicas.iter().all(|r| r.node != c.node)
            && !copies.contains_key(&(record.chunk, c.node))
            && copies.keys().filter(|(_, node)| *node == c.node).count() < PER_NODE_MAX
    });
    let replicas = u8::try_from(missing.min(candidates.len())).unwrap_or(u8::MAX);
    if replicas == 0 {
        return Vec::new();
    }
    let policy = Policy { replicas, min_replicas: 1, ..record.policy };
    placement::choose(&candidates, &policy, tenure.random.next_u64()).unwrap_or_default()
}
