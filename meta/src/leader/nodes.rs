//! [`Registry`]: the data nodes as this leader hears them. In memory; a new leader starts
//! from the nodes that the state knows and gives each a grace of `node_timeout` to report.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{Clock, DiskId, Incarnation, NodeId};

use super::domains::Domains;
use super::leaving::Leaving;
use super::placement::Candidate;
use crate::keys::chunks::PlacedReplica;
use crate::namespace::clipped;

/// How long a node that was blamed for a seal gets no new chunks while others suffice.
pub const BLAME: Duration = Duration::from_secs(10);
/// What data nodes say of a replica that was over its deadline.
pub const SLOW: &str = "replica slow";
/// Bytes that are kept of the under-store's failure, of a directory, and of why a disk is not used.
pub const ERROR_BYTES_MAX: usize = 512;
/// Directories that a process does not use and that are kept, at most.
const REFUSED_MAX: usize = 64;

/// What the state knows of a data node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The node.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// `host:port`.
    pub address: String,
    /// The incarnation that it registered last.
    pub incarnation: Incarnation,
    /// Bytes its disk holds.
    pub capacity_bytes: u64,
    /// True once its disk takes no more writes.
    pub retired: bool,
    /// Its build.
    pub version: String,
    /// True once an operator removed it: it counts as silent, whatever is heard.
    pub removed: bool,
    /// Its zone; empty: none.
    pub zone: String,
    /// Its machine: as it says, or by its boot id.
    pub host: String,
    /// Whether it is to leave.
    pub leaving: Leaving,
}

/// One heartbeat's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Bytes in use, cached copies included.
    pub used_bytes: u64,
    /// Bytes that may not be evicted.
    pub pinned_bytes: u64,
    /// Bytes its disk holds.
    pub capacity_bytes: u64,
    /// True once its disk takes no more writes.
    pub retired: bool,
    /// Replicas it holds.
    pub chunks: u64,
    /// Its newest failure with the under-store, empty after a success.
    pub under_store_error: String,
    /// Replicas that are bad there and could not be repaired so far.
    pub damaged_replicas: u64,
    /// The first of them.
    pub damaged_chunks: Vec<u64>,
    /// Bad records that it has put right since its start.
    pub repaired_records: u64,
    /// Bytes it could still take of what may not be evicted.
    pub room_bytes: u64,
    /// Where its disk is, on its machine.
    pub dir: String,
    /// Why its disk takes no more writes, for people; empty: it does.
    pub failure: String,
    /// Directories that its process was told to use and does not, each with the reason.
    pub refused: Vec<(String, String)>,
}

/// How much is known of a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Heard within `node_timeout`.
    Alive,
    /// Not heard in this term, and the grace is not over.
    Grace,
    /// Not heard for this long.
    Silent(Duration),
}

/// A node as the registry has it.
#[derive(Clone, Debug)]
pub struct View {
    /// What it registered.
    pub registered: Registered,
    /// Its last heartbeat in this term.
    pub heartbeat: Option<Heartbeat>,
    /// Since it was last heard of (or since the term began).
    pub age: Duration,
    /// Whether it lives.
    pub liveness: Liveness,
    /// True while it is shunned because it kept a chunk waiting.
    pub slow: bool,
}

impl View {
    /// True unless it is silent.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.liveness, Liveness::Silent(_))
    }

    /// True when its disk takes no more writes.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.registered.retired || self.heartbeat.as_ref().is_some_and(|h| h.retired)
    }

    /// True when it may be given new copies.
    #[must_use]
    pub fn takes_chunks(&self) -> bool {
        self.is_live() && !self.is_retired() && self.registered.leaving == Leaving::No
    }

    /// Where it is.
    #[must_use]
    pub fn domains(&self) -> Arc<Domains> {
        let Registered { zone, host, address, .. } = self.registered.clone();
        Arc::new(Domains { zone, host, address })
    }

    /// Bytes that it can hold.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.heartbeat.as_ref().map_or(self.registered.capacity_bytes, |h| h.capacity_bytes)
    }

    /// Bytes that could be had for new chunks: what is cached can go.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes().saturating_sub(self.heartbeat.as_ref().map_or(0, |h| h.pinned_bytes))
    }
}

/// A heartbeat was refused: the node must register first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} is not registered with that incarnation")]
pub struct NotRegistered {
    /// The node.
    pub node: NodeId,
}

