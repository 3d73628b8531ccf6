//! The log alone: what was written is told again, from footers and from scans.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{Clock, DiskId, Timestamp};

use super::record::{BlockSums, RecordHeader, RecordKind};
use super::replay::{Entry, Replay};
use super::{LogError, LogOptions, Privilege, RecordError, SegmentLog};
use crate::disk::{MemoryDisk, RealDisk};

struct Still;

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        Timestamp(77)
    }

    fn boottime(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Default)]
struct Told {
    records: Vec<(RecordHeader, bool)>,
    entries: Vec<Entry>,
    bad: u32,
}

impl Replay for Told {
    fn record(&mut self, entry: Entry, payload: Option<&[u8]>) {
        if entry.header.kind != RecordKind::Start {
            self.records.push((entry.header, payload.is_some()));
            self.entries.push(entry);
        }
    }

    fn damaged(&mut self, _entry: Entry) {
        self.bad += 1;
    }

    fn hole(&mut self) {
        self.bad += 1;
    }
}

fn open(disk: &MemoryDisk, told: &mut Told) -> SegmentLog {
    let options =
        LogOptions { disk: DiskId([1; 16]), segment_bytes: 64 << 10, segments_max: 64, threads: false };
    SegmentLog::open(Arc::new(disk.clone()), Arc::new(Still), options, told).unwrap()
}

fn record(number: u64, kind: RecordKind) -> (RecordHeader, BlockSums, Bytes) {
    let length = if kind == RecordKind::Append { (number * 977 % 20_000) as usize + 1 } else { 10 };
    let payload = Bytes::from(vec![number as u8; length]);
    let sums = BlockSums::of(&payload);
    let header = RecordHeader {
        offset: number,
        length: length as u32,
        payload_crc32c: sums.whole,
        ..RecordHeader::new(kind, 9)
    };
    (header, sums, payload)
}

#[test]
fn every_record_is_told_again_in_order_over_many_segments_and_restarts() {
    let disk = MemoryDisk::new(64 << 20);
    let mut expected = Vec::new();
    for restart in 0..5u64 {
        let mut told = Told::default();
        let mut log = open(&disk, &mut told);
        assert_eq!((log.run(), told.bad), (restart + 1, 0));
        assert_eq!(told.records, expected, "restart {restart}");
        for entry in &told.entries {
            let header = log.reader().record(entry.location, entry.segment, entry.header.length);
            assert_eq!(header.map(|r| r.header), Ok(entry.header));
            let other = log.reader().record(entry.location, entry.segment + 1, entry.header.length);
            assert_eq!(other, Err(RecordError::Stale), "the slot holds another segment now");
        }
        for number in restart * 40..restart * 40 + 40 {
            let state = number % 7 == 0;
            let kind = if state { RecordKind::Fence } else { RecordKind::Append };
            let (header, sums, payload) = record(number, kind);
            log.push(&header, &sums, &payload, Privilege::Append).unwrap();
            expected.push((header, state));
            if number % 3 == 0 {
                log.write().unwrap();
                log.sync().unwrap();
            }
        }
        log.write().unwrap();
        log.sync().unwrap();
        disk.power_loss(|| false);
    }
}

#[test]
fn one_append_costs_one_write_and_one_fsync() {
    let disk = MemoryDisk::new(64 << 20);
    let mut log = open(&disk, &mut Told::default());
    let before = disk.calls();
    let (header, sums, payload) = record(4, RecordKind::Append);
    log.push(&header, &sums, &payload, Privilege::Append).unwrap();
    log.write().unwrap();
    log.sync().unwrap();
    assert_eq!(disk.calls() - before, 2);
}

