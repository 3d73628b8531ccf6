//! OpenChunk, OpenTail, OpenExclusive, ReleaseChunk, RenewGrant.

use cairn_types::limits::{CHUNK_BYTES_MAX, FILE_BYTES_MAX, WRITERS_PER_FILE_MAX};
use cairn_types::{
    ChunkId, Epoch, FileKind, FsError, Generation, Inode, InodeId, Sequence, SessionId, TailRef, WriterId,
    WriterMark,
};

use crate::keys;
use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use crate::keys::writers::{self, WriterRow};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::{Placement, Target};
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::Table;

fn answer(chunk: ChunkRecord) -> Answer {
    Answer { chunk: Some(chunk), ..Answer::default() }
}

/// The file, if it can be appended to.
fn appendable(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<Inode> {
    let inode = state.inode(ino)?;
    match inode.kind {
        FileKind::Directory => return refuse(FsError::IsDirectory),
        FileKind::File => {}
        _ => return refuse(FsError::NotFile),
    }
    state.changing(&inode)?;
    state.may(&Target::ino(ino), &inode, WRITE)?;
    Ok(inode)
}

/// Opens a shared chunk of a session.
pub fn chunk(
    state: &mut State<'_, '_>,
    session: SessionId,
    policy_of: InodeId,
    placement: Option<&Placement>,
) -> Outcome<Answer> {
    let inode = state.inode(policy_of)?;
    state.changing(&inode)?;
    let policy = walk::policy_at(&*state.txn, &inode)?;
    let owner = ChunkOwner::Session(session);
    state.open_chunk(owner, policy, placement, Generation(0), Vec::new()).map(answer)
}

/// Answers the file's open tail, or opens one.
pub fn tail(
    state: &mut State<'_, '_>,
    session: SessionId,
    ino: InodeId,
    (generation, writer): (Generation, WriterId),
    placement: Option<&Placement>,
) -> Outcome<Answer> {
    if writer.session() != session {
        return refuse(FsError::InvalidRequest);
    }
    let mut inode = appendable(state, ino)?;
    let (known, marks) = live_writers(state, inode.ino, writer)?;
    if generation < inode.generation {
        let last_sequence = known.unwrap_or_default().sequence;
        return refuse(FsError::Fenced { generation: inode.generation, last_sequence });
    }
    if generation > inode.generation {
        return refuse(FsError::InvalidRequest);
    }
    let chunk = match inode.tail {
        Some(tail) => {
            let record = state.chunk(tail.chunk)?;
            if record.state != ChunkState::Open {
                return refuse(FsError::ChunkState { chunk: tail.chunk });
            }
            record
        }
        None => open_new(state, &mut inode, placement, marks)?,
    };
    if known.is_none() {
        state.put(writers::key(inode.ino, writer), &WriterRow::default());
        state.mark(Table::Writing, writers::writing_key(writer, inode.ino));
    }
    Ok(Answer { inode: Some(inode), chunk: Some(chunk), ..Answer::default() })
}

/// The marks of all live writers of a file that have appended.
pub fn marks(state: &State<'_, '_>, ino: InodeId) -> Outcome<Vec<WriterMark>> {
    let rows = keys::scan::<WriterRow>(&*state.txn, &writers::of(ino), WRITERS_PER_FILE_MAX)?;
    let mut marks = Vec::new();
    for (key, row) in rows.into_iter().filter(|(_, row)| row.sequence > Sequence(0)) {
        let writer = writers::writer(&key)?;
        marks.push(WriterMark { writer, sequence: row.sequence, offset: row.offset });
    }
    Ok(marks)
}

/// The row of `writer`, and the marks of all live writers that have appended.
fn live_writers(
    state: &State<'_, '_>,
    ino: InodeId,
    writer: WriterId,
) -> Outcome<(Option<WriterRow>, Vec<WriterMark>)> {
    let rows = keys::scan::<WriterRow>(&*state.txn, &writers::of(ino), WRITERS_PER_FILE_MAX + 1)?;
    let count = rows.len();
    let mut known = None;
    let mut marks = Vec::new();
    for (key, row) in rows {
        let id = writers::writer(&key)?;
        if id == writer {
            known = Some(row);
        }
        if row.sequence > Sequence(0) {
            marks.push(WriterMark { writer: id, sequence: row.sequence, offset: row.offset });
        }
    }
    if known.is_none() && count >= WRITERS_PER_FILE_MAX {
        return refuse(FsError::TooManyWriters);
    }
    Ok((known, marks))
}

fn open_new(
    state: &mut State<'_, '_>,
    inode: &mut Inode,
    placement: Option<&Placement>,
    marks: Vec<WriterMark>,
) -> Outcome<ChunkRecord> {
    if inode.size > FILE_BYTES_MAX - CHUNK_BYTES_MAX {
        return refuse(FsError::FileTooLarge);
    }
    let policy = walk::policy_at(&*state.txn, inode)?;
    let owner = ChunkOwner::Tail { ino: inode.ino, base: inode.size };
    let record = state.open_chunk(owner, policy, placement, inode.generation, marks)?;
    inode.tail = Some(TailRef { chunk: record.chunk, base: inode.size });
    state.note_inode(inode)?;
    Ok(record)
}

/// Raises the file's generation; an open tail begins its seal in the same entry.
pub fn exclusive(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<Answer> {
    let mut inode = appendable(state, ino)?;
    inode.generation = inode.generation.next();
    let chunk = state.seal_tail(&inode)?;
    state.note_inode(&mut inode)?;
    let generation = Some(inode.generation);
    Ok(Answer { inode: Some(inode), chunk, generation, ..Answer::default() })
}

/// Gives a session's shared chunk up.
pub fn release(state: &mut State<'_, '_>, session: SessionId, chunk: ChunkId) -> Outcome<Answer> {
    let record = state.chunk(chunk)?;
    if !record.held || record.owner != ChunkOwner::Session(session) {
        return refuse(FsError::ChunkGone { chunk });
    }
    let_go(state, chunk).map(answer)
}

/// Begins the seal of a shared chunk and lets its session go.
pub fn let_go(state: &mut State<'_, '_>, chunk: ChunkId) -> Outcome<ChunkRecord> {
    let before = state.begin_seal(chunk)?;
    let after = ChunkRecord { held: false, ..before.clone() };
    state.put_chunk(Some(&before), &after)?;
    Ok(after)
}

/// Raises an open chunk's grant.
pub fn renew_grant(
    state: &mut State<'_, '_>,
    chunk: ChunkId,
    epoch: Epoch,
    grant_bytes: u64,
) -> Outcome<Answer> {
    let before = state.chunk(chunk)?;
    if before.state != ChunkState::Open || before.epoch != epoch {
        return refuse(FsError::ChunkState { chunk });
    }
    let mut after = before.clone();
    let grant = &mut after.activation.grant_bytes;
    *grant = grant_bytes.clamp(*grant, CHUNK_BYTES_MAX);
    state.put_chunk(Some(&before), &after)?;
    Ok(answer(after))
}
