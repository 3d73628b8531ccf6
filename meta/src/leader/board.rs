//! [`Board`]: the work that each data node shall pull. In memory and derived from the state, so
//! that a new leader, or a node that comes back, starts again from there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1::Work;
use cairn_types::{ChunkId, Clock, IntentId, NodeId, Random};
use tokio::sync::Notify;

/// Pieces of work that are offered to one node at a time, at most; the rest stays in the state.
pub const OFFERS_MAX: usize = 4096;
/// Notices that wait for one node's stream, at most; above that it is told all anew.
pub const NOTICES_MAX: usize = 4096;
/// How long failed work rests at first, at most, and half as long at least; doubled by each further failure. So
/// what failed together, for want of an under-store, is not sent together again, by this cluster or by others.
pub const REST: Duration = Duration::from_secs(1);
/// How long it rests at most.
pub const REST_MAX: Duration = Duration::from_secs(30);

/// How long after it was sent an intent's work, or a copy, is sent again: the report may be lost.
/// To do it twice has the same effect.
pub const RESEND: Duration = Duration::from_secs(120);
/// The same for a deletion, which is quick.
pub const RESEND_DELETE: Duration = Duration::from_secs(20);

/// Names a piece of work that a node reports on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkKey {
    /// The work of an intent.
    Intent(IntentId),
    /// Delete a replica: of a dead chunk, or one that is no holder's.
    Delete(ChunkId),
    /// Become a holder.
    Copy(ChunkId),
}

/// What a node's stream shall do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this.
    Send(Box<Work>),
    /// Notices were lost: tell the node of all its chunks again.
    Refill,
    /// Nothing now: wait for the wake, or a second for what rests.
    Idle,
    /// Another stream of the node has taken over: end.
    Replaced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Sent { at: Duration },
    Resting { until: Duration },
}

impl Stage {
    /// True when work is to be sent now that may take `resend`.
    fn is_ready(self, resend: Duration, now: Duration) -> bool {
        match self {
            Stage::Waiting => true,
            Stage::Sent { at } => now.saturating_sub(at) >= resend,
            Stage::Resting { until } => until <= now,
        }
    }
}

struct Offer {
    work: Work,
    stage: Stage,
    failures: u32,
    /// How long after it was sent it is sent again.
    resend: Duration,
}

#[derive(Default)]
struct Desk {
    stream: u64,
    attached: bool,
    refill: bool,
    offers: BTreeMap<WorkKey, Offer>,
    notices: VecDeque<Work>,
    wake: Arc<Notify>,
}

/// A node's stream, as the board knows it.
pub struct Attachment {
    /// Its number: a later one replaces it.
    pub stream: u64,
    /// Notified when there is something to send.
    pub wake: Arc<Notify>,
}

