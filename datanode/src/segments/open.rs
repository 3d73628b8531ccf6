//! Opening a log: which segments there are, what they hold, where writing goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_types::Clock;

use super::batch::{BATCH_HEADER_BYTES, BatchHeader, Mark};
use super::error::LogError;
use super::footer::encode_entry;
use super::log::{
    Active, LogOptions, PAGE_BYTES, Privilege, SegmentLog, Slot, SlotState, read_entries, read_trailer,
};
use super::record::{
    BlockSums, Location, PAYLOAD_BYTES_MAX, RecordHeader, RecordKind, payload_matches, stored_bytes,
};
use super::replay::{Entry, Replay};
use super::scan::{ScanEnd, SegmentScan};
use super::segment::{
    HeaderFound, SEGMENT_FORMAT, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED, SegmentHeader, file_name, slot_of,
};
use crate::disk::{Disk, DiskError, DiskFile};

/// Passes a scan on and keeps the footer's entries.
struct Tee<'a> {
    replay: &'a mut dyn Replay,
    entries: Vec<u8>,
}

impl Replay for Tee<'_> {
    fn record(&mut self, entry: Entry, payload: Option<&[u8]>) {
        encode_entry(&entry, &mut self.entries);
        self.replay.record(entry, payload);
    }

    fn damaged(&mut self, entry: Entry) {
        encode_entry(&entry, &mut self.entries);
        self.replay.damaged(entry);
    }

    fn hole(&mut self) {
        self.replay.hole();
    }
}

