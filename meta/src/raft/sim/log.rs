//! [`ForgetfulLog`]: a Raft log in memory. A crash keeps what was synced, and of the writes after it
//! the first few or none, as RocksDB's write-ahead log does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::lie::Lie;
use super::life::{Forgets, Life, Point};
use crate::raft::log_disk::{LogDisk, LogError, LogStart};
use crate::raft::record::{self, EntryRecord, LogIdRecord, VoteRecord};

/// What the log holds.
#[derive(Clone, Default)]
pub struct Image {
    pub entries: BTreeMap<u64, Bytes>,
    pub vote: Option<VoteRecord>,
    committed: Option<LogIdRecord>,
    pub purged: Option<LogIdRecord>,
}

#[derive(Clone)]
enum Write {
    Append(Vec<(u64, Bytes)>),
    Truncate(u64),
    Purge(LogIdRecord),
    Vote(VoteRecord),
    Committed(Option<LogIdRecord>),
}

impl Image {
    fn take(&mut self, write: &Write) {
        match write {
            Write::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Write::Truncate(from) => drop(self.entries.split_off(from)),
            Write::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Committed(committed) => self.committed = *committed,
        }
    }

    /// The term of the entry at `index`.
    pub fn term(&self, index: u64) -> Option<u64> {
        let bytes = self.entries.get(&index)?;
        Some(record::decode::<EntryRecord>(bytes).unwrap().id.term)
    }
}

/// The platter: it outlives the process.
#[derive(Default)]
pub struct Platter {
    synced: Image,
    current: Image,
    unsynced: Vec<Write>,
    /// The fsync under way covers so many of them.
    covered: Option<usize>,
}

impl Platter {
    pub fn current(&self) -> &Image {
        &self.current
    }
}

/// The log of one life.
pub struct ForgetfulLog {
    life: Arc<Life>,
    platter: Arc<Mutex<Platter>>,
    lie: Option<Lie>,
}

impl ForgetfulLog {
    pub fn open(life: &Arc<Life>, platter: &Arc<Mutex<Platter>>, lie: Option<Lie>) -> Arc<Self> {
        let log = Arc::new(Self { life: Arc::clone(life), platter: Arc::clone(platter), lie });
        let forgets: Arc<dyn Forgets> = log.clone();
        life.joins(Arc::downgrade(&forgets));
        log
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, point: Point, write: Write) -> Result<(), LogError> {
        let done = self.life.reach(point, || {
            let mut platter = self.platter();
            platter.current.take(&write);
            platter.unsynced.push(write);
        });
        done.map_err(|_| LogError::Broken)
    }

    /// An fsync begins: it covers what was written up to here.
    pub fn begin_sync(&self) {
        let mut platter = self.platter();
        platter.covered = Some(platter.unsynced.len());
    }

    /// Whether an fsync that ends without having synced is what `what` waits for.
    pub fn lies(&self, what: Lie) -> bool {
        self.lie == Some(what)
    }
}

impl Forgets for ForgetfulLog {
    fn forget(&self) {
        let mut platter = self.platter();
        let written = platter.unsynced.len() as u64;
        let kept = self.life.world.roll(|dice| match dice.below(3) {
            0 => 0,
            1 => written,
            _ => dice.below(written + 1),
        });
        let unsynced = std::mem::take(&mut platter.unsynced);
        unsynced.iter().take(kept as usize).for_each(|write| platter.synced.take(write));
        platter.covered = None;
        platter.current = platter.synced.clone();
        let last = platter.synced.entries.keys().next_back().copied().unwrap_or(0);
        drop(platter);
        self.life
            .world
            .tell(|| format!("  of {written} unsynced writes {kept} are kept; log ends at {last}"));
    }
}

impl LogDisk for ForgetfulLog {
    fn load(&self) -> Result<LogStart, LogError> {
        let platter = self.platter();
        let Image { entries, vote, committed, purged } = &platter.current;
        let last = entries.values().next_back().map(|bytes| record::decode::<EntryRecord>(bytes).unwrap().id);
        Ok(LogStart { vote: *vote, committed: *committed, purged: *purged, last })
    }

    fn append(&self, entries: &[(u64, Bytes)]) -> Result<(), LogError> {
        self.write(Point::Append, Write::Append(entries.to_vec()))
    }

    fn truncate(&self, from: u64) -> Result<(), LogError> {
        self.write(Point::Truncate, Write::Truncate(from))
    }

    fn purge(&self, upto: LogIdRecord) -> Result<(), LogError> {
        self.write(Point::Purge, Write::Purge(upto))?;
        self.platter().covered = None;
        self.sync()
    }

    fn save_vote(&self, vote: &VoteRecord) -> Result<(), LogError> {
        self.write(Point::Vote, Write::Vote(*vote))
    }

    fn save_committed(&self, committed: Option<LogIdRecord>) -> Result<(), LogError> {
        self.write(Point::Committed, Write::Committed(committed))
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<EntryRecord>, LogError> {
        let (platter, mut found, mut bytes) = (self.platter(), Vec::new(), 0);
        let mut expected = None;
        if range.is_empty() {
            return Ok(found);
        }
        for (index, row) in platter.current.entries.range(range) {
            if !found.is_empty() && bytes + row.len() > bytes_max {
                break;
            }
            if expected.is_some_and(|at| at != *index) {
                return Err(LogError::Hole { index: index - 1 });
            }
            expected = Some(index + 1);
            bytes += row.len();
            found.push(record::decode(row).unwrap());
        }
        Ok(found)
    }

    fn sync(&self) -> Result<(), LogError> {
        let done = self.life.reach(Point::Sync, || {
            let mut platter = self.platter();
            let covered = platter.covered.take().unwrap_or(platter.unsynced.len());
            let covered = covered.min(platter.unsynced.len());
            let rest = platter.unsynced.split_off(covered);
            let synced = std::mem::replace(&mut platter.unsynced, rest);
            synced.iter().for_each(|write| platter.synced.take(write));
        });
        done.map_err(|_| LogError::Broken)
    }
}
