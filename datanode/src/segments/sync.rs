//! What was written becomes durable: at once, or by a [`Syncer`] beside the next write.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_types::Clock;

use super::batch::Mark;
use super::error::LogError;
use super::log::SegmentLog;
use crate::disk::{DiskError, DiskFile};

/// How one ended, and how long it took.
pub(crate) type Synced = (Result<(), DiskError>, Duration);

struct Thread {
    files: SyncSender<Arc<dyn DiskFile>>,
    synced: Receiver<Synced>,
    handle: JoinHandle<()>,
}

/// Syncs one file at a time: on a thread of its own, or when it is waited for.
pub(crate) struct Syncer {
    clock: Arc<dyn Clock>,
    thread: Option<Thread>,
    /// What was begun and has no thread.
    put_off: Option<Arc<dyn DiskFile>>,
}

fn sync(clock: &dyn Clock, file: &dyn DiskFile) -> Synced {
    let begun = clock.boottime();
    let outcome = file.sync_data();
    (outcome, clock.boottime().saturating_sub(begun))
}

impl Syncer {
    pub(crate) fn new(clock: Arc<dyn Clock>, threaded: bool) -> Self {
        let thread = threaded.then(|| Self::start(Arc::clone(&clock))).flatten();
        Self { clock, thread, put_off: None }
    }

    fn start(clock: Arc<dyn Clock>) -> Option<Thread> {
        let (files, asked) = sync_channel::<Arc<dyn DiskFile>>(1);
        let (done, synced) = sync_channel(1);
        let thread = std::thread::Builder::new().name("cairn-sync".to_owned()).spawn(move || {
            while let Ok(file) = asked.recv() {
                if done.send(sync(clock.as_ref(), file.as_ref())).is_err() {
                    return;
                }
            }
        });
        match thread {
            Ok(handle) => Some(Thread { files, synced, handle }),
            Err(error) => {
                tracing::warn!(%error, "no thread for fdatasyncs: the writer waits for each");
                None
            }
        }
    }

    /// Begins to sync `file`. The one before must have been waited for.
    pub(crate) fn begin(&mut self, file: Arc<dyn DiskFile>) {
        self.put_off = match &self.thread {
            Some(thread) => thread.files.try_send(file).err().map(|refused| match refused {
                std::sync::mpsc::TrySendError::Full(file)
                | std::sync::mpsc::TrySendError::Disconnected(file) => file,
            }),
            None => Some(file),
        };
    }

    /// Waits until what was begun is done.
    pub(crate) fn wait(&mut self) -> Synced {
        if let Some(file) = self.put_off.take() {
            return sync(self.clock.as_ref(), file.as_ref());
        }
        let synced = self.thread.as_ref().and_then(|thread| thread.synced.recv().ok());
        synced.unwrap_or_else(|| {
            let name = "segments".to_owned();
            let errno = rustix::io::Errno::IO.raw_os_error();
            (Err(DiskError::Io { name, operation: "fdatasync", errno }), Duration::ZERO)
        })
    }
}

impl SegmentLog {
    /// Makes all that was written durable, with one fdatasync; answers how long it took, or `None`
    /// when there was nothing to do.
    ///
    /// # Errors
    /// `Failed` ends the log.
    pub fn sync(&mut self) -> Result<Option<Duration>, LogError> {
        let before = self.end_sync()?;
        let Some((mark, file)) = self.unsynced() else { return Ok(before) };
        let (outcome, took) = sync(self.clock.as_ref(), file.as_ref());
        self.synced(mark, outcome)?;
        self.unsynced = false;
        Ok(Some(took))
    }

    /// Begins to make all that was written durable, while more is written: it is when
    /// [`end_sync`](Self::end_sync) says so. False when there was nothing to do.
    ///
    /// # Errors
    /// `Failed` ends the log.
    pub fn begin_sync(&mut self) -> Result<bool, LogError> {
        self.end_sync()?;
        let Some((mark, file)) = self.unsynced() else { return Ok(false) };
        self.syncer.begin(file);
        self.syncing = Some(mark);
        self.unsynced = false;
        Ok(true)
    }

    /// Waits for what was begun; answers how long it took, or `None` when nothing is under way.
    ///
    /// # Errors
    /// `Failed` ends the log: nothing that was not durable before is known to be.
    pub fn end_sync(&mut self) -> Result<Option<Duration>, LogError> {
        let took = match self.syncing.take() {
            Some(mark) => {
                let (outcome, took) = self.syncer.wait();
                self.synced(mark, outcome)?;
                Some(took)
            }
            None => None,
        };
        self.alive().map(|()| took)
    }

    fn unsynced(&self) -> Option<(Mark, Arc<dyn DiskFile>)> {
        let active = self.active.as_ref().filter(|_| self.unsynced)?;
        let file = &self.slots.get(active.slot as usize)?.shared.file;
        Some((Mark { segment: active.sequence, offset: active.end }, Arc::clone(file)))
    }

    fn synced(&mut self, mark: Mark, outcome: Result<(), DiskError>) -> Result<(), LogError> {
        if let Err(error) = outcome {
            return Err(self.failed(&error));
        }
        self.alive()?;
        self.durable = mark;
        Ok(())
    }
}

impl Drop for Syncer {
    /// Waits for its thread: afterwards nothing here holds a file.
    fn drop(&mut self) {
        let Some(Thread { files, synced, handle }) = self.thread.take() else { return };
        drop((files, synced));
        if handle.join().is_err() {
            tracing::error!("the thread for fdatasyncs panicked");
        }
    }
}
