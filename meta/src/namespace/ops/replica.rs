//! AddHolder, DropReplica, StrikeReplicas.

use cairn_types::{ChunkId, FsError, NodeId};

use crate::keys::chunks::ChunkRecord;
use crate::keys::removed::{self, Standing};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Chunks from which one entry strikes a node, at most.
pub const STRIKE_MAX: usize = 256;

/// A repaired copy is complete.
pub fn add_holder(state: &mut State<'_, '_>, chunk: ChunkId, node: NodeId) -> Outcome<Answer> {
    let before = state.chunk(chunk)?;
    let mut after = before.clone();
    let Some(sealed) = after.sealed.as_mut() else { return refuse(FsError::ChunkState { chunk }) };
    if !sealed.holders.contains(&node) {
        sealed.holders.push(node);
        let placed = state.placed(node)?;
        after.replicas.retain(|r| r.node != node);
        after.replicas.push(placed);
    }
    state.put_chunk(Some(&before), &after)?;
    Ok(Answer { chunk: Some(after), ..Answer::default() })
}

/// A node has deleted its replica.
pub fn drop_replica(state: &mut State<'_, '_>, chunk: ChunkId, node: NodeId) -> Outcome<Answer> {
    let Some(before) = state.find_chunk(chunk)? else { return Ok(Answer::default()) };
    let mut after = before.clone();
    let dead = before.is_dead();
    let Some(sealed) = after.sealed.as_mut() else { return refuse(FsError::ChunkState { chunk }) };
    if sealed.holders.contains(&node) && !dead {
        return refuse(FsError::ChunkState { chunk });
    }
    sealed.holders.retain(|holder| *holder != node);
    after.replicas.retain(|r| r.node != node);
    if dead && after.replicas.is_empty() {
        state.remove_chunk(&before)?;
        return Ok(Answer::default());
    }
    state.put_chunk(Some(&before), &after)?;
    Ok(Answer { chunk: Some(after), ..Answer::default() })
}

/// Strikes a removed node from chunks, as far as none of them loses its last copy by it.
pub fn strike(state: &mut State<'_, '_>, node: NodeId, chunks: &[ChunkId]) -> Outcome<Answer> {
    if chunks.len() > STRIKE_MAX || state.removal_of(node)?.is_none() {
        return refuse(FsError::InvalidRequest);
    }
    for chunk in chunks {
        let Some(before) = state.find_chunk(*chunk)? else { continue };
        if removed::standing(&before, node) == Standing::Superfluous {
            strike_from(state, &before, node)?;
        }
    }
    Ok(Answer::default())
}

fn strike_from(state: &mut State<'_, '_>, before: &ChunkRecord, node: NodeId) -> Outcome<()> {
    let mut after = before.clone();
    after.replicas.retain(|r| r.node != node);
    if let Some(sealed) = after.sealed.as_mut() {
        sealed.holders.retain(|holder| *holder != node);
    }
    if before.is_dead() && after.replicas.is_empty() {
        state.remove_chunk(before)?;
    } else {
        state.put_chunk(Some(before), &after)?;
    }
    Ok(())
}
