//! A file's content: extents that supersede one another, and the live bytes of chunks.

use cairn_types::limits::{CHUNK_BYTES_MAX, FILE_BYTES_MAX, ROWS_PER_ENTRY_MAX};
use cairn_types::{ChunkId, Extent, ExtentSource, FsError, Inode, InodeId, SessionId};

use super::chunks::LiveChanges;
use super::error::{Outcome, refuse};
use super::state::State;
use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use crate::keys::contents::{self, ContentId, Span};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{self, RowFault};
use crate::store::{Rows, Table};

fn row(extent: &Extent) -> ExtentRow {
    ExtentRow { length: extent.length, source: extent.source.clone() }
}

/// The source `by` bytes further on.
pub(super) fn further(source: &ExtentSource, by: u64) -> ExtentSource {
    match source {
        ExtentSource::Chunk { chunk, offset } => ExtentSource::Chunk { chunk: *chunk, offset: offset + by },
        ExtentSource::Object { object, offset } => {
            ExtentSource::Object { object: object.clone(), offset: offset + by }
        }
    }
}

/// Notes that `length` bytes of a chunk came to life, or went.
pub(super) fn note(live: &mut LiveChanges, source: &ExtentSource, length: u64, adds: bool) {
    if let ExtentSource::Chunk { chunk, .. } = source {
        let by = i64::try_from(length).unwrap_or(i64::MAX);
        *live.entry(*chunk).or_default() += if adds { by } else { -by };
    }
}

impl State<'_, '_> {
    /// Makes `[start, end)` of a file a gap.
    pub fn carve(&mut self, ino: InodeId, start: u64, end: u64, live: &mut LiveChanges) -> Outcome<()> {
        for span in contents::of(&*self.txn, ino)?.spans(start, end) {
            self.carve_span(ino, span, live)?;
        }
        Ok(())
    }

    fn carve_span(&mut self, ino: InodeId, span: Span, live: &mut LiveChanges) -> Outcome<()> {
        let Span { content, from: start, until: end } = span;
        self.trim_before(ino, content, start, end, live)?;
        let range = extents::starting_in(content, start, end);
        let rows = keys::scan::<ExtentRow>(&*self.txn, &range, ROWS_PER_ENTRY_MAX)?;
        if rows.len() == ROWS_PER_ENTRY_MAX {
            return refuse(FsError::TooLarge);
        }
        for (key, row) in rows {
            let old = extents::extent(&key, row)?;
            self.trim((ino, content), &old, start, end, live)?;
        }
        Ok(())
    }

    /// Keeps what lies outside `[start, end)` of the extent that begins before `start`.
    pub fn trim_before(
        &mut self,
        ino: InodeId,
        content: ContentId,
        start: u64,
        end: u64,
        live: &mut LiveChanges,
    ) -> Result<(), RowFault> {
        let (first, here) = (extents::key(content, 0), extents::key(content, start));
        if let Some((key, bytes)) = self.txn.last_before(Table::Extents, &first, &here)? {
            let old = extents::extent(&key, keys::Record::from_bytes(&key, &bytes)?)?;
            if old.end() > start {
                self.trim((ino, content), &old, start, end, live)?;
            }
        }
        Ok(())
    }

    /// Keeps of one extent what lies outside `[start, end)`; of a file that is being written to its bucket also
    /// the rest, elsewhere.
    fn trim(
        &mut self,
        (ino, content): (InodeId, ContentId),
        old: &Extent,
        start: u64,
        end: u64,
        live: &mut LiveChanges,
    ) -> Result<(), RowFault> {
        note(live, &old.source, old.length, false);
        let (from, until) = (old.file_offset.max(start), old.end().min(end));
        self.keep_range(ino, &further(&old.source, from - old.file_offset), until - from, live)?;
        if old.file_offset < start {
            let kept = ExtentRow { length: start - old.file_offset, source: old.source.clone() };
            note(live, &kept.source, kept.length, true);
            self.put(extents::key(content, old.file_offset), &kept);
        } else {
            self.delete(Table::Extents, extents::key(content, old.file_offset));
        }
        if old.end() > end {
            let kept =
                ExtentRow { length: old.end() - end, source: further(&old.source, end - old.file_offset) };
            note(live, &kept.source, kept.length, true);
            self.put(extents::key(content, end), &kept);
        }
        Ok(())
    }

