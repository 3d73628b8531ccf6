//! [`Engine`]: owns every replica and the log; turns requests into records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{ChunkId, Clock, Incarnation};

use super::batch::{Notify, Pending, stored_bytes};
use super::completion::Callback;
use super::error::{Retired, StoreError};
use super::policy::Policy;
use super::recover::{OpenReport, Rebuild};
use super::recycle::Victim;
use super::replica::Here;
use super::request::Request;
use super::space::{Fill, Waters};
use super::state::ReplicaState;
use super::table::{Cell, Table};
use crate::disk::Disk;
use crate::segments::{
    BlockSums, Location, LogError, LogOptions, Privilege, RecordHeader, RecordKind, SegmentLog, WriteFailure,
};

/// A batch of so many bytes is fsynced while the next is written.
const BESIDE_BYTES: usize = 1 << 20;
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
    /// What may go, and in which order.
    pub(crate) policy: Policy,
    pub(crate) waters: Waters,
    /// Segments are being emptied until enough are free.
    pub(crate) draining: bool,
    /// How many segments were chosen to be emptied.
    pub(crate) choices: u64,
    pub(crate) victim: Option<Victim>,
    /// A step of recycling is under way: its own records start no other.
    pub(crate) emptying: bool,
    /// Full segments and live bytes when no segment was worth emptying.
    pub(crate) barren: Option<(usize, u64)>,
    /// With each: must it be fsynced first?
    pending: Vec<(bool, Pending)>,
    pub(crate) batch: u64,
    /// What waits for the fsync that is under way: of the batch before this one.
    syncing: Vec<Pending>,
    /// See [`BESIDE_BYTES`].
    pub(crate) beside_bytes: usize,
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
            _ => Self::DiskFull { pinned_bytes: 0, usable_bytes: 0 },
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
            policy: Policy::default(),
            waters: Waters::of(options.segments_max, Fill::default()),
            draining: false,
            choices: 0,
            victim: None,
            emptying: false,
            barren: None,
            pending: Vec::new(),
            batch: 1,
            syncing: Vec::new(),
            beside_bytes: BESIDE_BYTES,
        };
        engine.enlist();
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
            Request::Repair(record, sums, callback) => self.repair(&record, &sums, callback),
            Request::Heal(chunk, callback) => self.heal(chunk, callback),
            Request::Rewrite(entry, callback) => self.rewrite(&entry, callback),
            Request::CacheDrop(key, location) => self.cache_drop(key, location),
            Request::Listing(slot, segment, callback) => {
                // What it lists must be where a reader finds it.
                self.commit();
                callback(Ok(self.log.active_listing(slot, segment)));
            }
            Request::Reframe(slot, segment, footer, callback) => {
                let outcome = self.log.reframe(slot, segment, &footer);
                if outcome.is_err() {
                    self.note_failure();
                }
                callback(outcome.map_err(StoreError::from));
            }
        }
    }

    pub(crate) fn reply<T, U>(
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
        self.commit_with(false, false);
        self.end_sync();
    }

    /// The same, but of a large batch's fsync it does not see the end: the next commit does, or
    /// [`end_sync`](Self::end_sync).
    pub(crate) fn commit_beside(&mut self) {
        self.commit_with(false, true);
    }

    /// True while the fsync of a batch is under way.
    pub(crate) fn is_syncing(&self) -> bool {
        !self.syncing.is_empty()
    }

    /// Waits for the fsync that is under way, and tells everybody who waits for it.
    pub(crate) fn end_sync(&mut self) {
        if !self.is_syncing() {
            return;
        }
        let synced = std::mem::take(&mut self.syncing);
        match self.log.end_sync() {
            Ok(took) => self.publish_synced(took, synced),
            Err(error) => self.fail(synced, &error),
        }
    }

    fn publish_synced(&mut self, took: Option<Duration>, synced: Vec<Pending>) {
        if let Some(took) = took {
            self.note_fsync(took);
        }
        for pending in synced {
            pending.publish(&self.table, &mut self.log);
        }
        self.note_figures();
    }

    /// Commits if readers do not see all yet that was accepted of `chunk`.
    pub(crate) fn settle(&mut self, chunk: ChunkId) {
        let unseen = self.batch - u64::from(self.is_syncing());
        let replica = self.replicas.get(&chunk);
        if replica.is_some_and(|r| r.synced_batch.max(r.data_batch) >= unseen) {
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
        self.commit_with(true, false);
    }

    fn commit_with(&mut self, force_sync: bool, beside: bool) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && !force_sync {
            return;
        }
        let beside = beside && self.log.batch_bytes() >= self.beside_bytes;
        let (synced, written): (Vec<_>, Vec<_>) = pending.into_iter().partition(|(sync, _)| *sync);
        let bare = |pending: Vec<(bool, Pending)>| pending.into_iter().map(|(_, pending)| pending).collect();
        let (synced, written): (Vec<Pending>, Vec<Pending>) = (bare(synced), bare(written));
        let outcome = self.log.write();
        // In the order of the batches: what is told here comes after what waits for the one before.
        self.end_sync();
        self.batch += 1;
        if let Err(error) = outcome {
            return self.fail(written.into_iter().chain(synced), &error);
        }
        for pending in written {
            pending.publish(&self.table, &mut self.log);
        }
        let outcome = match (force_sync || !synced.is_empty(), beside) {
            (false, _) => Ok(None),
            (true, false) => self.log.sync(),
            (true, true) => match self.log.begin_sync() {
                Ok(true) => {
                    self.syncing = synced;
                    return;
                }
                begun => begun.map(|_| None),
            },
        };
        match outcome {
            Ok(took) => self.publish_synced(took, synced),
            Err(error) => self.fail(synced, &error),
        }
    }

    fn fail(&mut self, pending: impl IntoIterator<Item = Pending>, error: &LogError) {
        self.note_failure();
        let error = StoreError::from(error.clone());
        for pending in pending {
            pending.fail(error.clone());
        }
    }

    fn note_fsync(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.table.counters.note_fsync(us);
        metrics::histogram!("cairn_data_fsync_us", "disk" => self.log.options.disk.to_string())
            .record(us as f64);
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
        counters.room_bytes.store(self.room_bytes(), Ordering::Relaxed);
        counters.usable_bytes.store(self.usable_bytes(), Ordering::Relaxed);
        self.table.pulse.set_spacing(self.policy.bytes());
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
                self.table.pulse.beat(stored_bytes(header.length));
                Ok(location)
            }
            Err(LogError::NoSpace) => Err(StoreError::DiskFull {
                pinned_bytes: self.pinned_live_bytes(),
                usable_bytes: self.usable_bytes(),
            }),
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

    pub(crate) fn forget_tombstone(&mut self, chunk: ChunkId) {
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
