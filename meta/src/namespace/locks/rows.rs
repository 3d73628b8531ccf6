//! How [`FileLocks`] are read, and what has changed is written, with both indices and the bounds.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::limits::{LOCK_WAITS_PER_FILE_MAX, LOCKS_PER_FILE_MAX, LOCKS_PER_SESSION_MAX};
use cairn_types::{FsError, InodeId, LockKind, LockRange, SessionId};

use super::{Asked, FileLocks, Held, Places, Waits};
use crate::keys::locks::{self, LockRecord, LockerRecord, Part, WaitRecord};
use crate::keys::{self, RowFault};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{KeyRange, Rows, Table};

/// What a wait counts for: when it is granted it may cut another lock of its owner in three.
const WAIT_COUNTS: usize = 2;

impl FileLocks {
    /// The locks of one kind on a file.
    pub fn load(rows: &(impl Rows + ?Sized), ino: InodeId, kind: LockKind) -> Result<Self, RowFault> {
        let range = KeyRange::prefix(&locks::on(ino, kind));
        let mut held = Places::new();
        for (key, row) in keys::scan::<LockRecord>(rows, &range, LOCKS_PER_FILE_MAX + 1)? {
            held.insert(locks::parse(&key)?, Held { last: row.last, mode: row.mode, fence: row.fence });
        }
        let mut waits = Waits::new();
        if !held.is_empty() {
            for (key, row) in keys::scan::<WaitRecord>(rows, &range, LOCK_WAITS_PER_FILE_MAX + 1)? {
                let range = LockRange { start: row.start, last: row.last };
                waits.insert(locks::wait(&key)?, Asked { by: row.by, range, mode: row.mode });
            }
        }
        let stored = (held.clone(), waits.clone());
        Ok(Self { ino, kind, held, waits, stored })
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// `TooManyLocks` when more is held or waited for than may be, and than was.
    pub fn store(self, state: &mut State<'_, '_>) -> Outcome<()> {
        let Self { ino, kind, held, waits, stored: (old_held, old_waits) } = self;
        let load = |held: &Places, waits: &Waits| held.len() + WAIT_COUNTS * waits.len();
        let grown = load(&held, &waits) > load(&old_held, &old_waits);
        let full = load(&held, &waits) > LOCKS_PER_FILE_MAX || waits.len() > LOCK_WAITS_PER_FILE_MAX;
        if grown && full {
            return refuse(FsError::TooManyLocks);
        }
        let mut changes: BTreeMap<SessionId, Change> = BTreeMap::new();
        for (start, by) in keys_of(&old_held, &held) {
            let key = locks::key(ino, kind, start, by);
            let index = locks::part_key(Part::Held, by, kind, ino, start);
            let (old, new) = (old_held.get(&(start, by)), held.get(&(start, by)));
            if let Some(Held { last, mode, fence }) = new.filter(|_| old != new).copied() {
                state.put(key, &LockRecord { last, mode, fence });
            } else if new.is_none() {
                state.delete(Table::Locks, key);
            }
            if old.is_some() != new.is_some() {
                changes.entry(by.session).or_default().locks += of_presence(new.is_some());
                index_row(state, index, new.is_some());
            }
        }
        for wait in keys_of(&old_waits, &waits) {
            let (old, new) = (old_waits.get(&wait), waits.get(&wait));
            let Some(Asked { by, range, mode }) = old.or(new).copied() else { continue };
            if old.is_some() == new.is_some() {
                continue;
            }
            let key = locks::wait_key(ino, kind, wait);
            match new {
                Some(_) => state.put(key, &WaitRecord { by, start: range.start, last: range.last, mode }),
                None => state.delete(Table::LockWaits, key),
            }
            changes.entry(by.session).or_default().waits += of_presence(new.is_some());
            index_row(state, locks::part_key(Part::Waiting, by, kind, ino, wait.0), new.is_some());
        }
        changes.into_iter().try_for_each(|(session, change)| change.count(state, session))
    }
}

/// How many locks and waits of a session came, or went.
#[derive(Default)]
struct Change {
    locks: i64,
    waits: i64,
}

impl Change {
    fn count(self, state: &mut State<'_, '_>, session: SessionId) -> Outcome<()> {
        let key = locks::locker_key(session);
        let was: LockerRecord = state.get(&key)?.unwrap_or_default();
        let locks = was.locks.saturating_add_signed(self.locks);
        let waits = was.waits.saturating_add_signed(self.waits);
        let load = |locks: u64, waits: u64| locks + WAIT_COUNTS as u64 * waits;
        if load(locks, waits) > load(was.locks, was.waits) && load(locks, waits) > LOCKS_PER_SESSION_MAX {
            return refuse(FsError::TooManyLocks);
        }
        if locks == 0 && waits == 0 {
            state.delete(Table::Lockers, key);
        } else if (self.locks, self.waits) != (0, 0) {
            state.put(key, &LockerRecord { locks, waits });
        }
        Ok(())
    }
}

/// The keys whose values differ.
fn keys_of<K: Copy + Ord, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, _)| key);
    gone.chain(changed).copied().collect()
}

fn of_presence(here: bool) -> i64 {
    if here { 1 } else { -1 }
}

fn index_row(state: &mut State<'_, '_>, key: Vec<u8>, here: bool) {
    if here { state.mark(Table::Lockers, key) } else { state.delete(Table::Lockers, key) }
}

impl State<'_, '_> {
    /// Takes some of the locks of a file that is gone, and of the waits for them; true when none are
    /// left. Who waited finds the file gone.
    pub fn drop_locks(&mut self, ino: InodeId) -> Outcome<bool> {
        if self.txn.scan(Table::Locks, &locks::of(ino), 1)?.is_empty() {
            return Ok(true);
        }
        // What other files of the same entry leave room for: the rest goes in steps.
        let mut limit = if self.txn.rows_touched() < ROWS_BEFORE { self.bounds.rows_at_once } else { 0 };
        let mut done = true;
        for kind in LockKind::ALL {
            let mut file = FileLocks::load(&*self.txn, ino, kind)?;
            let before = file.held.len() + file.waits.len();
            done &= file.drop_some(limit);
            limit -= before - file.held.len() - file.waits.len();
            file.store(self)?;
        }
        Ok(done)
    }
}

/// Rows that an entry may have touched before it takes the locks of another file that is gone.
const ROWS_BEFORE: usize = 512;
