//! Runs of small extents of a file: what is there, and whether it still is. Pure reads, for the entries
//! that merge them and for the leader that finds them.

use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ExtentSource, FileKind, InodeId};

use super::command::ExtentRun;
use super::walk;
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::contents::{self, ContentId};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::intents::{MergePiece, MergeRun};
use crate::keys::{self, RowFault};
use crate::store::Rows;

/// Extents that one entry merges, at most: each is its own row and those of its chunk and its pack.
pub const MERGE_EXTENTS_MAX: usize = 512;

/// True for a file whose extents may be merged: a regular one that is there and is no mount's.
///
/// # Errors
/// A fault of the store.
pub fn may_be_merged(rows: &dyn Rows, ino: InodeId) -> Result<bool, RowFault> {
    let found = walk::inode(rows, ino)?;
    Ok(found.is_some_and(|(_, inode)| inode.kind == FileKind::File && inode.mount.is_none()))
}

/// The sources of a run's extents, as the state has them: exactly so many, one after the other, each in a
/// chunk that is in S3. `None` when it is otherwise.
///
/// # Errors
/// A fault of the store.
pub fn pieces(rows: &dyn Rows, run: &ExtentRun) -> Result<Option<Vec<MergePiece>>, RowFault> {
    let Some(pieces) = extents_of(rows, run)?.map(|(_, pieces)| pieces) else { return Ok(None) };
    for piece in &pieces {
        let record: Option<ChunkRecord> = keys::get(rows, &chunks::key(piece.chunk))?;
        let end = piece.offset.checked_add(piece.length);
        let stored = |record: &ChunkRecord| {
            record.place.is_some() && record.sealed_length().is_some_and(|length| end <= Some(length))
        };
        if !record.is_some_and(|record| stored(&record)) {
            return Ok(None);
        }
    }
    Ok(Some(pieces))
}

/// The content that a run's extents lie under, while they are exactly as the run was found and the file is
/// one that may be merged.
///
/// # Errors
/// A fault of the store.
pub fn stands(rows: &dyn Rows, run: &MergeRun) -> Result<Option<ContentId>, RowFault> {
    let extents = u32::try_from(run.pieces.len()).unwrap_or(u32::MAX);
    let asked = ExtentRun { ino: run.ino, offset: run.base, length: run.length(), extents };
    let found = extents_of(rows, &asked)?.filter(|(_, pieces)| *pieces == run.pieces);
    Ok(found.map(|(content, _)| content))
}

/// Where a run lies and what it consists of; `None` when there is no such run.
fn extents_of(rows: &dyn Rows, run: &ExtentRun) -> Result<Option<(ContentId, Vec<MergePiece>)>, RowFault> {
    let most = usize::try_from(run.extents).unwrap_or(usize::MAX);
    let end = run.offset.checked_add(run.length);
    let Some(end) = end.filter(|_| run.length <= CHUNK_BYTES_MAX && most <= MERGE_EXTENTS_MAX) else {
        return Ok(None);
    };
    if !may_be_merged(rows, run.ino)? {
        return Ok(None);
    }
    // All of it under one content: no extent goes beyond the end of its part.
    let spans = contents::of(rows, run.ino)?.spans(run.offset, end);
    let [span] = spans.as_slice() else { return Ok(None) };
    let range = extents::starting_in(span.content, run.offset, end);
    let found = keys::scan::<ExtentRow>(rows, &range, most + 1)?;
    if found.len() != most {
        return Ok(None);
    }
    let (mut at, mut pieces) = (run.offset, Vec::with_capacity(most));
    for (key, row) in found {
        let extent = extents::extent(&key, row)?;
        let ExtentSource::Chunk { chunk, offset } = extent.source else { return Ok(None) };
        if extent.file_offset != at {
            return Ok(None);
        }
        at = extent.end();
        pieces.push(MergePiece { chunk, offset, length: extent.length });
    }
    Ok((at == end).then_some((span.content, pieces)))
}
