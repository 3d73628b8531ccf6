//! Locks as one would write them with no care for cost: each byte knows who holds it.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::LockMode;

/// Bytes of a file; the last one stands for all from there on.
pub const BYTES: usize = 12;

/// A session (by its place in the test) and an owner's number.
pub type Owner = (usize, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub mode: LockMode,
    /// The entry that granted the whole run of bytes that this one belongs to.
    pub fence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub by: Owner,
    pub first: usize,
    pub last: usize,
    pub mode: LockMode,
}

/// The locks of one kind on one file.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    pub bytes: [BTreeMap<Owner, Hold>; BYTES],
    /// In the order in which they came, with their numbers.
    pub queue: Vec<(u64, Ask)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Held,
    Waiting,
    /// One of these is in the way.
    Locked(BTreeSet<Owner>),
    Deadlock,
}

fn excludes(a: LockMode, b: LockMode) -> bool {
    a == LockMode::Exclusive || b == LockMode::Exclusive
}

impl Locks {
    /// Who is in the way of what is asked, behind the first `ahead` of the queue.
    pub fn in_the_way(&self, ask: Ask, ahead: usize) -> BTreeSet<Owner> {
        let mut found = BTreeSet::new();
        for byte in ask.first..=ask.last {
            for (owner, hold) in &self.bytes[byte] {
                if *owner != ask.by && excludes(hold.mode, ask.mode) {
                    found.insert(*owner);
                }
            }
            // Nobody goes ahead of those who came before, but for bytes that it has already.
            for (_, other) in &self.queue[..ahead] {
                let there = (other.first..=other.last).contains(&byte);
                let new = !self.bytes[byte].contains_key(&ask.by);
                if there && new && other.by != ask.by && excludes(other.mode, ask.mode) {
                    found.insert(other.by);
                }
            }
        }
        found
    }

    fn give(&mut self, ask: Ask, index: u64) {
        let hold = Hold { mode: ask.mode, fence: index };
        for byte in ask.first..=ask.last {
            self.bytes[byte].insert(ask.by, hold);
        }
        let same = |byte: &BTreeMap<Owner, Hold>| byte.get(&ask.by).is_some_and(|h| h.mode == ask.mode);
        for byte in (0..ask.first).rev().take_while(|b| same(&self.bytes[*b])).collect::<Vec<_>>() {
            self.bytes[byte].insert(ask.by, hold);
        }
        for byte in (ask.last + 1..BYTES).take_while(|b| same(&self.bytes[*b])).collect::<Vec<_>>() {
            self.bytes[byte].insert(ask.by, hold);
        }
    }

    pub fn take(&mut self, by: Owner, first: usize, last: usize) {
        for byte in first..=last {
            self.bytes[byte].remove(&by);
        }
    }

    /// Grants the first in the queue that can be granted, again and again.
    pub fn grant(&mut self, index: u64) {
        while let Some(at) =
            (0..self.queue.len()).find(|at| self.in_the_way(self.queue[*at].1, *at).is_empty())
        {
            let (_, ask) = self.queue.remove(at);
            self.give(ask, index);
        }
    }

    /// Locks, or queues.
    pub fn lock(&mut self, ask: Ask, flock: bool, wait: bool, index: u64, others: &[&Locks]) -> Told {
        let against = self.in_the_way(ask, self.queue.len());
        if against.is_empty() {
            self.give(ask, index);
            self.grant(index);
            return Told::Held;
        }
        if !wait {
            return Told::Locked(against);
        }
        if !flock && self.is_deadlock(ask.by, against, others) {
            return Told::Deadlock;
        }
        if flock {
            self.take(ask.by, ask.first, ask.last);
        }
        self.queue.push((index, ask));
        self.grant(index);
        Told::Waiting
    }

    /// Follows who waits for whom, over all files, until nobody new is found.
    fn is_deadlock(&self, by: Owner, against: BTreeSet<Owner>, others: &[&Locks]) -> bool {
        let mut reached = against;
        loop {
            let mut next = reached.clone();
            for file in others.iter().copied().chain([self]) {
                for (at, (_, ask)) in file.queue.iter().enumerate() {
                    if reached.contains(&ask.by) {
                        next.extend(file.in_the_way(*ask, at));
                    }
                }
            }
            if next == reached {
                return reached.contains(&by);
            }
            reached = next;
        }
    }

    pub fn cancel(&mut self, by: Owner, number: u64, index: u64) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(n, ask)| ask.by != by || (number != 0 && *n != number));
        let any = self.queue.len() < before;
        self.grant(index);
        any
    }

    pub fn end(&mut self, session: usize, index: u64) {
        for byte in &mut self.bytes {
            byte.retain(|owner, _| owner.0 != session);
        }
        self.queue.retain(|(_, ask)| ask.by.0 != session);
        self.grant(index);
    }

    /// What is held, as runs of bytes: first, last, owner, mode, fence.
    pub fn runs(&self) -> BTreeSet<(usize, usize, Owner, LockMode, u64)> {
        let owners: BTreeSet<Owner> = self.bytes.iter().flat_map(|b| b.keys().copied()).collect();
        let mut runs = BTreeSet::new();
        for owner in owners {
            let mut open: Option<(usize, Hold)> = None;
            for byte in 0..=BYTES {
                let here = self.bytes.get(byte).and_then(|b| b.get(&owner)).copied();
                if let Some((first, hold)) = open
                    && here.map(|h| h.mode) != Some(hold.mode)
                {
                    runs.insert((first, byte - 1, owner, hold.mode, hold.fence));
                    open = None;
                }
                open = open.or(here.map(|hold| (byte, hold)));
            }
        }
        runs
    }
}
