//! Whether one who waits would wait for itself: a search through who waits for whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_types::limits::LOCKS_PER_FILE_MAX;
use cairn_types::{InodeId, LockKind, LockOwner, LogIndex};

use super::{Asked, FileLocks};
use crate::keys::RowFault;
use crate::keys::locks::{self, Part};
use crate::store::{KeyRange, Rows, Table};

/// Locks and waits that one search reads, at most.
const READ_MAX: usize = 16 * LOCKS_PER_FILE_MAX;
/// Waits of one owner that are followed, at most: a process waits once a thread.
const WAITS_OF_ONE_MAX: usize = 1024;

/// The files that a search has read.
struct Search<'r, R: Rows + ?Sized> {
    rows: &'r R,
    kind: LockKind,
    files: BTreeMap<InodeId, FileLocks>,
    read: usize,
}

impl FileLocks {
    /// True when whoever is in the way of what is asked waits, over however many others, for who asks.
    /// A search that reads too much is not finished, and taken for a deadlock: to be refused is better
    /// than to wait for ever.
    pub fn deadlocks(&self, rows: &(impl Rows + ?Sized), asked: Asked) -> Result<bool, RowFault> {
        // Nobody waits for one who has nothing and is in no queue.
        let parts = |part| KeyRange::prefix(&locks::part_of_owner(part, asked.by, self.kind));
        let idle = rows.scan(Table::Lockers, &parts(Part::Held), 1)?.is_empty()
            && rows.scan(Table::Lockers, &parts(Part::Waiting), 1)?.is_empty();
        if idle {
            return Ok(false);
        }
        let mut search = Search { rows, kind: self.kind, files: BTreeMap::new(), read: 0 };
        let mut next: VecDeque<LockOwner> = self.all_against(asked, LogIndex(u64::MAX)).into();
        let mut seen = BTreeSet::new();
        while let Some(by) = next.pop_front() {
            if by == asked.by || search.read > READ_MAX {
                return Ok(true);
            }
            if seen.insert(by) {
                next.extend(search.waited_for(by)?);
            }
        }
        Ok(false)
    }
}

impl<R: Rows + ?Sized> Search<'_, R> {
    /// For whom an owner waits.
    fn waited_for(&mut self, by: LockOwner) -> Result<Vec<LockOwner>, RowFault> {
        let range = KeyRange::prefix(&locks::part_of_owner(Part::Waiting, by, self.kind));
        let waits = self.rows.scan(Table::Lockers, &range, WAITS_OF_ONE_MAX)?;
        self.read += 1 + waits.len();
        let mut found = Vec::new();
        for (key, _) in waits {
            let (ino, _, number) = locks::parse_part(&key)?;
            let wait = LogIndex(number);
            if let Some((file, asked)) = self.file(ino)?.and_then(|f| Some((f, *f.waits.get(&wait)?))) {
                found.extend(file.all_against(asked, wait));
            }
        }
        self.read += found.len();
        Ok(found)
    }

    fn file(&mut self, ino: InodeId) -> Result<Option<&FileLocks>, RowFault> {
        if !self.files.contains_key(&ino) {
            let file = FileLocks::load(self.rows, ino, self.kind)?;
            self.read += file.held.len() + file.waits.len();
            self.files.insert(ino, file);
        }
        Ok(self.files.get(&ino))
    }
}
