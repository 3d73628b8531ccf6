//! Looking a segment over: its frame (header, footer), and which records it should hold.

use std::sync::Arc;

use super::batch::{BATCH_HEADER_BYTES, BatchHeader};
use super::error::LogError;
use super::footer::{ENTRY_BYTES, TRAILER_AREA_BYTES, Trailer, decode_entries, encode_entry};
use super::log::{PAGE_BYTES, SegmentLog, SlotState, read_trailer};
use super::reader::{RecordError, SegmentReader};
use super::record::RecordHeader;
use super::replay::Entry;
use super::rotate::write_footer;
use super::scan::{Collect, SegmentScan};
use super::segment::{HeaderFound, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED, SegmentHeader};
use crate::disk::{DiskError, DiskFile};

/// Entries decoded at once.
const PIECE_ENTRIES: usize = 1024;
/// Bytes of a footer checked at once.
const CHECK_BYTES: usize = 1 << 20;

/// The footer's entries of the segment that is being written, as they will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveListing {
    /// Encoded; none when there are too many, and a scan is needed.
    pub entries: Option<Vec<u8>>,
}

/// What a segment says of itself around its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header reads as that of this segment.
    pub header: bool,
    /// Its footer is whole; of one without entries this is the trailer alone.
    pub footer: bool,
    trailer: Option<Trailer>,
}

/// The end of a full segment, made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    entries: Vec<u8>,
    trailer: Trailer,
}

/// Which records a segment should hold.
#[derive(Clone, Debug)]
pub enum Listing {
    /// As its footer says.
    Footer(Trailer),
    /// As the writer knows.
    Encoded(Vec<u8>),
    /// As a scan found.
    Found(Vec<Entry>),
}

fn failed(error: &DiskError) -> RecordError {
    RecordError::Io(error.errno())
}

impl SegmentReader {
    /// Reads the header and the footer of a segment that is full.
    ///
    /// # Errors
    /// `Io`; `Stale` when the slot has another segment by now.
    pub fn frame(&self, slot: u32, sequence: u64) -> Result<Frame, RecordError> {
        let shared = self.slot(slot)?;
        let file = shared.file.as_ref();
        file.uncache(0, SEGMENT_HEADER_BYTES);
        file.uncache(file.bytes() - TRAILER_AREA_BYTES, TRAILER_AREA_BYTES);
        let mut head = [0; SEGMENT_HEADER_USED];
        file.read_at(0, &mut head).map_err(|error| failed(&error))?;
        let found = SegmentHeader::decode(&head);
        let header = matches!(found, HeaderFound::Valid(h) if (h.slot, h.sequence) == (slot, sequence));
        let trailer = read_trailer(file, file.bytes(), sequence).map_err(|error| failed(&error))?;
        let footer = match &trailer {
            Some(trailer) => entries_match(file, trailer)?,
            None => false,
        };
        match self.segment(slot) == sequence {
            true => Ok(Frame { header, footer, trailer: trailer.filter(|_| footer) }),
            false => Err(RecordError::Stale),
        }
    }

    /// Which records a full segment should hold: from its footer where that is whole and has them,
    /// else by reading all of it.
    ///
    /// # Errors
    /// `Io`; `Stale`.
    pub fn listing(&self, slot: u32, sequence: u64, frame: &Frame) -> Result<Listing, RecordError> {
        if let Some(trailer) = frame.trailer.filter(|t| t.entries > 0) {
            return Ok(Listing::Footer(trailer));
        }
        self.scan(slot, sequence, frame.trailer.map(|t| t.end))
    }

    /// The records that a scan of a segment finds.
    ///
    /// # Errors
    /// `Io`; `Stale`.
    pub fn scan(&self, slot: u32, sequence: u64, closed_end: Option<u32>) -> Result<Listing, RecordError> {
        let shared = self.slot(slot)?;
        let mut collect = Collect::default();
        let scan = SegmentScan {
            file: shared.file.as_ref(),
            slot,
            sequence,
            closed_end,
            newest: closed_end.is_none(),
        };
        scan.run(&mut collect).map_err(|error| failed(&error))?;
        Ok(Listing::Found(collect.entries))
    }

