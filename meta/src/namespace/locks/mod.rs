//! [`FileLocks`]: the locks of one kind on one file, who waits for them, and who is in whose way.
//!
//! They are few by their bounds, so that each entry reads them all, works on them here, and writes
//! what has changed.

mod deadlock;
pub mod look;
mod rows;

use std::collections::BTreeMap;

use cairn_types::{InodeId, LockKind, LockMode, LockOwner, LockRange, LogIndex, SessionId};

/// A lock that is held, by its first byte and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    last: u64,
    mode: LockMode,
    fence: LogIndex,
}

/// A lock that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub by: LockOwner,
    pub range: LockRange,
    pub mode: LockMode,
}

/// A lock of one kind on a file, whoever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it.
    pub by: LockOwner,
    /// Where.
    pub range: LockRange,
    /// How.
    pub mode: LockMode,
    /// Its fencing number: the entry that granted it last.
    pub fence: LogIndex,
}

type Places = BTreeMap<(u64, LockOwner), Held>;
/// By number, which is the order in which they came.
type Waits = BTreeMap<LogIndex, Asked>;

/// The locks of one kind on one file.
pub(super) struct FileLocks {
    ino: InodeId,
    kind: LockKind,
    held: Places,
    waits: Waits,
    stored: (Places, Waits),
}

fn excludes(a: LockMode, b: LockMode) -> bool {
    a == LockMode::Exclusive || b == LockMode::Exclusive
}

impl FileLocks {
    fn all(&self) -> impl Iterator<Item = Lock> {
        self.held.iter().map(|((start, by), held)| Lock {
            by: *by,
            range: LockRange { start: *start, last: held.last },
            mode: held.mode,
            fence: held.fence,
        })
    }

    fn own(&self, by: LockOwner) -> impl Iterator<Item = Lock> {
        self.all().filter(move |lock| lock.by == by)
    }

    /// Those whose locks are in the way of what is asked, in the order of their first bytes.
    fn holders_against(&self, asked: Asked) -> impl Iterator<Item = Lock> {
        self.all().filter(move |lock| {
            lock.by != asked.by && lock.range.meets(asked.range) && excludes(lock.mode, asked.mode)
        })
    }

    /// Those who asked before number `before` and are in the way: what is asked meets what they wait
    /// for in bytes of which its owner holds nothing yet.
    fn waiters_against(&self, asked: Asked, before: LogIndex) -> impl Iterator<Item = Asked> {
        self.waits.range(..before).map(|(_, wait)| *wait).filter(move |wait| {
            wait.by != asked.by
                && excludes(wait.mode, asked.mode)
                && wait.range.common(asked.range).is_some_and(|common| !self.has_all(asked.by, common))
        })
    }

    /// The first who is in the way of what is asked, by one who asked as number `before`.
    pub fn against(&self, asked: Asked, before: LogIndex) -> Option<LockOwner> {
        let holder = self.holders_against(asked).next().map(|lock| lock.by);
        holder.or_else(|| self.waiters_against(asked, before).next().map(|wait| wait.by))
    }

    /// All who are in the way.
    fn all_against(&self, asked: Asked, before: LogIndex) -> Vec<LockOwner> {
        let holders = self.holders_against(asked).map(|lock| lock.by);
        holders.chain(self.waiters_against(asked, before).map(|wait| wait.by)).collect()
    }

    /// True when the owner has a lock of some mode on each byte.
    fn has_all(&self, by: LockOwner, range: LockRange) -> bool {
        let mut next = range.start;
        for lock in self.own(by) {
            if lock.range.start > next {
                return false;
            }
            if lock.range.last >= range.last {
                return true;
            }
            next = next.max(lock.range.last + 1);
        }
        false
    }

    /// The one lock that is all that was asked for.
    pub fn granted(&self, asked: Asked) -> Option<Lock> {
        self.own(asked.by).find(|lock| {
            lock.mode == asked.mode
                && lock.range.start <= asked.range.start
                && lock.range.last >= asked.range.last
        })
    }

    /// Gives the owner what it asked for in place of what it had there. Its locks that adjoin and are
    /// of the same mode become one.
    pub fn lay(&mut self, asked: Asked, fence: LogIndex) {
        self.clear(asked.by, asked.range);
        let mut range = asked.range;
        let beside: Vec<Lock> = self
            .own(asked.by)
            .filter(|lock| lock.mode == asked.mode && lock.range.adjoins(asked.range))
            .collect();
        for lock in beside {
            self.held.remove(&(lock.range.start, lock.by));
            range =
                LockRange { start: range.start.min(lock.range.start), last: range.last.max(lock.range.last) };
        }
        self.held.insert((range.start, asked.by), Held { last: range.last, mode: asked.mode, fence });
    }

    /// Takes an owner's locks from a range; what they cover beside it stays.
    pub fn clear(&mut self, by: LockOwner, range: LockRange) {
        let cut: Vec<Lock> = self.own(by).filter(|lock| lock.range.meets(range)).collect();
        for Lock { range: old, mode, fence, .. } in cut {
            self.held.remove(&(old.start, by));
            if old.start < range.start {
                self.held.insert((old.start, by), Held { last: range.start - 1, mode, fence });
            }
            if old.last > range.last {
                self.held.insert((range.last + 1, by), Held { last: old.last, mode, fence });
            }
        }
    }

    /// Queues what is asked as number `wait`.
    pub fn queue(&mut self, asked: Asked, wait: LogIndex) {
        self.waits.insert(wait, asked);
    }

    /// Gives waits of an owner up: that with this number, or all for number 0. True when there were
    /// any.
    pub fn cancel(&mut self, by: LockOwner, wait: LogIndex) -> bool {
        let before = self.waits.len();
        self.waits.retain(|number, asked| asked.by != by || (wait.0 != 0 && *number != wait));
        self.waits.len() < before
    }

    /// Takes out all that a session holds and waits for; true when there was something.
    pub fn drop_session(&mut self, session: SessionId) -> bool {
        let before = self.held.len() + self.waits.len();
        self.held.retain(|(_, by), _| by.session != session);
        self.waits.retain(|_, asked| asked.by.session != session);
        self.held.len() + self.waits.len() < before
    }

    /// Takes out some waits, then some locks, `limit` at most; true when nothing is left.
    pub fn drop_some(&mut self, limit: usize) -> bool {
        let waits = self.waits.len().min(limit);
        for _ in 0..waits {
            self.waits.pop_first();
        }
        for _ in 0..self.held.len().min(limit - waits) {
            self.held.pop_first();
        }
        self.held.is_empty() && self.waits.is_empty()
    }

    /// Grants, in the order in which they were asked for, the waits that nobody is in the way of any
    /// more. `fence` is the entry at work.
    pub fn grant(&mut self, fence: LogIndex) {
        let mut from = LogIndex(0);
        while let Some((wait, asked)) = self.waits.range(from..).next().map(|(n, a)| (*n, *a)) {
            from = wait.next();
            if self.against(asked, wait).is_some() {
                continue;
            }
            let eased = asked.mode == LockMode::Shared
                && self.own(asked.by).any(|l| l.mode == LockMode::Exclusive && l.range.meets(asked.range));
            self.waits.remove(&wait);
            self.lay(asked, fence);
            let asked_before = self.waits.range(..wait).any(|(_, earlier)| earlier.by == asked.by);
            if eased || asked_before {
                // What it held is weaker now: one who asked before it may have waited for that. Or it
                // has more now: another wait of its own needs to wait for fewer.
                from = LogIndex(0);
            }
        }
    }
}
