//! [`SegmentLog`]: the writing side. One owner; a batch is filled by `push`, written by `write`,
//! durable after `sync`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{Clock, DiskId, Timestamp};

use super::batch::{BATCH_ALIGN, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, Mark};
use super::error::{LogError, WriteFailure};
use super::footer::{ENTRY_BYTES, TRAILER_AREA_BYTES, TRAILER_BYTES, Trailer, decode_entries, encode_entry};
use super::prepare::Preparer;
use super::reader::{SegmentReader, SlotFile};
use super::record::{BlockSums, Location, RecordHeader, stored_bytes};
use super::replay::Entry;
use super::scan::{Collect, SegmentScan};
use super::segment::SEGMENT_HEADER_BYTES;
use super::sync::Syncer;
use crate::disk::{DIRECT_BYTES, Disk, DiskError, DiskFile};

/// Writes end at a multiple of this, so that no page has to be read before it is written.
pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
/// Written behind a small batch that comes to blocks which nothing was written to yet: the first fdatasync of
/// such blocks is a commit of the filesystem's journal as well and takes twice as long, so it is one for many.
static BLANKS: [u8; 512 << 10] = [0; 512 << 10];
/// Batches from this size on go without: the commit is little beside them, and the zeros would be much.
const SMALL_BATCH_BYTES: u64 = 32 << 10;

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// The disk's identity.
    pub disk: DiskId,
    /// Bytes of one segment: 32 KiB to 2 GiB, a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Segments, at most; at least 6.
    pub segments_max: u32,
    /// Make the next segment's file, and wait for long fdatasyncs, on threads of their own.
    pub threads: bool,
}

/// How far down into the reserve a record may go when it needs a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The record that begins a run: takes the last segment, so that a full disk still opens.
    Start,
    /// Fences, seals, drops: leave one.
    Control,
    /// What recycling writes again: leaves two.
    Move,
    /// Appends and creations: leave three.
    Append,
    /// The cache: leaves four.
    Cache,
}

impl Privilege {
    /// Segments that must be free besides the one it takes.
    #[must_use]
    pub fn leaves(self) -> u32 {
        match self {
            Self::Start => 0,
            Self::Control => 1,
            Self::Move => 2,
            Self::Append => 3,
            Self::Cache => 4,
        }
    }
}

/// A segment's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// May be written.
    Free,
    /// Is being written.
    Active,
    /// Is full.
    Full,
    /// Holds records that could not be read: never recycled.
    Stuck,
}

pub(crate) struct Slot {
    pub(crate) shared: Arc<SlotFile>,
    pub(crate) sequence: u64,
    pub(crate) state: SlotState,
    pub(crate) live_bytes: u64,
    /// Its file may have blocks that nothing was written to yet.
    pub(crate) blank: bool,
}

pub(crate) struct Active {
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    pub(crate) end: u32,
    /// All blocks of the file before this offset have been written to.
    pub(crate) touched: u64,
    /// What the page that `end` lies in begins with: a large batch writes it again, to be whole pages. Empty when
    /// that is not known.
    pub(crate) page: Vec<u8>,
    /// The footer's entries so far; none once they would take over an eighth of the segment.
    pub(crate) entries: Option<Vec<u8>>,
}

/// The writing side of a disk's log.
pub struct SegmentLog {
    pub(crate) options: LogOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reader: SegmentReader,
    pub(crate) slots: Vec<Slot>,
    /// Of all slots together: it is asked for after each batch.
    pub(crate) live_bytes: u64,
    pub(crate) free: VecDeque<u32>,
    pub(crate) active: Option<Active>,
    pub(crate) preparer: Preparer,
    pub(crate) syncer: Syncer,
    /// What the fdatasync that is under way makes durable.
    pub(crate) syncing: Option<Mark>,
    pub(crate) batch: BatchBuilder,
    pub(crate) batch_wall: Timestamp,
    pub(crate) next_segment: u64,
    pub(crate) next_batch: u64,
    pub(crate) run: u64,
    pub(crate) durable: Mark,
    pub(crate) unsynced: bool,
    /// A batch of so many bytes is written as whole pages: [`DIRECT_BYTES`].
    pub(crate) whole_pages_bytes: usize,
    pub(crate) failure: Option<WriteFailure>,
}