/// What every node shall do.
pub struct Board {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    // Guards: a node's newest stream number is the only one that takes its work. Never held
    // across an await.
    desks: Mutex<HashMap<NodeId, Desk>>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, desks: Mutex::new(HashMap::new()) }
    }

    fn desks(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Desk>> {
        // A desk that a panic left behind is at worst told twice.
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's stream begins: what was sent before is sent again.
    pub fn attach(&self, node: NodeId) -> Attachment {
        let mut desks = self.desks();
        let desk = desks.entry(node).or_default();
        desk.stream += 1;
        desk.attached = true;
        desk.refill = true;
        desk.notices.clear();
        for offer in desk.offers.values_mut().filter(|o| matches!(o.stage, Stage::Sent { .. })) {
            offer.stage = Stage::Waiting;
        }
        desk.wake.notify_waiters();
        Attachment { stream: desk.stream, wake: desk.wake.clone() }
    }

    /// A node's stream ends.
    pub fn detach(&self, node: NodeId, stream: u64) {
        if let Some(desk) = self.desks().get_mut(&node).filter(|d| d.stream == stream) {
            desk.attached = false;
            desk.notices.clear();
        }
    }

    /// Offers a piece of work, once however often it is called. False when the node's desk is full.
    pub fn offer(&self, node: NodeId, key: WorkKey, work: Work) -> bool {
        let resend = if matches!(key, WorkKey::Delete(_)) { RESEND_DELETE } else { RESEND };
        self.offer_long(node, key, work, resend)
    }

    /// As [`Self::offer`], of work that may take `resend` before it is sent again.
    pub fn offer_long(&self, node: NodeId, key: WorkKey, work: Work, resend: Duration) -> bool {
        let mut desks = self.desks();
        let desk = desks.entry(node).or_default();
        if desk.offers.contains_key(&key) {
            return true;
        }
        if desk.offers.len() >= OFFERS_MAX {
            return false;
        }
        desk.offers.insert(key, Offer { work, stage: Stage::Waiting, failures: 0, resend });
        desk.wake.notify_one();
        true
    }

    /// Says anew what a piece of work is that is offered: what it was made of has moved. It is sent when it
    /// would have been.
    pub fn renew(&self, node: NodeId, key: WorkKey, work: Work) {
        if let Some(offer) = self.desks().get_mut(&node).and_then(|d| d.offers.get_mut(&key)) {
            offer.work = work;
        }
    }

    /// Tells a node something that it need not answer. Lost when it has no stream: it is told all
    /// when the next one begins.
    pub fn notify(&self, node: NodeId, work: Work) {
        let mut desks = self.desks();
        let Some(desk) = desks.get_mut(&node).filter(|d| d.attached) else { return };
        if desk.notices.len() >= NOTICES_MAX {
            desk.notices.clear();
            desk.refill = true;
        } else {
            desk.notices.push_back(work);
        }
        desk.wake.notify_one();
    }

    /// The next thing for a node's stream.
    pub fn next(&self, node: NodeId, stream: u64) -> Next {
        let now = self.clock.boottime();
        let mut desks = self.desks();
        let Some(desk) = desks.get_mut(&node).filter(|d| d.stream == stream) else { return Next::Replaced };
        if std::mem::take(&mut desk.refill) {
            return Next::Refill;
        }
        if let Some(notice) = desk.notices.pop_front() {
            return Next::Send(Box::new(notice));
        }
        match desk.offers.iter_mut().find(|(_, offer)| offer.stage.is_ready(offer.resend, now)) {
            Some((_, offer)) => {
                offer.stage = Stage::Sent { at: now };
                Next::Send(Box::new(offer.work.clone()))
            }
            None => Next::Idle,
        }
    }

    /// A piece of work is done, or taken back.
    pub fn done(&self, node: NodeId, key: WorkKey) {
        if let Some(desk) = self.desks().get_mut(&node) {
            desk.offers.remove(&key);
        }
    }

    /// A piece of work failed and rests before it is sent again. Answers how often it has failed.
    pub fn failed(&self, node: NodeId, key: WorkKey) -> u32 {
        let now = self.clock.boottime();
        let mut desks = self.desks();
        let Some(offer) = desks.get_mut(&node).and_then(|d| d.offers.get_mut(&key)) else { return 0 };
        let rest = self.random.spread(REST.saturating_mul(1 << offer.failures.min(5)).min(REST_MAX));
        offer.failures += 1;
        offer.stage = Stage::Resting { until: now + rest };
        offer.failures
    }

    /// How often a node has failed at a piece of work.
    #[must_use]
    pub fn failures(&self, node: NodeId, key: WorkKey) -> u32 {
        self.desks().get(&node).and_then(|d| d.offers.get(&key)).map_or(0, |o| o.failures)
    }

    /// Takes back what `keep` no longer wants of every node's offers.
    pub fn retain(&self, keep: impl Fn(NodeId, WorkKey) -> bool) {
        for (node, desk) in self.desks().iter_mut() {
            desk.offers.retain(|key, _| keep(*node, *key));
        }
    }

    /// True while a piece of work is offered to a node.
    #[must_use]
    pub fn is_offered(&self, node: NodeId, key: WorkKey) -> bool {
        self.desks().get(&node).is_some_and(|d| d.offers.contains_key(&key))
    }

    /// True when a piece of work was sent to a node, which has not failed at it since.
    #[must_use]
    pub fn is_under_way(&self, node: NodeId, key: WorkKey) -> bool {
        let sent = |offer: &Offer| offer.failures == 0 && matches!(offer.stage, Stage::Sent { .. });
        self.desks().get(&node).and_then(|d| d.offers.get(&key)).is_some_and(sent)
    }

    /// Pieces of work offered to a node.
    #[must_use]
    pub fn offered(&self, node: NodeId) -> usize {
        self.desks().get(&node).map_or(0, |d| d.offers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::hand_clock::HandClock;
    use cairn_proto::v1::{self, work};
    use cairn_types::SystemRandom;

    const NODE: NodeId = NodeId(1);

    fn delete(chunk: u64) -> Work {
        Work { work: Some(work::Work::Delete(v1::DeleteReplica { chunk })) }
    }

    fn board() -> (Arc<HandClock>, Board) {
        let clock = Arc::new(HandClock::default());
        (clock.clone(), Board::new(clock, Arc::new(Longest)))
    }

    /// Spreads nothing: every rest is as long as it may be.
    struct Longest;

    impl Random for Longest {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn work_is_sent_once_and_again_after_a_reconnect() {
        let (_, board) = board();
        let key = WorkKey::Delete(ChunkId(7));
        assert!(board.offer(NODE, key, delete(7)));
        assert!(board.offer(NODE, key, delete(7)));
        let first = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, first), Next::Refill);
        assert_eq!(board.next(NODE, first), Next::Send(Box::new(delete(7))));
        assert_eq!(board.next(NODE, first), Next::Idle);
        let second = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, first), Next::Replaced);
        assert_eq!(board.next(NODE, second), Next::Refill);
        assert_eq!(board.next(NODE, second), Next::Send(Box::new(delete(7))));
        board.done(NODE, key);
        let third = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, third), Next::Refill);
        assert_eq!(board.next(NODE, third), Next::Idle);
    }

    #[test]
    fn work_whose_report_is_lost_is_sent_again() {
        let (clock, board) = board();
        board.offer(NODE, WorkKey::Delete(ChunkId(7)), delete(7));
        board.offer(NODE, WorkKey::Intent(IntentId(1)), delete(1));
        let stream = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, stream), Next::Refill);
        assert!(matches!(board.next(NODE, stream), Next::Send(_)));
        assert!(matches!(board.next(NODE, stream), Next::Send(_)));
        assert_eq!(board.next(NODE, stream), Next::Idle);
        clock.advance(RESEND_DELETE);
        assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(7))));
        assert_eq!(board.next(NODE, stream), Next::Idle);
        clock.advance(RESEND - RESEND_DELETE);
        assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(1))));
    }

    #[test]
    fn long_work_is_sent_again_later_and_as_it_is_by_then() {
        let (clock, board) = board();
        let key = WorkKey::Intent(IntentId(1));
        let long = 2 * RESEND;
        board.renew(NODE, key, delete(9));
        assert!(board.offer_long(NODE, key, delete(1), long));
        let stream = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, stream), Next::Refill);
        assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(1))));
        clock.advance(RESEND);
        board.renew(NODE, key, delete(2));
        assert_eq!(board.next(NODE, stream), Next::Idle);
        clock.advance(long - RESEND);
        assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(2))));
    }

    #[test]
    fn failed_work_rests_longer_each_time() {
        let (clock, board) = board();
        let key = WorkKey::Intent(IntentId(3));
        board.offer(NODE, key, delete(1));
        let stream = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, stream), Next::Refill);
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(1))));
            assert_eq!(board.is_under_way(NODE, key), rest == 1, "it has failed at it before");
            board.failed(NODE, key);
            assert!(!board.is_under_way(NODE, key));
            clock.advance(Duration::from_secs(rest) - Duration::from_millis(1));
            assert_eq!(board.next(NODE, stream), Next::Idle, "rests {rest} s");
            clock.advance(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_failed_together_is_not_sent_together_again() {
        let clock = Arc::new(HandClock::default());
        let board = Board::new(clock.clone(), Arc::new(SystemRandom));
        let keys = (1..=200).map(|n| WorkKey::Intent(IntentId(n)));
        keys.clone().for_each(|key| assert!(board.offer(NODE, key, delete(1))));
        let stream = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, stream), Next::Refill);
        let sent =
            || std::iter::from_fn(|| matches!(board.next(NODE, stream), Next::Send(_)).then_some(())).count();
        assert_eq!(sent(), 200);
        keys.for_each(|key| assert_eq!(board.failed(NODE, key), 1));
        clock.advance(REST / 2);
        assert_eq!(sent(), 0, "each rests for half of it at least");
        clock.advance(REST / 4);
        let early = sent();
        assert!((20..180).contains(&early), "{early} of 200 in the first half of the rest");
        clock.advance(REST / 4);
        assert_eq!(early + sent(), 200);
    }

    #[test]
    fn notices_without_a_stream_or_too_many_become_a_refill() {
        let (_, board) = board();
        board.notify(NODE, delete(1));
        let stream = board.attach(NODE).stream;
        assert_eq!(board.next(NODE, stream), Next::Refill);
        assert_eq!(board.next(NODE, stream), Next::Idle);
        board.notify(NODE, delete(2));
        assert_eq!(board.next(NODE, stream), Next::Send(Box::new(delete(2))));
        (0..=NOTICES_MAX as u64).for_each(|i| board.notify(NODE, delete(i)));
        assert_eq!(board.next(NODE, stream), Next::Refill);
    }

    #[test]
    fn a_desk_is_bounded_and_what_is_taken_back_is_gone() {
        let (_, board) = board();
        let offer = |i| board.offer(NODE, WorkKey::Delete(ChunkId(i)), delete(i));
        assert!((0..OFFERS_MAX as u64).all(offer));
        assert!(!offer(OFFERS_MAX as u64));
        board.retain(|_, key| key == WorkKey::Delete(ChunkId(5)));
        assert_eq!(board.offered(NODE), 1);
    }
}
