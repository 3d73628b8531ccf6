//! [`ChunkStore`]: the handle through which everything else uses the store.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{ChunkId, Clock, DiskId, Epoch, Incarnation};

use super::alarms::Alarms;
use super::completion::{Callback, Completion};
use super::engine::Engine;
use super::error::{ReadError, Retired};
use super::queue::{Queue, QueuedBytes};
use super::recover::OpenReport;
use super::request::{CacheKey, Request};
use super::space::{self, Fill};
use super::spec::{
    AppendRecord, ChunkSpec, ChunkView, Durable, FenceAnswer, FenceSpec, SealedOutcome, SealedSpec,
};
use super::stats::StoreStats;
use super::table::Table;
use crate::disk::Disk;
use crate::segments::{BlockSums, LogError, LogOptions};

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// The disk's identity, written into every segment.
    pub disk: DiskId,
    /// Bytes of one segment: 1 MiB to 2 GiB, a multiple of 4 KiB. Fixed when the disk is formatted.
    pub segment_bytes: u64,
    /// Bytes of all segments together, at most; at least six segments.
    pub capacity_bytes: u64,
    /// The machine's boot id: a `memory` chunk is clean after a restart under the same one.
    pub boot_id: [u8; 16],
    /// Prepare the next segment, and wait for long fdatasyncs, on threads of their own (false: the writer does).
    pub threads: bool,
    /// Bytes of changes that may wait for the writer, and those of the process's other stores: above, they are
    /// refused as `Busy`; above a quarter of this store's share, [`ChunkStore::ready`] waits.
    pub queue_bytes: usize,
    /// How full the disk may be before what is in S3 too goes.
    pub fill: Fill,
}

impl StoreOptions {
    fn log(&self) -> LogOptions {
        LogOptions {
            disk: self.disk,
            segment_bytes: self.segment_bytes,
            segments_max: u32::try_from(self.capacity_bytes / self.segment_bytes.max(1)).unwrap_or(u32::MAX),
            threads: self.threads,
        }
    }
}

struct Shared {
    queue: Arc<Queue>,
    alarms: Alarms,
    table: Arc<Table>,
    incarnation: Incarnation,
    /// Held only to take the thread out at the close.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The replicas and the cache of one disk.
///
/// Changes are submitted in the order of the calls and never wait for each other: call, keep the
/// [`Completion`], call again. Each resolves once it counts. Reads go to the disk directly (they
/// block for a page that is not cached: use a blocking thread for cold data).
#[derive(Clone)]
pub struct ChunkStore {
    shared: Arc<Shared>,
}

impl ChunkStore {
    /// Opens the store in `segments/` of `disk`: recovers what is there, makes a new incarnation
    /// durable, starts the writer's thread. Replicas found open take no more appends (R6); the
    /// report lists them.
    ///
    /// # Errors
    /// [`LogError`] when the segments are of another disk or a newer format, or the disk fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
    ) -> Result<(Self, OpenReport), LogError> {
        Self::open_among(disk, clock, options, 1, QueuedBytes::default())
    }

