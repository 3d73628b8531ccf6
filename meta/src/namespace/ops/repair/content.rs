//! Sizes of files, and what chunks know of their extents.

use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ChunkId, FsError, InodeId};

use super::record;
use crate::keys::chunks::{self, ChunkRecord, ChunkState};
use crate::keys::contents::{self, ContentRow, DetachedRow};
use crate::keys::events::EventKind;
use crate::keys::extents::{self, ExtentRow};
use crate::namespace::check::{At, at, inode};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{Rows, Table};

/// The end of a file's extents; 0 without any.
pub fn furthest(state: &State<'_, '_>, ino: InodeId) -> Outcome<u64> {
    let row = match at::<ContentRow>(&*state.txn, &contents::key(ino))? {
        At::Nothing => ContentRow::own(ino),
        found => record(found)?,
    };
    for span in row.spans(0, u64::MAX).into_iter().rev() {
        let until = match at::<DetachedRow>(&*state.txn, &contents::detached_key(span.content))? {
            At::Nothing => span.until,
            found => record(found)?.from.min(span.until),
        };
        let (first, end) = (extents::key(span.content, span.from), extents::key(span.content, until));
        if let Some((key, _)) = state.txn.last_before(Table::Extents, &first, &end)? {
            let row: ExtentRow = record(at(&*state.txn, &key)?)?;
            return Ok(extents::extent(&key, row)?.end());
        }
    }
    Ok(0)
}

/// A file gets the size that its extents have.
pub fn lengthen(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<()> {
    let (_, mut found) = record(inode(&*state.txn, ino)?)?;
    state.settled(&found)?;
    let end = furthest(state, ino)?;
    if !found.is_file() || end <= found.size {
        return refuse(FsError::NotFound);
    }
    found.size = end;
    state.change_inode(&mut found)?;
    state.tell_of(&found, EventKind::Content)
}

/// A chunk learns how far extents point into it.
pub fn extent_end(state: &mut State<'_, '_>, chunk: ChunkId, end: u64) -> Outcome<()> {
    let before: ChunkRecord = record(at(&*state.txn, &chunks::key(chunk))?)?;
    if before.extent_end >= end || end > CHUNK_BYTES_MAX {
        return refuse(FsError::NotFound);
    }
    let after = ChunkRecord { extent_end: end, ..before.clone() };
    Ok(state.put_chunk(Some(&before), &after)?)
}

/// A chunk's live bytes become the sum that the check made, if nothing has changed them since.
///
/// Nobody may commit more of a chunk that is sealed and not held: whoever shares its bytes, or lets them
/// go, moves the record and the sum by as much. As long as the record is what it was, so is the sum. One exception is on the safe side: at 0 they cannot fall,
/// so that the sum may be too large; then the next check finds that.
pub fn live_bytes(state: &mut State<'_, '_>, chunk: ChunkId, recorded: u64, counted: u64) -> Outcome<()> {
    let before: ChunkRecord = record(at(&*state.txn, &chunks::key(chunk))?)?;
    if before.state != ChunkState::Sealed || before.held {
        return refuse(FsError::ChunkState { chunk });
    }
    if before.live_bytes != recorded || recorded == counted {
        return refuse(FsError::NotFound);
    }
    let after = ChunkRecord { live_bytes: counted, ..before.clone() };
    Ok(state.put_chunk(Some(&before), &after)?)
}
