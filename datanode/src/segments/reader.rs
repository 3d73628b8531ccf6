//! [`SegmentReader`]: reads records, from any thread, while the log goes on writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use cairn_proto::frames::buffers;
use cairn_types::limits::CHECKSUM_BLOCK_BYTES;

use super::record::{Location, RecordHeader, header_bytes, payload_matches, stored_bytes};
use crate::disk::DiskFile;

/// Records up to this size are read whole, in one call.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The segment has been recycled since the record was looked up: look it up again.
    #[error("the segment has been recycled")]
    Stale,
    /// The bytes do not match their checksums.
    #[error("the record is damaged")]
    Damaged,
    /// The disk failed.
    #[error("reading failed with errno {0}")]
    Io(i32),
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its header.
    pub header: RecordHeader,
    /// Its verified payload.
    pub payload: Bytes,
}

pub(crate) struct SlotFile {
    pub(crate) file: Arc<dyn DiskFile>,
    /// The segment in it; 0 when it is free.
    pub(crate) sequence: AtomicU64,
}

/// Reads records of a log.
#[derive(Clone, Default)]
pub struct SegmentReader {
    /// Guards the list's growth only: a slot once in it stays.
    slots: Arc<RwLock<Vec<Arc<SlotFile>>>>,
}

impl SegmentReader {
    pub(crate) fn add(&self, file: Arc<dyn DiskFile>) -> Arc<SlotFile> {
        let slot = Arc::new(SlotFile { file, sequence: AtomicU64::new(0) });
        self.slots.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&slot));
        slot
    }

    pub(crate) fn slot(&self, slot: u32) -> Result<Arc<SlotFile>, RecordError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(slot as usize).cloned().ok_or(RecordError::Stale)
    }

    /// The segment now in `slot`, 0 when it is free. Ask it under the lock under which the location
    /// was looked up; the read checks that it has not changed.
    #[must_use]
    pub fn segment(&self, slot: u32) -> u64 {
        self.slot(slot).map_or(0, |s| s.sequence.load(Ordering::Acquire))
    }

    fn read_at(slot: &SlotFile, offset: u64, length: usize) -> Result<Bytes, RecordError> {
        let mut bytes = buffers::filled(length);
        slot.file.read_at(offset, &mut bytes).map_err(|e| RecordError::Io(e.errno()))?;
        let bytes = bytes.freeze();
        buffers::keep(&bytes);
        Ok(bytes)
    }

    /// Runs `read` and turns what it makes of a segment that changed meanwhile into `Stale`.
    fn guarded<T>(
        &self,
        location: Location,
        segment: u64,
        read: impl FnOnce(&SlotFile) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let slot = self.slot(location.slot)?;
        let outcome = read(&slot);
        match slot.sequence.load(Ordering::Acquire) == segment {
            true => outcome,
            false => Err(RecordError::Stale),
        }
    }

    /// The segments in use, oldest first: slot, sequence.
    #[must_use]
    pub fn segments(&self) -> Vec<(u32, u64)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let numbered = slots.iter().zip(0u32..);
        let mut used: Vec<_> = numbered
            .map(|(s, slot)| (slot, s.sequence.load(Ordering::Acquire)))
            .filter(|s| s.1 > 0)
            .collect();
        used.sort_unstable_by_key(|(_, sequence)| *sequence);
        used
    }

    /// The header of the record with `length` bytes of payload at `location` in `segment`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn header(&self, location: Location, segment: u64, length: u32) -> Result<RecordHeader, RecordError> {
        self.guarded(location, segment, |slot| {
            let bytes = Self::read_at(slot, location.offset.into(), header_bytes(length as usize))?;
            let header = RecordHeader::decode(&bytes, segment).map(|(header, _)| header);
            header.filter(|h| h.length == length).ok_or(RecordError::Damaged)
        })
    }

    /// The whole record with `length` bytes of payload at `location` in `segment`, verified.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn record(&self, location: Location, segment: u64, length: u32) -> Result<StoredRecord, RecordError> {
        self.guarded(location, segment, |slot| {
            let bytes = Self::read_at(slot, location.offset.into(), stored_bytes(length as usize))?;
            let (header, blocks) = RecordHeader::decode(&bytes, segment).ok_or(RecordError::Damaged)?;
            let payload = bytes.slice(header_bytes(length as usize)..);
            if header.length != length || !payload_matches(&payload, &blocks) {
                return Err(RecordError::Damaged);
            }
            Ok(StoredRecord { header, payload })
        })
    }

    /// Bytes `[from, until)` of the payload of that record; the blocks they touch are verified.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn range(
        &self,
        location: Location,
        segment: u64,
        length: u32,
        (from, until): (usize, usize),
    ) -> Result<Bytes, RecordError> {
        let payload_bytes = length as usize;
        if payload_bytes <= WHOLE_BYTES_MAX {
            return Ok(self.record(location, segment, length)?.payload.slice(from..until));
        }
        self.guarded(location, segment, |slot| {
            let head_bytes = header_bytes(payload_bytes);
            let head = Self::read_at(slot, location.offset.into(), head_bytes)?;
            let (header, blocks) = RecordHeader::decode(&head, segment).ok_or(RecordError::Damaged)?;
            if header.length != length {
                return Err(RecordError::Damaged);
            }
            let first = from / CHECKSUM_BLOCK_BYTES;
            let last = until.div_ceil(CHECKSUM_BLOCK_BYTES);
            let begin = first * CHECKSUM_BLOCK_BYTES;
            let end = (last * CHECKSUM_BLOCK_BYTES).min(payload_bytes);
            let at = u64::from(location.offset) + (head_bytes + begin) as u64;
            let bytes = Self::read_at(slot, at, end - begin)?;
            if !payload_matches(&bytes, &blocks[first..last]) {
                return Err(RecordError::Damaged);
            }
            Ok(bytes.slice(from - begin..until - begin))
        })
    }

    /// Header bytes, block checksums and payload of a record as they lie, unverified but for the
    /// length: recycling carries damage along, visibly.
    pub(crate) fn raw(
        &self,
        location: Location,
        segment: u64,
        length: u32,
    ) -> Result<(Vec<u32>, Bytes), RecordError> {
        self.guarded(location, segment, |slot| {
            let head = header_bytes(length as usize);
            let bytes = Self::read_at(slot, location.offset.into(), stored_bytes(length as usize))?;
            let blocks = bytes[super::record::HEADER_BYTES..head]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|c| u32::from_le_bytes(*c));
            let blocks = blocks.collect();
            Ok((blocks, bytes.slice(head..)))
        })
    }
}