    /// The same, as one of `stores` of a process, which count the bytes that wait together in `queued`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_among(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
        stores: usize,
        queued: QueuedBytes,
    ) -> Result<(Self, OpenReport), LogError> {
        let (mut engine, report) = Engine::open(disk, clock, options.log(), options.boot_id)?;
        engine.fill_to(options.fill);
        let queue = Arc::new(Queue::new(options.queue_bytes, stores, queued));
        let table = engine.table();
        let incarnation = engine.incarnation();
        let writer = super::writer::start(engine, Arc::clone(&queue))?;
        let alarms = Alarms::default();
        report.damaged.iter().for_each(|chunk| alarms.ring(*chunk));
        let shared = Shared { queue, alarms, table, incarnation, writer: Mutex::new(Some(writer)) };
        Ok((Self { shared: Arc::new(shared) }, report))
    }

    /// This process's incarnation: durable, larger at every start of this disk, starting at 1.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// Waits until the queue has room. Await it before [`append`](Self::append) and
    /// [`cache_put`](Self::cache_put), so that nothing is refused as `Busy`.
    pub async fn ready(&self) {
        self.shared.queue.ready().await;
    }

    /// The next chunk that a reader, a scrub or the recovery found bad here. Each is told once for all
    /// that was found until then.
    pub async fn next_alarm(&self) -> ChunkId {
        self.shared.alarms.next().await
    }

    /// Has a chunk looked at as if a reader had found it bad.
    pub fn alarm(&self, chunk: ChunkId) {
        self.shared.alarms.ring(chunk);
    }

    pub(super) fn table(&self) -> &Table {
        &self.shared.table
    }

    pub(super) fn submit<T: Send + 'static>(
        &self,
        make: impl FnOnce(Callback<T>) -> Request,
    ) -> Completion<T> {
        let (callback, completion) = Completion::pair();
        self.push(make(callback));
        completion
    }

    pub(super) fn push(&self, request: Request) {
        self.shared.queue.push(request);
    }

    /// Makes a replica; resolves when it is durable (fsync, whatever the policy). Again with the
    /// same specification it succeeds as long as the replica is open.
    ///
    /// # Errors
    /// `Exists`, `Fenced`, `OtherIncarnation`, `DiskFull`, `BadRecord` (limits).
    pub fn create(&self, spec: ChunkSpec) -> Completion<()> {
        self.submit(|callback| Request::Create(spec, callback))
    }

    /// Appends exactly at the replica's length, in its epoch, with a matching chain (R2); resolves
    /// when it counts by the chunk's policy. Completions of one chunk come in order.
    ///
    /// # Errors
    /// `UnknownChunk`, `WrongOffset`, `WrongEpoch`, `WrongChain`, `SequenceGap`, `Fenced`, `Closed`,
    /// `Restarted`, `Damaged`, `Sealed`, `BadRecord`, `DiskFull`, `Busy`.
    pub fn append(&self, record: AppendRecord) -> Completion<Durable> {
        let (callback, completion) = Completion::pair();
        self.append_with(record, callback);
        completion
    }

    /// As [`append`](Self::append), with a callback on the writer's thread instead of a future.
    pub fn append_with(&self, record: AppendRecord, callback: Callback<Durable>) {
        let sums = BlockSums::of(&record.payload);
        self.push(Request::Append(record, sums, None, callback));
    }

    /// Extends a replica fenced at `epoch` by a record of another replica, between fence and seal
    /// (R5). The record keeps its own, older epoch.
    ///
    /// # Errors
    /// As [`append`](Self::append); `NotFenced` when the fence in force is not `epoch`.
    pub fn extend(&self, epoch: Epoch, record: AppendRecord) -> Completion<Durable> {
        let sums = BlockSums::of(&record.payload);
        self.submit(|callback| Request::Append(record, sums, Some(epoch), callback))
    }

    /// Fences (R4): everything accepted before is durable, then the new epoch is, then it resolves.
    /// A replica that is not here is made, empty and fenced. The same epoch again gets the answer
    /// again.
    ///
    /// # Errors
    /// `Fenced` when a newer fence is in force, `Sealed` when the seal is known here, `Retired`.
    pub fn fence(&self, fence: FenceSpec) -> Completion<FenceAnswer> {
        self.submit(|callback| Request::Fence(fence, callback))
    }

    /// Tells the decided end. Durable when it resolves.
    ///
    /// # Errors
    /// `Sealed` when another end is known here; `Retired`.
    pub fn learn_sealed(&self, sealed: SealedSpec) -> Completion<SealedOutcome> {
        self.submit(|callback| Request::Sealed(sealed, callback))
    }

    /// Drops the replica, durably, whatever its state. Succeeds when it is not here.
    ///
    /// # Errors
    /// `Retired`, `DiskFull`.
    pub fn delete(&self, chunk: ChunkId) -> Completion<()> {
        self.submit(|callback| Request::Delete(chunk, callback))
    }

    /// The chunk is in S3 at `place` (the caller's bytes): the replica may be evicted from now on.
    ///
    /// # Errors
    /// `UnknownChunk`, `NotSealed`, `BadRecord` when `place` is too long.
    pub fn persisted(&self, chunk: ChunkId, place: Bytes) -> Completion<()> {
        self.submit(|callback| Request::Persisted(chunk, place, callback))
    }

    /// Evicts the replica of a persisted chunk, or with `None` all of them and the whole cache.
    /// Unpersisted replicas stay. Resolves to the bytes freed.
    ///
    /// # Errors
    /// `Retired`, `DiskFull`.
    pub fn evict(&self, chunk: Option<ChunkId>) -> Completion<u64> {
        self.submit(|callback| Request::Evict(chunk, callback))
    }

    /// Resolves when everything submitted before has been written and fsynced.
    ///
    /// # Errors
    /// `Retired`.
    pub fn flush(&self) -> Completion<()> {
        self.submit(Request::Flush)
    }

    /// Raises the committed length heard for an open chunk. In memory; later records carry it to
    /// the disk.
    pub fn note_committed(&self, chunk: ChunkId, epoch: Epoch, committed: u64) {
        self.shared.table.note_committed(chunk, epoch, committed);
    }

    /// The replica as it stands, durable state only.
    #[must_use]
    pub fn chunk(&self, chunk: ChunkId) -> Option<ChunkView> {
        self.shared.table.view(chunk)
    }

    /// True when a replica of the chunk is here.
    #[must_use]
    pub fn has(&self, chunk: ChunkId) -> bool {
        self.shared.table.cell(chunk).is_some()
    }

    /// Every replica here, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<ChunkView> {
        self.shared.table.views()
    }

    /// Reads `length` bytes at `offset`, verified against their checksums (R9). Visible is what lies
    /// below the sealed length, or, before the seal, below the highest committed length heard or
    /// `known_committed`, whichever is more.
    ///
    /// # Errors
    /// [`ReadError`]; after `Damaged` the replica's health says so too.
    pub fn read(
        &self,
        chunk: ChunkId,
        offset: u64,
        length: usize,
        known_committed: u64,
    ) -> Result<Bytes, ReadError> {
        let outcome = self.shared.table.read(chunk, offset, length, known_committed);
        self.note_damage(chunk, &outcome);
        outcome
    }

    /// The records of `[from, until)` as stored, whole, at most about `bytes_max` of payload and at
    /// least one; `from` must be a record's edge. Verified. Not bounded by what readers may see: it
    /// is for bringing up other replicas and for uploads.
    ///
    /// # Errors
    /// [`ReadError`]; `NotVisible` when `from` is no edge or lies beyond the end.
    pub fn records(
        &self,
        chunk: ChunkId,
        from: u64,
        until: u64,
        bytes_max: usize,
    ) -> Result<Vec<AppendRecord>, ReadError> {
        let outcome = self.shared.table.records(chunk, from, until, bytes_max);
        self.note_damage(chunk, &outcome);
        outcome
    }

    fn note_damage<T>(&self, chunk: ChunkId, outcome: &Result<T, ReadError>) {
        if matches!(outcome, Err(ReadError::Damaged { .. } | ReadError::Io { .. })) {
            tracing::error!(%chunk, "a replica is damaged");
            self.push(Request::MarkDamaged(chunk));
            self.shared.alarms.ring(chunk);
        }
    }

    /// Keeps a block of an object, at most 1 MiB. It may be dropped at any time and is not fsynced.
    ///
    /// # Errors
    /// `DiskFull`, `Busy`, `Retired`: the block is not kept.
    pub fn cache_put(&self, key: CacheKey, block: Bytes) -> Completion<()> {
        let sums = BlockSums::of(&block);
        self.submit(|callback| Request::CachePut(key, block, sums, callback))
    }

    /// A block of the cache, verified. A block that fails its check is a miss.
    #[must_use]
    pub fn cache_get(&self, key: CacheKey) -> Option<Bytes> {
        match self.shared.table.cache_get(key) {
            Ok(found) => found,
            Err(location) => {
                tracing::warn!("a block of the cache is bad: it is dropped");
                self.push(Request::CacheDrop(key, location));
                None
            }
        }
    }

    /// Set once the store writes no more (R7).
    #[must_use]
    pub fn retired(&self) -> Option<Retired> {
        self.shared.table.retired()
    }

    /// How long an acknowledgement is to be held back, so that writers feel a disk that fills up before they
    /// are refused: nothing while an eighth of the space is left, 20 ms at the end.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let counters = &self.shared.table.counters;
        let usable = counters.usable_bytes.load(Ordering::Relaxed);
        space::pause(counters.room_bytes.load(Ordering::Relaxed), usable)
    }

    /// The store's figures.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.shared.table.stats()
    }

    /// Writes what is queued, stops the writer's thread and waits for it. Changes submitted later
    /// are refused as `Stopped`; reads go on.
    pub fn close(&self) {
        self.shared.queue.close();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the writer's thread panicked");
        }
    }
}
