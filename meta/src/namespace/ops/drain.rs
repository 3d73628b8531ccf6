//! DrainNode, UndrainNode, ReleaseReplicas, EndDrain: a data node leaves while it lives.

use std::collections::BTreeSet;

use cairn_types::{ChunkId, FsError, LogIndex, NodeId};

use super::replica::STRIKE_MAX;
use crate::keys;
use crate::keys::chunks::ChunkRecord;
use crate::keys::disks::{self, DiskRecord, Drain};
use crate::namespace::disks::NODES_MAX;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::KeyRange;

fn answer(node: NodeId) -> Answer {
    Answer { node: Some(node), ..Answer::default() }
}

/// The disk of a node that was not removed.
fn staying(state: &State<'_, '_>, node: NodeId) -> Outcome<DiskRecord> {
    if state.removal_of(node)?.is_some() {
        return refuse(FsError::NodeRemoved { node });
    }
    let Some(record) = state.disk_of(node)? else { return refuse(FsError::NotFound) };
    Ok(record)
}

/// From here on leaders place nothing on the node.
pub fn begin(state: &mut State<'_, '_>, node: NodeId, needed: u8) -> Outcome<Answer> {
    let mut record = staying(state, node)?;
    if record.drain.is_some() {
        return Ok(answer(node));
    }
    let leaving = state.leaving()?;
    let disks = keys::scan::<DiskRecord>(&*state.txn, &KeyRange::default(), NODES_MAX)?;
    let staying = disks.into_iter().map(|(_, disk)| disk);
    let staying = staying.filter(|d| d.node != node && !d.retired && !leaving.contains(&d.node));
    let addresses: BTreeSet<String> = staying.map(|disk| disk.address).collect();
    if addresses.len() < usize::from(needed) {
        let available = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
        return refuse(FsError::TooFewNodes { available, needed });
    }
    record.drain = Some(Drain { since: state.now(), named: state.index, done: None });
    state.put(disks::key(record.disk), &record);
    Ok(answer(node))
}

/// The node is as any other again.
pub fn undo(state: &mut State<'_, '_>, node: NodeId) -> Outcome<Answer> {
    let mut record = staying(state, node)?;
    if record.drain.take().is_some() {
        state.put(disks::key(record.disk), &record);
    }
    Ok(answer(node))
}

/// The node is no holder any more of those chunks that can do without it.
pub fn release(state: &mut State<'_, '_>, node: NodeId, chunks: &[ChunkId]) -> Outcome<Answer> {
    let drains = state.disk_of(node)?.is_some_and(|disk| disk.drain.is_some());
    if chunks.len() > STRIKE_MAX || !drains {
        return refuse(FsError::InvalidRequest);
    }
    let leaving = state.leaving()?;
    for chunk in chunks {
        let Some(before) = state.find_chunk(*chunk)? else { continue };
        if !can_do_without(&before, node, &leaving) {
            continue;
        }
        let mut after = before.clone();
        if let Some(sealed) = after.sealed.as_mut() {
            sealed.holders.retain(|holder| *holder != node);
        }
        state.put_chunk(Some(&before), &after)?;
    }
    Ok(answer(node))
}

/// True when `node` holds the chunk, and S3 or as many others as it may never go below do as well.
fn can_do_without(record: &ChunkRecord, node: NodeId, leaving: &[NodeId]) -> bool {
    let Some(sealed) = record.sealed.as_ref().filter(|s| s.holders.contains(&node)) else { return false };
    // What is dead goes as a whole.
    if record.is_dead() {
        return false;
    }
    let others = sealed.holders.iter().filter(|holder| **holder != node && !leaving.contains(holder)).count();
    let enough = others >= usize::from(record.policy.min_replicas.max(1));
    enough || record.place.is_some() || sealed.length == 0
}

/// No chunk named the node when all were looked at, and none was placed there since.
pub fn end(state: &mut State<'_, '_>, node: NodeId, seen: LogIndex) -> Outcome<Answer> {
    let mut record = staying(state, node)?;
    let now = state.now();
    let Some(drain) = record.drain.as_mut().filter(|drain| drain.named <= seen) else {
        return refuse(FsError::InvalidRequest);
    };
    if drain.done.is_none() {
        drain.done = Some(now);
        state.put(disks::key(record.disk), &record);
    }
    Ok(answer(node))
}
