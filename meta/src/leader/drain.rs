//! Empties data nodes that an operator wants to shut down: closes the open chunks that name one, has
//! `repair` copy what only such nodes hold, and has them let go of what S3 or enough others hold.
//!
//! A *pass* is a look at every chunk, page by page, as for removed nodes (`removal`). A node that no record
//! of a whole pass names, and no intent, is drained; the state refuses that when a chunk was placed there
//! since the pass began. A new leader begins a pass anew.
//!
//! A disk that failed is looked at in the same passes: what is open there is closed, and what too few others
//! have is copied. It lets go of nothing, since it could delete nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{ChunkId, LogIndex, NodeId};
use futures::StreamExt;

use super::leaving::Leaving;
use super::nodes::{Registered, View};
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{aging, rows};
use crate::keys::RowFault;
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::namespace::{Command, STRIKE_MAX, jobs};
use crate::store::Rows;

/// Chunks read in one step.
const PAGE: usize = 1024;
/// Steps in one turn, at most.
const PAGES_PER_TURN: usize = 32;
/// How long a pass rests before the next one: what it found is on its way.
const REST: Duration = Duration::from_secs(1);
/// The same after a pass over disks that failed which found nothing left to do.
const REST_FAILED: Duration = Duration::from_secs(30);
/// Closes in flight, at most.
const CLOSES_MAX: usize = 16;
/// Chunks that are handed to `repair` at a time, at most; the next pass finds the others.
const WANTED_MAX: usize = 4096;
/// Intents among which a node's are looked for.
const INTENTS_MAX: usize = 65_536;

/// What still names a draining node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Chunks.
    pub chunks: u64,
    /// Bytes of those that must be copied first.
    pub bytes: u64,
}

/// How far the drains of this term are.
#[derive(Debug, Default)]
pub struct Drains {
    // Guards: nothing beyond the values themselves. Never held across an await.
    found: Mutex<BTreeMap<NodeId, Left>>,
    // Guards: nothing beyond the set itself. Never held across an await.
    wanted: Mutex<BTreeSet<ChunkId>>,
}

impl Drains {
    /// What the last whole pass found of a node.
    #[must_use]
    pub fn left(&self, node: NodeId) -> Left {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied().unwrap_or_default()
    }

    /// Chunks of which copies must be made elsewhere.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<ChunkId> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn want(&self, chunks: &BTreeSet<ChunkId>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WANTED_MAX.saturating_sub(wanted.len());
        wanted.extend(chunks.iter().take(room));
    }

    /// A pass has ended, and found this.
    fn note(&self, found: BTreeMap<NodeId, Left>, wanted: BTreeSet<ChunkId>) {
        let left: u64 = found.values().map(|left| left.chunks).sum();
        metrics::gauge!("cairn_meta_drain_chunks_count").set(left as f64);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }
}

/// What decides about a draining node's chunks, beside their records.
#[derive(Clone, Debug, Default)]
struct Ground {
    /// Nodes that live, stay, and could get copies.
    fit: BTreeSet<NodeId>,
    /// Nodes whose copies do not count, for the same reason as the drained one's.
    leaving: BTreeSet<NodeId>,
    /// Of those that are looked at, the ones that nobody drains: their disks failed.
    failed: BTreeSet<NodeId>,
    /// Copies that they could have of one chunk.
    places: usize,
    /// True while nothing gets into S3.
    uploads_fail: bool,
}

impl Ground {
    fn of(tenure: &Tenure, failed: BTreeSet<NodeId>) -> Self {
        let all = tenure.registry.all();
        let stays = |v: &View| !v.registered.removed && v.registered.leaving == Leaving::No;
        let leaves = |v: &&View| !stays(v) || v.is_retired();
        let leaving = all.iter().filter(leaves).map(|v| v.registered.node).collect();
        let fit: Vec<&View> = all.iter().filter(|v| v.takes_chunks()).collect();
        let addresses: BTreeSet<&str> = fit.iter().map(|v| v.registered.address.as_str()).collect();
        let places = addresses.len();
        let fit = fit.iter().map(|v| v.registered.node).collect();
        Self { fit, leaving, failed, places, uploads_fail: tenure.uploads_fail() }
    }
}

/// What is to be done about a draining node in a chunk's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The record does not name it.
    Absent,
    /// The chunk is open: it is closed, and its writer goes on in another one.
    Close,
    /// Something that goes on by itself: a seal, an upload, the deletion of a replica.
    Wait,
    /// Copies must be made elsewhere first.
    Copy,
    /// The node's copy is not needed any more.
    Release,
}