struct Entry {
    registered: Registered,
    heartbeat: Option<Heartbeat>,
    heard: Option<Duration>,
    blamed_until: Duration,
    /// It was blamed for slowness: until then, at most.
    slow_until: Duration,
}

/// The data nodes of one term of leadership.
pub struct Registry {
    clock: Arc<dyn Clock>,
    node_timeout: Duration,
    began: Duration,
    restarts: AtomicU64,
    // Guards: an entry's heartbeat is of the incarnation registered last. Never held across an await.
    entries: Mutex<HashMap<NodeId, Entry>>,
}

impl Registry {
    /// A registry for a term that begins now, with the nodes that the state knows.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, node_timeout: Duration, known: Vec<Registered>) -> Self {
        let began = clock.boottime();
        let entry = |registered| Entry {
            registered,
            heartbeat: None,
            heard: None,
            blamed_until: Duration::ZERO,
            slow_until: Duration::ZERO,
        };
        let entries = known.into_iter().map(|r| (r.node, entry(r))).collect();
        Self { clock, node_timeout, began, restarts: AtomicU64::new(0), entries: Mutex::new(entries) }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Entry>> {
        // Every change under the lock is a single assignment: a panic leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a registration that is committed. True when it is another incarnation of a known
    /// node: its open chunks must be sealed (append protocol R6).
    pub fn register(&self, mut registered: Registered) -> bool {
        let heard = Some(self.clock.boottime());
        let mut entries = self.entries();
        let old = entries.remove(&registered.node);
        let restarted = old.as_ref().is_some_and(|o| o.registered.incarnation != registered.incarnation);
        // A registration that was committed before the node was removed.
        registered.removed |= old.as_ref().is_some_and(|o| o.registered.removed);
        let (blamed_until, slow_until) =
            old.map_or((Duration::ZERO, Duration::ZERO), |o| (o.blamed_until, o.slow_until));
        let node = registered.node;
        entries.insert(node, Entry { registered, heartbeat: None, heard, blamed_until, slow_until });
        if restarted {
            self.restarts.fetch_add(1, Ordering::Release);
        }
        restarted
    }

    /// How many restarts of known nodes this term has seen.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    /// Takes a heartbeat.
    ///
    /// # Errors
    /// [`NotRegistered`] when the node or its incarnation is unknown, or the node was removed.
    pub fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), NotRegistered> {
        let now = self.clock.boottime();
        let mut entries = self.entries();
        let node = heartbeat.node;
        let entry = entries
            .get_mut(&node)
            .filter(|e| e.registered.incarnation == heartbeat.incarnation && !e.registered.removed)
            .ok_or(NotRegistered { node })?;
        entry.heard = Some(now);
        let short = |text: &str| clipped(text, ERROR_BYTES_MAX);
        let refused = heartbeat.refused.iter().take(REFUSED_MAX);
        entry.heartbeat = Some(Heartbeat {
            under_store_error: short(&heartbeat.under_store_error),
            dir: short(&heartbeat.dir),
            failure: short(&heartbeat.failure),
            refused: refused.map(|(dir, reason)| (short(dir), short(reason))).collect(),
            ..heartbeat
        });
        Ok(())
    }

    /// Notes that an operator removed `node`: it is silent from here on.
    pub fn remove(&self, node: NodeId) {
        if let Some(entry) = self.entries().get_mut(&node) {
            entry.registered.removed = true;
        }
    }

    /// Notes that the disk of `node` takes no more writes.
    pub fn note_retired(&self, node: NodeId) {
        if let Some(entry) = self.entries().get_mut(&node) {
            entry.registered.retired = true;
        }
    }

    /// Notes whether `node` is to leave.
    pub fn note_leaving(&self, node: NodeId, leaving: Leaving) {
        if let Some(entry) = self.entries().get_mut(&node) {
            entry.registered.leaving = leaving;
        }
    }

    /// Forgets a removed node.
    pub fn forget(&self, node: NodeId) {
        self.entries().remove(&node);
    }

    /// Notes that `node` was the reason for a seal: it gets no new chunks for [`BLAME`] while
    /// others suffice.
    pub fn blame(&self, node: NodeId) {
        let until = self.clock.boottime() + BLAME;
        if let Some(entry) = self.entries().get_mut(&node) {
            entry.blamed_until = until;
            metrics::counter!("cairn_meta_nodes_blamed_total").increment(1);
        }
    }

