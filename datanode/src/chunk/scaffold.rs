//! What the tests of this folder stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{
    Ack, Chain, ChunkId, Clock, DiskId, Epoch, Generation, Incarnation, Sequence, Timestamp, WriterId,
};

use super::spec::{AppendRecord, ChunkSpec, FenceSpec, SealedSpec};
use super::store::{ChunkStore, StoreOptions};
use super::{Fill, OpenReport};
use crate::disk::{Disk, MemoryDisk};

/// A clock that ticks at every look.
#[derive(Default)]
pub(crate) struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn boottime(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed).unsigned_abs())
    }
}

pub(crate) const BOOT: [u8; 16] = [3; 16];
pub(crate) const SEGMENT: u64 = 64 << 10;

pub(crate) fn options(segments: u64) -> StoreOptions {
    StoreOptions {
        disk: DiskId([0xd1; 16]),
        segment_bytes: SEGMENT,
        capacity_bytes: SEGMENT * segments,
        boot_id: BOOT,
        threads: false,
        queue_bytes: 128 << 20,
        fill: Fill::default(),
    }
}

pub(crate) fn open(disk: &dyn DiskHandle, segments: u64) -> (ChunkStore, OpenReport) {
    ChunkStore::open(disk.shared(), Arc::new(Ticks::default()), options(segments)).unwrap()
}

/// Whatever a store can be opened on.
pub(crate) trait DiskHandle {
    fn shared(&self) -> Arc<dyn Disk>;
}

impl<D: Disk + Clone> DiskHandle for D {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

pub(crate) fn memory() -> MemoryDisk {
    MemoryDisk::new(64 << 20)
}

/// Makes the records of one chunk, as its primary would.
#[derive(Clone, Debug)]
pub(crate) struct Primary {
    pub(crate) spec: ChunkSpec,
    pub(crate) length: u64,
    pub(crate) chain: Chain,
    pub(crate) sequence: Sequence,
    pub(crate) committed: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Primary {
    pub(crate) fn new(chunk: u64, incarnation: Incarnation) -> Self {
        let spec = ChunkSpec {
            chunk: ChunkId(chunk),
            epoch: Epoch(1),
            ack: Ack::Fsync,
            opened_incarnation: incarnation,
            base: 1000,
            marks: Vec::new(),
            record: Bytes::from_static(b"record"),
        };
        let (chain, sequence) = (Chain(0), Sequence(0));
        Self { spec, length: 0, chain, sequence, committed: 0, bytes: Vec::new() }
    }

    pub(crate) fn memory(chunk: u64, incarnation: Incarnation) -> Self {
        let mut primary = Self::new(chunk, incarnation);
        primary.spec.ack = Ack::Memory;
        primary
    }

    pub(crate) fn id(&self) -> ChunkId {
        self.spec.chunk
    }

    pub(crate) fn next(&mut self, payload: impl Into<Bytes>) -> AppendRecord {
        let payload = payload.into();
        self.sequence = self.sequence.next();
        let mut record = AppendRecord {
            chunk: self.spec.chunk,
            epoch: self.spec.epoch,
            offset: self.length,
            generation: Generation(1),
            writer: WriterId(5),
            sequence: self.sequence,
            payload_crc32c: crc32c::crc32c(&payload),
            previous_chain: self.chain,
            chain: self.chain,
            committed: self.committed,
            payload,
            close: false,
        };
        record.chain = record.next_chain();
        self.chain = record.chain;
        self.length = record.end();
        self.bytes.extend_from_slice(&record.payload);
        record
    }

    pub(crate) fn close(&self) -> AppendRecord {
        AppendRecord {
            chunk: self.spec.chunk,
            epoch: self.spec.epoch,
            offset: self.length,
            generation: Generation(0),
            writer: WriterId(0),
            sequence: Sequence(0),
            payload_crc32c: 0,
            previous_chain: self.chain,
            chain: self.chain,
            committed: self.committed,
            payload: Bytes::new(),
            close: true,
        }
    }

    pub(crate) fn fence(&self, epoch: u32) -> FenceSpec {
        FenceSpec { spec: self.spec.clone(), epoch: Epoch(epoch) }
    }

    pub(crate) fn sealed(&self, epoch: u32) -> SealedSpec {
        SealedSpec {
            chunk: self.id(),
            epoch: Epoch(epoch),
            length: self.length,
            chain: self.chain,
            holder: true,
        }
    }
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(31) ^ seed.wrapping_mul(97) ^ (i >> 8)) as u8).collect()
}

/// A small generator, seeded.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
