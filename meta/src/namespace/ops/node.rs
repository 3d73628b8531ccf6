//! RegisterNode, RetireDisk.

use cairn_types::{DiskId, FsError, NodeId};

use crate::keys::disks::{self, DiskRecord};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

fn answer(node: NodeId) -> Answer {
    Answer { node: Some(node), ..Answer::default() }
}

/// Takes a data node's start over; `record` comes without node, time and retirement.
pub fn register(state: &mut State<'_, '_>, mut record: DiskRecord) -> Outcome<Answer> {
    if record.disk.is_nil() {
        return refuse(FsError::InvalidRequest);
    }
    match state.get::<DiskRecord>(&disks::key(record.disk))? {
        Some(known) => {
            record.node = known.node;
            record.retired = known.retired;
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
