//! `events`: log index, number within the entry → [`EventRow`].
//!
//! The newest are kept, as many as `counters` "events" says; what it calls `first` is the oldest.

use bincode::{Decode, Encode};
use cairn_types::limits::EVENT_ANCESTORS_MAX;
use cairn_types::{FileKind, InodeId, LogIndex, MountId};

use super::counters::EventCounter;
use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// A name in a directory, and the directories above that one when it was written down.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Site {
    /// The directory; 0 for the root's own.
    pub parent: InodeId,
    /// The name; empty for the root's.
    pub name: Vec<u8>,
    /// What lies above `parent`, the nearest first, the root last: [`EVENT_ANCESTORS_MAX`] at most.
    pub above: Vec<InodeId>,
}

impl Site {
    /// True when the name lay in `dir`, or with `recursive` anywhere below it. Where the directories
    /// above were too many to be written down, it is taken to lie below any: a watcher gets too
    /// much there, never too little.
    #[must_use]
    pub fn lies_in(&self, dir: InodeId, recursive: bool) -> bool {
        let cut = self.above.len() == EVENT_ANCESTORS_MAX && self.above.last() != Some(&InodeId::ROOT);
        self.parent == dir || recursive && (cut || self.above.contains(&dir))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventKind {
    /// The name came to be: of a new inode, or one more of a file.
    Created,
    /// The name went.
    Removed {
        /// It was the inode's last one.
        last: bool,
    },
    /// The name became another.
    Renamed {
        /// The one that it became.
        to: Site,
    },
    /// Two names were swapped.
    Exchanged {
        /// The other name: it leads to the event's inode now.
        to: Site,
        /// What the other name led to: it is at the event's site now.
        other: InodeId,
        /// Its kind.
        other_kind: FileKind,
        /// Its version after it.
        other_version: u64,
    },
    /// The bytes or the length changed.
    Content,
    /// Attributes changed.
    Attributes,
    /// The directory's own policy changed.
    Policy,
    /// The directory became a mount's root.
    MountAdded {
        /// The mount.
        mount: MountId,
    },
    /// The directory is no mount's root any more: it is gone with all below it.
    MountRemoved {
        /// The mount.
        mount: MountId,
        /// The empty directory that has its name now.
        fresh: InodeId,
    },
    /// Names in the directory, or files there, became what the mount's bucket holds.
    Imported,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EventRow {
    /// What changed.
    pub ino: InodeId,
    /// Its kind.
    pub kind: FileKind,
    /// Its version after it.
    pub version: u64,
    /// The name that the event is about: for what happened to the inode itself, its primary one.
    pub site: Site,
    /// What happened.
    pub what: EventKind,
}

impl EventRow {
    /// The name that the inode has after a rename or an exchange.
    #[must_use]
    pub fn to(&self) -> Option<&Site> {
        match &self.what {
            EventKind::Renamed { to } | EventKind::Exchanged { to, .. } => Some(to),
            _ => None,
        }
    }

    /// True when it concerns `ino` itself.
    #[must_use]
    pub fn is_of(&self, ino: InodeId) -> bool {
        self.ino == ino || matches!(self.what, EventKind::Exchanged { other, .. } if other == ino)
    }

    /// True when a watch of `ino` is told: it changed itself, or a name in it, with `recursive`
    /// anywhere below it. A rename counts by both its names.
    #[must_use]
    pub fn concerns(&self, ino: InodeId, recursive: bool) -> bool {
        let lies = |site: &Site| site.lies_in(ino, recursive);
        self.is_of(ino) || lies(&self.site) || self.to().is_some_and(lies)
    }
}

impl Record for EventRow {
    const TABLE: Table = Table::Events;
}

/// The row's key.
#[must_use]
pub fn key(index: LogIndex, number: u16) -> Vec<u8> {
    [index.0.to_be_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// The entry and the number in a key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn parse(key: &[u8]) -> Result<(LogIndex, u16), RowFault> {
    let index = super::u64_at(Table::Events, key, 0)?;
    let number = key.get(8..10).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    let number = number.ok_or_else(|| RowFault::Damaged { table: Table::Events, key: key.to_vec() })?;
    Ok((LogIndex(index), number))
}

/// The events of the entries `from` up to `until`, both among them.
#[must_use]
pub fn between(from: LogIndex, until: LogIndex) -> KeyRange {
    let until = until.0.checked_add(1).map(|next| key(LogIndex(next), 0));
    KeyRange { from: key(from, 0), until }
}

/// All that is kept. It begins at the first row that is, so that no scan meets those removed.
#[must_use]
pub fn kept(counter: &EventCounter) -> KeyRange {
    KeyRange { from: key(counter.first, counter.first_number), until: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(parent: u64, above: Vec<u64>) -> Site {
        let above = above.into_iter().map(InodeId).collect();
        Site { parent: InodeId(parent), name: b"n".to_vec(), above }
    }

    #[test]
    fn a_name_lies_in_its_directory_and_below_those_above() {
        let deep = site(9, vec![7, 5, 1]);
        assert!(deep.lies_in(InodeId(9), false) && deep.lies_in(InodeId(9), true));
        assert!(deep.lies_in(InodeId(5), true) && !deep.lies_in(InodeId(5), false));
        assert!(!deep.lies_in(InodeId(6), true));
        let root = site(0, vec![]);
        assert!(!root.lies_in(InodeId::ROOT, true), "the root is no name in itself");
    }

    #[test]
    fn what_lies_too_deep_to_be_told_is_taken_to_lie_below_any() {
        let most = EVENT_ANCESTORS_MAX as u64;
        let told = site(900, (0..most).map(|n| most - n).collect());
        assert_eq!(told.above.last(), Some(&InodeId::ROOT));
        assert!(!told.lies_in(InodeId(500), true));
        let cut = site(900, (0..most).map(|n| 100 + n).collect());
        assert!(cut.lies_in(InodeId(500), true) && !cut.lies_in(InodeId(500), false));
    }
}
