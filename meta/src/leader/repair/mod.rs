//! Makes further copies of sealed chunks that have too few and are not in S3, and of what only a draining
//! node has: the most endangered first, not faster than nodes may be asked to receive.

pub mod backlog;
pub mod rate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{ChunkId, NodeId, Policy};

use self::backlog::{Backlog, Need};
use self::rate::Rates;
use super::board::WorkKey;
use super::leaving::Leaving;
use super::nodes::View;
use super::rows::Queued;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{notice, placement, rows};
use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::keys::queues::Queue;
use crate::namespace::jobs::Waiting;
use crate::namespace::read;

/// Rows of the queue looked at in one turn, at most.
const PER_TURN: usize = 4096;
/// Chunks for which nodes are looked for in one turn, at most.
const TRIED_PER_TURN: usize = 1024;
/// Copies that a node makes at a time, at most.
const PER_NODE_MAX: usize = 16;
/// How long a node may take for a copy before another one is asked.
const COPY: Duration = Duration::from_secs(120);

/// How far repair is, for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks that get further copies, as far as the leader has looked.
    pub chunks: u64,
    /// Those of which one node that lives, or none, has a copy.
    pub single: u64,
    /// Their bytes, of one copy each.
    pub bytes: u64,
    /// Copies that nodes are asked for.
    pub running: u64,
    /// Their bytes.
    pub running_bytes: u64,
}

/// What the last turn of this term left.
#[derive(Debug, Default)]
pub struct Repairs {
    // Guards: nothing beyond the value itself. Never held across an await.
    progress: Mutex<Progress>,
}

impl Repairs {
    /// How far repair is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, progress: Progress) {
        metrics::gauge!("cairn_meta_repair_chunks_count").set(progress.chunks as f64);
        metrics::gauge!("cairn_meta_repair_single_copy_count").set(progress.single as f64);
        metrics::gauge!("cairn_meta_repair_bytes").set(progress.bytes as f64);
        metrics::gauge!("cairn_meta_copies_running_count").set(progress.running as f64);
        metrics::gauge!("cairn_meta_copies_running_bytes").set(progress.running_bytes as f64);
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// A copy that a node is at.
struct Copying {
    until: Duration,
    length: u64,
}

/// What the job keeps between turns.
struct Job {
    backlog: Backlog,
    copies: HashMap<(ChunkId, NodeId), Copying>,
    rates: Rates,
    next: Option<Waiting>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "repair", Duration::from_secs(1));
    let rates = Rates::new(tenure.repair_bytes_per_second);
    let mut job = Job { backlog: Backlog::default(), copies: HashMap::new(), rates, next: None };
    while turns.next().await {
        turns.ended(job.turn(&tenure).await);
    }
}

impl Job {
    async fn turn(&mut self, tenure: &Arc<Tenure>) -> Result<(), JobFault> {
        let draining = tenure.drains.wanted();
        let beside: BTreeSet<ChunkId> =
            draining.iter().copied().chain(self.copies.keys().map(|(chunk, _)| *chunk)).collect();
        let (view, after) = (tenure.local()?, self.next);
        let read = move || {
            let found = rows::look_at_chunks(&*view.store, Queue::UnderReplicated, after, PER_TURN)?;
            let record = |chunk| Ok((chunk, read::chunk(&*view.store, chunk)?));
            let beside: BTreeMap<ChunkId, Option<ChunkRecord>> =
                beside.into_iter().map(record).collect::<Result<_, RowFault>>()?;
            Ok::<_, RowFault>((found, beside))
        };
        let (found, beside) = tokio::task::spawn_blocking(read).await??;
        self.next = found.next;
        let places: BTreeSet<Waiting> = found.rows.iter().map(|q| q.place).collect();
        self.backlog.remove_gone(|place| {
            found.covers(place) && !places.contains(&place) && !draining.contains(&ChunkId(place.id))
        });
        for Queued { record, .. } in &found.rows {
            self.judge(tenure, record.chunk, Some(record));
        }
        for (chunk, record) in &beside {
            self.judge(tenure, *chunk, record.as_ref());
        }
        self.end_copies(tenure, &beside);
        self.ask(tenure)?;
        tenure.repairs.note(Progress {
            chunks: self.backlog.count() as u64,
            single: self.backlog.single(),
            bytes: self.backlog.bytes(),
            running: self.copies.len() as u64,
            running_bytes: self.copies.values().map(|copying| copying.length).sum(),
        });
        Ok(())
    }

    fn judge(&mut self, tenure: &Tenure, chunk: ChunkId, record: Option<&ChunkRecord>) {
        match record.and_then(|record| need(tenure, record)) {
            Some(need) => self.backlog.put(chunk, need),
            None => self.backlog.remove(chunk),
        }
    }

