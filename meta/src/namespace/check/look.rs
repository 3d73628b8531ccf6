//! [`Look`]: what a step of a check reads with, and [`Cursor`], a scan that goes on in the next step.

use cairn_types::{Inode, InodeId};

use super::counts::Tally;
use super::{CheckBounds, Finding};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::places::{self, Place};
use crate::keys::trees::Branch;
use crate::keys::{Record, orphans};
use crate::store::{KeyRange, Row, Rows, StoreFault, Table};

/// Directories that are climbed to find a ring, at most.
const CLIMB_MAX: usize = 1 << 20;
/// Directories that are climbed to one that is unlinked, at most: those of a mount alone are unlinked
/// with what is in them, and none is as deep.
const ORPHANED_DEPTH_MAX: usize = 4096;
/// Branches of removed trees that are read at once.
const BRANCHES_AT_ONCE: usize = 1024;

/// A part of the check.
pub(super) trait Pass: Send + Sync {
    /// What it looks at, for people.
    fn name(&self) -> &'static str;

    /// Reads some rows; true when there are none left.
    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault>;
}

/// What a step reads with.
pub(super) struct Look<'r> {
    pub rows: &'r dyn Rows,
    pub bounds: CheckBounds,
    pub findings: &'r mut Vec<Finding>,
    pub tally: &'r mut Tally,
    pub scanned: u64,
}

/// What is at a key.
pub(in crate::namespace) enum At<R> {
    Nothing,
    /// Bytes that are no such record: the pass over its table says so.
    Unreadable,
    Record(R),
}

impl<R> At<R> {
    /// True when there is nothing.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// The record, when it can be read.
    pub fn record(self) -> Option<R> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }

    /// True unless there is a record and it is not as `wanted`: what cannot be read may be.
    pub fn holds_readable(self, wanted: impl FnOnce(R) -> bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Unreadable => true,
            Self::Record(record) => wanted(record),
        }
    }
}

impl Look<'_> {
    /// Notes what is wrong.
    pub fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// What is at a key.
    pub fn at<R: Record>(&self, key: &[u8]) -> Result<At<R>, StoreFault> {
        at(self.rows, key)
    }

    /// True when there is a row.
    pub fn has(&self, table: Table, key: &[u8]) -> Result<bool, StoreFault> {
        Ok(self.rows.get(table, key)?.is_some())
    }

    /// True when a range has a row.
    pub fn any(&self, table: Table, range: &KeyRange) -> Result<bool, StoreFault> {
        Ok(!self.rows.scan(table, range, 1)?.is_empty())
    }

    /// The record of a scanned row, or a finding.
    pub fn read<R: Record>(&mut self, key: &[u8], bytes: &[u8]) -> Option<R> {
        let record = R::from_bytes(key, bytes).ok();
        if record.is_none() {
            self.unreadable(R::TABLE, key);
        }
        record
    }

    /// A number in a scanned row's key, or a finding.
    pub fn number(&mut self, table: Table, key: &[u8], at: usize) -> Option<u64> {
        let number = crate::keys::u64_at(table, key, at).ok();
        if number.is_none() {
            self.unreadable(table, key);
        }
        number
    }

    /// Notes a row that cannot be read.
    pub fn unreadable(&mut self, table: Table, key: &[u8]) {
        self.found(Finding::Undecodable { table: table.name().to_owned(), key: key.to_vec() });
    }

    /// The inode and where its primary link is; `Nothing` when either row is missing or the two do
    /// not fit. One that has lost its place is somewhere, and cannot be read.
    pub fn inode(&self, ino: InodeId) -> Result<At<(Place, Inode)>, StoreFault> {
        let found = inode(self.rows, ino)?;
        if found.is_absent() && self.tally.unplaced.contains(&ino) { Ok(At::Unreadable) } else { Ok(found) }
    }

    /// The unlinked inode.
    pub fn orphan(&self, ino: InodeId) -> Result<At<Inode>, StoreFault> {
        Ok(match self.at::<orphans::Orphan>(&orphans::key(ino))? {
            At::Record(orphan) => At::Record(orphan.inode),
            At::Unreadable => At::Unreadable,
            At::Nothing => At::Nothing,
        })
    }

    /// The inode that has a name, or may be held without one.
    pub fn reachable(&self, ino: InodeId) -> Result<At<Inode>, StoreFault> {
        Ok(match self.inode(ino)? {
            At::Record((_, inode)) => At::Record(inode),
            At::Unreadable => At::Unreadable,
            At::Nothing => match self.at::<orphans::Orphan>(&orphans::key(ino))? {
                At::Record(orphan) if orphan.since.is_some() => At::Record(orphan.inode),
                At::Unreadable => At::Unreadable,
                _ => At::Nothing,
            },
        })
    }

    /// The inode, or the unlinked one.
    pub fn known(&self, ino: InodeId) -> Result<At<Inode>, StoreFault> {
        Ok(match self.inode(ino)? {
            At::Record((_, inode)) => At::Record(inode),
            At::Unreadable => At::Unreadable,
            At::Nothing => self.orphan(ino)?,
        })
    }

    /// True when the inode hangs under an unlinked one.
    pub fn is_orphaned(&self, ino: InodeId) -> Result<bool, StoreFault> {
        is_orphaned(self.rows, ino)
    }
}