impl SegmentLog {
    /// Opens the log in `segments/` of `disk`: tells `replay` every record in the order of writing,
    /// then begins a new run, durably.
    ///
    /// # Errors
    /// [`LogError`]; unless it is `Failed` or `Disk`, nothing was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        replay: &mut dyn Replay,
    ) -> Result<Self, LogError> {
        let size = options.segment_bytes;
        let sized = (32 << 10..=2 << 30).contains(&size) && size.is_multiple_of(PAGE_BYTES);
        if !sized || options.segments_max < 6 {
            return Err(LogError::Options);
        }
        let mut log = Self::empty(Arc::clone(&disk), clock, options);
        let used = log.find_segments(disk.as_ref())?;
        let mut run = 0;
        for (index, (slot, sequence)) in used.iter().copied().enumerate() {
            let newest = index + 1 == used.len();
            let end = log.replay_segment(slot, sequence, newest, replay)?;
            run = run.max(end.run);
            log.next_batch = log.next_batch.max(end.batch + 1);
            log.next_segment = sequence + 1;
        }
        log.options.segments_max = log.options.segments_max.max(log.slots.len() as u32);
        log.run = run + 1;
        let start = RecordHeader { sequence: log.run, ..RecordHeader::new(RecordKind::Start, 0) };
        log.push(&start, &BlockSums::default(), &Bytes::new(), Privilege::Start)?;
        log.write()?;
        log.sync()?;
        Ok(log)
    }

    /// Opens every segment's file; answers slot and sequence of those in use, oldest first.
    fn find_segments(&mut self, disk: &dyn Disk) -> Result<Vec<(u32, u64)>, LogError> {
        let names = disk.list("segments").map_err(LogError::Disk)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| slot_of(name)).collect();
        numbers.sort_unstable();
        let mut used = Vec::new();
        for (slot, expected) in numbers.into_iter().zip(0u32..) {
            if slot != expected {
                return Err(LogError::Missing { slot: expected });
            }
            let mut file = disk.open(&file_name(slot)).map_err(LogError::Disk)?;
            let sequence = self.identify(file.as_ref())?;
            if file.bytes() != self.options.segment_bytes {
                if sequence != 0 {
                    let wanted = self.options.segment_bytes;
                    return Err(LogError::SegmentSize { found: file.bytes(), wanted });
                }
                // A crash interrupted its making.
                file = disk.create(&file_name(slot), self.options.segment_bytes).map_err(LogError::Disk)?;
            }
            let shared = self.reader.add(file);
            shared.sequence.store(sequence, Ordering::Release);
            let state = if sequence == 0 { SlotState::Free } else { SlotState::Full };
            self.slots.push(Slot { shared, sequence, state, live_bytes: 0, blank: sequence == 0 });
            match sequence {
                0 => self.free.push_back(slot),
                _ => used.push((slot, sequence)),
            }
        }
        used.sort_unstable_by_key(|(_, sequence)| *sequence);
        Ok(used)
    }

    /// The sequence of the segment in `file`; 0 when it is free.
    fn identify(&self, file: &dyn DiskFile) -> Result<u64, LogError> {
        if file.bytes() < SEGMENT_HEADER_BYTES {
            return Ok(0);
        }
        let mut bytes = [0; SEGMENT_HEADER_USED];
        file.read_at(0, &mut bytes).map_err(LogError::Disk)?;
        match SegmentHeader::decode(&bytes) {
            HeaderFound::Valid(header) if header.disk != self.options.disk => {
                Err(LogError::ForeignDisk { found: header.disk, wanted: self.options.disk })
            }
            HeaderFound::Valid(header) => Ok(header.sequence),
            HeaderFound::Blank => Ok(0),
            HeaderFound::Newer(found) => Err(LogError::NewerFormat { found, known: SEGMENT_FORMAT }),
            HeaderFound::Damaged => self.identify_damaged(file).map_err(LogError::Disk),
        }
    }

    /// The header is rotten (it is never torn): the trailer or the first batch knows the sequence.
    fn identify_damaged(&self, file: &dyn DiskFile) -> Result<u64, DiskError> {
        let size = file.bytes().min(self.options.segment_bytes);
        let trailer = read_trailer(file, size, 0)?.map_or(0, |trailer| trailer.segment);
        let mut head = [0; BATCH_HEADER_BYTES];
        file.read_at(SEGMENT_HEADER_BYTES, &mut head)?;
        let first = BatchHeader::decode(&head).map_or(0, |header| header.segment);
        // A slot's trailer stays from its last segment until the next is full.
        let sequence = trailer.max(first);
        tracing::error!(sequence, "a segment's header is damaged");
        Ok(sequence)
    }

    fn replay_segment(
        &mut self,
        slot: u32,
        sequence: u64,
        newest: bool,
        replay: &mut dyn Replay,
    ) -> Result<ScanEnd, LogError> {
        let file = Arc::clone(&self.slots[slot as usize].shared.file);
        let file = file.as_ref();
        let trailer = read_trailer(file, self.options.segment_bytes, sequence).map_err(LogError::Disk)?;
        if let Some(trailer) = trailer {
            let entries = read_entries(file, &trailer, slot).map_err(LogError::Disk)?;
            if let Some(entries) = entries {
                for entry in entries {
                    tell_entry(file, entry, replay);
                }
                return Ok(ScanEnd { end: trailer.end, batch: trailer.batch, run: trailer.run });
            }
        }
        let closed_end = trailer.map(|t| t.end);
        let mut tee = Tee { replay, entries: Vec::new() };
        let scan = SegmentScan { file, slot, sequence, closed_end, newest };
        let mut end = scan.run(&mut tee).map_err(LogError::Disk)?;
        if let Some(trailer) = trailer {
            end.batch = end.batch.max(trailer.batch);
            end.run = end.run.max(trailer.run);
        } else if newest {
            let fits = tee.entries.len() as u64 <= self.options.segment_bytes / 8;
            let entries = fits.then_some(tee.entries);
            // What lies behind, zeros or what was torn, is written over in any case.
            let touched = end.end.into();
            self.active = Some(Active { slot, sequence, end: end.end, touched, page: Vec::new(), entries });
            self.slots[slot as usize].state = SlotState::Active;
            // Nothing here is known to be synced by this process: the first sync covers it.
            self.durable = Mark { segment: sequence, offset: SEGMENT_HEADER_BYTES as u32 };
            self.unsynced = true;
        }
        Ok(end)
    }
}

/// Tells one entry of a footer, with its payload when that is not plain data.
fn tell_entry(file: &dyn DiskFile, entry: Entry, replay: &mut dyn Replay) {
    let kind = entry.header.kind;
    if kind.is_data() || kind == RecordKind::CacheBlock {
        return replay.record(entry, None);
    }
    match read_payload(file, entry.location, entry.segment, entry.header.length) {
        Some(payload) => replay.record(entry, Some(&payload)),
        None => replay.damaged(entry),
    }
}

fn read_payload(file: &dyn DiskFile, location: Location, segment: u64, length: u32) -> Option<Vec<u8>> {
    let mut bytes = vec![0; stored_bytes((length as usize).min(PAYLOAD_BYTES_MAX))];
    file.read_at(location.offset.into(), &mut bytes).ok()?;
    let (header, blocks) = RecordHeader::decode(&bytes, segment)?;
    let payload = bytes.split_off(bytes.len() - header.length as usize);
    payload_matches(&payload, &blocks).then_some(payload)
}
