//! What a look at a mount's rows finds to be done. Reads only; so many rows at a time.

use std::time::Duration;

use cairn_types::{ChunkId, InodeId, IntentId, MountId};

use super::Mounted;
use super::rests::Rests;
use super::ripe::{Due, QUIET_MS, Seen, due};
use crate::keys::RowFault;
use crate::keys::moves::MoveRow;
use crate::keys::pending::PendingRow;
use crate::leader::first_seen::Now;
use crate::namespace::{NamespaceError, Target, mounting, read};
use crate::store::Rows;

/// Rows of one kind that are looked at in one turn, at most.
const ROWS_PER_LOOK: usize = 2048;
/// Rows read in one step.
const PAGE: usize = 256;
/// Directories whose tree follows them that are found in one look, at most.
const WALKS_MAX: usize = 64;
/// Tails that are closed in one turn, at most.
const TAILS_MAX: usize = 64;
/// How long a mount is left alone in which all was looked at and nothing was to be done.
const PAUSE: Duration = Duration::from_millis(250);

/// A mount as the job knows it between turns.
#[derive(Debug, Default)]
pub struct Desk {
    /// What of the files is remembered.
    pub seen: Seen,
    /// Files that cannot be written yet.
    pub files: Rests<InodeId>,
    /// Objects that cannot be deleted yet.
    pub objects: Rests<Vec<u8>>,
    /// Directories whose tree cannot follow them yet.
    pub walks: Rests<InodeId>,
    /// Prefixes that cannot be forgotten yet.
    pub moves: Rests<Vec<u8>>,
    /// The mount itself, which could not be probed.
    pub probes: Rests<()>,
    pending_after: Option<InodeId>,
    surplus_after: Option<Vec<u8>>,
    moves_after: Option<Vec<u8>>,
    /// When it is looked at again.
    look_at: Duration,
    /// Puts that failed for good are tried once more, until all were looked at.
    retry_puts: bool,
    /// So are deletions.
    retry_deletions: bool,
}

/// What is to be done in a mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files and markers to be written.
    pub puts: Vec<InodeId>,
    /// Files whose tail is to be closed first.
    pub tails: Vec<(InodeId, ChunkId)>,
    /// Keys of objects to be deleted.
    pub deletions: Vec<Vec<u8>>,
    /// Directories whose tree is to follow them.
    pub walks: Vec<InodeId>,
    /// Prefixes that a directory left, with all that lay in it.
    pub left: Vec<Vec<u8>>,
}

impl Found {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Desk {
    /// Looks for what is to be done, `wanted` of a kind at most.
    ///
    /// # Errors
    /// [`RowFault`] when the store failed or a row is damaged.
    pub fn look(
        &mut self,
        rows: &dyn Rows,
        mounted: &Mounted,
        wanted: usize,
        now: Now,
    ) -> Result<Found, RowFault> {
        let Mounted { mount, mode, counts, .. } = mounted;
        let mut found = Found::default();
        if self.look_at > now.boot {
            return Ok(found);
        }
        // What cannot be written now is left to the time when it can.
        let wanted = if mode.takes_writes() { wanted } else { 0 };
        let lag_ms = mode.rules.object_lag_ms;
        let around = counts.pending == 0 || self.pending(rows, *mount, lag_ms, wanted, now, &mut found)?;
        if counts.surplus > 0 {
            self.surplus(rows, *mount, wanted, now, &mut found)?;
        }
        self.moves(rows, *mount, counts.walking, now, &mut found)?;
        if found.is_empty() && wanted > 0 {
            // Further rows are looked at more slowly as well: nobody may be in a hurry.
            self.look_at = now.boot.saturating_add(if around { PAUSE } else { PAUSE / 4 });
        }
        Ok(found)
    }

    /// What failed for good is to be tried once more.
    pub fn retry(&mut self) {
        (self.retry_puts, self.retry_deletions) = (true, true);
        (self.pending_after, self.surplus_after, self.look_at) = (None, None, Duration::ZERO);
    }

