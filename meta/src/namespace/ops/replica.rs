//! AddHolder, DropReplica.

use cairn_types::{ChunkId, FsError, NodeId};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

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
