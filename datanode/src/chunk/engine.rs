//! [`Engine`]: owns every replica and the log; turns requests into records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{Ack, ChunkId, Clock, Epoch, Incarnation};

use super::batch::{Notify, Pending, stored_bytes};
use super::completion::Callback;
use super::error::{Retired, StoreError};
use super::recover::{OpenReport, Rebuild};
use super::recycle::Victim;
use super::replica::Here;
use super::request::{CacheKey, Request};
use super::spec::{AppendRecord, ChunkSpec, Durable, FenceAnswer, FenceSpec, OPAQUE_BYTES_MAX};
use super::state::{Phase, ReplicaState};
use super::table::{Cell, RecordRef, Table};
use crate::disk::Disk;
use crate::segments::{
    BlockSums, Location, LogError, LogOptions, Privilege, RecordHeader, RecordKind, SegmentLog, WriteFailure,
};

/// An fdatasync that takes longer is worth a line.
const SLOW: Duration = Duration::from_millis(50);

/// A replica as the writer knows it: what it has accepted, not only what is durable.
pub(crate) struct Replica {
    pub(crate) state: ReplicaState,
    pub(crate) cell: Arc<Cell>,
    /// Where its newest state record is, the record's segment, and its payload's length.
    pub(crate) state_at: (Location, u64, u32),
    /// The batch in which a record that must be fsynced was written.
    pub(crate) synced_batch: u64,
    /// The batch in which its bytes were last written.
    pub(crate) data_batch: u64,
}

/// Every replica, the cache and the log of one disk. Has one owner and no thread of its own.
pub(crate) struct Engine {
    pub(crate) log: SegmentLog,
    pub(crate) table: Arc<Table>,
    pub(crate) here: Here,
    pub(crate) replicas: HashMap<ChunkId, Replica>,
    /// Drop records that older segments still need.
    pub(crate) tombstones: HashMap<ChunkId, Location>,
    pub(crate) victim: Option<Victim>,
    /// A step of recycling is under way: its own records start no other.
    pub(crate) emptying: bool,
    /// Full segments and live bytes when no segment was worth emptying.
    pub(crate) barren: Option<(usize, u64)>,
    /// With each: must it be fsynced first?
    pending: Vec<(bool, Pending)>,
    batch: u64,
}

impl From<WriteFailure> for Retired {
    fn from(failure: WriteFailure) -> Self {
        Self { operation: failure.operation, errno: failure.errno }
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Failed(failure) => Self::Retired(failure.into()),
            LogError::Disk(error) => Self::Retired(WriteFailure::from(&error).into()),
            _ => Self::DiskFull,
        }
    }
}

