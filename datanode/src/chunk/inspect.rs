//! Reading a store through: its records in the order of its segments, or one chunk's.

use std::collections::VecDeque;

use bytes::Bytes;
use cairn_types::{ChunkId, ReplicaHealth};

use super::checked::CheckedRecord;
use super::completion::Completion;
use super::error::ReadError;
use super::request::Request;
use super::spec::{AppendRecord, ReplicaPhase};
use super::store::ChunkStore;
use super::table::{as_append, block_key};
use crate::segments::{BlockSums, Entry, Listing, RecordError, StoredRecord};

/// A segment that is being read through.
#[derive(Debug)]
pub struct SegmentWalk {
    slot: u32,
    sequence: u64,
    listing: Listing,
    /// Entries taken from the listing so far.
    taken: usize,
    waiting: VecDeque<Entry>,
}

/// What a step of reading through found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Bytes read, headers included.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Chunks of which a record that counts is bad, one for each such record.
    pub chunks: Vec<ChunkId>,
    /// Blocks of the cache that were bad: they are gone now.
    pub blocks: u64,
    /// Records of other kinds that were bad and were written again.
    pub states: u64,
    /// Nothing is left of this segment.
    pub over: bool,
}

/// What a chunk's replica lacks, when it was read through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Ranges in the chunk, each one record or the part that is missing at the end; in order.
    pub ranges: Vec<(u64, u64)>,
}

impl ChunkStore {
    /// The segments in use, oldest first: slot, sequence.
    #[must_use]
    pub fn segments(&self) -> Vec<(u32, u64)> {
        self.table().reader.segments()
    }

    /// Begins to read a segment through. Its header and footer are checked first, and written again
    /// if they are bad; the second number counts those found bad and the third those put right.
    /// `None` when it holds nothing any more. Blocks the thread.
    #[must_use]
    pub fn walk(&self, slot: u32, sequence: u64) -> (Option<SegmentWalk>, u64, u64) {
        let (listing, bad, mended) = match self.listing_of(slot, sequence) {
            Ok(found) => found,
            Err(error) => {
                if error != RecordError::Stale {
                    tracing::error!(slot, %error, "a segment cannot be read through");
                }
                return (None, 0, 0);
            }
        };
        let walk = SegmentWalk { slot, sequence, listing, taken: 0, waiting: VecDeque::new() };
        (Some(walk), bad, mended)
    }

    fn listing_of(&self, slot: u32, sequence: u64) -> Result<(Listing, u64, u64), RecordError> {
        let reader = &self.table().reader;
        let active = self.submit(|callback| Request::Listing(slot, sequence, callback)).wait();
        // A store that is retired or closed could put nothing right.
        let Ok(active) = active else { return Err(RecordError::Stale) };
        if let Some(active) = active {
            let listing = match active.entries {
                Some(entries) => Listing::Encoded(entries),
                None => reader.scan(slot, sequence, None)?,
            };
            return Ok((listing, 0, 0));
        }
        let mut frame = reader.frame(slot, sequence)?;
        let (mut bad, mut mended) = (0, 0);
        if !frame.header || !frame.footer {
            (bad, mended) = (1, self.mend_frame(slot, sequence)?);
            frame = reader.frame(slot, sequence)?;
            tracing::error!(slot, header = frame.header, footer = frame.footer, "a segment's frame was bad");
        }
        Ok((reader.listing(slot, sequence, &frame)?, bad, mended))
    }

    fn mend_frame(&self, slot: u32, sequence: u64) -> Result<u64, RecordError> {
        let Some(footer) = self.table().reader.footer(slot, sequence)? else { return Ok(0) };
        let footer = Box::new(footer);
        let mended = self.submit(|callback| Request::Reframe(slot, sequence, footer, callback)).wait();
        Ok(u64::from(mended == Ok(true)))
    }