    /// A footer for a full segment whose own does not read. `None` when a scan does not find all that
    /// was in it: such a footer would hide what is missing.
    ///
    /// # Errors
    /// `Io`; `Stale`.
    pub fn footer(&self, slot: u32, sequence: u64) -> Result<Option<Footer>, RecordError> {
        let shared = self.slot(slot)?;
        let file = shared.file.as_ref();
        let old = read_trailer(file, file.bytes(), sequence).map_err(|error| failed(&error))?;
        let mut collect = Collect::default();
        let scan = SegmentScan { file, slot, sequence, closed_end: old.map(|t| t.end), newest: false };
        let found = scan.run(&mut collect).map_err(|error| failed(&error))?;
        // Without a trailer a scan cannot know that it came to the end; the next segment's first batch can.
        let complete = match old {
            Some(_) => collect.holes == 0,
            None => collect.holes <= 1 && self.goes_on_with(sequence + 1, found.batch + 1)?,
        };
        if !complete || self.segment(slot) != sequence {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(collect.entries.len() * ENTRY_BYTES);
        collect.entries.iter().for_each(|entry| encode_entry(entry, &mut entries));
        if entries.len() as u64 > file.bytes() / 8 {
            entries.clear();
        }
        let (batch, run) = old.map_or((found.batch, found.run), |t| (t.batch, t.run));
        let trailer = Trailer {
            segment: sequence,
            end: found.end,
            batch,
            run,
            entries: (entries.len() / ENTRY_BYTES) as u32,
            entries_offset: if entries.is_empty() { 0 } else { found.end },
            entries_crc32c: crc32c::crc32c(&entries),
        };
        Ok(Some(Footer { entries, trailer }))
    }

    /// True when the first batch of segment `sequence` has number `batch`.
    fn goes_on_with(&self, sequence: u64, batch: u64) -> Result<bool, RecordError> {
        let Some((slot, _)) = self.segments().into_iter().find(|(_, s)| *s == sequence) else {
            return Ok(false);
        };
        let mut head = [0; BATCH_HEADER_BYTES];
        self.slot(slot)?.file.read_at(SEGMENT_HEADER_BYTES, &mut head).map_err(|error| failed(&error))?;
        let first = BatchHeader::decode(&head);
        Ok(first.is_some_and(|header| (header.segment, header.batch) == (sequence, batch)))
    }

    /// The next entries of a listing from number `from` on; empty at its end.
    ///
    /// # Errors
    /// `Io`; `Stale`; `Damaged` when the footer has changed since it was checked.
    pub fn piece(
        &self,
        slot: u32,
        sequence: u64,
        listing: &Listing,
        from: usize,
    ) -> Result<Vec<Entry>, RecordError> {
        let until = |all: usize| (from + PIECE_ENTRIES).min(all);
        match listing {
            Listing::Found(entries) => Ok(entries.get(from..until(entries.len())).unwrap_or(&[]).to_vec()),
            Listing::Encoded(bytes) => {
                let bytes = bytes.get(from * ENTRY_BYTES..until(bytes.len() / ENTRY_BYTES) * ENTRY_BYTES);
                decode_entries(bytes.unwrap_or(&[]), slot, sequence).ok_or(RecordError::Damaged)
            }
            Listing::Footer(trailer) => {
                let count = until(trailer.entries as usize).saturating_sub(from);
                let mut bytes = vec![0; count * ENTRY_BYTES];
                let at = u64::from(trailer.entries_offset) + (from * ENTRY_BYTES) as u64;
                self.slot(slot)?.file.read_at(at, &mut bytes).map_err(|error| failed(&error))?;
                if self.segment(slot) != sequence {
                    return Err(RecordError::Stale);
                }
                decode_entries(&bytes, slot, sequence).ok_or(RecordError::Damaged)
            }
        }
    }

    /// The header of a record by its segment's footer, for one whose own header does not read.
    #[must_use]
    pub fn header_by_footer(&self, slot: u32, sequence: u64, offset: u32) -> Option<RecordHeader> {
        let frame = self.frame(slot, sequence).ok()?;
        let listing = Listing::Footer(frame.trailer.filter(|t| t.entries > 0)?);
        let mut from = 0;
        loop {
            let piece = self.piece(slot, sequence, &listing, from).ok().filter(|p| !p.is_empty())?;
            if let Some(entry) = piece.iter().find(|entry| entry.location.offset == offset) {
                return Some(entry.header);
            }
            from += piece.len();
        }
    }

    /// Asks that the next reads between the first and the last of `entries` come from the medium.
    pub(crate) fn uncache(&self, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let Ok(shared) = self.slot(first.location.slot) else { return };
        let from = u64::from(first.location.offset) / PAGE_BYTES * PAGE_BYTES;
        let end = u64::from(last.location.offset) + last.header.stored_bytes();
        let until = end.next_multiple_of(PAGE_BYTES);
        shared.file.uncache(from, until.saturating_sub(from));
    }
}

/// True when the entries that `trailer` points to have their checksum.
fn entries_match(file: &dyn DiskFile, trailer: &Trailer) -> Result<bool, RecordError> {
    let (mut at, length) =
        (u64::from(trailer.entries_offset), u64::from(trailer.entries) * ENTRY_BYTES as u64);
    let end = at + length;
    if end > file.bytes() {
        return Ok(false);
    }
    file.uncache(at, length);
    let mut bytes = vec![0; CHECK_BYTES.min(length as usize)];
    let mut sum = 0;
    while at < end {
        let piece = ((end - at) as usize).min(CHECK_BYTES);
        file.read_at(at, &mut bytes[..piece]).map_err(|error| failed(&error))?;
        sum = crc32c::crc32c_append(sum, &bytes[..piece]);
        at += piece as u64;
    }
    Ok(sum == trailer.entries_crc32c)
}

impl SegmentLog {
    /// What a segment holds so far; `None` when it is not the one that is being written.
    #[must_use]
    pub fn active_listing(&self, slot: u32, sequence: u64) -> Option<ActiveListing> {
        let active = self.active.as_ref().filter(|a| (a.slot, a.sequence) == (slot, sequence))?;
        Some(ActiveListing { entries: active.entries.clone() })
    }

    /// Writes the header and the footer of a full segment again. False when the slot holds another
    /// segment by now.
    ///
    /// # Errors
    /// `Failed` ends the log.
    pub fn reframe(&mut self, slot: u32, sequence: u64, footer: &Footer) -> Result<bool, LogError> {
        self.alive()?;
        let Some(state) = self.slots.get(slot as usize) else { return Ok(false) };
        if state.sequence != sequence || state.state != SlotState::Full {
            return Ok(false);
        }
        let file = Arc::clone(&state.shared.file);
        self.write_header(slot, sequence)?;
        let written =
            write_footer(file.as_ref(), self.options.segment_bytes, &footer.entries, &footer.trailer);
        written.map_err(|error| self.failed(&error))?;
        Ok(true)
    }
}
