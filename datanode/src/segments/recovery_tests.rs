//! Why recovery finds exactly the durable prefix (docs/FORMAT.md): random histories of batches, each
//! cut by a loss of power that keeps any sectors of what was not synced.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{DiskId, SystemClock};

use super::record::{BlockSums, RecordHeader, RecordKind};
use super::replay::{Entry, Replay};
use super::{LogError, LogOptions, Privilege, SegmentLog};
use crate::disk::MemoryDisk;

/// A small generator, seeded.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Default)]
struct Told {
    entries: Vec<Entry>,
    bad: u32,
}

impl Replay for Told {
    fn record(&mut self, entry: Entry, _payload: Option<&[u8]>) {
        if entry.header.kind != RecordKind::Start {
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

/// A log, and what is known of it from outside.
struct History {
    disk: MemoryDisk,
    segments_max: u32,
    dice: Dice,
    /// Number and segment of each record that may be there, in order.
    submitted: Vec<(u64, u64)>,
    /// How many of them were synced.
    synced: usize,
    /// Segments that were given back.
    released: HashSet<u64>,
    next: u64,
}

impl History {
    fn new(seed: u64, segments_max: u32) -> Self {
        Self {
            disk: MemoryDisk::new(64 << 20),
            segments_max,
            dice: Dice(seed * 7919 + 13),
            submitted: Vec::new(),
            synced: 0,
            released: HashSet::new(),
            next: 1,
        }
    }

    fn open(&self) -> (SegmentLog, Told) {
        let (mut told, segments_max) = (Told::default(), self.segments_max);
        let options =
            LogOptions { disk: DiskId([1; 16]), segment_bytes: 64 << 10, segments_max, threads: false };
        let log = SegmentLog::open(Arc::new(self.disk.clone()), Arc::new(SystemClock), options, &mut told);
        let mut log = log.unwrap();
        log.whole_pages_bytes = 2_000;
        (log, told)
    }

    /// Opens it, and holds what is told against what is known.
    fn recover(&mut self, what: &str) -> SegmentLog {
        let (log, told) = self.open();
        assert_eq!(told.bad, 0, "{what}: what was never synced is no damage");
        let here = |of: &[(u64, u64)]| {
            of.iter().filter(|(_, segment)| !self.released.contains(segment)).copied().collect::<Vec<_>>()
        };
        let found: Vec<(u64, u64)> = told.entries.iter().map(|e| (e.header.offset, e.segment)).collect();
        let (all, least) = (here(&self.submitted), here(&self.submitted[..self.synced]));
        assert!(all.starts_with(&found), "{what}: no prefix of what was written: {found:?} of {all:?}");
        assert!(found.starts_with(&least), "{what}: {} synced, {} found", least.len(), found.len());
        for entry in &told.entries {
            let read = log.reader().record(entry.location, entry.segment, entry.header.length).unwrap();
            assert!(read.payload.iter().all(|byte| *byte == entry.header.offset as u8), "{what}");
        }
        self.submitted = found;
        self.synced = self.submitted.len();
        log
    }

    /// Pushes a record; gives the oldest full segment back when there is no room.
    fn push(&mut self, log: &mut SegmentLog) {
        let number = self.next;
        self.next += 1;
        let length = match self.dice.roll(4) {
            0 => 1 + self.dice.roll(20_000),
            _ => 1 + self.dice.roll(900),
        };
        let payload = Bytes::from(vec![number as u8; length as usize]);
        let sums = BlockSums::of(&payload);
        let header = RecordHeader {
            offset: number,
            length: length as u32,
            payload_crc32c: sums.whole,
            ..RecordHeader::new(RecordKind::Append, 9)
        };
        let location = loop {
            match log.push(&header, &sums, &payload, Privilege::Append) {
                Ok(location) => break location,
                Err(LogError::NoSpace) => {
                    let (slot, sequence, _) = log.full_segments()[0];
                    log.release(slot).unwrap();
                    self.released.insert(sequence);
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.submitted.push((number, log.segment_of(location.slot)));
    }

    fn live(&mut self, log: &mut SegmentLog, steps: u64) {
        for _ in 0..steps {
            match self.dice.roll(6) {
                0..=3 => self.push(log),
                4 => log.write().unwrap(),
                _ => {
                    log.write().unwrap();
                    log.sync().unwrap();
                    self.synced = self.submitted.len();
                }
            }
        }
    }

    /// Loss of power: of what was not synced, each sector is kept with this chance in a hundred.
    fn cut(&mut self, percent: u64) {
        let dice = &mut self.dice;
        self.disk.power_loss(|| dice.roll(100) < percent);
    }
}

#[test]
fn what_survives_a_loss_of_power_is_a_prefix_with_all_that_was_synced() {
    for seed in 1..=120 {
        let mut history = History::new(seed, 64);
        for life in 0..6 {
            let what = format!("seed {seed}, life {life}");
            let mut log = history.recover(&what);
            let steps = 1 + history.dice.roll(40);
            history.live(&mut log, steps);
            drop(log);
            let percent = [0, 30, 60, 90, 98, 100][history.dice.roll(6) as usize];
            history.cut(percent);
        }
        history.recover("the end");
    }
}

#[test]
fn nothing_of_a_segments_last_life_is_told_in_its_next() {
    let mut reused = 0;
    for seed in 1..=40 {
        let mut history = History::new(seed, 8);
        for life in 0..8 {
            let what = format!("seed {seed}, life {life}");
            let mut log = history.recover(&what);
            let steps = 20 + history.dice.roll(120);
            history.live(&mut log, steps);
            drop(log);
            let percent = [0, 50, 95, 100][history.dice.roll(4) as usize];
            history.cut(percent);
        }
        history.recover("the end");
        reused += history.released.len();
    }
    assert!(reused > 40 * 8, "{reused} segments were used again");
}

#[test]
fn a_later_batch_that_came_to_the_disk_first_counts_for_nothing() {
    // Three batches, none synced; of the first one sector is lost, of the others nothing.
    for lost in 0..4 {
        let mut history = History::new(5, 64);
        let mut log = history.recover("a new log");
        log.write().unwrap();
        log.sync().unwrap();
        for _ in 0..3 {
            let payload = Bytes::from(vec![history.next as u8; 1500]);
            let sums = BlockSums::of(&payload);
            let header = RecordHeader {
                offset: history.next,
                length: 1500,
                payload_crc32c: sums.whole,
                ..RecordHeader::new(RecordKind::Append, 9)
            };
            let location = log.push(&header, &sums, &payload, Privilege::Append).unwrap();
            history.submitted.push((history.next, log.segment_of(location.slot)));
            history.next += 1;
            log.write().unwrap();
        }
        drop(log);
        let mut sector = 0;
        history.disk.power_loss(|| {
            sector += 1;
            sector != lost + 1
        });
        history.recover(&format!("sector {lost} was lost"));
        assert_eq!(history.submitted, [], "sector {lost}");
    }
}
