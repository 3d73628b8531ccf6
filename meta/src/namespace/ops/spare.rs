//! PrepareSpare, Roll: the chunk that follows a tail is made before the tail is full, and becomes the tail
//! in the entry that seals the one before it (append protocol R1, R5).

use cairn_types::limits::{CHUNK_BYTES_MAX, FILE_BYTES_MAX};
use cairn_types::{ChunkId, Epoch, FileKind, FsError, Inode, TailRef};

use super::open;
use super::seal::{self, Decision};
use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use crate::keys::spares::{self, SpareRow};
use crate::namespace::error::{NamespaceError, Outcome, refuse};
use crate::namespace::operation::Placement;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::Table;

fn answer(chunk: ChunkRecord) -> Outcome<Answer> {
    Ok(Answer { chunk: Some(chunk), ..Answer::default() })
}

/// Makes the spare of an open tail, or answers the one that it has. Nobody can append to it.
pub fn prepare(
    state: &mut State<'_, '_>,
    tail: ChunkId,
    epoch: Epoch,
    placement: &Placement,
) -> Outcome<Answer> {
    let before = state.chunk(tail)?;
    let ChunkOwner::Tail { ino, base } = before.owner else { return refuse(FsError::InvalidRequest) };
    if before.state != ChunkState::Open || before.epoch != epoch {
        return refuse(FsError::ChunkState { chunk: tail });
    }
    // Its primary is the one that rolls into it.
    if placement.primary != before.primary {
        return refuse(FsError::InvalidRequest);
    }
    if let Some(row) = state.get::<SpareRow>(&spares::key(tail))?
        && let Some(known) = state.find_chunk(row.chunk)?
        && known.state == ChunkState::Spare
    {
        return answer(known);
    }
    let (owner, policy) = (ChunkOwner::Tail { ino, base }, before.policy);
    let nothing = state.activation(cairn_types::Generation(0), Vec::new());
    let spare = state.make_chunk(ChunkState::Spare, owner, policy, Some(placement), nothing)?;
    state.put(spares::key(tail), &SpareRow { chunk: spare.chunk });
    answer(spare)
}

/// Open → Sealed, and the spare is the next tail: one entry. Where it cannot be, the tail is sealed all
/// the same and the spare given up. Answers the sealed chunk.
pub fn roll(state: &mut State<'_, '_>, decision: &Decision<'_>, next: ChunkId) -> Outcome<Answer> {
    let before = state.chunk(decision.chunk)?;
    let key = spares::key(decision.chunk);
    let named = state.get::<SpareRow>(&key)?.is_some_and(|row| row.chunk == next);
    if before.sealed.is_some() || !named {
        // Repeated, or a spare of nobody's: what ends a tail gives its own up.
        return seal::planned(state, decision);
    }
    state.delete(Table::Spares, key);
    let sealed = seal::planned(state, decision)?;
    if !activate(state, &before, next)? {
        state.begin_seal(next)?;
    }
    Ok(sealed)
}

/// Makes a spare the tail of the file whose tail was sealed just now. The generation and the sequences
/// are those of now. False when it may not be the tail.
fn activate(state: &mut State<'_, '_>, before: &ChunkRecord, next: ChunkId) -> Outcome<bool> {
    let spare = state.chunk(next)?;
    let Some(mut inode) = allowed(follows(state, before, &spare))?.flatten() else { return Ok(false) };
    let base = inode.size;
    let marks = open::marks(state, inode.ino)?;
    let after = ChunkRecord {
        state: ChunkState::Open,
        owner: ChunkOwner::Tail { ino: inode.ino, base },
        activation: state.activation(inode.generation, marks),
        ..spare.clone()
    };
    state.put_chunk(Some(&spare), &after)?;
    inode.tail = Some(TailRef { chunk: next, base });
    state.note_inode(&mut inode)?;
    Ok(true)
}

/// The file, if a writer could open this spare as its tail now.
fn follows(state: &mut State<'_, '_>, before: &ChunkRecord, spare: &ChunkRecord) -> Outcome<Option<Inode>> {
    let ChunkOwner::Tail { ino, .. } = before.owner else { return Ok(None) };
    if spare.state != ChunkState::Spare {
        return Ok(None);
    }
    let inode = state.inode(ino)?;
    state.changing(&inode)?;
    state.check_not_removed(spare.policy, &spare.replicas)?;
    let fits = inode.kind == FileKind::File
        && inode.tail.is_none()
        && inode.size <= FILE_BYTES_MAX - CHUNK_BYTES_MAX
        && walk::policy_at(&*state.txn, &inode)? == spare.policy;
    Ok(fits.then_some(inode))
}

/// `None` for what is refused.
fn allowed<T>(outcome: Outcome<T>) -> Outcome<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(NamespaceError::Refused(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}
