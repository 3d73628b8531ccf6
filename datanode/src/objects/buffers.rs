//! [`Buffers`]: the memory that objects on their way to mounted buckets may take.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const KIB: usize = 1 << 10;
/// When nobody says otherwise.
const BYTES: usize = 64 << 20;

/// Memory that all objects of a process on their way share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Buffers {
    room: Arc<Semaphore>,
    kib: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new(BYTES)
    }
}

impl Buffers {
    /// So many bytes. A part that is larger (one of 64 MiB, of an object of very many) is let through alone.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let kib = (bytes / KIB).clamp(1, Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(kib)), kib }
    }

    /// Waits for room for so many bytes, in order.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(KIB).min(self.kib);
        // Never closed; were it, going on would only cost memory.
        Arc::clone(&self.room).acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)).await.ok()
    }
}
