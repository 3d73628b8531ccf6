//! `trees`: ino → [`RemovedTree`], and `branches`: (ino, place in the stack) → [`Branch`].
//!
//! A removed directory goes with all below it, in steps. What is left to be done is a stack of
//! directories that have lost their names and whose own names are not all gone: of a tree of any
//! depth and width a step reads and writes a few rows of it.

use bincode::{Decode, Encode};
use cairn_types::{Inode, InodeId, Timestamp};

use super::Record;
use super::places::Place;
use crate::store::Table;

/// A directory that was removed with all below it, which is not all gone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RemovedTree {
    /// The directory as it was.
    pub inode: Inode,
    /// Where it was.
    pub place: Place,
    /// The state's time when it was removed.
    pub removed: Timestamp,
    /// Names below it that are gone.
    pub purged: u64,
    /// Branches in its stack; at least 1.
    pub height: u64,
}

/// A directory of a removed tree that no name leads to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Branch {
    /// The directory.
    pub directory: InodeId,
    /// Its names up to this one are gone; nobody makes new ones.
    pub after: Vec<u8>,
}

impl Record for RemovedTree {
    const TABLE: Table = Table::Trees;
}

impl Record for Branch {
    const TABLE: Table = Table::Branches;
}

/// The key in `trees`.
#[must_use]
pub fn key(top: InodeId) -> Vec<u8> {
    top.0.to_be_bytes().to_vec()
}

/// The key in `branches` of the `nth` directory of a tree's stack, counted from 0.
#[must_use]
pub fn branch_key(top: InodeId, nth: u64) -> Vec<u8> {
    [top.0.to_be_bytes(), nth.to_be_bytes()].concat()
}
