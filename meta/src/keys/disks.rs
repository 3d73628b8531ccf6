//! `disks`: disk → [`DiskRecord`].

use bincode::{Decode, Encode};
use cairn_types::{DiskId, Incarnation, LogIndex, NodeId, Timestamp, codec};

use super::{Record, RowFault};
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
    /// The zone that it says it is in; empty: none.
    pub zone: String,
    /// The machine that it says it is on; empty: the boot id tells.
    pub host: String,
    /// An operator has it drained.
    pub drain: Option<Drain>,
}

/// A data node leaves: it takes no new chunks, and what it has goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Drain {
    /// The state's time when it began.
    pub since: Timestamp,
    /// The entry that began it, or the last one that named the node in a chunk after that: it was
    /// placed before.
    pub named: LogIndex,
    /// The state's time when no chunk named it any more; `None` until then.
    pub done: Option<Timestamp>,
}

/// Format 1: the fields up to `registered`, in their order.
type Unzoned = (DiskId, NodeId, String, Incarnation, [u8; 16], u64, String, bool, Timestamp);

impl Record for DiskRecord {
    const TABLE: Table = Table::Disks;
    const FORMAT: u8 = 2;

    /// One that says nothing more is written as it ever was: older servers have the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        if !self.zone.is_empty() || !self.host.is_empty() || self.drain.is_some() {
            return codec::encode(Self::FORMAT, self);
        }
        let d = self.clone();
        let before: Unzoned = (
            d.disk,
            d.node,
            d.address,
            d.incarnation,
            d.boot_id,
            d.capacity_bytes,
            d.version,
            d.retired,
            d.registered,
        );
        codec::encode(1, &before)
    }

    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        let damaged = |_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() };
        if bytes.first() != Some(&1) {
            return codec::decode(Self::FORMAT, bytes).map_err(damaged);
        }
        let before: Unzoned = codec::decode(1, bytes).map_err(damaged)?;
        let (disk, node, address, incarnation, boot_id, capacity_bytes, version, retired, registered) =
            before;
        let (zone, host, drain) = (String::new(), String::new(), None);
        Ok(Self {
            disk,
            node,
            address,
            incarnation,
            boot_id,
            capacity_bytes,
            version,
            retired,
            registered,
            zone,
            host,
            drain,
        })
    }
}

/// The row's key.
#[must_use]
pub fn key(disk: DiskId) -> Vec<u8> {
    disk.0.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::samples;

    /// The line `disks` of golden.txt, as it was in format 1.
    const BEFORE: &str = include_str!("disks-before-zones.txt");

    #[test]
    fn a_disk_of_format_1_is_read_and_written_as_it_was() {
        let before = BEFORE.trim();
        let bytes: Vec<u8> = (0..before.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&before[at..at + 2], 16).unwrap())
            .collect();
        let disk = DiskRecord::from_bytes(b"k", &bytes).unwrap();
        let unzoned = DiskRecord { zone: String::new(), host: String::new(), drain: None, ..samples::disk() };
        assert_eq!(disk, unzoned);
        assert_eq!(disk.to_bytes(), bytes);
        assert!(DiskRecord::from_bytes(b"k", &bytes[..bytes.len() - 1]).is_err());
        for more in [
            DiskRecord { zone: "z".into(), ..unzoned.clone() },
            DiskRecord { host: "h".into(), ..unzoned.clone() },
            DiskRecord { drain: samples::disk().drain, ..unzoned },
        ] {
            assert_eq!(more.to_bytes()[0], 2);
            assert_eq!(DiskRecord::from_bytes(b"k", &more.to_bytes()).unwrap(), more);
        }
    }
}
