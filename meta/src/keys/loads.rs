//! `counters` "load": [`LoadRecord`], while a dump is being loaded, or what was loaded is taken out.

use bincode::{Decode, Encode};
use cairn_types::{ClusterId, Inode, LogIndex};

use super::Record;
use super::counters::Counts;
use crate::store::Table;

/// The row's key.
pub const KEY: &[u8] = b"load";

/// Which dump it is: another one is not gone on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LoadId {
    /// The cluster that was dumped.
    pub cluster: ClusterId,
    /// The last entry that the dumped state had applied.
    pub log_index: LogIndex,
    /// Facts in the dump.
    pub facts: u64,
    /// CRC32C of all its lines but the last.
    pub crc32c: u32,
}

/// A load that is under way. While the row is there clients change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoadRecord {
    /// What is loaded.
    pub load: LoadId,
    /// Facts that are in the state.
    pub loaded: u64,
    /// What was loaded is being taken out again.
    pub discarding: bool,
    /// The root as it was before.
    pub root: Inode,
    /// The counts as they were before.
    pub counts: Counts,
    /// The row that was taken out last: its table's place among those of a load, a byte, and its key.
    /// The next step need not pass what is gone.
    pub last: Vec<u8>,
}

impl Record for LoadRecord {
    const TABLE: Table = Table::Counters;
}
