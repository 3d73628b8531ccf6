//! The data nodes, by their disks: which there are, and which will never return.

use cairn_types::{DiskId, FsError, NodeId};

use super::error::{Outcome, refuse};
use super::state::State;
use crate::keys::chunks::PlacedReplica;
use crate::keys::disks::{self, DiskRecord};
use crate::keys::removed::{self, RemovedNode};
use crate::keys::{self, RowFault};
use crate::store::KeyRange;

/// Data nodes of a cluster, at most, that a scan takes.
pub const NODES_MAX: usize = 10_000;

impl State<'_, '_> {
    /// The data node's disk, unless no chunk names the node any more since it was removed.
    pub fn disk_of(&self, node: NodeId) -> Result<Option<DiskRecord>, RowFault> {
        let disks = keys::scan::<DiskRecord>(&*self.txn, &KeyRange::default(), NODES_MAX)?;
        Ok(disks.into_iter().map(|(_, disk)| disk).find(|disk| disk.node == node))
    }

    /// The data node's removal.
    pub fn removal_of(&self, node: NodeId) -> Result<Option<RemovedNode>, RowFault> {
        let gone = keys::scan::<RemovedNode>(&*self.txn, &KeyRange::default(), NODES_MAX)?;
        Ok(gone.into_iter().map(|(_, removed)| removed).find(|removed| removed.node == node))
    }

    /// True when the disk's node was removed.
    pub fn is_removed(&self, disk: DiskId) -> Result<bool, RowFault> {
        Ok(self.get::<RemovedNode>(&removed::key(disk))?.is_some())
    }

    /// A chunk is to name the disk's node. A draining one is not left yet, then: it was chosen before.
    pub fn note_named(&mut self, disk: DiskId) -> Result<(), RowFault> {
        let Some(mut record) = self.get::<DiskRecord>(&disks::key(disk))? else { return Ok(()) };
        let index = self.index;
        if let Some(drain) = record.drain.as_mut() {
            (drain.named, drain.done) = (index, None);
            self.put(disks::key(disk), &record);
        }
        Ok(())
    }

    /// The data nodes whose copies are not counted on: drained or being drained, and removed.
    pub fn leaving(&self) -> Result<Vec<NodeId>, RowFault> {
        let disks = keys::scan::<DiskRecord>(&*self.txn, &KeyRange::default(), NODES_MAX)?;
        let gone = keys::scan::<RemovedNode>(&*self.txn, &KeyRange::default(), NODES_MAX)?;
        let draining = disks.into_iter().filter(|(_, disk)| disk.drain.is_some()).map(|(_, disk)| disk.node);
        Ok(draining.chain(gone.into_iter().map(|(_, removed)| removed.node)).collect())
    }

    /// The data node's disk and incarnation, for a chunk that shall name it.
    pub fn placed(&mut self, node: NodeId) -> Outcome<PlacedReplica> {
        let Some(disk) = self.disk_of(node)? else { return refuse(FsError::InvalidRequest) };
        if self.is_removed(disk.disk)? {
            return refuse(FsError::NodeRemoved { node });
        }
        self.note_named(disk.disk)?;
        Ok(PlacedReplica { node, disk: disk.disk, incarnation: disk.incarnation })
    }
}
