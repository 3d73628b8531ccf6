//! `orphans`: ino → [`Orphan`].

use bincode::{Decode, Encode};
use cairn_types::{Inode, InodeId, LogIndex, codec};

use super::places::Place;
use super::{Record, RowFault};
use crate::store::Table;

/// An unlinked inode that is not all gone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Orphan {
    /// The inode: as it is while it may be held, as it was when it is not.
    pub inode: Inode,
    /// The entry that took its last name, while a session may hold it; `None`: nobody does, and its
    /// rows are being removed.
    pub since: Option<LogIndex>,
}

/// Format 1: its rows were being removed.
#[derive(Encode, Decode)]
struct Removed {
    inode: Inode,
}

impl Record for Orphan {
    const TABLE: Table = Table::Orphans;
    const FORMAT: u8 = 2;

    /// What nobody holds is written as it ever was: older servers have the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        match self.since {
            Some(_) => codec::encode(Self::FORMAT, self),
            None => codec::encode(1, &Removed { inode: self.inode.clone() }),
        }
    }

    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        let damaged = |_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() };
        if bytes.first() != Some(&1) {
            return codec::decode(Self::FORMAT, bytes).map_err(damaged);
        }
        let Removed { inode } = codec::decode(1, bytes).map_err(damaged)?;
        Ok(Self { inode, since: None })
    }
}

/// The row's key.
#[must_use]
pub fn key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}

/// The directory of files without a name: no inode has this number, and no row.
pub const NOWHERE: InodeId = InodeId(u64::MAX);

/// Where a file that may be held is said to be.
#[must_use]
pub fn place(since: LogIndex) -> Place {
    Place { parent: NOWHERE, name: since.0.to_be_bytes().to_vec() }
}

/// What [`place`] was made of; `None` for the place of a name.
#[must_use]
pub fn since(place: &Place) -> Option<LogIndex> {
    let name = place.name.as_slice().try_into().ok().filter(|_| place.parent == NOWHERE)?;
    Some(LogIndex(u64::from_be_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::samples::inode;

    #[test]
    fn an_orphan_of_format_1_is_read_and_nobody_holds_it() {
        let bytes = codec::encode(1, &Removed { inode: inode() });
        // The line `orphans` of golden.txt, as it was in format 1.
        let before = include_str!("orphans-before-holds.txt").trim();
        let shown: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown, before);
        let orphan = Orphan::from_bytes(b"k", &bytes).unwrap();
        assert_eq!(orphan, Orphan { inode: inode(), since: None });
        assert!(Orphan::from_bytes(b"k", &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_place_of_no_name_is_known_by_its_entry() {
        assert_eq!(since(&place(LogIndex(300))), Some(LogIndex(300)));
        assert_eq!(since(&Place { parent: InodeId(1), name: vec![0; 8] }), None);
    }
}