    /// True when the last pending row was seen.
    fn pending(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        lag_ms: u64,
        wanted: usize,
        now: Now,
        found: &mut Found,
    ) -> Result<bool, RowFault> {
        let mut looked = 0;
        while looked < ROWS_PER_LOOK && found.puts.len() < wanted {
            let page = mounting::pending_after(rows, mount, self.pending_after, PAGE)?;
            for (ino, row) in &page {
                self.pending_after = Some(*ino);
                looked += 1;
                self.pending_row(rows, lag_ms, (*ino, row), now, found)?;
                if found.puts.len() >= wanted {
                    return Ok(false);
                }
            }
            if page.len() < PAGE {
                self.pending_after = None;
                self.retry_puts = false;
                self.seen.passed();
                self.files.forget_old(now.boot);
                self.walks.forget_old(now.boot);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn pending_row(
        &mut self,
        rows: &dyn Rows,
        lag_ms: u64,
        (ino, row): (InodeId, &PendingRow),
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        if row.walk.is_some() && found.walks.len() < WALKS_MAX && !self.walks.is_resting(&ino, now.boot) {
            found.walks.push(ino);
        }
        if self.files.is_resting(&ino, now.boot) || is_held(rows, row.intent, self.retry_puts)? {
            return Ok(());
        }
        if row.walk.is_some() && !row.marker {
            return Ok(());
        }
        let ages = self.seen.ages(ino, row.since, row.changed, now);
        if ages.quiet_ms < QUIET_MS && ages.pending_ms < lag_ms {
            return Ok(());
        }
        let tail = match read::resolve(rows, &Target::ino(ino)) {
            Ok(inode) => inode.tail.map(|tail| tail.chunk),
            // It is gone: the entry that is proposed for it finds out what that means.
            Err(NamespaceError::Refused(_)) => None,
            Err(NamespaceError::Fault(fault)) => return Err(fault),
        };
        match due(ages, tail, self.seen.closed(ino), lag_ms) {
            Due::Now => found.puts.push(ino),
            Due::Close(tail) if found.tails.len() < TAILS_MAX => found.tails.push((ino, tail)),
            Due::Close(_) | Due::Later => {}
        }
        Ok(())
    }

    fn surplus(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        wanted: usize,
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        let mut looked = 0;
        while looked < ROWS_PER_LOOK && found.deletions.len() < wanted {
            let page = mounting::surplus_after(rows, mount, self.surplus_after.as_deref(), PAGE)?;
            let last = page.len() < PAGE;
            for (key, row) in page {
                self.surplus_after = Some(key.clone());
                looked += 1;
                if !self.objects.is_resting(&key, now.boot)
                    && !is_held(rows, row.intent, self.retry_deletions)?
                {
                    found.deletions.push(key);
                }
                if found.deletions.len() >= wanted {
                    return Ok(());
                }
            }
            if last {
                self.surplus_after = None;
                self.retry_deletions = false;
                self.objects.forget_old(now.boot);
                break;
            }
        }
        Ok(())
    }

    fn moves(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        walking: u64,
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        let page = mounting::moves_after(rows, mount, self.moves_after.as_deref(), PAGE)?;
        self.moves_after = page.last().filter(|_| page.len() == PAGE).map(|(prefix, _)| prefix.clone());
        for (prefix, MoveRow { directory }) in page {
            let walks = mounting::pending(rows, mount, directory)?.is_some_and(|row| row.walk.is_some());
            if walks && found.walks.len() < WALKS_MAX && !self.walks.is_resting(&directory, now.boot) {
                // The first of a tree: a look may not come by its row for long.
                if !found.walks.contains(&directory) {
                    found.walks.push(directory);
                }
            }
            if walking == 0 && !self.moves.is_resting(&prefix, now.boot) {
                found.left.push(prefix);
            }
        }
        if self.moves_after.is_none() {
            self.moves.forget_old(now.boot);
        }
        Ok(())
    }
}

/// True when a row's intent does what is to be done, or has failed for good at it, which is left so unless it is
/// to be tried once more.
fn is_held(rows: &dyn Rows, intent: Option<IntentId>, retry: bool) -> Result<bool, RowFault> {
    let Some(intent) = intent else { return Ok(false) };
    Ok(!retry || read::intent(rows, intent)?.is_some_and(|record| !record.failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::intents::{self, IntentRecord, Work};
    use crate::keys::mount_counts::MountCounts;
    use crate::keys::mount_modes::{EndpointAbilities, MountMode, MountRules};
    use crate::keys::surplus::{self, SurplusRow};
    use crate::keys::{self, Record, moves, pending};
    use crate::store::{MemoryStore, Store, Txn};
    use cairn_types::{NodeId, Timestamp};

    const MOUNT: MountId = MountId(3);

    fn put<R: Record>(store: &MemoryStore, key: Vec<u8>, row: &R) {
        let mut txn = Txn::new(store);
        keys::put(&mut txn, key, row);
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    fn delete<R: Record>(store: &MemoryStore, key: Vec<u8>) {
        let mut txn = Txn::new(store);
        txn.delete(R::TABLE, key);
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    fn pend(store: &MemoryStore, ino: u64, row: &PendingRow) {
        put(store, pending::key(MOUNT, file(ino)), row);
    }

    fn mounted(pending: u64, walking: u64, surplus: u64) -> Mounted {
        let rules = MountRules { writable: true, object_lag_ms: 30_000, ..MountRules::default() };
        let counts = MountCounts { pending, walking, surplus, ..MountCounts::default() };
        let abilities = Some(EndpointAbilities::default());
        let mode = MountMode { rules, abilities, ..MountMode::default() };
        Mounted { mount: MOUNT, mode, counts, oldest_ms: 0 }
    }

    fn at(ms: u64) -> Now {
        Now { wall: Timestamp(ms.cast_signed() * 1_000_000), boot: Duration::from_millis(ms) }
    }

    /// The root is 1, and has a name.
    fn file(number: u64) -> InodeId {
        InodeId(100 + number)
    }

    fn inos(numbers: impl IntoIterator<Item = u64>) -> Vec<InodeId> {
        numbers.into_iter().map(file).collect()
    }

    #[test]
    fn looks_go_round_so_many_files_at_a_time() {
        let store = MemoryStore::new();
        (1..=600).for_each(|ino| pend(&store, ino, &PendingRow::default()));
        let held = PendingRow { intent: Some(IntentId(1)), ..PendingRow::default() };
        pend(&store, 2, &held);
        let young = PendingRow { since: Timestamp(0), changed: Timestamp(4_500_000_000), ..held.clone() };
        pend(&store, 3, &PendingRow { intent: None, ..young });
        let (mut desk, mounted) = (Desk::default(), mounted(600, 0, 0));
        let mut look = |wanted, ms| desk.look(&store, &mounted, wanted, at(ms)).expect("read").puts;
        assert_eq!(look(3, 5_000), inos([1, 4, 5]), "one is being written, one was changed a moment ago");
        assert_eq!(look(0, 5_000), []);
        assert_eq!(look(300, 5_000), inos(6..=305));
        assert_eq!(look(1_000, 5_000), inos(306..=600), "up to the end");
        assert_eq!(look(4, 6_000), inos([1, 3, 4, 5]), "and from the beginning");
    }

    #[test]
    fn what_rests_is_passed_over_and_an_idle_mount_is_left_alone_for_a_moment() {
        let store = MemoryStore::new();
        (1..=3).for_each(|ino| pend(&store, ino, &PendingRow::default()));
        let (mut desk, mounted) = (Desk::default(), mounted(3, 0, 0));
        desk.files.put(file(2), Duration::from_secs(5));
        assert_eq!(desk.look(&store, &mounted, 10, at(5_000)).expect("read").puts, inos([1, 3]));
        [1, 3].into_iter().for_each(|ino| delete::<PendingRow>(&store, pending::key(MOUNT, file(ino))));
        assert_eq!(desk.look(&store, &mounted, 10, at(5_100)).expect("read"), Found::default());
        pend(&store, 4, &PendingRow::default());
        assert_eq!(desk.look(&store, &mounted, 10, at(5_200)).expect("read"), Found::default());
        assert_eq!(desk.look(&store, &mounted, 10, at(5_350)).expect("read").puts, inos([2, 4]));
    }

    #[test]
    fn what_failed_for_good_is_tried_once_more_when_asked_for() {
        let store = MemoryStore::new();
        let of = |intent| PendingRow { intent: Some(IntentId(intent)), ..PendingRow::default() };
        (1..=3).for_each(|ino| pend(&store, ino, &of(ino)));
        for (intent, failed) in [(1, true), (2, false), (3, true)] {
            let work = Work::DeleteObject { mount: MOUNT, key: b"k".to_vec(), etag: "e".into() };
            let new = IntentRecord::new(IntentId(intent), NodeId(1), work, Timestamp(0));
            put(&store, intents::key(IntentId(intent)), &IntentRecord { failed, ..new });
        }
        let (mut desk, mounted) = (Desk::default(), mounted(3, 0, 0));
        let look = |desk: &mut Desk| desk.look(&store, &mounted, 9, at(5_000)).expect("read").puts;
        assert_eq!(look(&mut desk), []);
        desk.retry();
        assert_eq!(look(&mut desk), inos([1, 3]));
        assert_eq!(look(&mut desk), [], "once");
    }

    #[test]
    fn surplus_objects_are_deleted_unless_that_is_under_way() {
        let store = MemoryStore::new();
        for (key, intent) in [("a", None), ("b", Some(IntentId(7))), ("c", None)] {
            let row = SurplusRow { since: Timestamp(0), intent };
            put(&store, surplus::key(MOUNT, key.as_bytes()), &row);
        }
        let (mut desk, mounted) = (Desk::default(), mounted(0, 0, 3));
        let mut look = |wanted| desk.look(&store, &mounted, wanted, at(0)).expect("read").deletions;
        assert_eq!(look(1), [b"a".to_vec()]);
        assert_eq!(look(5), [b"c".to_vec()]);
        assert_eq!(look(5), [b"a".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn a_prefix_is_left_when_no_tree_is_on_its_way() {
        let store = MemoryStore::new();
        put(&store, moves::key(MOUNT, b"p/old/"), &MoveRow { directory: file(9) });
        let walk = PendingRow { walk: Some(Vec::new()), ..PendingRow::default() };
        pend(&store, 9, &walk);
        (10..=20).for_each(|ino| {
            pend(&store, ino, &PendingRow { intent: Some(IntentId(1)), ..PendingRow::default() })
        });
        let mut desk = Desk::default();
        let found = desk.look(&store, &mounted(12, 1, 0), 5, at(0)).expect("read");
        assert_eq!((found.walks, found.left, found.puts), (inos([9]), Vec::new(), Vec::new()));
        delete::<PendingRow>(&store, pending::key(MOUNT, file(9)));
        let found = desk.look(&store, &mounted(11, 0, 0), 5, at(500)).expect("read");
        assert_eq!(found.left, [b"p/old/".to_vec()]);
    }
}
