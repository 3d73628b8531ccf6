//! [`Table`]: what readers see of the store. The writer's thread alone changes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::{Bytes, BytesMut};
use cairn_types::{Chain, ChunkId, Epoch, Generation, ReplicaHealth, Sequence, WriterId};

use super::error::{ReadError, Retired};
use super::heat::{Heat, Pulse};
use super::request::CacheKey;
use super::spec::{AppendRecord, ChunkView, ReplicaPhase};
use super::stats::{Counters, StoreStats};
use crate::segments::{Location, RecordError, RecordHeader, RecordKind, SegmentReader, StoredRecord};

/// Times a read looks a record up again because its segment was recycled meanwhile.
pub(super) const LOOKUPS_MAX: usize = 8;

/// Where a record of a chunk is: 16 bytes, for there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordRef {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) location: Location,
}

impl RecordRef {
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        crate::segments::record::stored_bytes(self.length as usize) as u64
    }
}

/// A replica as readers see it.
pub(crate) struct Body {
    pub(crate) view: ChunkView,
    /// In order, without gaps, up to `view.length`.
    pub(crate) refs: Vec<RecordRef>,
    /// The replica was dropped.
    pub(crate) gone: bool,
}

/// One replica in the table.
pub(crate) struct Cell {
    /// The highest committed length heard, hints included.
    pub(crate) heard: AtomicU64,
    /// How often it was read of late.
    pub(crate) heat: Heat,
    /// A read found damage.
    pub(crate) damaged: AtomicBool,
    /// Guards that view and refs change together, as one record or one decision; never held over
    /// I/O.
    body: RwLock<Body>,
}

