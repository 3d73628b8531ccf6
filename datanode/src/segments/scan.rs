//! Reads a segment batch by batch, and tells torn from damaged.

use super::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader, Mark};
use super::record::{Location, RecordHeader, RecordKind, payload_matches};
use super::replay::{Entry, Replay};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::disk::{DiskError, DiskFile};

/// Bytes read at once when looking for the next batch.
const WINDOW_BYTES: usize = 1 << 20;

/// A segment to be read.
pub(crate) struct SegmentScan<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// Where the last batch ends, when the trailer says so.
    pub(crate) closed_end: Option<u32>,
    /// No newer segment exists: it may end torn.
    pub(crate) newest: bool,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// Where the next batch would begin.
    pub(crate) end: u32,
    /// The last batch's number; 0 when there is none.
    pub(crate) batch: u64,
    /// The highest run seen.
    pub(crate) run: u64,
}

struct FoundRecord {
    entry: Entry,
    payload: std::ops::Range<usize>,
    good: bool,
}

struct FoundBatch {
    header: BatchHeader,
    end: u32,
    body: Vec<u8>,
    records: Vec<FoundRecord>,
    /// The records could not all be told apart.
    broken: bool,
}

impl FoundBatch {
    fn is_whole(&self) -> bool {
        !self.broken && self.records.iter().all(|r| r.good)
    }

    fn tell(&self, replay: &mut dyn Replay) {
        for record in &self.records {
            if !record.good {
                replay.damaged(record.entry);
                continue;
            }
            let kind = record.entry.header.kind;
            let told = !kind.is_data() && kind != RecordKind::CacheBlock;
            replay.record(record.entry, told.then(|| &self.body[record.payload.clone()]));
        }
        if self.broken {
            replay.hole();
        }
    }
}

/// What the batches after a bad place say.
struct Ahead {
    first: Option<u32>,
    /// One of them knew the bad place to be durable.
    proves_durable: bool,
}

/// What a batch here must be, to be the log's.
#[derive(Clone, Copy)]
struct Floor {
    batch: u64,
    run: u64,
    /// It must be exactly the next one.
    strict: bool,
}

impl Floor {
    fn admits(&self, header: &BatchHeader) -> bool {
        let follows = match self.strict && self.batch > 0 {
            true => header.batch == self.batch + 1,
            false => header.batch > self.batch,
        };
        follows && header.run >= self.run
    }
}

impl SegmentScan<'_> {
    /// Tells `replay` every record, in order.
    pub(crate) fn run(&self, replay: &mut dyn Replay) -> Result<ScanEnd, DiskError> {
        let mut at = SEGMENT_HEADER_BYTES as u32;
        let mut floor = Floor { batch: 0, run: 0, strict: true };
        loop {
            let found = self.batch_at(at, floor)?;
            if let Some(batch) = found.as_ref().filter(|b| b.is_whole()) {
                batch.tell(replay);
                floor = Floor { batch: batch.header.batch, run: batch.header.run, strict: true };
                at = batch.end;
                continue;
            }
            let Some(next) = self.judge(at, floor, replay)? else { break };
            if let Some(batch) = found {
                batch.tell(replay);
                floor = Floor { batch: batch.header.batch, run: batch.header.run, strict: true };
                at = batch.end;
            } else {
                replay.hole();
                let Some(next) = next else { break };
                floor.strict = false;
                at = next;
            }
        }
        let end = self.closed_end.unwrap_or(at);
        Ok(ScanEnd { end, batch: floor.batch, run: floor.run })
    }

    /// `None`: the log ends here. Otherwise the place is damaged, and the next batch is given.
    fn judge(
        &self,
        at: u32,
        floor: Floor,
        replay: &mut dyn Replay,
    ) -> Result<Option<Option<u32>>, DiskError> {
        if self.closed_end.is_some_and(|end| at >= end) {
            return Ok(None);
        }
        let ahead = self.ahead(at, Floor { strict: false, ..floor })?;
        if self.closed_end.is_some() || (!self.newest && ahead.first.is_some()) || ahead.proves_durable {
            return Ok(Some(ahead.first));
        }
        if !self.newest {
            // Its trailer is rotten: nobody knows what else was here.
            replay.hole();
        }
        Ok(None)
    }

    fn ahead(&self, bad: u32, floor: Floor) -> Result<Ahead, DiskError> {
        let mark = Mark { segment: self.sequence, offset: bad };
        let mut ahead = Ahead { first: None, proves_durable: false };
        let mut window = vec![0; WINDOW_BYTES];
        let size = self.file.bytes();
        let mut from = u64::from(bad) + BATCH_ALIGN;
        while from < size {
            let length = (size - from).min(WINDOW_BYTES as u64) as usize;
            self.file.read_at(from, &mut window[..length])?;
            for at in (0..length).step_by(BATCH_ALIGN as usize) {
                let Some(header) = BatchHeader::decode(&window[at..length]) else { continue };
                if header.segment != self.sequence || !floor.admits(&header) {
                    continue;
                }
                ahead.first.get_or_insert((from + at as u64) as u32);
                ahead.proves_durable |= header.durable > mark;
            }
            from += length as u64;
        }
        Ok(ahead)
    }

    fn batch_at(&self, at: u32, floor: Floor) -> Result<Option<FoundBatch>, DiskError> {
        let body_at = u64::from(at) + BATCH_HEADER_BYTES as u64;
        if body_at > self.file.bytes() {
            return Ok(None);
        }
        let mut head = [0; BATCH_HEADER_BYTES];
        self.file.read_at(at.into(), &mut head)?;
        let Some(header) = BatchHeader::decode(&head) else { return Ok(None) };
        let end = body_at + u64::from(header.body_bytes);
        if header.segment != self.sequence || !floor.admits(&header) || end > self.file.bytes() {
            return Ok(None);
        }
        let mut body = vec![0; header.body_bytes as usize];
        self.file.read_at(body_at, &mut body)?;
        let mut batch = FoundBatch {
            header,
            end: end.next_multiple_of(BATCH_ALIGN) as u32,
            body,
            records: Vec::new(),
            broken: false,
        };
        self.parse(&mut batch, body_at as u32);
        Ok(Some(batch))
    }

    fn parse(&self, batch: &mut FoundBatch, body_at: u32) {
        let mut at = 0;
        while at < batch.body.len() {
            let Some((header, blocks)) = RecordHeader::decode(&batch.body[at..], self.sequence) else {
                batch.broken = true;
                return;
            };
            let end = at + header.stored_bytes() as usize;
            let payload = end - header.length as usize..end;
            let Some(bytes) = batch.body.get(payload.clone()) else {
                batch.broken = true;
                return;
            };
            let good = payload_matches(bytes, &blocks);
            let location = Location { slot: self.slot, offset: body_at + at as u32 };
            let entry = Entry { header, location, segment: self.sequence, wall: batch.header.wall };
            batch.records.push(FoundRecord { entry, payload, good });
            at = end;
        }
        batch.broken |= batch.records.len() != batch.header.records as usize;
    }
}

/// Keeps the entries of a scan, good and damaged.
#[derive(Default)]
pub(crate) struct Collect {
    pub(crate) entries: Vec<Entry>,
    /// How often some could not be told.
    pub(crate) holes: u32,
}

impl Replay for Collect {
    fn record(&mut self, entry: Entry, _payload: Option<&[u8]>) {
        self.entries.push(entry);
    }

    fn damaged(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    fn hole(&mut self) {
        self.holes += 1;
    }
}
