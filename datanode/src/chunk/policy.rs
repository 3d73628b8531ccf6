//! [`Policy`]: which of the things that may go are kept when room is needed. Two queues and a memory
//! of what went, after S3-FIFO: what is new is on probation, and stays only if it is asked for again;
//! what has proved itself is in the main part, which is touched only while probation is small. So a
//! scan over a large cold file goes through probation and washes nothing out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use cairn_types::ChunkId;

use super::request::CacheKey;

/// The part of all bytes that probation keeps once there is a main part: one in so many.
const PROBATION_PART: u64 = 10;
/// Hits that take a thing from probation to the main part.
const PROVED_HITS: u8 = 2;
/// Keys remembered of what went, at least and at most; in between, as many as there are things.
const GHOSTS_LEAST: usize = 64;
const GHOSTS_MOST: usize = 1 << 20;
/// Places of a queue that may be stale beyond those that are not, before it is tidied.
const STALE_MAX: usize = 64;

/// A thing that may go: its bytes are in S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// A block of the cache.
    Block(CacheKey),
    /// The replica of a persisted chunk.
    Chunk(ChunkId),
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The place in its queue that counts.
    stamp: u64,
    bytes: u64,
    main: bool,
}

#[derive(Debug, Default)]
struct Queue {
    places: VecDeque<(Item, u64)>,
    bytes: u64,
}

/// What went lately, by hash.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ghosts {
    fn add(&mut self, item: &Item, most: usize) {
        let hash = hash_of(item);
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn take(&mut self, item: &Item) -> bool {
        // Its place in the order stays, and counts for nothing when it comes up.
        self.known.remove(&hash_of(item))
    }
}

fn hash_of(item: &Item) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}

/// The order in which things go.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    kept: HashMap<Item, Kept>,
    probation: Queue,
    main: Queue,
    ghosts: Ghosts,
    stamps: u64,
}

impl Policy {
    /// Bytes of all things that may go.
    pub(crate) fn bytes(&self) -> u64 {
        self.probation.bytes + self.main.bytes
    }

    /// Adds a thing, or puts it at the end of its part. What went lately and is back has proved itself.
    pub(crate) fn insert(&mut self, item: Item, bytes: u64) {
        let before = self.remove(&item);
        let main = before.is_some_and(|kept| kept.main) || self.ghosts.take(&item);
        // A thing of no bytes would never come up.
        self.push(item, bytes.max(1), main);
    }

    fn push(&mut self, item: Item, bytes: u64, main: bool) {
        self.stamps += 1;
        let queue = if main { &mut self.main } else { &mut self.probation };
        queue.places.push_back((item, self.stamps));
        queue.bytes += bytes;
        self.kept.insert(item, Kept { stamp: self.stamps, bytes, main });
        if queue.places.len() > 2 * self.kept.len() + STALE_MAX {
            let kept = &self.kept;
            queue.places.retain(|(item, stamp)| kept.get(item).is_some_and(|k| k.stamp == *stamp));
        }
    }

    /// Forgets a thing that is gone.
    pub(crate) fn forget(&mut self, item: &Item) {
        self.remove(item);
    }

    fn remove(&mut self, item: &Item) -> Option<Kept> {
        let kept = self.kept.remove(item)?;
        let queue = if kept.main { &mut self.main } else { &mut self.probation };
        queue.bytes -= kept.bytes;
        Some(kept)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        let stamps = self.stamps;
        *self = Self { stamps, ..Self::default() };
    }

