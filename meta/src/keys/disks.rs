//! `disks`: disk → [`DiskRecord`].

use bincode::{Decode, Encode};
use cairn_types::{DiskId, Incarnation, NodeId, Timestamp};

use super::Record;
use crate::store::Table;

/// A data node, known by the disk that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DiskRecord {
    /// The disk.
    pub disk: DiskId,
    /// The node that serves it; never another one.
    pub node: NodeId,
    /// Where the node listens, `host:port`.
    pub address: String,
    /// The node's newest process incarnation.
    pub incarnation: Incarnation,
    /// The boot id of its machine.
    pub boot_id: [u8; 16],
    /// Bytes it may keep.
    pub capacity_bytes: u64,
    /// Its build.
    pub version: String,
    /// A write or fsync failed there: nothing new is placed on it.
    pub retired: bool,
    /// The state's time when it last registered.
    pub registered: Timestamp,
}

impl Record for DiskRecord {
    const TABLE: Table = Table::Disks;
}

/// The row's key.
#[must_use]
pub fn key(disk: DiskId) -> Vec<u8> {
    disk.0.to_vec()
}