    /// Forgets the copies that are made, wanted no more, or late.
    fn end_copies(&mut self, tenure: &Tenure, records: &BTreeMap<ChunkId, Option<ChunkRecord>>) {
        let now = tenure.clock.boottime();
        self.copies.retain(|(chunk, node), copying| {
            let record = records.get(chunk).and_then(Option::as_ref);
            let wanted = record.is_some_and(|r| !r.is_holder(*node) && need(tenure, r).is_some());
            let keep = copying.until > now && wanted;
            if !keep {
                tenure.board.done(*node, WorkKey::Copy(*chunk));
            }
            keep
        });
    }

    /// Asks nodes for copies, for the most endangered chunks first.
    fn ask(&mut self, tenure: &Tenure) -> Result<(), JobFault> {
        let now = tenure.clock.boottime();
        let address = |node| tenure.address(node);
        let chunks: Vec<ChunkId> = self.backlog.in_order().take(TRIED_PER_TURN).collect();
        for chunk in chunks {
            if !self.some_node_is_free(tenure, now) {
                break;
            }
            let Some(record) = tenure.chunk(chunk)?.filter(|r| need(tenure, r).is_some()) else {
                self.backlog.remove(chunk);
                continue;
            };
            let length = record.sealed_length().unwrap_or(0);
            for node in self.targets(tenure, &record, now) {
                let Some(work) = notice::copy(&record, &address) else { continue };
                if tenure.board.offer(node, WorkKey::Copy(chunk), work) {
                    metrics::counter!("cairn_meta_copies_offered_total").increment(1);
                    self.rates.charge(node, length);
                    self.copies.insert((chunk, node), Copying { until: now + COPY, length });
                }
            }
        }
        Ok(())
    }

    fn some_node_is_free(&mut self, tenure: &Tenure, now: Duration) -> bool {
        let candidates = tenure.registry.candidates(&[]);
        candidates.iter().any(|c| !c.shunned && self.is_free(c.node, now))
    }

    /// True when the node may be asked for one more copy.
    fn is_free(&mut self, node: NodeId, now: Duration) -> bool {
        self.copies.keys().filter(|(_, at)| *at == node).count() < PER_NODE_MAX
            && self.rates.allows(node, now)
    }

    /// Nodes that shall make a copy of a sealed chunk, beside those that are at it.
    fn targets(&mut self, tenure: &Tenure, record: &ChunkRecord, now: Duration) -> Vec<NodeId> {
        let stay = counted(tenure, record);
        let at_it: Vec<NodeId> =
            self.copies.keys().filter(|(chunk, _)| *chunk == record.chunk).map(|(_, node)| *node).collect();
        let missing = usize::from(record.policy.replicas).saturating_sub(stay.len() + at_it.len());
        // A process gets no second replica beside one that stays. One on a disk that failed or is to leave
        // does not: another disk of that process may take its place.
        let taken = tenure.registry.kept_at(record.replicas.iter().map(|r| r.node));
        let mut candidates = tenure.registry.candidates(&[]);
        candidates.retain(|c| {
            !c.shunned
                && record.replicas.iter().all(|r| r.node != c.node)
                && !at_it.contains(&c.node)
                && taken.iter().all(|t| t.address != c.domains.address)
                && self.is_free(c.node, now)
        });
        let replicas = u8::try_from(missing.min(candidates.len())).unwrap_or(u8::MAX);
        if replicas == 0 {
            return Vec::new();
        }
        let has = tenure.registry.domains_of(stay.into_iter().chain(at_it));
        let policy = Policy { replicas, min_replicas: 1, ..record.policy };
        placement::choose(&candidates, &has, &policy, tenure.random.next_u64()).unwrap_or_default()
    }
}

/// The holders that count: the copy of a draining node, or on a disk that failed, is none. One on a node that
/// is gone for good is, until an operator has removed the node.
fn counted(tenure: &Tenure, record: &ChunkRecord) -> Vec<NodeId> {
    let lost = |v: View| v.registered.leaving != Leaving::No || v.is_retired();
    let leaves = |node| tenure.registry.get(node).is_some_and(lost);
    let holders = record.sealed.iter().flat_map(|sealed| sealed.holders.iter().copied());
    holders.filter(|holder| !leaves(*holder)).collect()
}

/// What a chunk lacks; `None` when it needs no copy, or none can be made. What is in S3 is read from there.
fn need(tenure: &Tenure, record: &ChunkRecord) -> Option<Need> {
    let sealed = record.sealed.as_ref()?;
    if record.place.is_some() || sealed.length == 0 || record.is_dead() {
        return None;
    }
    let copies = sealed.holders.iter().filter(|holder| tenure.registry.is_healthy(**holder)).count();
    // What a disk that failed has may still be read.
    let readable = sealed.holders.iter().any(|h| tenure.registry.get(*h).is_some_and(|v| v.is_live()));
    let lacks = counted(tenure, record).len() < usize::from(record.policy.replicas);
    let need = Need { copies, since: record.activation.time, length: sealed.length };
    (lacks && readable).then_some(need)
}
