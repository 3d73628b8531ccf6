//! Advisory locks: what is locked, how, and by whom.

use bincode::{Decode, Encode};

use crate::SessionId;

/// The two kinds of locks. They do not see each other, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum LockKind {
    /// Byte ranges, as fcntl(2) has them: an owner's ranges are cut, merged and converted.
    Range,
    /// The whole file, as flock(2) has it: the owner is an open handle.
    Flock,
}

impl LockKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Range, Self::Flock];
}

/// How a lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum LockMode {
    /// Others may hold it shared too.
    Shared,
    /// Nobody else holds anything there.
    Exclusive,
}

/// Bytes of a file, whether there are so many or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LockRange {
    /// The first byte.
    pub start: u64,
    /// The last byte; [`u64::MAX`] means all from `start` on, however far the file grows.
    pub last: u64,
}

impl LockRange {
    /// Every byte.
    pub const WHOLE: Self = Self { start: 0, last: u64::MAX };

    /// `length` bytes from `start`; all of them from there on when it is 0, as in fcntl(2). `None`
    /// when they would not fit.
    #[must_use]
    pub fn of(start: u64, length: u64) -> Option<Self> {
        match length {
            0 => Some(Self { start, last: u64::MAX }),
            n => start.checked_add(n - 1).filter(|last| *last < u64::MAX).map(|last| Self { start, last }),
        }
    }

    /// The number of bytes, 0 when it has no end: what [`LockRange::of`] takes.
    #[must_use]
    pub fn length(self) -> u64 {
        if self.last == u64::MAX { 0 } else { self.last - self.start + 1 }
    }

    /// True when the two have a byte in common.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// What the two have in common.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        self.meets(other)
            .then(|| Self { start: self.start.max(other.start), last: self.last.min(other.last) })
    }

    /// True when no byte lies between the two, and none in both.
    #[must_use]
    pub fn adjoins(self, other: Self) -> bool {
        self.last.checked_add(1) == Some(other.start) || other.last.checked_add(1) == Some(self.start)
    }
}

/// Who holds a lock, or waits for one: an owner's number means something within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LockOwner {
    /// The session; its end frees the lock.
    pub session: SessionId,
    /// A process, thread or handle, as the client numbers them.
    pub owner: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_bytes_it_is_made_of() {
        let range = |start, length| LockRange::of(start, length).unwrap();
        assert_eq!(range(5, 3), LockRange { start: 5, last: 7 });
        assert_eq!((range(5, 3).length(), range(5, 0).length(), range(0, 0)), (3, 0, LockRange::WHOLE));
        assert_eq!((LockRange::of(u64::MAX, 1), LockRange::of(2, u64::MAX)), (None, None));
        assert!(range(0, 5).adjoins(range(5, 1)) && !range(0, 5).adjoins(range(6, 1)));
        assert!(!range(0, 5).meets(range(5, 0)) && range(0, 6).meets(range(5, 0)));
        assert_eq!(range(0, 6).common(range(5, 0)), Some(range(5, 1)));
        assert!(!LockRange::WHOLE.adjoins(range(0, 1)));
    }
}