/// What is at a key.
pub(in crate::namespace) fn at<R: Record>(rows: &dyn Rows, key: &[u8]) -> Result<At<R>, StoreFault> {
    Ok(match rows.get(R::TABLE, key)? {
        None => At::Nothing,
        Some(bytes) => R::from_bytes(key, &bytes).map_or(At::Unreadable, At::Record),
    })
}

/// The inode and where its primary link is; `Nothing` when the two rows do not fit.
pub(in crate::namespace) fn inode(rows: &dyn Rows, ino: InodeId) -> Result<At<(Place, Inode)>, StoreFault> {
    let place = match at::<Place>(rows, &places::key(ino))? {
        At::Record(place) => place,
        At::Unreadable => return Ok(At::Unreadable),
        At::Nothing => return Ok(At::Nothing),
    };
    Ok(match at::<NodeRow>(rows, &nodes::key(place.parent, &place.name))? {
        At::Record(NodeRow::Inode(inode)) if inode.ino == ino => At::Record((place, inode)),
        At::Unreadable => At::Unreadable,
        _ => At::Nothing,
    })
}

/// The directory that an inode's place names; `None` for one without a place and for the root.
fn above(rows: &dyn Rows, ino: InodeId) -> Result<Option<InodeId>, StoreFault> {
    if ino == InodeId::ROOT {
        return Ok(None);
    }
    Ok(at::<Place>(rows, &places::key(ino))?.record().map(|place| place.parent))
}

/// True when an inode is unlinked, or hangs under one that is, or is of a removed tree.
pub(in crate::namespace) fn is_orphaned(rows: &dyn Rows, ino: InodeId) -> Result<bool, StoreFault> {
    let mut at = ino;
    for _ in 0..ORPHANED_DEPTH_MAX {
        if rows.get(Table::Orphans, &orphans::key(at))?.is_some() {
            return Ok(true);
        }
        match above(rows, at)? {
            Some(parent) => at = parent,
            None => return is_branch(rows, at),
        }
    }
    Ok(false)
}

/// True for a directory of a removed tree that is being emptied: no name leads to it, and its own go.
pub(in crate::namespace) fn is_branch(rows: &dyn Rows, ino: InodeId) -> Result<bool, StoreFault> {
    if ino == InodeId::ROOT {
        return Ok(false);
    }
    let mut range = KeyRange::default();
    loop {
        let found = rows.scan(Table::Branches, &range, BRANCHES_AT_ONCE)?;
        let ended = found.len() < BRANCHES_AT_ONCE;
        for (key, bytes) in found {
            if Branch::from_bytes(&key, &bytes).is_ok_and(|branch| branch.directory == ino) {
                return Ok(true);
            }
            range.from = [key.as_slice(), &[0]].concat();
        }
        if ended {
            return Ok(false);
        }
    }
}

/// The least directory of the ring that an inode is itself part of, when it is: what climbs from it
/// comes back to it. Two climb, one at double the pace, and meet in a ring, so that nothing is
/// remembered.
pub(in crate::namespace) fn ring_of(rows: &dyn Rows, ino: InodeId) -> Result<Option<InodeId>, StoreFault> {
    let (mut slow, mut fast) = (ino, ino);
    for _ in 0..CLIMB_MAX {
        for _ in 0..2 {
            match above(rows, fast)? {
                Some(parent) => fast = parent,
                None => return Ok(None),
            }
        }
        slow = above(rows, slow)?.unwrap_or(slow);
        if fast == slow {
            return round(rows, ino, slow);
        }
    }
    Ok(None)
}

/// Goes once around the ring that `on` is part of: the ring's least member, when `ino` is one.
fn round(rows: &dyn Rows, ino: InodeId, on: InodeId) -> Result<Option<InodeId>, StoreFault> {
    let (mut at, mut least, mut member) = (on, on, on == ino);
    for _ in 0..CLIMB_MAX {
        match above(rows, at)? {
            Some(parent) => at = parent,
            None => return Ok(None),
        }
        least = least.min(at);
        member |= at == ino;
        if at == on {
            return Ok(member.then_some(least));
        }
    }
    Ok(None)
}

/// A scan of a table that goes on where the last step left it.
pub(super) struct Cursor {
    table: Table,
    range: KeyRange,
}

impl Cursor {
    /// All of a table.
    pub fn all(table: Table) -> Self {
        Self::of(table, KeyRange::default())
    }

    /// A range of a table.
    pub fn of(table: Table, range: KeyRange) -> Self {
        Self { table, range }
    }

    /// Some rows, and true when they are the last.
    pub fn next(&mut self, look: &mut Look<'_>) -> Result<(Vec<Row>, bool), StoreFault> {
        let limit = look.bounds.rows_per_step.max(1);
        let rows = look.rows.scan(self.table, &self.range, limit)?;
        look.scanned += rows.len() as u64;
        if let Some((key, _)) = rows.last() {
            self.range.from.clone_from(key);
            self.range.from.push(0);
        }
        let ended = rows.len() < limit;
        Ok((rows, ended))
    }

    /// As [`Cursor::next`], of at most `most` rows.
    pub fn next_within(&mut self, look: &mut Look<'_>, most: usize) -> Result<(Vec<Row>, bool), StoreFault> {
        let bounds = look.bounds;
        look.bounds.rows_per_step = bounds.rows_per_step.min(most.max(1));
        let next = self.next(look);
        look.bounds = bounds;
        next
    }
}