impl SegmentLog {
    pub(crate) fn empty(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, options: LogOptions) -> Self {
        let preparer = Preparer::new(disk, options.segment_bytes, options.threads);
        let syncer = Syncer::new(Arc::clone(&clock), options.threads);
        Self {
            options,
            clock,
            reader: SegmentReader::default(),
            slots: Vec::new(),
            live_bytes: 0,
            free: VecDeque::new(),
            active: None,
            preparer,
            syncer,
            syncing: None,
            batch: BatchBuilder::default(),
            batch_wall: Timestamp(0),
            next_segment: 1,
            next_batch: 1,
            run: 1,
            durable: Mark::default(),
            unsynced: false,
            whole_pages_bytes: DIRECT_BYTES,
            failure: None,
        }
    }

    /// The reading side.
    #[must_use]
    pub fn reader(&self) -> SegmentReader {
        self.reader.clone()
    }

    /// This opening's number: durable, higher than all before.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Set once a write or an fsync failed.
    #[must_use]
    pub fn failure(&self) -> Option<WriteFailure> {
        self.failure
    }

    /// Segments that can still be taken.
    #[must_use]
    pub fn free_segments(&self) -> u32 {
        self.free.len() as u32 + self.options.segments_max.saturating_sub(self.slots.len() as u32)
    }

    /// Segment files made.
    #[must_use]
    pub fn segments(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Bytes of live records.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes that a segment has for records.
    #[must_use]
    pub fn segment_capacity_bytes(&self) -> u64 {
        self.options.segment_bytes - SEGMENT_HEADER_BYTES - TRAILER_AREA_BYTES
    }

    /// Full segments, oldest first: slot, sequence, live bytes.
    #[must_use]
    pub fn full_segments(&self) -> Vec<(u32, u64, u64)> {
        let full = self.slots.iter().zip(0u32..).filter(|(s, _)| s.state == SlotState::Full);
        let mut list: Vec<_> = full.map(|(s, slot)| (slot, s.sequence, s.live_bytes)).collect();
        list.sort_unstable_by_key(|(_, sequence, _)| *sequence);
        list
    }

    /// Live bytes of each full segment, in no order.
    pub fn full_live_bytes(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter(|s| s.state == SlotState::Full).map(|s| s.live_bytes)
    }

    /// The lowest sequence of a segment that is not free.
    #[must_use]
    pub fn oldest_segment(&self) -> u64 {
        let used = self.slots.iter().filter(|s| s.state != SlotState::Free);
        used.map(|s| s.sequence).min().unwrap_or(0)
    }

    /// The segment in `slot`; 0 when it is free.
    #[must_use]
    pub fn segment_of(&self, slot: u32) -> u64 {
        self.slots.get(slot as usize).map_or(0, |s| s.sequence)
    }

    /// Counts a record at `location` as live.
    pub fn add_live(&mut self, location: Location, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(location.slot as usize) {
            slot.live_bytes += bytes;
            self.live_bytes += bytes;
        }
    }

    /// Counts it no more.
    pub fn drop_live(&mut self, location: Location, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(location.slot as usize) {
            let gone = bytes.min(slot.live_bytes);
            slot.live_bytes -= gone;
            self.live_bytes = self.live_bytes.saturating_sub(gone);
        }
    }

    /// Adds a record to the batch; it is nowhere before [`write`](Self::write). When it does not fit
    /// into the segment, what is in the batch is written and synced first and a new segment begun.
    ///
    /// # Errors
    /// `NoSpace` and `TooLarge` leave the batch as it is; `Failed` ends the log.
    pub fn push(
        &mut self,
        header: &RecordHeader,
        sums: &BlockSums,
        payload: &Bytes,
        privilege: Privilege,
    ) -> Result<Location, LogError> {
        self.alive()?;
        let needed = stored_bytes(payload.len());
        let room = self.segment_capacity_bytes();
        if (needed + BATCH_HEADER_BYTES + ENTRY_BYTES) as u64 + 2 * BATCH_ALIGN > room {
            return Err(LogError::TooLarge);
        }
        // The active segment may have been taken for a record of a higher privilege: it is not for this one.
        if self.free_segments() < privilege.leaves() {
            return Err(LogError::NoSpace);
        }
        if !self.fits(needed) {
            self.rotate(privilege)?;
        }
        if self.batch.body_bytes() + needed > BATCH_BYTES_MAX {
            self.write()?;
        }
        if self.batch.is_empty() {
            self.batch_wall = self.clock.wall();
        }
        let Some(active) = self.active.as_mut() else { return Err(LogError::NoSpace) };
        let at = self.batch.push(active.sequence, header, sums, payload);
        let offset = active.end + (BATCH_HEADER_BYTES + at) as u32;
        let location = Location { slot: active.slot, offset };
        let entry = Entry { header: *header, location, segment: active.sequence, wall: self.batch_wall };
        if let Some(entries) = &mut active.entries {
            encode_entry(&entry, entries);
            if entries.len() as u64 > self.options.segment_bytes / 8 {
                active.entries = None;
            }
        }
        Ok(location)
    }

    /// Bytes of records in the batch being filled.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.batch.body_bytes()
    }