#[test]
fn blocks_of_a_new_file_are_touched_ahead_of_small_batches_and_by_large_ones_alone() {
    let disk = MemoryDisk::new(64 << 20);
    let options =
        LogOptions { disk: DiskId([1; 16]), segment_bytes: 4 << 20, segments_max: 6, threads: false };
    let open = || SegmentLog::open(Arc::new(disk.clone()), Arc::new(Still), options, &mut Told::default());
    let mut log = open().unwrap();
    let put = |log: &mut SegmentLog, bytes: usize| {
        let payload = Bytes::from(vec![3; bytes]);
        let header = RecordHeader { length: bytes as u32, ..RecordHeader::new(RecordKind::Append, 1) };
        log.push(&header, &BlockSums::of(&payload), &payload, Privilege::Append).unwrap();
        log.write().unwrap();
        log.sync().unwrap();
        let active = log.active.as_ref().unwrap();
        (u64::from(active.end), active.touched)
    };
    let (end, touched) = put(&mut log, 100);
    assert!(touched > end + (256 << 10), "{touched} is far ahead of {end}");
    assert_eq!(put(&mut log, 4096).1, touched, "one that lies within writes nothing else");
    // A large one goes past it, and writes itself.
    let (end, touched) = put(&mut log, 700 << 10);
    assert_eq!(touched, end.next_multiple_of(4096));
    // A file of which a segment was given back has been written to from end to end.
    let slot = |log: &SegmentLog| log.active.as_ref().unwrap().slot;
    for turn in [false, true] {
        while (slot(&log) == 0) != turn {
            put(&mut log, 700 << 10);
            for (full, _, _) in log.full_segments() {
                log.release(full).unwrap();
            }
        }
    }
    assert_eq!(put(&mut log, 100).1, options.segment_bytes);
}

#[test]
fn segments_of_records_too_small_for_a_footer_are_ended_and_read_again() {
    let home = tempfile::tempdir().unwrap();
    let options =
        LogOptions { disk: DiskId([1; 16]), segment_bytes: 64 << 10, segments_max: 12, threads: false };
    let open = |told: &mut Told| {
        let disk = Arc::new(RealDisk::open(home.path()).unwrap());
        SegmentLog::open(disk, Arc::new(Still), options, told).unwrap()
    };
    let mut log = open(&mut Told::default());
    let mut count = 0;
    while log.segments() < 5 {
        let payload = Bytes::from_static(b"x");
        let header = RecordHeader { length: 1, ..RecordHeader::new(RecordKind::Append, 1) };
        log.push(&header, &BlockSums::of(&payload), &payload, Privilege::Append).unwrap();
        count += 1;
        if count % 50 == 0 {
            log.write().unwrap();
            log.sync().unwrap();
        }
    }
    log.write().unwrap();
    log.sync().unwrap();
    let without = log.entries(0).unwrap().len();
    assert!(without as u64 * super::footer::ENTRY_BYTES as u64 > options.segment_bytes / 8);
    drop(log);
    let mut told = Told::default();
    open(&mut told);
    assert_eq!((told.records.len(), told.bad), (count, 0));
}

#[test]
fn a_record_that_no_segment_can_hold_is_refused() {
    let disk = MemoryDisk::new(64 << 20);
    let mut log = open(&disk, &mut Told::default());
    let payload = Bytes::from(vec![0; 60 << 10]);
    let header = RecordHeader { length: 60 << 10, ..RecordHeader::new(RecordKind::Append, 1) };
    let pushed = log.push(&header, &BlockSums::of(&payload), &payload, Privilege::Append);
    assert_eq!(pushed, Err(LogError::TooLarge));
}

#[test]
fn what_was_cut_off_never_comes_back_behind_a_later_run() {
    let disk = MemoryDisk::new(64 << 20);
    let mut log = open(&disk, &mut Told::default());
    let mut batch = |length: usize, sync: bool| {
        let payload = Bytes::from(vec![length as u8; length]);
        let header = RecordHeader { length: length as u32, ..RecordHeader::new(RecordKind::Append, 1) };
        log.push(&header, &BlockSums::of(&payload), &payload, Privilege::Append).unwrap();
        log.write().unwrap();
        if sync {
            log.sync().unwrap();
        }
        header
    };
    // The first ends 512 bytes before a page does; the second fills these; the third follows.
    let kept = batch(2800, true);
    batch(100, false);
    batch(200, false);
    let mut sectors = 0;
    disk.power_loss(|| {
        sectors += 1;
        sectors > 1
    });
    for _ in 0..2 {
        // The next run's first batch takes exactly the place of the one that was lost.
        let mut told = Told::default();
        open(&disk, &mut told);
        assert_eq!((told.records.len(), told.records[0].0.length, told.bad), (1, kept.length, 0));
    }
}