    /// Reads on, about `bytes_max` bytes and at least one record. Records that count for nothing any
    /// more are passed over. Blocks the thread.
    #[must_use]
    pub fn walk_on(&self, walk: &mut SegmentWalk, bytes_max: u64) -> Examined {
        let mut examined = Examined::default();
        let mut batch: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            if walk.waiting.is_empty() {
                let reader = &self.table().reader;
                let piece = reader.piece(walk.slot, walk.sequence, &walk.listing, walk.taken);
                let piece = piece.unwrap_or_default();
                walk.taken += piece.len();
                walk.waiting = piece.into();
            }
            let Some(entry) = walk.waiting.pop_front() else {
                examined.over = batch.is_empty();
                break;
            };
            if self.table().counts(&entry) {
                bytes += entry.header.stored_bytes();
                batch.push(entry);
            }
        }
        self.table().reader.uncache(&batch);
        for entry in &batch {
            self.examine(entry, &mut examined);
        }
        examined
    }

    fn examine(&self, entry: &Entry, examined: &mut Examined) {
        let (header, location) = (&entry.header, entry.location);
        let read = self.table().reader.record(location, entry.segment, header.length);
        examined.records += 1;
        examined.bytes += header.stored_bytes();
        match read {
            Ok(_) | Err(RecordError::Stale) => return,
            Err(RecordError::Damaged | RecordError::Io(_)) if self.table().counts(entry) => {}
            // It was moved or dropped in between.
            Err(RecordError::Damaged | RecordError::Io(_)) => return,
        }
        tracing::error!(chunk = header.chunk, kind = ?header.kind, slot = location.slot, "a bad record was found");
        if header.kind.is_data() {
            examined.chunks.push(ChunkId(header.chunk));
        } else if let Some(key) = block_key(header) {
            self.push(Request::CacheDrop(key, location));
            examined.blocks += 1;
        } else {
            let entry = *entry;
            let again = self.submit(|callback| Request::Rewrite(entry, callback)).wait();
            examined.states += u64::from(again == Ok(true));
        }
    }

    /// Reads a replica through; answers what is bad of it and how many bytes were read. Blocks the
    /// thread.
    ///
    /// # Errors
    /// `UnknownChunk`.
    pub fn check(&self, chunk: ChunkId) -> Result<(Faults, u64), ReadError> {
        let (mut faults, mut at) = (Faults::default(), 0);
        loop {
            match self.table().check_record(chunk, at)? {
                CheckedRecord::Good { end } => at = end,
                CheckedRecord::Bad { end } => {
                    faults.ranges.push((at, end));
                    at = end;
                }
                CheckedRecord::Missing { end } => {
                    faults.ranges.push((at, end));
                    return Ok((faults, at));
                }
                CheckedRecord::End => return Ok((faults, at)),
            }
        }
    }

    /// The record at `offset` with `payload` for its bytes, for a record whose own bytes are bad: its
    /// header as it reads, or as its segment's footer has it. `None` when neither is there, or the
    /// payload is another. Blocks the thread.
    #[must_use]
    pub fn restored(&self, chunk: ChunkId, offset: u64, payload: Bytes) -> Option<AppendRecord> {
        let header = self.table().any_header(chunk, offset)?;
        let same = (header.offset, header.length as usize) == (offset, payload.len())
            && header.chunk == chunk.0
            && header.payload_crc32c == crc32c::crc32c(&payload);
        same.then(|| as_append(chunk, StoredRecord { header, payload }))
    }

    /// Puts a good copy of a record of a sealed or fenced replica into the place of a bad one, or after the
    /// last one that is there. Durable when it resolves.
    ///
    /// # Errors
    /// `UnknownChunk`, `NotSealed`; `BadRecord` when it cannot have been there; `DiskFull`,
    /// `Retired`, `Busy`.
    pub fn repair(&self, record: AppendRecord) -> Completion<()> {
        let sums = BlockSums::of(&record.payload);
        self.submit(|callback| Request::Repair(record, sums, callback))
    }

    /// All of a sealed replica was read and is good: it is healthy, durably so.
    ///
    /// # Errors
    /// `UnknownChunk`, `NotSealed`, `Retired`.
    pub fn heal(&self, chunk: ChunkId) -> Completion<()> {
        self.submit(|callback| Request::Heal(chunk, callback))
    }

    /// Counts a replica as damaged, also after a restart: what it has may be wrong and is not
    /// complete.
    pub fn mark_damaged(&self, chunk: ChunkId) {
        if self.table().mark_damaged(chunk) {
            self.push(Request::MarkDamaged(chunk));
        }
    }

    /// Chunks whose sealed replicas count as damaged.
    #[must_use]
    pub fn damaged(&self) -> Vec<ChunkId> {
        let views = self.list().into_iter();
        let bad = views.filter(|view| view.health == ReplicaHealth::Damaged);
        bad.filter(|view| view.phase == ReplicaPhase::Sealed).map(|view| view.chunk).collect()
    }
}
