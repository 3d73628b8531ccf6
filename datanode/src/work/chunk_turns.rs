//! [`ChunkTurns`]: one piece of work at a time about a chunk's replica on this node.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_types::ChunkId;
use tokio::sync::Notify;

/// Keeps a copy that is being made, and reported, apart from a notice that drops it. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ChunkTurns {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    // Guards: whose turn it is. As many as there are turns in the lanes, at most.
    busy: Mutex<HashSet<ChunkId>>,
    freed: Notify,
}

impl Shared {
    fn busy(&self) -> MutexGuard<'_, HashSet<ChunkId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chunk's turn; dropped, it is over.
pub(super) struct Turn {
    shared: Arc<Shared>,
    chunk: ChunkId,
}

impl ChunkTurns {
    /// Waits until nothing else is at work on the chunk's replica.
    pub(super) async fn take(&self, chunk: ChunkId) -> Turn {
        loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            // Before the look, so that a turn that ends right after it is heard of.
            freed.as_mut().enable();
            if self.shared.busy().insert(chunk) {
                return Turn { shared: Arc::clone(&self.shared), chunk };
            }
            freed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.busy().remove(&self.chunk);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chunk_has_one_turn_at_a_time_and_others_do_not_wait_for_it() {
        let turns = ChunkTurns::default();
        let first = turns.take(ChunkId(1)).await;
        let _other = turns.take(ChunkId(2)).await;
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(ChunkId(1)).await) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
    }
}
