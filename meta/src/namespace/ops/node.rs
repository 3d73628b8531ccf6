//! RegisterNode, RetireDisk, RemoveNode, EndRemoval.

use cairn_types::{DiskId, FsError, Incarnation, NodeId};

use crate::keys::disks::{self, DiskRecord};
use crate::keys::removed::{self, RemovedNode};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::Table;

fn answer(node: NodeId) -> Answer {
    Answer { node: Some(node), ..Answer::default() }
}

/// Takes a data node's start over; `record` comes without node, time, retirement and drain.
pub fn register(state: &mut State<'_, '_>, mut record: DiskRecord) -> Outcome<Answer> {
    if record.disk.is_nil() {
        return refuse(FsError::InvalidRequest);
    }
    if let Some(gone) = state.get::<RemovedNode>(&removed::key(record.disk))? {
        return refuse(FsError::NodeRemoved { node: gone.node });
    }
    match state.get::<DiskRecord>(&disks::key(record.disk))? {
        Some(known) => {
            record.node = known.node;
            record.retired = known.retired;
            record.drain = known.drain;
        }
        None => {
            record.node = state.cluster.next.node;
            state.cluster.next.node = record.node.next();
        }
    }
    record.registered = state.now();
    state.put(disks::key(record.disk), &record);
    Ok(answer(record.node))
}

/// Nothing new is placed on the disk from here on.
pub fn retire(state: &mut State<'_, '_>, disk: DiskId) -> Outcome<Answer> {
    let Some(mut record) = state.get::<DiskRecord>(&disks::key(disk))? else {
        return refuse(FsError::NotFound);
    };
    record.retired = true;
    state.put(disks::key(disk), &record);
    Ok(answer(record.node))
}

/// The node's disk never comes back. `incarnation` is the process that was found silent.
pub fn remove(state: &mut State<'_, '_>, node: NodeId, incarnation: Incarnation) -> Outcome<Answer> {
    if state.removal_of(node)?.is_some() {
        return Ok(answer(node));
    }
    let Some(record) = state.disk_of(node)? else { return refuse(FsError::NotFound) };
    if record.incarnation != incarnation {
        return refuse(FsError::InvalidRequest);
    }
    let removed = RemovedNode { disk: record.disk, node, at: state.now(), struck: None };
    state.put(removed::key(record.disk), &removed);
    Ok(answer(node))
}

/// Nothing names the removed node any more: of it stays that it was removed.
pub fn end_removal(state: &mut State<'_, '_>, node: NodeId) -> Outcome<Answer> {
    let Some(mut removed) = state.removal_of(node)? else { return refuse(FsError::NotFound) };
    if removed.struck.is_none() {
        removed.struck = Some(state.now());
        state.put(removed::key(removed.disk), &removed);
        state.delete(Table::Disks, disks::key(removed.disk));
    }
    Ok(answer(node))
}
