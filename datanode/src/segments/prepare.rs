//! Makes the next segment's file ahead of time, so that a full segment costs its writer no wait.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::segment::file_name;
use crate::disk::{Disk, DiskError, DiskFile};

type Made = (u32, Result<Arc<dyn DiskFile>, DiskError>);

struct Maker {
    wanted: SyncSender<u32>,
    ready: Receiver<Made>,
    thread: JoinHandle<()>,
}

/// Makes segment files, one ahead when it has a thread.
pub(crate) struct Preparer {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    maker: Option<Maker>,
    /// Asked of the thread and not yet taken.
    pending: Option<u32>,
}

impl Preparer {
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, ahead: bool) -> Self {
        let maker = ahead.then(|| Self::start(Arc::clone(&disk), segment_bytes)).flatten();
        Self { disk, segment_bytes, maker, pending: None }
    }

    fn start(disk: Arc<dyn Disk>, segment_bytes: u64) -> Option<Maker> {
        let (wanted, requests) = sync_channel::<u32>(1);
        let (made, ready) = sync_channel(1);
        let thread = std::thread::Builder::new().name("cairn-prepare".to_owned()).spawn(move || {
            while let Ok(slot) = requests.recv() {
                if made.send((slot, disk.create(&file_name(slot), segment_bytes))).is_err() {
                    return;
                }
            }
        });
        match thread {
            Ok(thread) => Some(Maker { wanted, ready, thread }),
            Err(error) => {
                tracing::warn!(%error, "no thread to prepare segments: the writer makes them itself");
                None
            }
        }
    }

    /// Begins to make `slot`'s file, unless one is being made.
    pub(crate) fn want(&mut self, slot: u32) {
        if let (None, Some(maker)) = (self.pending, &self.maker)
            && maker.wanted.try_send(slot).is_ok()
        {
            self.pending = Some(slot);
        }
    }

    /// The prepared file, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Result<Arc<dyn DiskFile>, DiskError>> {
        let (_, outcome) = self.maker.as_ref()?.ready.try_recv().ok()?;
        self.pending = None;
        Some(outcome)
    }

    /// The file of `slot`: the prepared one, or one made now.
    pub(crate) fn take(&mut self, slot: u32) -> Result<Arc<dyn DiskFile>, DiskError> {
        if let (Some(pending), Some(maker)) = (self.pending.take(), &self.maker)
            && let Ok((made, outcome)) = maker.ready.recv()
            && pending == slot
            && made == slot
        {
            return outcome;
        }
        self.disk.create(&file_name(slot), self.segment_bytes)
    }
}

impl Drop for Preparer {
    /// Waits for a file being made: afterwards nothing here holds the disk, nor its lock.
    fn drop(&mut self) {
        let Some(Maker { wanted, ready, thread }) = self.maker.take() else { return };
        drop((wanted, ready));
        if thread.join().is_err() {
            tracing::error!("the thread that prepares segments panicked");
        }
    }
}
