//! BeginSeal, FinishSeal, SealPlanned, AcceptLoss: the end of a chunk is decided once, here.

use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{
    Chain, ChunkId, Epoch, Extent, ExtentSource, FsError, InodeId, NodeId, Timestamp, WriterMark,
};

use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState, Sealed};
use crate::keys::events::EventKind;
use crate::keys::writers::{self, WriterRow};
use crate::namespace::chunks::LiveChanges;
use crate::namespace::error::{NamespaceError, Outcome, refuse};
use crate::namespace::mounted::Changed;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::Table;

/// What a round of R5, or a close record, decided.
pub struct Decision<'d> {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch that it must be in.
    pub epoch: Epoch,
    /// Its length.
    pub length: u64,
    /// The chain there.
    pub chain: Chain,
    /// The last sequence of each writer.
    pub marks: &'d [WriterMark],
    /// Wall time of the last record.
    pub mtime: Timestamp,
}

fn answer(chunk: ChunkRecord) -> Outcome<Answer> {
    Ok(Answer { chunk: Some(chunk), ..Answer::default() })
}

/// Open → Sealing by compare-and-set on the epoch. What is past Open stays as it is.
pub fn begin(state: &mut State<'_, '_>, chunk: ChunkId, epoch: Epoch) -> Outcome<Answer> {
    let record = state.chunk(chunk)?;
    if record.state == ChunkState::Open && record.epoch != epoch {
        return refuse(FsError::ChunkState { chunk });
    }
    answer(state.begin_seal(chunk)?)
}

/// Sealing → Sealed, by what the replicas answered or by what an operator accepted.
pub fn finish(state: &mut State<'_, '_>, decision: &Decision<'_>, holders: &[NodeId]) -> Outcome<Answer> {
    decide(state, decision, ChunkState::Sealing, Some(holders))
}

/// Open → Sealed: every replica holds the close record.
pub fn planned(state: &mut State<'_, '_>, decision: &Decision<'_>) -> Outcome<Answer> {
    decide(state, decision, ChunkState::Open, None)
}

fn decide(
    state: &mut State<'_, '_>,
    decision: &Decision<'_>,
    from: ChunkState,
    holders: Option<&[NodeId]>,
) -> Outcome<Answer> {
    let chunk = decision.chunk;
    let before = state.chunk(chunk)?;
    if let Some(sealed) = &before.sealed {
        // The same decision again is a repeat whose answer was lost.
        let same = sealed.length == decision.length && sealed.chain == decision.chain;
        return if same { answer(before) } else { refuse(FsError::ChunkState { chunk }) };
    }
    if before.state != from || before.epoch != decision.epoch {
        return refuse(FsError::ChunkState { chunk });
    }
    let mut after = before.clone();
    let holders = match holders {
        Some(holders) => holders.to_vec(),
        None => before.replicas.iter().map(|r| r.node).collect(),
    };
    if decision.length > CHUNK_BYTES_MAX || holders.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    for node in &holders {
        if before.replicas.iter().all(|r| r.node != *node) {
            after.replicas.push(state.placed(*node)?);
        }
    }
    state.check_sealed_extents(&before, decision.length);
    after.state = ChunkState::Sealed;
    after.sealed = Some(Sealed {
        length: decision.length,
        chain: decision.chain,
        holders,
        marks: decision.marks.to_vec(),
        mtime: decision.mtime,
        at: state.now(),
    });
    if let ChunkOwner::Tail { ino, base } = before.owner {
        let lives = settle_tail(state, ino, base, decision)?;
        after.live_bytes = if lives { decision.length } else { 0 };
        after.extent_end = after.live_bytes;
    }
    state.put_chunk(Some(&before), &after)?;
    state.discard_spare(chunk)?;
    answer(after)
}

/// Commits a sealed tail to its file; false when the file is gone.
fn settle_tail(state: &mut State<'_, '_>, ino: InodeId, base: u64, decision: &Decision<'_>) -> Outcome<bool> {
    let Some((_, mut inode)) = walk::inode(&*state.txn, ino)? else { return Ok(false) };
    if inode.tail.is_none_or(|tail| tail.chunk != decision.chunk) {
        return Ok(false);
    }
    inode.tail = None;
    if decision.length > 0 {
        let source = ExtentSource::Chunk { chunk: decision.chunk, offset: 0 };
        let extent = Extent { file_offset: base, length: decision.length, source };
        let mut live = LiveChanges::new();
        state.fix_home(&inode)?;
        state.lay(ino, &extent, &mut live)?;
        // The caller writes this chunk's own live bytes with its seal.
        live.remove(&decision.chunk);
        state.apply_live(live)?;
        inode.size = inode.size.max(extent.end());
        // A data node's clock may be ahead of the state's time, which ctime follows.
        inode.mtime = inode.mtime.max(decision.mtime.min(state.now()));
        state.content_changed(&mut inode)?;
        state.change_inode(&mut inode)?;
        state.note_file(&inode, Changed::Content)?;
        if !is_in_removed_tree(state, ino)? {
            state.tell_of(&inode, EventKind::Content)?;
        }
    } else {
        state.note_inode(&mut inode)?;
    }
    for mark in decision.marks {
        keep_mark(state, ino, mark)?;
    }
    Ok(true)
}

/// True for a file of a removed tree that somebody may have open: of it there is nobody to tell.
fn is_in_removed_tree(state: &State<'_, '_>, ino: InodeId) -> Outcome<bool> {
    match walk::inode_by_number(&*state.txn, ino) {
        Ok(seen) => Ok(seen.is_some_and(|inode| inode.nlink == 0)),
        // Too deep to climb: a seal goes on.
        Err(NamespaceError::Refused(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Keeps a decided sequence as long as its writer's session lives.
fn keep_mark(state: &mut State<'_, '_>, ino: InodeId, mark: &WriterMark) -> Outcome<()> {
    if !state.session_lives(mark.writer.session())? {
        return Ok(());
    }
    let key = writers::key(ino, mark.writer);
    let known: Option<WriterRow> = state.get(&key)?;
    if known.is_none_or(|row| row.sequence < mark.sequence) {
        state.put(key, &WriterRow { sequence: mark.sequence, offset: mark.offset });
        state.mark(Table::Writing, writers::writing_key(mark.writer, ino));
    }
    Ok(())
}