/// What is to be done about `node` in `record`.
fn step(record: &ChunkRecord, node: NodeId, ground: &Ground) -> Step {
    if record.replicas.iter().all(|r| r.node != node) && !record.is_holder(node) {
        return Step::Absent;
    }
    let sealed = match (record.state, &record.sealed) {
        (ChunkState::Open, _) => return Step::Close,
        (_, None) => return Step::Wait,
        (_, Some(sealed)) => sealed,
    };
    if record.is_dead() || !sealed.holders.contains(&node) {
        return Step::Wait;
    }
    if record.place.is_some() || sealed.length == 0 {
        return Step::Release;
    }
    if record.upload.is_some() && !ground.uploads_fail {
        return Step::Wait;
    }
    // A copy on a silent node counts as one until the node is removed, and is none to rely on alone.
    let others: Vec<NodeId> =
        sealed.holders.iter().copied().filter(|h| *h != node && !ground.leaving.contains(h)).collect();
    let alive = others.iter().filter(|other| ground.fit.contains(other)).count();
    let least = usize::from(record.policy.min_replicas).max(1);
    let aim = usize::from(record.policy.replicas).min(ground.places).max(least);
    if others.len() >= aim && alive >= least { Step::Release } else { Step::Copy }
}

/// A look at all chunks, as far as it has come.
#[derive(Debug, Default)]
struct Pass {
    /// The draining nodes, and those whose disks failed, ascending.
    nodes: Vec<NodeId>,
    /// Of them, those that nobody drains.
    failed: BTreeSet<NodeId>,
    /// The last entry that the state had applied when it began; `None`: it has not begun.
    seen: Option<LogIndex>,
    /// The last chunk that was looked at.
    after: ChunkId,
    /// Not before, by the boot clock.
    not_before: Duration,
    left: BTreeMap<NodeId, Left>,
    wanted: BTreeSet<ChunkId>,
}

/// What one step of a pass found.
#[derive(Debug, Default)]
struct Page {
    close: BTreeMap<ChunkId, ChunkRecord>,
    release: BTreeMap<NodeId, Vec<ChunkId>>,
    wanted: BTreeSet<ChunkId>,
    left: BTreeMap<NodeId, Left>,
    /// The last chunk, when there may be more behind it.
    next: Option<ChunkId>,
}

impl Page {
    fn read(state: &dyn Rows, after: ChunkId, nodes: &[NodeId], ground: &Ground) -> Result<Self, RowFault> {
        let records = rows::chunks_after(state, after, PAGE)?;
        let next = records.last().map(|r| r.chunk).filter(|_| records.len() == PAGE);
        let mut page = Self { next, ..Self::default() };
        for record in &records {
            for node in nodes {
                page.look(record, *node, ground);
            }
        }
        Ok(page)
    }

    fn look(&mut self, record: &ChunkRecord, node: NodeId, ground: &Ground) {
        let step = step(record, node, ground);
        let stays = ground.failed.contains(&node) && matches!(step, Step::Wait | Step::Release);
        if step == Step::Absent || stays {
            return;
        }
        let left = self.left.entry(node).or_default();
        left.chunks += 1;
        match step {
            Step::Absent | Step::Wait => {}
            Step::Close => {
                self.close.insert(record.chunk, record.clone());
            }
            Step::Copy => {
                left.bytes += record.sealed_length().unwrap_or(0);
                self.wanted.insert(record.chunk);
            }
            Step::Release => self.release.entry(node).or_default().push(record.chunk),
        }
    }
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "drain", Duration::from_secs(1));
    let mut pass = Pass::default();
    while turns.next().await {
        turns.ended(turn(&tenure, &mut pass).await);
    }
}

async fn turn(tenure: &Arc<Tenure>, pass: &mut Pass) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let applied = view.applied;
    let known = tokio::task::spawn_blocking(move || rows::known_nodes(&*view.store)).await??;
    for node in &known {
        tenure.registry.note_leaving(node.node, node.leaving);
    }
    let is_failed = |n: &Registered| n.retired && n.leaving == Leaving::No && !n.removed;
    let failed: BTreeSet<NodeId> = known.iter().filter(|n| is_failed(n)).map(|n| n.node).collect();
    let drains = known.iter().filter(|n| n.leaving == Leaving::Draining && !n.removed);
    let mut nodes: Vec<NodeId> = drains.map(|n| n.node).chain(failed.iter().copied()).collect();
    nodes.sort_unstable();
    if pass.nodes != nodes || pass.failed != failed {
        *pass = Pass { nodes, failed, ..Pass::default() };
    }
    if pass.nodes.is_empty() {
        tenure.drains.note(BTreeMap::new(), BTreeSet::new());
        return Ok(());
    }
    if tenure.clock.boottime() < pass.not_before {
        return Ok(());
    }
    pass.seen.get_or_insert(applied);
    let ground = Ground::of(tenure, pass.failed.clone());
    for _ in 0..PAGES_PER_TURN {
        let (view, after, nodes, on) = (tenure.local()?, pass.after, pass.nodes.clone(), ground.clone());
        let read = move || Page::read(&*view.store, after, &nodes, &on);
        let page = tokio::task::spawn_blocking(read).await??;
        act(tenure, &page).await?;
        for (node, left) in &page.left {
            let sum = pass.left.entry(*node).or_default();
            (sum.chunks, sum.bytes) = (sum.chunks + left.chunks, sum.bytes + left.bytes);
        }
        let room = WANTED_MAX.saturating_sub(pass.wanted.len());
        pass.wanted.extend(page.wanted.iter().take(room));
        match page.next {
            Some(last) => pass.after = last,
            None => return ended(tenure, pass).await,
        }
    }
    Ok(())
}

