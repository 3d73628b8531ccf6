//! The flusher: one thread that makes the log durable for everyone who waits, one fsync at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use cairn_types::Clock;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::log_disk::{LogDisk, LogError};
use super::types::TypeConfig;
use crate::slow::{self, Lines, SLOW_IO};

static SLOW_SYNCS: Lines = Lines::new();

/// Completions that wait for one fsync, at most; appends wait for room beyond that.
const WAITING_MAX: usize = 4096;

/// Who waits for the next fsync.
pub enum Waiting {
    /// An append of openraft's.
    Append(IOFlushed<TypeConfig>),
    /// A vote or another write whose caller waits.
    Write(oneshot::Sender<io::Result<()>>),
}

impl Waiting {
    /// Tells the one who waits.
    pub fn complete(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // A caller that has gone away no longer wants to know.
            Self::Write(answer) => drop(answer.send(result)),
        }
    }
}

/// What the flusher has done since the start.
#[derive(Debug, Default)]
pub struct FlushCounts {
    /// Fsyncs.
    pub syncs: AtomicU64,
    /// Completions: appends and votes.
    pub completed: AtomicU64,
    /// All that were queued.
    pub queued: AtomicU64,
}

impl FlushCounts {
    /// Appends and votes that wait for an fsync.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        // Looked at first: what is completed meanwhile was queued before.
        let completed = self.completed.load(Ordering::Relaxed);
        self.queued.load(Ordering::Relaxed).saturating_sub(completed)
    }
}

/// The queue to the flusher. The thread ends when the last queue is dropped.
#[derive(Clone)]
pub struct Flusher {
    queue: mpsc::Sender<Waiting>,
    counts: Arc<FlushCounts>,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel's, when it gives no thread.
    pub fn start(disk: Arc<dyn LogDisk>, clock: Arc<dyn Clock>) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(FlushCounts::default());
        let theirs = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("raft-log-flush".to_owned())
            .spawn(move || run(waiting, disk.as_ref(), clock.as_ref(), &theirs))?;
        Ok((Self { queue, counts }, thread))
    }

    /// A queue whose other end somebody else drains, by [`Flushes::complete`].
    #[cfg(test)]
    #[must_use]
    pub fn queue_alone() -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        (Self { queue, counts: Arc::default() }, waiting)
    }

    /// Queues `waiting` for the next fsync; it covers everything written before this call.
    ///
    /// # Errors
    /// When the flusher has ended.
    pub async fn queue(&self, waiting: Waiting) -> io::Result<()> {
        let ended = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the log's flusher has ended");
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        self.queue.send(waiting).await.map_err(ended)
    }

    /// Waits until everything written before this call is durable.
    ///
    /// # Errors
    /// When the fsync failed, or the flusher has ended.
    pub async fn durable(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.queue(Waiting::Write(answer)).await?;
        let ended = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the log's flusher has ended");
        answered.await.map_err(ended)?
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> Arc<FlushCounts> {
        Arc::clone(&self.counts)
    }
}

fn run(mut waiting: mpsc::Receiver<Waiting>, disk: &dyn LogDisk, clock: &dyn Clock, counts: &FlushCounts) {
    let mut batch = Vec::with_capacity(64);
    let mut flushes = Flushes::default();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        while batch.len() < WAITING_MAX
            && let Ok(more) = waiting.try_recv()
        {
            batch.push(more);
        }
        flushes.complete(&mut batch, disk, clock, counts);
    }
}

/// The fsyncs so far.
#[derive(Default)]
pub struct Flushes {
    failed: Option<Arc<LogError>>,
}

impl Flushes {
    /// Makes the log durable and tells all of `batch`, which is empty then.
    pub fn complete(
        &mut self,
        batch: &mut Vec<Waiting>,
        disk: &dyn LogDisk,
        clock: &dyn Clock,
        counts: &FlushCounts,
    ) {
        // After one failed fsync nothing is known of what the disk holds: never try again.
        if self.failed.is_none() {
            self.failed = sync(disk, clock, counts, batch.len()).err().map(Arc::new);
        }
        counts.completed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for waiter in batch.drain(..) {
            let failed = self.failed.as_ref();
            waiter.complete(failed.map_or(Ok(()), |error| Err(io::Error::other(Arc::clone(error)))));
        }
    }
}

fn sync(disk: &dyn LogDisk, clock: &dyn Clock, counts: &FlushCounts, waiting: usize) -> Result<(), LogError> {
    let begun = clock.boottime();
    let result = disk.sync();
    let now = clock.boottime();
    let took = now.saturating_sub(begun);
    counts.syncs.fetch_add(1, Ordering::Relaxed);
    metrics::histogram!("cairn_meta_raft_fsync_seconds").record(took.as_secs_f64());
    metrics::histogram!("cairn_meta_raft_fsync_batch_appends").record(waiting as f64);
    if took > SLOW_IO
        && let Some(left_out) = SLOW_SYNCS.admit(now)
    {
        let (what, on, took_ms) = ("fsync", "raft log", slow::millis(took));
        tracing::warn!(what, on, took_ms, waiting, left_out, "slow fsync of the Raft log");
    }
    if let Err(error) = &result {
        tracing::error!(%error, cause = ?error, "the Raft log's fsync failed: this server stops");
    }
    result
}