    /// As [`Self::blame`], for a reason: a node that was slow is shown as that meanwhile.
    pub fn blame_for(&self, node: NodeId, reason: &str) {
        self.blame(node);
        if reason == SLOW
            && let Some(entry) = self.entries().get_mut(&node)
        {
            entry.slow_until = entry.blamed_until;
        }
    }

    fn view(&self, entry: &Entry, now: Duration) -> View {
        let age = now.saturating_sub(entry.heard.unwrap_or(self.began));
        let in_time = age <= self.node_timeout && !entry.registered.removed;
        let liveness = match (in_time, entry.heard) {
            (true, Some(_)) => Liveness::Alive,
            (true, None) => Liveness::Grace,
            (false, _) => Liveness::Silent(age),
        };
        View {
            registered: entry.registered.clone(),
            heartbeat: entry.heartbeat.clone(),
            age,
            liveness,
            slow: entry.slow_until > now,
        }
    }

    /// What is known of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<View> {
        let now = self.clock.boottime();
        self.entries().get(&node).map(|e| self.view(e, now))
    }

    /// A node as a new chunk's placement names it.
    #[must_use]
    pub fn placed(&self, node: NodeId) -> Option<PlacedReplica> {
        let registered = self.get(node)?.registered;
        Some(PlacedReplica { node, disk: registered.disk, incarnation: registered.incarnation })
    }

    /// Where those of `nodes` are that are heard of.
    #[must_use]
    pub fn domains_of(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<Arc<Domains>> {
        let live = nodes.into_iter().filter_map(|node| self.get(node)).filter(View::is_live);
        live.map(|view| view.domains()).collect()
    }

    /// Where those of `nodes` are that keep what they have: live, with a disk that takes writes, and not to
    /// leave. Another disk of a process may take over what one of it cannot keep.
    #[must_use]
    pub fn kept_at(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<Arc<Domains>> {
        let kept = nodes.into_iter().filter_map(|node| self.get(node)).filter(View::takes_chunks);
        kept.map(|view| view.domains()).collect()
    }

    /// All nodes, by id.
    #[must_use]
    pub fn all(&self) -> Vec<View> {
        let now = self.clock.boottime();
        let mut views: Vec<View> = self.entries().values().map(|e| self.view(e, now)).collect();
        views.sort_unstable_by_key(|v| v.registered.node);
        views
    }

    /// True when the node is known, not silent and not retired.
    #[must_use]
    pub fn is_healthy(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|v| v.is_live() && !v.is_retired())
    }

    /// Nodes that may take new chunks; `avoid`, whatever else is in their processes, and the recently blamed are
    /// marked as shunned.
    #[must_use]
    pub fn candidates(&self, avoid: &[NodeId]) -> Vec<Candidate> {
        let now = self.clock.boottime();
        let entries = self.entries();
        let avoided = |address: &str| {
            let mut named = avoid.iter().filter_map(|node| entries.get(node));
            named.any(|entry| entry.registered.address == address)
        };
        let mut candidates: Vec<Candidate> = entries
            .values()
            .map(|e| (self.view(e, now), e.blamed_until > now))
            .filter(|(v, _)| v.takes_chunks())
            .map(|(v, blamed)| {
                let node = v.registered.node;
                Candidate {
                    node,
                    domains: v.domains(),
                    capacity_bytes: v.capacity_bytes(),
                    free_bytes: v.free_bytes(),
                    shunned: blamed || avoided(&v.registered.address),
                }
            })
            .collect();
        candidates.sort_unstable_by_key(|c| c.node);
        candidates
    }

    /// The newest failure that any live node reports of its under-store; empty when none does.
    #[must_use]
    pub fn under_store_error(&self) -> String {
        self.all()
            .into_iter()
            .filter(View::is_live)
            .filter_map(|v| v.heartbeat)
            .map(|h| h.under_store_error)
            .find(|e| !e.is_empty())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::hand_clock::HandClock;

    fn registered(node: u64, incarnation: u64) -> Registered {
        Registered {
            node: NodeId(node),
            disk: DiskId([node as u8; 16]),
            address: format!("127.0.0.1:{node}"),
            incarnation: Incarnation(incarnation),
            capacity_bytes: 1 << 30,
            retired: false,
            version: String::new(),
            removed: false,
            zone: String::new(),
            host: "h".into(),
            leaving: Leaving::No,
        }
    }

    fn beat(node: u64, incarnation: u64) -> Heartbeat {
        Heartbeat {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            capacity_bytes: 1 << 30,
            ..Heartbeat::default()
        }
    }

    fn registry(known: Vec<Registered>) -> (Arc<HandClock>, Registry) {
        let clock = Arc::new(HandClock::default());
        let registry = Registry::new(clock.clone(), Duration::from_secs(3), known);
        (clock, registry)
    }

    #[test]
    fn a_new_leader_gives_every_node_a_grace_to_report() {
        let (clock, registry) = registry(vec![registered(1, 1), registered(2, 1)]);
        assert_eq!(registry.candidates(&[]).len(), 2);
        assert_eq!(registry.get(NodeId(1)).map(|v| v.liveness), Some(Liveness::Grace));
        clock.advance(Duration::from_secs(2));
        registry.heartbeat(beat(2, 1)).expect("registered");
        clock.advance(Duration::from_secs(2));
        assert!(!registry.is_healthy(NodeId(1)));
        assert!(registry.is_healthy(NodeId(2)));
        clock.advance(Duration::from_secs(2));
        assert!(registry.candidates(&[]).is_empty());
    }

    #[test]
    fn what_a_process_does_not_use_is_kept_in_bounds() {
        let (_, registry) = registry(vec![registered(1, 1)]);
        let refused = vec![("/d".to_owned(), "x".repeat(10_000)); 1_000];
        registry
            .heartbeat(Heartbeat { refused, failure: "y".repeat(10_000), ..beat(1, 1) })
            .expect("registered");
        let kept = registry.get(NodeId(1)).and_then(|v| v.heartbeat).expect("a heartbeat");
        assert_eq!((kept.refused.len(), kept.failure.len()), (REFUSED_MAX, ERROR_BYTES_MAX));
        assert!(kept.refused.iter().all(|(_, reason)| reason.len() == ERROR_BYTES_MAX));
    }

    #[test]
    fn a_heartbeat_of_a_stranger_or_another_incarnation_is_refused() {
        let (_, registry) = registry(vec![registered(1, 1)]);
        assert_eq!(registry.heartbeat(beat(9, 1)), Err(NotRegistered { node: NodeId(9) }));
        assert_eq!(registry.heartbeat(beat(1, 2)), Err(NotRegistered { node: NodeId(1) }));
        assert!(registry.register(registered(1, 2)), "it restarted");
        assert!(!registry.register(registered(1, 2)), "it only repeated itself");
        assert_eq!(registry.heartbeat(beat(1, 2)), Ok(()));
        assert!(!registry.register(registered(3, 1)), "it is new");
    }

    #[test]
    fn a_removed_node_is_silent_at_once_and_whatever_is_heard() {
        let gone = Registered { removed: true, ..registered(1, 1) };
        let (_, registry) = registry(vec![gone, registered(2, 1)]);
        let live = |node| registry.get(NodeId(node)).is_some_and(|v| v.is_live());
        assert!(!live(1), "it has no grace");
        assert!(live(2));
        registry.remove(NodeId(2));
        assert!(registry.candidates(&[]).is_empty());
        assert_eq!(registry.heartbeat(beat(2, 1)), Err(NotRegistered { node: NodeId(2) }));
        registry.register(registered(2, 2));
        assert!(!live(2), "it registered before it was removed");
        registry.forget(NodeId(2));
        assert_eq!(registry.all().len(), 1);
    }

    #[test]
    fn blame_passes() {
        let (clock, registry) = registry(vec![registered(1, 1), registered(2, 1)]);
        registry.blame(NodeId(1));
        let shunned = |avoid: &[NodeId]| -> Vec<bool> {
            registry.candidates(avoid).into_iter().map(|c| c.shunned).collect()
        };
        assert_eq!(shunned(&[]), [true, false]);
        assert_eq!(shunned(&[NodeId(2)]), [true, true]);
        clock.advance(BLAME);
        registry.heartbeat(beat(1, 1)).expect("registered");
        registry.heartbeat(beat(2, 1)).expect("registered");
        assert_eq!(shunned(&[]), [false, false]);
    }

    #[test]
    fn whoever_cannot_reach_a_disk_reaches_none_of_its_process() {
        let beside = Registered { address: registered(1, 1).address, ..registered(2, 1) };
        let (_, registry) = registry(vec![registered(1, 1), beside, registered(3, 1)]);
        let shunned: Vec<bool> = registry.candidates(&[NodeId(1)]).iter().map(|c| c.shunned).collect();
        assert_eq!(shunned, [true, true, false]);
        assert_eq!(registry.kept_at([NodeId(1), NodeId(3)]).len(), 2);
        registry.register(Registered { retired: true, ..registered(1, 1) });
        registry.note_leaving(NodeId(3), Leaving::Draining);
        assert!(registry.kept_at([NodeId(1), NodeId(3)]).is_empty(), "their processes may take it elsewhere");
        assert_eq!(registry.domains_of([NodeId(1), NodeId(3)]).len(), 2);
    }

    #[test]
    fn a_slow_node_is_shown_as_slow_until_its_blame_passes() {
        let (clock, registry) = registry(vec![registered(1, 1), registered(2, 1)]);
        let slow = || registry.all().iter().map(|v| v.slow).collect::<Vec<bool>>();
        registry.blame_for(NodeId(1), "replica broken");
        assert_eq!(slow(), [false, false]);
        registry.blame_for(NodeId(2), SLOW);
        assert_eq!(slow(), [false, true]);
        assert!(registry.candidates(&[]).iter().all(|c| c.shunned), "both are");
        clock.advance(BLAME);
        assert_eq!(slow(), [false, false]);
    }

    #[test]
    fn what_a_failed_disk_said_of_itself_is_kept() {
        let (_, registry) = registry(vec![registered(1, 1)]);
        let said = Heartbeat { dir: "/d".into(), failure: "errno 5".into(), retired: true, ..beat(1, 1) };
        registry.heartbeat(said).expect("registered");
        registry.note_retired(NodeId(1));
        let view = registry.get(NodeId(1)).expect("known");
        assert!(view.registered.retired && view.is_live());
        assert_eq!(view.heartbeat.map(|h| (h.dir, h.failure)), Some(("/d".to_owned(), "errno 5".to_owned())));
    }

    #[test]
    fn a_retired_disk_takes_no_chunks_and_pinned_bytes_are_not_free() {
        let (_, registry) = registry(vec![registered(1, 1), registered(2, 1)]);
        registry.heartbeat(Heartbeat { retired: true, ..beat(1, 1) }).expect("registered");
        let mut used = beat(2, 1);
        (used.pinned_bytes, used.used_bytes) = (1 << 29, 1 << 30);
        registry.heartbeat(used).expect("registered");
        let domains = Domains { zone: String::new(), host: "h".into(), address: "127.0.0.1:2".into() };
        let free = Candidate {
            node: NodeId(2),
            domains: Arc::new(domains),
            capacity_bytes: beat(2, 1).capacity_bytes,
            free_bytes: 1 << 29,
            shunned: false,
        };
        assert_eq!(registry.candidates(&[]), [free]);
    }

    #[test]
    fn a_node_that_is_to_leave_takes_no_chunks_and_is_heard() {
        let (_, registry) = registry(vec![registered(1, 1), registered(2, 1)]);
        for leaving in [Leaving::Draining, Leaving::Drained] {
            registry.note_leaving(NodeId(1), leaving);
            let candidates: Vec<NodeId> = registry.candidates(&[]).into_iter().map(|c| c.node).collect();
            assert_eq!(candidates, [NodeId(2)]);
            assert!(registry.is_healthy(NodeId(1)), "what it has is read there");
        }
        registry.note_leaving(NodeId(1), Leaving::No);
        assert_eq!(registry.candidates(&[]).len(), 2);
    }

    #[test]
    fn the_under_stores_failure_is_seen() {
        let (_, registry) = registry(vec![registered(1, 1)]);
        assert_eq!(registry.under_store_error(), "");
        let failing = Heartbeat { under_store_error: "no route".into(), ..beat(1, 1) };
        registry.heartbeat(failing).expect("registered");
        assert_eq!(registry.under_store_error(), "no route");
        let long = format!("x{}", "é".repeat(10_000));
        let failing = Heartbeat { under_store_error: long, ..beat(1, 1) };
        registry.heartbeat(failing).expect("registered");
        let kept = registry.under_store_error();
        assert_eq!(kept.len(), ERROR_BYTES_MAX - 1, "cut at a character");
    }
}
