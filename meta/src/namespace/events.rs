//! Events: what an entry did, written down by the entry itself, so that every server holds the same
//! ones; and the oldest removed, a few at a time.

use cairn_types::limits::{EVENT_ANCESTORS_MAX, ROWS_PER_ENTRY_MAX};
use cairn_types::{FsError, Inode, InodeId, LogIndex};

use super::error::{NamespaceError, Outcome, refuse};
use super::state::{State, Way};
use super::walk;
use crate::keys::counters::{self, EventCounter};
use crate::keys::events::{self, EventKind, EventRow, Site};
use crate::keys::places::{self, Place};
use crate::keys::{self, RowFault};
use crate::store::{Rows, Table};

/// Events beyond those to be kept at which some are removed: a scan for so many, not for each.
const EXCESS_MIN: u64 = 64;
/// Events that one entry removes, at most, unless it brings more itself.
const TRIM_MAX: usize = 256;

impl State<'_, '_> {
    /// A name in a directory, and what lies above it now.
    pub fn site(&mut self, parent: InodeId, name: &[u8]) -> Result<Site, RowFault> {
        let above = self.way(parent)?.map(|way| way.above.clone()).unwrap_or_default();
        Ok(Site { parent, name: name.to_vec(), above })
    }

    /// Where a directory is, and what lies above it; `None` when it is in no directory.
    pub fn way(&mut self, dir: InodeId) -> Result<Option<&Way>, RowFault> {
        if self.last_way.as_ref().is_none_or(|way| way.dir != dir) {
            let Some(place) = walk::place(&*self.txn, dir)? else { return Ok(None) };
            let (mut at, mut above) = (place.parent, Vec::new());
            while at != InodeId(0) && above.len() < EVENT_ANCESTORS_MAX {
                above.push(at);
                if at == InodeId::ROOT {
                    break;
                }
                let Some(place) = self.get::<Place>(&places::key(at))? else { break };
                at = place.parent;
            }
            self.last_way = Some(Way { dir, place, above });
        }
        Ok(self.last_way.as_ref())
    }

    /// Tells what happened to the name of an inode, as it is after it.
    pub fn tell(&mut self, parent: InodeId, name: &[u8], inode: &Inode, what: EventKind) -> Outcome<()> {
        let site = self.site(parent, name)?;
        self.tell_at(site, inode, what);
        Ok(())
    }

    /// As [`State::tell`], of a place that is known.
    pub fn tell_at(&mut self, site: Site, inode: &Inode, what: EventKind) {
        let event = EventRow { ino: inode.ino, kind: inode.kind, version: inode.version, site, what };
        self.events.push(event);
    }

    /// Tells what happened to an inode, at its primary name. Of an unlinked file there is nobody to tell.
    pub fn tell_of(&mut self, inode: &Inode, what: EventKind) -> Outcome<()> {
        if inode.nlink == 0 {
            return Ok(());
        }
        let place: Option<Place> = self.get(&places::key(inode.ino))?;
        let Some(place) = place else { return refuse(FsError::Stale) };
        self.tell(place.parent, &place.name, inode, what)
    }

    /// Rows that telling will cost: each event, one that it drives out in time, and their counter.
    pub fn rows_of_events(&self) -> usize {
        if self.events.is_empty() { 0 } else { 2 * self.events.len() + 1 }
    }

    /// Writes what was told, and removes some of the oldest when there are too many.
    pub fn write_events(&mut self) -> Result<(), RowFault> {
        let told = std::mem::take(&mut self.events);
        if told.is_empty() {
            return Ok(());
        }
        let known: Option<EventCounter> = self.get(counters::EVENTS_KEY)?;
        let mut counter = known.unwrap_or(EventCounter { first: self.index, first_number: 0, kept: 0 });
        for (number, event) in (0u16..).zip(&told) {
            self.put(events::key(self.index, number), event);
            counter.kept += 1;
        }
        let excess = counter.kept.saturating_sub(self.bounds.events_kept);
        if excess >= EXCESS_MIN {
            let room = ROWS_PER_ENTRY_MAX.saturating_sub(self.txn.rows_touched() + 2);
            let most = TRIM_MAX.max(told.len()).min(room);
            self.drop_oldest(&mut counter, usize::try_from(excess).unwrap_or(most).min(most))?;
        }
        self.put(counters::EVENTS_KEY.to_vec(), &counter);
        Ok(())
    }