impl Engine {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        boot_id: [u8; 16],
    ) -> Result<(Self, OpenReport), LogError> {
        let mut rebuild = Rebuild::default();
        let mut log = SegmentLog::open(disk, clock, options, &mut rebuild)?;
        let here = Here { incarnation: Incarnation(log.run()), boot_id };
        let table = Arc::new(Table::new(log.reader()));
        let rebuilt = rebuild.finish(&mut log, &table, &here);
        let mut engine = Self {
            log,
            table,
            here,
            replicas: rebuilt.replicas,
            tombstones: rebuilt.tombstones,
            victim: None,
            emptying: false,
            barren: None,
            pending: Vec::new(),
            batch: 1,
        };
        for chunk in &rebuilt.newly_damaged {
            engine.mark_damaged(*chunk);
        }
        engine.flush();
        engine.note_figures();
        let report = OpenReport::of(here.incarnation, &engine.table);
        Ok((engine, report))
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.here.incarnation
    }

    /// Takes a request into the batch, or refuses it at once.
    pub(crate) fn accept(&mut self, request: Request) {
        if let Some(retired) = self.table.retired() {
            return request.refuse(retired.into());
        }
        match request {
            Request::Create(spec, callback) => self.create(&spec, callback),
            Request::Append(record, sums, extension, callback) => {
                self.append(&record, &sums, extension, callback);
            }
            Request::Fence(fence, callback) => self.fence(&fence, callback),
            Request::Sealed(sealed, callback) => self.learn_sealed(&sealed, callback),
            Request::Delete(chunk, callback) => {
                let outcome = self.drop_replica(chunk);
                self.reply(outcome, callback, |callback, _| Notify::Done(callback));
            }
            Request::Persisted(chunk, place, callback) => self.persisted(chunk, &place, callback),
            Request::Evict(chunk, callback) => {
                let outcome = self.evict(chunk);
                self.reply(outcome, callback, Notify::Evicted);
            }
            Request::CachePut(key, block, sums, callback) => self.cache_put(key, &block, &sums, callback),
            Request::MarkDamaged(chunk) => self.mark_damaged(chunk),
            Request::Flush(callback) => self.wait(true, Pending::Other(Notify::Done(callback))),
        }
    }

    fn reply<T, U>(
        &mut self,
        outcome: Result<T, StoreError>,
        callback: Callback<U>,
        notify: impl FnOnce(Callback<U>, T) -> Notify,
    ) {
        match outcome {
            Ok(value) => self.wait(true, Pending::Other(notify(callback, value))),
            Err(error) => callback(Err(error)),
        }
    }

    /// Keeps `pending` until the batch is written, or with `sync` fsynced.
    pub(crate) fn wait(&mut self, sync: bool, pending: Pending) {
        self.pending.push((sync, pending));
    }

    /// Writes the batch and fsyncs it if any of it asks for that; tells everybody in order.
    pub(crate) fn commit(&mut self) {
        self.commit_with(false);
    }

    /// Commits if anything of `chunk` is in the batch: then readers see all that was accepted.
    pub(crate) fn settle(&mut self, chunk: ChunkId) {
        let replica = self.replicas.get(&chunk);
        if replica.is_some_and(|r| r.synced_batch == self.batch || r.data_batch == self.batch) {
            self.commit();
        }
    }

    /// Notes that bytes of `chunk` are in the batch.
    pub(crate) fn note_data(&mut self, chunk: ChunkId) {
        if let Some(replica) = self.replicas.get_mut(&chunk) {
            replica.data_batch = self.batch;
        }
    }

    /// Writes and fsyncs whatever there is.
    pub(crate) fn flush(&mut self) {
        self.commit_with(true);
    }

    fn commit_with(&mut self, force_sync: bool) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && !force_sync {
            return;
        }
        self.batch += 1;
        let (synced, written): (Vec<_>, Vec<_>) = pending.into_iter().partition(|(sync, _)| *sync);
        if let Err(error) = self.log.write() {
            return self.fail(written.into_iter().chain(synced), &error);
        }
        for (_, pending) in written {
            pending.publish(&self.table, &mut self.log);
        }
        if force_sync || !synced.is_empty() {
            match self.log.sync() {
                Ok(Some(took)) => self.note_fsync(took),
                Ok(None) => {}
                Err(error) => return self.fail(synced.into_iter(), &error),
            }
        }
        for (_, pending) in synced {
            pending.publish(&self.table, &mut self.log);
        }
        self.note_figures();
    }

    fn fail(&mut self, pending: impl Iterator<Item = (bool, Pending)>, error: &LogError) {
        self.note_failure();
        let error = StoreError::from(error.clone());
        for (_, pending) in pending {
            pending.fail(error.clone());
        }
    }

    fn note_fsync(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.table.counters.note_fsync(us);
        metrics::histogram!("cairn_data_fsync_us").record(us as f64);
        if took > SLOW {
            tracing::warn!(took_ms = took.as_millis() as u64, "a slow fdatasync");
        }
    }

    fn note_failure(&mut self) {
        if let Some(failure) = self.log.failure() {
            // The first failure is the one to keep.
            let _kept = self.table.retired.set(failure.into());
        }
    }

    fn note_figures(&self) {
        let counters = &self.table.counters;
        counters.used_bytes.store(self.log.live_bytes(), Ordering::Relaxed);
        counters.segments.store(self.log.segments().into(), Ordering::Relaxed);
        counters.segments_free.store(self.log.free_segments().into(), Ordering::Relaxed);
        let capacity = u64::from(self.log.options.segments_max) * self.log.options.segment_bytes;
        counters.capacity_bytes.store(capacity, Ordering::Relaxed);
    }

    /// Pushes a record, recycling segments when there is no room for one of its privilege.
    pub(crate) fn push(
        &mut self,
        header: &RecordHeader,
        sums: &BlockSums,
        payload: &Bytes,
        privilege: Privilege,
    ) -> Result<Location, StoreError> {
        let mut outcome = self.log.push(header, sums, payload, privilege);
        if outcome == Err(LogError::NoSpace) && self.make_room(privilege) {
            outcome = self.log.push(header, sums, payload, privilege);
        }
        match outcome {
            Ok(location) => {
                self.log.add_live(location, stored_bytes(header.length));
                Ok(location)
            }
            Err(error) => {
                self.note_failure();
                Err(error.into())
            }
        }
    }

    /// Writes a replica's state as it is now; readers see it once it is durable.
    pub(crate) fn push_state(
        &mut self,
        chunk: ChunkId,
        kind: RecordKind,
        privilege: Privilege,
        notify: Notify,
    ) -> Result<(), (StoreError, Notify)> {
        let Some(replica) = self.replicas.get(&chunk) else {
            return Err((StoreError::UnknownChunk { chunk }, notify));
        };
        let payload = Bytes::from(replica.state.encode());
        let (header, sums) = describe(RecordHeader::new(kind, chunk.0), &payload);
        let location = match self.push(&header, &sums, &payload, privilege) {
            Ok(location) => location,
            Err(error) => return Err((error, notify)),
        };
        let segment = self.log.segment_of(location.slot);
        let Some(replica) = self.replicas.get_mut(&chunk) else {
            return Err((StoreError::UnknownChunk { chunk }, notify));
        };
        let (old, _, length) = std::mem::replace(&mut replica.state_at, (location, segment, header.length));
        if old != location {
            self.log.drop_live(old, stored_bytes(length));
        }
        replica.synced_batch = self.batch;
        let view = Box::new(replica.state.view(&self.here));
        let cell = Arc::clone(&replica.cell);
        self.wait(true, Pending::State { chunk, cell, view, notify });
        Ok(())
    }

    fn create(&mut self, spec: &ChunkSpec, callback: Callback<()>) {
        let chunk = spec.chunk;
        if let Some(replica) = self.replicas.get(&chunk) {
            let outcome = replica.state.check_again(spec);
            return self.reply(outcome, callback, |callback, ()| Notify::Done(callback));
        }
        let (wanted, actual) = (spec.opened_incarnation, self.here.incarnation);
        if wanted != actual {
            return callback(Err(StoreError::OtherIncarnation { chunk, wanted, actual }));
        }
        let state = ReplicaState::new(spec, self.here.boot_id);
        let notify = Notify::Done(callback);
        if let Err((error, notify)) = self.make(spec, state, Privilege::Append, notify) {
            notify_error(notify, error);
        }
    }

    /// Makes a replica of `state`; readers see it once it is durable.
    fn make(
        &mut self,
        spec: &ChunkSpec,
        state: ReplicaState,
        privilege: Privilege,
        notify: Notify,
    ) -> Result<(), (StoreError, Notify)> {
        if let Err(error) = ReplicaState::check_spec(spec) {
            return Err((error, notify));
        }
        let chunk = spec.chunk;
        let cell = Cell::new(state.view(&self.here), Vec::new());
        let nowhere = Location { slot: u32::MAX, offset: 0 };
        self.replicas.insert(
            chunk,
            Replica { state, cell, state_at: (nowhere, 0, 0), synced_batch: 0, data_batch: 0 },
        );
        let made = self.push_state(chunk, RecordKind::Create, privilege, notify);
        match made.is_ok() {
            true => self.forget_tombstone(chunk),
            false => drop(self.replicas.remove(&chunk)),
        }
        made
    }

    fn append(
        &mut self,
        record: &AppendRecord,
        sums: &BlockSums,
        extension: Option<Epoch>,
        callback: Callback<Durable>,
    ) {
        let chunk = record.chunk;
        let checked = match self.replicas.get(&chunk) {
            None => Err(StoreError::UnknownChunk { chunk }),
            Some(r) if extension.is_none() && r.cell.damaged.load(Ordering::Acquire) => {
                Err(StoreError::Damaged { chunk })
            }
            Some(replica) => replica.state.check_append(record, sums, extension, &self.here),
        };
        let kind = if record.close { RecordKind::Close } else { RecordKind::Append };
        let header = append_header(kind, record);
        // An extension is part of a seal: it may use the reserve.
        let privilege = if extension.is_some() { Privilege::Move } else { Privilege::Append };
        let pushed = checked.and_then(|()| self.push(&header, sums, &record.payload, privilege));
        let (location, replica) = match (pushed, self.replicas.get_mut(&chunk)) {
            (Ok(location), Some(replica)) => (location, replica),
            (Err(error), _) => return callback(Err(error)),
            (Ok(_), None) => return callback(Err(StoreError::UnknownChunk { chunk })),
        };
        let wall = self.log.batch_wall();
        replica.state.advance(&record.step(wall));
        replica.data_batch = self.batch;
        if record.close {
            self.log.drop_live(location, stored_bytes(0));
        }
        let offset = record.offset as u32;
        let length = record.payload.len() as u32;
        let added = (!record.close).then_some(RecordRef { offset, length, location });
        let sync = replica.state.ack == Ack::Fsync || replica.synced_batch == self.batch;
        let pending = Pending::Append {
            cell: Arc::clone(&replica.cell),
            added,
            chain: replica.state.chain,
            heard: record.committed,
            wall,
            length: replica.state.length,
            callback,
        };
        self.wait(sync, pending);
    }

    fn fence(&mut self, fence: &FenceSpec, callback: Callback<FenceAnswer>) {
        let chunk = fence.spec.chunk;
        let made = !self.replicas.contains_key(&chunk);
        if made {
            // R4: what is not here becomes a fenced empty replica. No boot id: it proves nothing
            // unless this very process was the one the chunk was opened with.
            let mut state = ReplicaState::new(&fence.spec, [0; 16]);
            if let Err(error) = state.fence(fence) {
                return callback(Err(error));
            }
            let notify = Notify::Fenced(callback, state.fence_answer(&self.here));
            if let Err((error, notify)) = self.make(&fence.spec, state, Privilege::Control, notify) {
                notify_error(notify, error);
            }
            return;
        }
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let before = (replica.state.epoch, replica.state.phase);
        let heard = replica.cell.heard.load(Ordering::Acquire);
        replica.state.damaged |= replica.cell.damaged.load(Ordering::Acquire);
        replica.state.heard = replica.state.heard.max(heard);
        let outcome = replica.state.fence(fence);
        let answer = replica.state.fence_answer(&self.here);
        match outcome {
            Err(error) => callback(Err(error)),
            Ok(false) => self.wait(true, Pending::Other(Notify::Fenced(callback, answer))),
            Ok(true) => {
                let notify = Notify::Fenced(callback, answer);
                let pushed = self.push_state(chunk, RecordKind::Fence, Privilege::Control, notify);
                if let Err((error, notify)) = pushed {
                    if let Some(replica) = self.replicas.get_mut(&chunk) {
                        (replica.state.epoch, replica.state.phase) = before;
                    }
                    notify_error(notify, error);
                }
            }
        }
    }

    fn persisted(&mut self, chunk: ChunkId, place: &Bytes, callback: Callback<()>) {
        let refused = match self.replicas.get_mut(&chunk) {
            None => Some(StoreError::UnknownChunk { chunk }),
            Some(replica) if replica.state.phase != Phase::Sealed => Some(StoreError::NotSealed { chunk }),
            Some(_) if place.len() > OPAQUE_BYTES_MAX => Some(StoreError::BadRecord { chunk }),
            Some(replica) => {
                replica.state.place = Some(place.to_vec());
                self.barren = None;
                None
            }
        };
        if let Some(error) = refused {
            return callback(Err(error));
        }
        let notify = Notify::Done(callback);
        if let Err((error, notify)) =
            self.push_state(chunk, RecordKind::Persisted, Privilege::Control, notify)
        {
            if let Some(replica) = self.replicas.get_mut(&chunk) {
                replica.state.place = None;
            }
            notify_error(notify, error);
        }
    }

    /// Keeps a replica's damage over a restart. Best effort: it is found again if this fails.
    fn mark_damaged(&mut self, chunk: ChunkId) {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        if !std::mem::replace(&mut replica.state.damaged, true)
            && let Err((error, _)) =
                self.push_state(chunk, RecordKind::Damage, Privilege::Control, Notify::Nobody)
        {
            tracing::error!(%chunk, %error, "the damage of a replica could not be recorded");
        }
    }

    fn cache_put(&mut self, key: CacheKey, block: &Bytes, sums: &BlockSums, callback: Callback<()>) {
        let header = RecordHeader {
            length: block.len() as u32,
            payload_crc32c: sums.whole,
            generation: (key.object >> 64) as u64,
            writer: key.object as u64,
            sequence: key.block,
            ..RecordHeader::new(RecordKind::CacheBlock, 0)
        };
        if block.len() > crate::segments::record::PAYLOAD_BYTES_MAX {
            return callback(Err(StoreError::BadRecord { chunk: ChunkId(0) }));
        }
        match self.push(&header, sums, block, Privilege::Cache) {
            Err(error) => callback(Err(error)),
            Ok(location) => {
                let (length, notify) = (header.length, Notify::Done(callback));
                self.wait(false, Pending::Cached { key, location, length, notify });
            }
        }
    }

    fn forget_tombstone(&mut self, chunk: ChunkId) {
        if let Some(location) = self.tombstones.remove(&chunk) {
            self.log.drop_live(location, stored_bytes(0));
        }
    }
}

pub(crate) fn notify_error(notify: Notify, error: StoreError) {
    Pending::Other(notify).fail(error);
}

/// `header` with the length and checksum of `payload`.
pub(crate) fn describe(header: RecordHeader, payload: &[u8]) -> (RecordHeader, BlockSums) {
    let sums = BlockSums::of(payload);
    (RecordHeader { length: payload.len() as u32, payload_crc32c: sums.whole, ..header }, sums)
}

pub(crate) fn append_header(kind: RecordKind, record: &AppendRecord) -> RecordHeader {
    RecordHeader {
        kind,
        length: record.payload.len() as u32,
        epoch: record.epoch.0,
        chunk: record.chunk.0,
        offset: record.offset,
        generation: record.generation.0,
        writer: record.writer.0,
        sequence: record.sequence.0,
        committed: record.committed,
        payload_crc32c: record.payload_crc32c,
        chain: record.chain.0,
        previous_chain: record.previous_chain.0,
    }
}
