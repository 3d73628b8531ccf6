//! [`FoundInode`]: what was there when a precondition did not hold.

use std::fmt;

use bincode::{Decode, Encode};

use crate::InodeId;

/// The inode that a precondition met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundInode {
    /// Its number.
    pub ino: InodeId,
    /// Its version.
    pub version: u64,
    /// Its length in bytes; of a growing file the last recorded one.
    pub length: u64,
}

impl fmt::Display for FoundInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ino, version, length } = self;
        write!(f, "{ino} is there, at version {version}, {length} bytes long")
    }
}

/// What was found, for a message.
pub(super) fn shown(found: Option<&FoundInode>) -> String {
    found.map_or_else(|| "nothing is there".to_owned(), FoundInode::to_string)
}