    fn drop_oldest(&mut self, counter: &mut EventCounter, count: usize) -> Result<(), RowFault> {
        for (key, _) in self.txn.scan(Table::Events, &events::kept(counter), count)? {
            let (index, number) = events::parse(&key)?;
            (counter.first, counter.first_number) = (index, number + 1);
            counter.kept = counter.kept.saturating_sub(1);
            self.delete(Table::Events, key);
        }
        Ok(())
    }
}

/// What is kept of the stream of changes; `None` before the first.
///
/// # Errors
/// A fault of the store.
pub fn counter(rows: &dyn Rows) -> Result<Option<EventCounter>, RowFault> {
    keys::get(rows, counters::EVENTS_KEY)
}

/// An event, and where in the log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The entry that brought it.
    pub index: LogIndex,
    /// Its number among that entry's.
    pub number: u16,
    /// What it says.
    pub event: EventRow,
}

/// The events of some entries, all of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of the log.
    pub events: Vec<Told>,
    /// All up to this entry are told.
    pub upto: LogIndex,
}

/// Refuses to tell what changed after the entry `after`, when not all of it is kept.
///
/// # Errors
/// [`FsError::Compacted`] names the oldest entry that is kept.
pub fn check_kept(rows: &dyn Rows, after: LogIndex, applied: LogIndex) -> Outcome<()> {
    // A state of a build that wrote no events has none of what came before its first.
    let oldest = counter(rows)?.map_or(LogIndex(applied.0.saturating_add(1)), |counter| counter.oldest());
    if after < applied && after.0.saturating_add(1) < oldest.0 {
        return refuse(FsError::Compacted { oldest });
    }
    Ok(())
}

/// What changed after the entry `after` in a state that has applied all up to `applied`: about
/// `limit` events at most, but always those of one entry.
///
/// # Errors
/// As [`check_kept`].
pub fn page(rows: &dyn Rows, after: LogIndex, applied: LogIndex, limit: usize) -> Outcome<Page> {
    check_kept(rows, after, applied)?;
    if after >= applied {
        return Ok(Page { events: Vec::new(), upto: after });
    }
    let from = LogIndex(after.0 + 1);
    let mut events = read(rows, from, applied, limit.saturating_add(1))?;
    let Some(next) = events.get(limit).map(|told| told.index) else {
        return Ok(Page { events, upto: applied });
    };
    events.retain(|told| told.index < next);
    if events.is_empty() {
        return Ok(Page { events: read(rows, next, next, ROWS_PER_ENTRY_MAX)?, upto: next });
    }
    Ok(Page { events, upto: LogIndex(next.0.saturating_sub(1)) })
}

fn read(rows: &dyn Rows, from: LogIndex, until: LogIndex, limit: usize) -> Result<Vec<Told>, RowFault> {
    let found = keys::scan::<EventRow>(rows, &events::between(from, until), limit)?;
    let told = found.into_iter().map(|(key, event)| {
        let (index, number) = events::parse(&key)?;
        Ok(Told { index, number, event })
    });
    told.collect()
}

/// True while a path leads to the inode.
///
/// # Errors
/// A fault of the store.
pub fn is_reachable(rows: &dyn Rows, ino: InodeId) -> Result<bool, RowFault> {
    // One of further names may lead there, whatever became of the first.
    if let Some((_, inode)) = walk::inode(rows, ino)?
        && !inode.is_dir()
        && inode.nlink > 1
    {
        return Ok(true);
    }
    match walk::is_under(rows, ino, InodeId::ROOT) {
        Ok(reachable) => Ok(reachable),
        // Too deep to climb, as far as one looked.
        Err(NamespaceError::Refused(FsError::TooLarge)) => Ok(true),
        Err(NamespaceError::Refused(_)) => Ok(false),
        Err(NamespaceError::Fault(fault)) => Err(fault),
    }
}