impl Cell {
    pub(crate) fn new(view: ChunkView, refs: Vec<RecordRef>) -> Arc<Self> {
        Arc::new(Self {
            heard: AtomicU64::new(view.heard_committed),
            heat: Heat::default(),
            damaged: AtomicBool::new(false),
            body: RwLock::new(Body { view, refs, gone: false }),
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Body> {
        self.body.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Body> {
        self.body.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> ChunkView {
        let mut view = self.read().view.clone();
        view.heard_committed = view.heard_committed.max(self.heard.load(Ordering::Acquire));
        if self.damaged.load(Ordering::Acquire) {
            view.health = ReplicaHealth::Damaged;
            view.accepts = false;
        }
        view
    }
}

pub(crate) struct CacheEntry {
    pub(crate) location: Location,
    pub(crate) length: u32,
    pub(crate) heat: Heat,
}

/// What readers see.
pub(crate) struct Table {
    /// Guards which replicas there are.
    pub(crate) chunks: RwLock<HashMap<ChunkId, Arc<Cell>>>,
    /// Guards where cached blocks are.
    pub(crate) cache: RwLock<HashMap<CacheKey, CacheEntry>>,
    pub(crate) reader: SegmentReader,
    pub(crate) counters: Counters,
    pub(crate) retired: OnceLock<Retired>,
    pub(crate) pulse: Pulse,
}

impl Table {
    pub(crate) fn new(reader: SegmentReader) -> Self {
        Self {
            chunks: RwLock::default(),
            cache: RwLock::default(),
            reader,
            counters: Counters::default(),
            retired: OnceLock::new(),
            pulse: Pulse::default(),
        }
    }

    pub(crate) fn cell(&self, chunk: ChunkId) -> Option<Arc<Cell>> {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner).get(&chunk).cloned()
    }

    pub(crate) fn insert(&self, chunk: ChunkId, cell: Arc<Cell>) {
        self.chunks.write().unwrap_or_else(PoisonError::into_inner).insert(chunk, cell);
    }

    pub(crate) fn remove(&self, chunk: ChunkId) {
        self.chunks.write().unwrap_or_else(PoisonError::into_inner).remove(&chunk);
    }

    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What `ask` makes of a block that is kept; 0 of one that is not.
    pub(crate) fn with_block(&self, key: &CacheKey, ask: impl FnOnce(&CacheEntry) -> u8) -> u8 {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).get(key).map_or(0, ask)
    }

    pub(crate) fn retired(&self) -> Option<Retired> {
        self.retired.get().copied()
    }

    pub(crate) fn view(&self, chunk: ChunkId) -> Option<ChunkView> {
        self.cell(chunk).map(|cell| cell.view())
    }

    pub(crate) fn views(&self) -> Vec<ChunkView> {
        self.cells().iter().map(|cell| cell.view()).collect()
    }

    pub(crate) fn note_committed(&self, chunk: ChunkId, epoch: Epoch, committed: u64) {
        let Some(cell) = self.cell(chunk) else { return };
        let open = {
            let body = cell.read();
            body.view.opened_epoch == epoch && body.view.phase != ReplicaPhase::Sealed
        };
        if open {
            cell.heard.fetch_max(committed, Ordering::AcqRel);
        }
    }

    /// Runs `read` on a looked-up record, again when its segment was recycled in between.
    fn with_record<T>(
        &self,
        chunk: ChunkId,
        cell: &Cell,
        offset: u64,
        read: impl Fn(&RecordRef, u64) -> Result<T, RecordError>,
    ) -> Result<T, ReadError> {
        for _ in 0..LOOKUPS_MAX {
            let (found, segment) = {
                let body = cell.read();
                if body.gone {
                    return Err(ReadError::UnknownChunk { chunk });
                }
                let index = body.refs.partition_point(|r| r.end() <= offset);
                let found = body.refs.get(index).filter(|r| u64::from(r.offset) <= offset).copied();
                let Some(found) = found else {
                    // Below the length and not there: recovery found it missing.
                    return Err(ReadError::Damaged { chunk, offset });
                };
                (found, self.reader.segment(found.location.slot))
            };
            match read(&found, segment) {
                Ok(value) => return Ok(value),
                Err(RecordError::Stale) => {}
                Err(RecordError::Damaged) => {
                    cell.damaged.store(true, Ordering::Release);
                    return Err(ReadError::Damaged { chunk, offset: found.offset.into() });
                }
                Err(RecordError::Io(errno)) => {
                    cell.damaged.store(true, Ordering::Release);
                    return Err(ReadError::Io { errno });
                }
            }
        }
        Err(ReadError::UnknownChunk { chunk })
    }

    pub(crate) fn read(
        &self,
        chunk: ChunkId,
        offset: u64,
        length: usize,
        known_committed: u64,
    ) -> Result<Bytes, ReadError> {
        let cell = self.cell(chunk).ok_or(ReadError::UnknownChunk { chunk })?;
        let heard = cell.heard.load(Ordering::Acquire).max(known_committed);
        let visible = {
            let body = cell.read();
            let sealed = body.view.phase == ReplicaPhase::Sealed;
            if sealed { body.view.length } else { body.view.length.min(heard) }
        };
        let end = offset.checked_add(length as u64).filter(|end| *end <= visible);
        let end = end.ok_or(ReadError::NotVisible { chunk, visible })?;
        cell.heat.note(&self.pulse);
        let piece = |at: u64| {
            self.with_record(chunk, &cell, at, |found, segment| {
                let from = (at - u64::from(found.offset)) as usize;
                let until = (end.min(found.end()) - u64::from(found.offset)) as usize;
                self.reader.range(found.location, segment, found.length, (from, until))
            })
        };
        if length == 0 {
            return Ok(Bytes::new());
        }
        let first = piece(offset)?;
        if first.len() == length {
            return Ok(first);
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            bytes.extend_from_slice(&piece(offset + bytes.len() as u64)?);
        }
        Ok(bytes.freeze())
    }

    pub(crate) fn records(
        &self,
        chunk: ChunkId,
        from: u64,
        until: u64,
        bytes_max: usize,
    ) -> Result<Vec<AppendRecord>, ReadError> {
        let cell = self.cell(chunk).ok_or(ReadError::UnknownChunk { chunk })?;
        let visible = cell.read().view.length;
        if from > visible {
            return Err(ReadError::NotVisible { chunk, visible });
        }
        let mut records: Vec<AppendRecord> = Vec::new();
        let (mut at, mut bytes) = (from, 0);
        while at < until.min(visible) && (records.is_empty() || bytes < bytes_max) {
            let stored = self.with_record(chunk, &cell, at, |found, segment| {
                self.reader.record(found.location, segment, found.length)
            })?;
            if stored.header.offset != at {
                return Err(ReadError::NotVisible { chunk, visible });
            }
            let record = as_append(chunk, stored);
            bytes += record.payload.len();
            at = record.end();
            records.push(record);
        }
        Ok(records)
    }

    /// The chain at a record's edge below the length, from the disk; `None` when `at` is no edge.
    pub(crate) fn chain_at(&self, chunk: ChunkId, at: u64) -> Result<Option<Chain>, ReadError> {
        if at == 0 {
            return Ok(Some(Chain(0)));
        }
        let cell = self.cell(chunk).ok_or(ReadError::UnknownChunk { chunk })?;
        let header = self.with_record(chunk, &cell, at - 1, |found, segment| {
            self.reader.header(found.location, segment, found.length)
        })?;
        let end = header.offset + u64::from(header.length);
        Ok((end == at).then_some(Chain(header.chain)))
    }

    /// The chain before the record at `at`, from the disk; `None` when none begins there.
    pub(crate) fn chain_before(&self, chunk: ChunkId, at: u64) -> Result<Option<Chain>, ReadError> {
        let cell = self.cell(chunk).ok_or(ReadError::UnknownChunk { chunk })?;
        let header = self.with_record(chunk, &cell, at, |found, segment| {
            self.reader.header(found.location, segment, found.length)
        })?;
        Ok((header.offset == at).then_some(Chain(header.previous_chain)))
    }

    /// A block that is kept, and where a bad one is.
    pub(crate) fn cache_get(&self, key: CacheKey) -> Result<Option<Bytes>, Location> {
        let (location, length, segment) = {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            let Some(entry) = cache.get(&key) else { return Ok(None) };
            entry.heat.note(&self.pulse);
            (entry.location, entry.length, self.reader.segment(entry.location.slot))
        };
        match self.reader.record(location, segment, length) {
            Ok(stored) if block_key(&stored.header) == Some(key) => Ok(Some(stored.payload)),
            Err(RecordError::Stale) => Ok(None),
            _ => Err(location),
        }
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        self.counters.fill(&mut stats);
        for cell in self.cells() {
            let body = cell.read();
            match body.view.phase {
                ReplicaPhase::Sealed => stats.chunks_sealed += 1,
                _ => stats.chunks_open += 1,
            }
            if body.view.place.is_none() {
                stats.pinned_bytes += body.view.length;
            }
        }
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        stats.cached_bytes = cache.values().map(|entry| u64::from(entry.length)).sum();
        stats
    }
}

/// The key of a cached block's record.
pub(crate) fn block_key(header: &RecordHeader) -> Option<CacheKey> {
    let object = u128::from(header.generation) << 64 | u128::from(header.writer);
    (header.kind == RecordKind::CacheBlock).then_some(CacheKey { object, block: header.sequence })
}

pub(crate) fn as_append(chunk: ChunkId, stored: StoredRecord) -> AppendRecord {
    let header = stored.header;
    AppendRecord {
        chunk,
        epoch: Epoch(header.epoch),
        offset: header.offset,
        generation: Generation(header.generation),
        writer: WriterId(header.writer),
        sequence: Sequence(header.sequence),
        payload_crc32c: header.payload_crc32c,
        previous_chain: Chain(header.previous_chain),
        chain: Chain(header.chain),
        committed: header.committed,
        payload: stored.payload,
        close: false,
    }
}