    /// The wall time of the batch being filled.
    #[must_use]
    pub fn batch_wall(&self) -> Timestamp {
        self.batch_wall
    }

    pub(crate) fn alive(&self) -> Result<(), LogError> {
        self.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    pub(crate) fn failed(&mut self, error: &DiskError) -> LogError {
        tracing::error!(%error, "the disk is retired for writing");
        let failure = *self.failure.get_or_insert(error.into());
        failure.into()
    }

    fn fits(&self, needed: usize) -> bool {
        let Some(active) = &self.active else { return false };
        let batch = (BATCH_HEADER_BYTES + self.batch.body_bytes() + needed) as u64;
        let end = (u64::from(active.end) + batch).next_multiple_of(BATCH_ALIGN);
        // Splitting the batch at its bound costs one more header.
        let split = BATCH_ALIGN;
        let footer = active.entries.as_ref().map_or(0, |e| e.len() + ENTRY_BYTES) as u64;
        end + split + footer.next_multiple_of(BATCH_ALIGN) + TRAILER_AREA_BYTES <= self.options.segment_bytes
    }

    /// Writes the batch, if there is one, with one call.
    ///
    /// # Errors
    /// `Failed` ends the log: what the batch held is unknown.
    pub fn write(&mut self) -> Result<(), LogError> {
        self.alive()?;
        let Some(active) = self.active.as_mut().filter(|_| !self.batch.is_empty()) else { return Ok(()) };
        let header = BatchHeader {
            segment: active.sequence,
            batch: self.next_batch,
            run: self.run,
            durable: self.durable,
            body_bytes: self.batch.body_bytes() as u32,
            records: self.batch.records,
            wall: self.batch_wall,
        }
        .encode();
        let written = u64::from(active.end) + (header.len() + self.batch.body_bytes()) as u64;
        let padding = written.next_multiple_of(PAGE_BYTES) - written;
        let large = self.batch.body_bytes() >= self.whole_pages_bytes;
        let page = if large { active.page.as_slice() } else { &[] };
        let mut parts = vec![IoSlice::new(page), IoSlice::new(&header)];
        parts.extend(self.batch.slices().map(IoSlice::new));
        parts.push(IoSlice::new(&ZEROS[..padding as usize]));
        let touched = written + padding;
        if touched > active.touched {
            let blanks = match written - u64::from(active.end) {
                0..SMALL_BATCH_BYTES => {
                    (self.options.segment_bytes - TRAILER_AREA_BYTES).saturating_sub(touched)
                }
                _ => 0,
            };
            let blanks = &BLANKS[..BLANKS.len().min(blanks as usize)];
            parts.push(IoSlice::new(blanks));
            active.touched = touched + blanks.len() as u64;
        }
        let file = &self.slots[active.slot as usize].shared.file;
        let offset = u64::from(active.end) - page.len() as u64;
        if let Err(error) = file.write_at(offset, &parts) {
            return Err(self.failed(&error));
        }
        let end = written.next_multiple_of(BATCH_ALIGN);
        let begin = u64::from(active.end);
        active.page = last_page(&active.page, &parts[1..], begin, end);
        active.end = end as u32;
        let half_full = u64::from(active.end) > self.options.segment_bytes / 2;
        self.next_batch += 1;
        self.unsynced = true;
        self.batch.clear();
        if half_full {
            self.prepare();
        }
        Ok(())
    }

    /// The records of a full segment, from its footer or by a scan.
    ///
    /// # Errors
    /// `Disk` when it cannot be read.
    pub fn entries(&self, slot: u32) -> Result<Vec<Entry>, LogError> {
        let Some(state) = self.slots.get(slot as usize) else { return Ok(Vec::new()) };
        let file = state.shared.file.as_ref();
        let trailer =
            read_trailer(file, self.options.segment_bytes, state.sequence).map_err(LogError::Disk)?;
        if let Some(entries) = trailer.and_then(|t| read_entries(file, &t, slot).transpose()) {
            return entries.map_err(LogError::Disk);
        }
        let mut collect = Collect::default();
        let closed_end = trailer.map(|t| t.end);
        let scan = SegmentScan { file, slot, sequence: state.sequence, closed_end, newest: false };
        scan.run(&mut collect).map_err(LogError::Disk)?;
        Ok(collect.entries)
    }
}

/// The bytes of the page that `end` lies in, up to it: of `before`, which ends at `begin`, and of `parts` behind it.
/// None where they are not all known.
fn last_page(before: &[u8], parts: &[IoSlice<'_>], begin: u64, end: u64) -> Vec<u8> {
    let start = end / PAGE_BYTES * PAGE_BYTES;
    let mut page = Vec::with_capacity(PAGE_BYTES as usize);
    let mut at = begin - before.len() as u64;
    for part in std::iter::once(before).chain(parts.iter().map(|part| &part[..])) {
        let (from, until) = (start.max(at), end.min(at + part.len() as u64));
        if from < until {
            page.extend_from_slice(&part[(from - at) as usize..(until - at) as usize]);
        }
        at += part.len() as u64;
    }
    if page.len() as u64 != end - start {
        page.clear();
    }
    page
}

/// The trailer of `sequence` at a segment's end, if it is there.
pub(crate) fn read_trailer(
    file: &dyn DiskFile,
    segment_bytes: u64,
    sequence: u64,
) -> Result<Option<Trailer>, DiskError> {
    let mut bytes = [0; TRAILER_BYTES];
    file.read_at(segment_bytes - TRAILER_AREA_BYTES, &mut bytes)?;
    let fits = |t: &Trailer| u64::from(t.end) <= segment_bytes;
    Ok(Trailer::decode(&bytes).filter(|t| t.segment == sequence || sequence == 0).filter(fits))
}

/// The entries that `trailer` points to, if they are whole.
pub(crate) fn read_entries(
    file: &dyn DiskFile,
    trailer: &Trailer,
    slot: u32,
) -> Result<Option<Vec<Entry>>, DiskError> {
    let length = trailer.entries as usize * ENTRY_BYTES;
    let end = u64::from(trailer.entries_offset) + length as u64;
    if trailer.entries == 0 || end > file.bytes() {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    file.read_at(trailer.entries_offset.into(), &mut bytes)?;
    if crc32c::crc32c(&bytes) != trailer.entries_crc32c {
        return Ok(None);
    }
    Ok(decode_entries(&bytes, slot, trailer.segment))
}
