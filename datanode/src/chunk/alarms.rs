//! [`Alarms`]: which chunks were found bad and wait to be looked at.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cairn_types::ChunkId;
use tokio::sync::Notify;

/// Chunks that wait, at most; what is more is found again by the next scrub.
const WAITING_MAX: usize = 4096;

/// Chunks that wait to be looked at, each once.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// Guards that each chunk waits once; held for one change.
    waiting: Mutex<BTreeSet<ChunkId>>,
    rung: Notify,
}

impl Alarms {
    /// Adds a chunk, unless it waits already.
    pub(crate) fn ring(&self, chunk: ChunkId) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX || !waiting.insert(chunk) {
                return;
            }
        }
        self.rung.notify_one();
    }

    /// Takes a chunk; waits for one.
    pub(crate) async fn next(&self) -> ChunkId {
        loop {
            // A permit is kept for a chunk that is added between the look and the wait.
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(chunk) => return chunk,
                None => self.rung.notified().await,
            }
        }
    }
}
