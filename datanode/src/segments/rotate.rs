//! From one segment to the next, and back into use.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::LogError;
use super::footer::{ENTRY_BYTES, TRAILER_AREA_BYTES, TRAILER_BYTES, Trailer};
use super::log::{Active, Privilege, SegmentLog, Slot, SlotState, ZEROS};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::disk::{DiskError, DiskFile};

impl SegmentLog {
    /// Ends the active segment and begins the next.
    pub(crate) fn rotate(&mut self, privilege: Privilege) -> Result<(), LogError> {
        let slot = self.take_free(privilege)?;
        self.write()?;
        self.sync()?;
        self.close_active()?;
        let sequence = self.next_segment;
        self.next_segment += 1;
        self.write_header(slot, sequence)?;
        let state = &mut self.slots[slot as usize];
        state.sequence = sequence;
        state.state = SlotState::Active;
        self.live_bytes = self.live_bytes.saturating_sub(std::mem::take(&mut state.live_bytes));
        state.shared.sequence.store(sequence, Ordering::Release);
        let end = SEGMENT_HEADER_BYTES as u32;
        let blank = std::mem::take(&mut state.blank);
        let touched = if blank { SEGMENT_HEADER_BYTES } else { self.options.segment_bytes };
        self.active =
            Some(Active { slot, sequence, end, touched, page: Vec::new(), entries: Some(Vec::new()) });
        Ok(())
    }

    /// Takes a free segment if enough are left besides it, files that really exist.
    fn take_free(&mut self, privilege: Privilege) -> Result<u32, LogError> {
        while self.free.len() as u32 <= privilege.leaves() && self.may_grow() {
            let made = self.preparer.take(self.slots.len() as u32);
            self.adopt(made)?;
        }
        if self.free.len() as u32 <= privilege.leaves() {
            return Err(LogError::NoSpace);
        }
        self.free.pop_front().ok_or(LogError::NoSpace)
    }

    fn may_grow(&self) -> bool {
        (self.slots.len() as u32) < self.options.segments_max
    }

    /// Adds a file that was made to the free segments. A full filesystem ends the growth.
    fn adopt(&mut self, made: Result<Arc<dyn DiskFile>, DiskError>) -> Result<(), LogError> {
        let slot = self.slots.len() as u32;
        match made {
            Ok(file) => {
                let shared = self.reader.add(file);
                let state = SlotState::Free;
                self.slots.push(Slot { shared, sequence: 0, state, live_bytes: 0, blank: true });
                self.free.push_back(slot);
                Ok(())
            }
            Err(DiskError::Full { .. }) => {
                tracing::warn!(segments = slot, "the filesystem is full: the store does not grow further");
                self.options.segments_max = slot;
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Has the files that the next segments need made in the background, one at a time.
    pub(crate) fn prepare(&mut self) {
        if let Some(made) = self.preparer.poll() {
            // A failure ends the log, and the next call says so.
            let _ended = self.adopt(made);
        }
        if self.free.len() as u32 <= Privilege::Cache.leaves() && self.may_grow() {
            self.preparer.want(self.slots.len() as u32);
        }
    }

    pub(crate) fn write_header(&mut self, slot: u32, sequence: u64) -> Result<(), LogError> {
        let header = SegmentHeader {
            disk: self.options.disk,
            slot,
            segment_bytes: self.options.segment_bytes,
            sequence,
        }
        .encode();
        let padding = &ZEROS[header.len()..];
        let file = Arc::clone(&self.slots[slot as usize].shared.file);
        let written = file.write_at(0, &[IoSlice::new(&header), IoSlice::new(padding)]);
        written.and_then(|()| file.sync_data()).map_err(|error| self.failed(&error))
    }

    fn close_active(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let entries = active.entries.unwrap_or_default();
        let trailer = Trailer {
            segment: active.sequence,
            end: active.end,
            batch: self.next_batch - 1,
            run: self.run,
            entries: (entries.len() / ENTRY_BYTES) as u32,
            entries_offset: if entries.is_empty() { 0 } else { active.end },
            entries_crc32c: crc32c::crc32c(&entries),
        };
        let file = Arc::clone(&self.slots[active.slot as usize].shared.file);
        let written = write_footer(file.as_ref(), self.options.segment_bytes, &entries, &trailer);
        written.map_err(|error| self.failed(&error))?;
        self.slots[active.slot as usize].state = SlotState::Full;
        Ok(())
    }

    /// Gives a full segment without live records back, durably.
    ///
    /// # Errors
    /// `Failed` ends the log.
    pub fn release(&mut self, slot: u32) -> Result<(), LogError> {
        self.alive()?;
        let Some(state) = self.slots.get_mut(slot as usize) else { return Ok(()) };
        if state.live_bytes > 0 {
            tracing::error!(slot, live = state.live_bytes, "a segment with live records is kept");
            state.state = SlotState::Stuck;
            return Ok(());
        }
        state.shared.sequence.store(0, Ordering::Release);
        self.write_header(slot, 0)?;
        let state = &mut self.slots[slot as usize];
        state.state = SlotState::Free;
        state.sequence = 0;
        self.free.push_back(slot);
        Ok(())
    }
}

/// Writes the end of a full segment, durably.
pub(crate) fn write_footer(
    file: &dyn DiskFile,
    segment_bytes: u64,
    entries: &[u8],
    trailer: &Trailer,
) -> Result<(), DiskError> {
    let encoded = trailer.encode();
    let padding = &ZEROS[TRAILER_BYTES..];
    file.write_at(trailer.end.into(), &[IoSlice::new(entries)])?;
    file.write_at(segment_bytes - TRAILER_AREA_BYTES, &[IoSlice::new(&encoded), IoSlice::new(padding)])?;
    file.sync_data()
}