    /// Chooses what goes next, which is forgotten here. `hits` tells how often a thing was asked for
    /// since it was last `cool`ed to a number.
    pub(crate) fn evict_one(&mut self, hits: impl Fn(&Item) -> u8, cool: impl Fn(&Item, u8)) -> Option<Item> {
        loop {
            let crowded = self.probation.bytes > self.bytes() / PROBATION_PART;
            let from_main = !crowded || self.probation.bytes == 0;
            let queue = if from_main { &mut self.main } else { &mut self.probation };
            let (item, stamp) = queue.places.pop_front()?;
            let Some(kept) = self.kept.get(&item).copied().filter(|kept| kept.stamp == stamp) else {
                continue;
            };
            let count = hits(&item);
            self.remove(&item);
            let stays = if kept.main { count > 0 } else { count >= PROVED_HITS };
            if stays {
                cool(&item, if kept.main { count - 1 } else { 0 });
                self.push(item, kept.bytes, true);
                continue;
            }
            if !kept.main {
                let most = self.kept.len().clamp(GHOSTS_LEAST, GHOSTS_MOST);
                self.ghosts.add(&item, most);
            }
            return Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn block(block: u64) -> Item {
        Item::Block(CacheKey { object: 1, block })
    }

    /// A cache of so many bytes that counts hits as the store does.
    struct Cache {
        policy: Policy,
        hits: RefCell<HashMap<Item, u8>>,
        bytes_max: u64,
    }

    impl Cache {
        fn new(bytes_max: u64) -> Self {
            Self { policy: Policy::default(), hits: RefCell::default(), bytes_max }
        }

        /// Asks for a block of one byte; true when it was there.
        fn ask(&mut self, number: u64) -> bool {
            let item = block(number);
            if let Some(hits) = self.hits.borrow_mut().get_mut(&item) {
                *hits = (*hits + 1).min(3);
                return true;
            }
            while self.policy.bytes() >= self.bytes_max {
                let hits = |item: &Item| self.hits.borrow().get(item).copied().unwrap_or(0);
                let cool = |item: &Item, count| {
                    self.hits.borrow_mut().insert(*item, count);
                };
                let gone = self.policy.evict_one(hits, cool).unwrap();
                assert!(self.hits.borrow_mut().remove(&gone).is_some(), "it was there");
            }
            self.policy.insert(item, 1);
            self.hits.borrow_mut().insert(item, 0);
            false
        }
    }

    #[test]
    fn a_scan_ten_times_the_cache_leaves_the_hot_set_where_it_is() {
        let mut cache = Cache::new(1000);
        for _ in 0..4 {
            (0..500).for_each(|hot| {
                cache.ask(hot);
            });
        }
        // Nobody asks for the hot set while the scan goes on.
        (10_000..20_000).for_each(|cold| {
            cache.ask(cold);
        });
        let kept = (0..500).filter(|hot| cache.ask(*hot)).count();
        assert!(kept >= 495, "{kept} of 500");
    }

    #[test]
    fn a_new_hot_set_takes_the_place_of_the_old_one() {
        let mut cache = Cache::new(1000);
        for set in 0..5u64 {
            for round in 0..12 {
                let kept = (0..800).filter(|n| cache.ask(set * 1000 + n)).count();
                assert!(round < 8 || kept == 800, "set {set} round {round}: {kept}");
            }
        }
    }

    #[test]
    fn what_comes_back_soon_has_proved_itself() {
        let mut cache = Cache::new(100);
        (0..101).for_each(|n| {
            cache.ask(n);
        });
        assert!(!cache.ask(0), "it went first");
        assert!(cache.policy.kept[&block(0)].main);
    }

    #[test]
    fn memory_is_bounded_by_what_is_kept() {
        let mut policy = Policy::default();
        for n in 0..100_000u64 {
            policy.insert(block(n % 10), 5);
            if n % 3 == 0 {
                policy.forget(&block(n % 10));
            }
        }
        assert!(policy.probation.places.len() + policy.main.places.len() < 200);
        assert_eq!(policy.bytes(), 5 * policy.kept.len() as u64);
        while policy.evict_one(|_| 0, |_, _| ()).is_some() {}
        assert_eq!((policy.bytes(), policy.kept.len()), (0, 0));
        (0..10_000).for_each(|n| {
            policy.insert(block(n), 1);
            policy.evict_one(|_| 0, |_, _| ());
        });
        assert!(policy.ghosts.order.len() <= GHOSTS_LEAST);
    }
}