    /// Lays an extent over what is there; joins it to the one before when the bytes follow on.
    pub fn lay(&mut self, ino: InodeId, extent: &Extent, live: &mut LiveChanges) -> Outcome<()> {
        for span in contents::of(&*self.txn, ino)?.spans(extent.file_offset, extent.end()) {
            let source = further(&extent.source, span.from - extent.file_offset);
            let piece = Extent { file_offset: span.from, length: span.until - span.from, source };
            self.carve_span(ino, span, live)?;
            self.lay_under(span.content, &piece, live)?;
        }
        Ok(())
    }

    fn lay_under(
        &mut self,
        content: ContentId,
        extent: &Extent,
        live: &mut LiveChanges,
    ) -> Result<(), RowFault> {
        note(live, &extent.source, extent.length, true);
        let (first, here) = (extents::key(content, 0), extents::key(content, extent.file_offset));
        if let Some((key, bytes)) = self.txn.last_before(Table::Extents, &first, &here)? {
            let mut before = extents::extent(&key, keys::Record::from_bytes(&key, &bytes)?)?;
            let follows =
                before.end() == extent.file_offset && further(&before.source, before.length) == extent.source;
            if follows {
                before.length += extent.length;
                self.put(key, &row(&before));
                return Ok(());
            }
        }
        self.put(here, &row(extent));
        Ok(())
    }

    /// Lays a client's extents over a file's content and grows its size; the caller writes the
    /// inode. The session must hold the chunks.
    pub fn lay_committed(&mut self, session: SessionId, inode: &mut Inode, list: &[Extent]) -> Outcome<()> {
        let mut live = LiveChanges::new();
        for extent in list {
            let end = checked_end(extent)?;
            let ExtentSource::Chunk { chunk, offset } = extent.source else {
                return refuse(FsError::InvalidRequest);
            };
            self.take_range(session, chunk, offset, extent.length)?;
            self.lay(inode.ino, extent, &mut live)?;
            inode.size = inode.size.max(end);
        }
        self.apply_live(live)
    }

    /// Checks that the session holds the chunk and notes how far its bytes are named.
    fn take_range(&mut self, session: SessionId, chunk: ChunkId, offset: u64, length: u64) -> Outcome<()> {
        let Some(before) = self.find_chunk(chunk)? else { return refuse(FsError::ChunkGone { chunk }) };
        let ours = before.held && before.owner == ChunkOwner::Session(session);
        if !ours {
            return refuse(FsError::ChunkGone { chunk });
        }
        let end = offset.checked_add(length).filter(|end| *end <= CHUNK_BYTES_MAX);
        let Some(end) = end else { return refuse(FsError::InvalidRequest) };
        if before.sealed_length().is_some_and(|sealed| end > sealed) {
            return refuse(FsError::ChunkState { chunk });
        }
        if end > before.extent_end {
            let after = ChunkRecord { extent_end: end, ..before.clone() };
            self.put_chunk(Some(&before), &after)?;
        }
        Ok(())
    }

    /// Cuts or lengthens a file; the caller writes the inode.
    pub fn resize(&mut self, inode: &mut Inode, size: u64) -> Outcome<()> {
        if size < inode.size {
            let mut live = LiveChanges::new();
            if !self.cut_off(inode.ino, size, &mut live)? {
                self.carve(inode.ino, size, u64::MAX, &mut live)?;
            }
            self.apply_live(live)?;
        }
        inode.size = size;
        Ok(())
    }

    /// Begins the seal of a file's tail, if it has one. Answers the tail's record.
    pub fn seal_tail(&mut self, inode: &Inode) -> Outcome<Option<ChunkRecord>> {
        match inode.tail {
            Some(tail) => self.begin_seal(tail.chunk).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses what depends on the length of a growing file.
    pub fn settled(&self, inode: &Inode) -> Result<(), FsError> {
        match inode.tail {
            Some(tail) => Err(FsError::TailOpen { chunk: tail.chunk }),
            None => Ok(()),
        }
    }

    /// Notes an extent that a seal found beyond the decided length.
    pub fn check_sealed_extents(&mut self, record: &ChunkRecord, length: u64) {
        debug_assert!(record.state != ChunkState::Sealed);
        if record.extent_end > length {
            self.cluster.counts.extents_beyond_seal += 1;
        }
    }
}

/// The end of an extent of a request, in bounds.
fn checked_end(extent: &Extent) -> Result<u64, FsError> {
    if extent.length == 0 {
        return Err(FsError::InvalidRequest);
    }
    let end = extent.file_offset.checked_add(extent.length).ok_or(FsError::FileTooLarge)?;
    if end > FILE_BYTES_MAX { Err(FsError::FileTooLarge) } else { Ok(end) }
}
