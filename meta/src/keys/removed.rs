//! `removed`: disk → [`RemovedNode`]. A row stays for ever: its disk never comes back.

use bincode::{Decode, Encode};
use cairn_types::{DiskId, NodeId, Timestamp};

use super::Record;
use super::chunks::ChunkRecord;
use crate::store::Table;

/// A data node of which an operator said that its disk will never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RemovedNode {
    /// The disk.
    pub disk: DiskId,
    /// The node that served it.
    pub node: NodeId,
    /// The state's time when it was removed.
    pub at: Timestamp,
    /// The state's time when no chunk named it any more; `None` until then.
    pub struck: Option<Timestamp>,
}

impl Record for RemovedNode {
    const TABLE: Table = Table::Removed;
}

/// The row's key.
#[must_use]
pub fn key(disk: DiskId) -> Vec<u8> {
    disk.0.to_vec()
}

/// How a removed node stands in a chunk's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The record does not name it.
    Absent,
    /// It can be struck: others hold the bytes, or S3 does, or nobody needs them.
    Superfluous,
    /// Not yet: the chunk's end is not decided, or the upload of a dead chunk is under way.
    Unsettled,
    /// It is the only holder of bytes that are nowhere else. They are lost, and the record says so.
    Last,
}

/// How a removed node stands in `record`.
#[must_use]
pub fn standing(record: &ChunkRecord, node: NodeId) -> Standing {
    if record.replicas.iter().all(|r| r.node != node) && !record.is_holder(node) {
        return Standing::Absent;
    }
    let Some(sealed) = &record.sealed else { return Standing::Unsettled };
    if record.is_dead() {
        let alone = record.replicas.iter().all(|r| r.node == node);
        let uploading = alone && record.upload.is_some();
        return if uploading { Standing::Unsettled } else { Standing::Superfluous };
    }
    let alone = sealed.holders.as_slice() == [node];
    if alone && record.place.is_none() && sealed.length > 0 { Standing::Last } else { Standing::Superfluous }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::chunks::{ChunkState, PlacedReplica};
    use crate::keys::samples;

    const GONE: NodeId = NodeId(101);
    const OTHER: NodeId = NodeId(102);

    /// A live chunk that is not in S3, held by `holders`.
    fn held_by(holders: &[NodeId]) -> ChunkRecord {
        let mut record = samples::chunk();
        let placed = record.replicas[0];
        record.replicas = [GONE, OTHER].map(|node| PlacedReplica { node, ..placed }).to_vec();
        record.sealed.as_mut().expect("it is sealed").holders = holders.to_vec();
        (record.place, record.upload) = (None, None);
        record
    }

    #[test]
    fn only_what_is_settled_and_held_elsewhere_or_by_nobody_s_need_is_struck() {
        let both = held_by(&[OTHER, GONE]);
        assert_eq!(standing(&both, GONE), Standing::Superfluous);
        assert_eq!(standing(&both, NodeId(103)), Standing::Absent);
        assert_eq!(standing(&held_by(&[OTHER]), GONE), Standing::Superfluous, "a replica that is no holder");
        let last = held_by(&[GONE]);
        assert_eq!(standing(&last, GONE), Standing::Last);
        let in_s3 = ChunkRecord { place: samples::chunk().place, ..last.clone() };
        assert_eq!(standing(&in_s3, GONE), Standing::Superfluous);
        let mut empty = last.clone();
        empty.sealed.as_mut().expect("it is sealed").length = 0;
        assert_eq!(standing(&empty, GONE), Standing::Superfluous);
        let open = ChunkRecord { state: ChunkState::Open, sealed: None, ..both };
        assert_eq!(standing(&open, GONE), Standing::Unsettled);
        let mut dead = ChunkRecord { live_bytes: 0, ..last };
        assert_eq!(standing(&dead, GONE), Standing::Superfluous);
        dead.upload = samples::chunk().upload;
        assert_eq!(standing(&dead, GONE), Standing::Superfluous, "another replica keeps the record");
        dead.replicas.truncate(1);
        assert_eq!(standing(&dead, GONE), Standing::Unsettled);
    }
}