/// Closes, hands to `repair`, and releases.
async fn act(tenure: &Arc<Tenure>, page: &Page) -> Result<(), JobFault> {
    let open: Vec<(Arc<Tenure>, ChunkRecord)> =
        page.close.values().map(|record| (Arc::clone(tenure), record.clone())).collect();
    let closes = futures::stream::iter(open);
    let closes = closes.map(|(tenure, record)| async move { aging::close(&tenure, &record, false).await });
    closes.buffer_unordered(CLOSES_MAX).collect::<()>().await;
    tenure.drains.want(&page.wanted);
    for (node, chunks) in &page.release {
        for chunks in chunks.chunks(STRIKE_MAX) {
            let command = Command::ReleaseReplicas { node: *node, chunks: chunks.to_vec() };
            if tenure.try_propose(command).await?.is_some() {
                metrics::counter!("cairn_meta_replicas_released_total").increment(chunks.len() as u64);
            }
        }
    }
    if !page.close.is_empty() || !page.wanted.is_empty() || !page.release.is_empty() {
        tenure.stir();
    }
    Ok(())
}

/// All chunks were looked at: nodes that none of them names, nor an intent, are drained.
async fn ended(tenure: &Arc<Tenure>, pass: &mut Pass) -> Result<(), JobFault> {
    let whole = std::mem::take(pass);
    let is_quiet = whole.left.is_empty() && whole.failed.len() == whole.nodes.len();
    pass.not_before = tenure.clock.boottime() + if is_quiet { REST_FAILED } else { REST };
    pass.nodes.clone_from(&whole.nodes);
    pass.failed.clone_from(&whole.failed);
    let left = whole.left.clone();
    tenure.drains.note(whole.left, whole.wanted);
    let Some(seen) = whole.seen else { return Ok(()) };
    let drained = |node: &NodeId| !left.contains_key(node) && !whole.failed.contains(node);
    for node in whole.nodes.into_iter().filter(drained) {
        let view = tenure.local()?;
        let read = move || jobs::intents_of(&*view.store, node, INTENTS_MAX);
        if !tokio::task::spawn_blocking(read).await??.is_empty() {
            continue;
        }
        if tenure.try_propose(Command::EndDrain { node, seen }).await?.is_some() {
            tenure.registry.note_leaving(node, Leaving::Drained);
            tracing::info!(%node, "the data node is drained: no chunk names it any more");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::chunks::PlacedReplica;
    use crate::keys::samples;
    use cairn_types::Policy;

    const LEAVES: NodeId = NodeId(101);
    const OTHER: NodeId = NodeId(102);
    const THIRD: NodeId = NodeId(103);

    fn ground(fit: &[NodeId]) -> Ground {
        let leaving = BTreeSet::from([LEAVES]);
        let (fit, places) = (fit.iter().copied().collect(), fit.len());
        Ground { fit, leaving, failed: BTreeSet::new(), places, uploads_fail: false }
    }

    /// A live chunk that is not in S3, on three nodes, held by `holders`.
    fn held_by(holders: &[NodeId]) -> ChunkRecord {
        let mut record = samples::chunk();
        let placed = record.replicas[0];
        record.replicas = [LEAVES, OTHER, THIRD].map(|node| PlacedReplica { node, ..placed }).to_vec();
        record.sealed.as_mut().expect("it is sealed").holders = holders.to_vec();
        record.policy = Policy { replicas: 2, min_replicas: 2, ..record.policy };
        (record.place, record.upload) = (None, None);
        record
    }

    #[test]
    fn a_copy_is_let_go_when_s3_or_enough_others_that_stay_have_the_bytes() {
        let all = ground(&[OTHER, THIRD]);
        let of = |record: &ChunkRecord, ground: &Ground| step(record, LEAVES, ground);
        assert_eq!(of(&held_by(&[LEAVES, OTHER]), &all), Step::Copy, "one other, two are aimed at");
        assert_eq!(of(&held_by(&[LEAVES, OTHER, THIRD]), &all), Step::Release);
        let mut leaving_too = ground(&[OTHER, NodeId(104)]);
        assert_eq!(of(&held_by(&[LEAVES, OTHER, THIRD]), &leaving_too), Step::Copy, "one is silent");
        leaving_too.leaving.insert(THIRD);
        assert_eq!(of(&held_by(&[LEAVES, OTHER, THIRD]), &leaving_too), Step::Copy, "one leaves too");
        let mut one_silent = held_by(&[LEAVES, OTHER, THIRD, NodeId(104)]);
        one_silent.policy.replicas = 3;
        assert_eq!(of(&one_silent, &ground(&[OTHER, THIRD, NodeId(105)])), Step::Release, "it may return");
        let mut three = held_by(&[LEAVES, OTHER, THIRD]);
        three.policy.replicas = 3;
        assert_eq!(of(&three, &all), Step::Release, "nobody else could have a third");
        assert_eq!(of(&three, &ground(&[OTHER, THIRD, NodeId(104)])), Step::Copy);
        let one_left = ground(&[OTHER]);
        assert_eq!(of(&held_by(&[LEAVES, OTHER]), &one_left), Step::Copy, "never below min_replicas");
        let in_s3 = ChunkRecord { place: samples::chunk().place, ..held_by(&[LEAVES]) };
        assert_eq!(of(&in_s3, &all), Step::Release);
        let mut empty = held_by(&[LEAVES]);
        empty.sealed.as_mut().expect("it is sealed").length = 0;
        assert_eq!(of(&empty, &all), Step::Release);
    }

    #[test]
    fn what_is_open_is_closed_and_what_goes_on_by_itself_is_waited_for() {
        let all = ground(&[OTHER, THIRD]);
        let of = |record: &ChunkRecord, ground: &Ground| step(record, LEAVES, ground);
        let both = held_by(&[LEAVES, OTHER]);
        let open = ChunkRecord { state: ChunkState::Open, sealed: None, ..both.clone() };
        assert_eq!(of(&open, &all), Step::Close);
        let sealing = ChunkRecord { state: ChunkState::Sealing, sealed: None, ..both.clone() };
        assert_eq!(of(&sealing, &all), Step::Wait);
        assert_eq!(of(&held_by(&[OTHER, THIRD]), &all), Step::Wait, "its replica is being deleted");
        let dead = ChunkRecord { live_bytes: 0, ..both.clone() };
        assert_eq!(of(&dead, &all), Step::Wait);
        let uploading = ChunkRecord { upload: samples::chunk().upload, ..both.clone() };
        assert_eq!(of(&uploading, &all), Step::Wait);
        let away = Ground { uploads_fail: true, ..all.clone() };
        assert_eq!(of(&uploading, &away), Step::Copy, "S3 is away: it is not waited for");
        assert_eq!(step(&both, NodeId(104), &all), Step::Absent);
        let mut page = Page::default();
        page.look(&both, NodeId(104), &all);
        assert!(page.left.is_empty());
        page.look(&both, LEAVES, &all);
        page.look(&open, LEAVES, &all);
        let left = Left { chunks: 2, bytes: both.sealed_length().unwrap_or(0) };
        assert_eq!(page.left, BTreeMap::from([(LEAVES, left)]));
        assert_eq!((page.close.len(), page.wanted.len()), (1, 1));
    }

    #[test]
    fn what_a_failed_disk_alone_has_is_copied_and_nothing_is_let_go() {
        let failed = Ground { failed: BTreeSet::from([LEAVES]), ..ground(&[OTHER, THIRD]) };
        let mut page = Page::default();
        page.look(&held_by(&[LEAVES, OTHER, THIRD]), LEAVES, &failed);
        assert!(page.release.is_empty() && page.left.is_empty(), "others have it");
        let alone = held_by(&[LEAVES, OTHER]);
        page.look(&alone, LEAVES, &failed);
        let open = ChunkRecord { state: ChunkState::Open, sealed: None, ..alone.clone() };
        page.look(&open, LEAVES, &failed);
        assert_eq!((page.close.len(), page.wanted.len()), (1, 1));
        let left = Left { chunks: 2, bytes: alone.sealed_length().unwrap_or(0) };
        assert_eq!(page.left, BTreeMap::from([(LEAVES, left)]));
    }
}
