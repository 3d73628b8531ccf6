//! The bounded queue between the handles and the writer's thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::error::StoreError;
use super::request::Request;

/// Requests above which [`Queue::ready`] waits, and the part of the queue's share of the bytes.
const SOFT_REQUESTS: usize = 8 << 10;
const SOFT_PART: usize = 4;
/// Requests above which [`Queue::push`] refuses.
const HARD_REQUESTS: usize = 32 << 10;

/// The bytes that wait in the queues of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct QueuedBytes {
    bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
    writer_sleeps: bool,
}

/// What waits to be written.
pub(crate) struct Queue {
    /// Requests and bytes above which [`Queue::ready`] waits.
    soft: (usize, usize),
    /// Bytes of all queues together above which [`Queue::push`] refuses.
    hard_bytes: usize,
    all: QueuedBytes,
    /// Guards the order of submission: what is pushed first is taken first. Held for a push or a
    /// drain only, never over I/O or an await.
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    drained: Notify,
}

impl Queue {
    /// An empty queue, one of `queues` that have at most about so many bytes together. One that stands still
    /// holds up its own callers long before it takes the others' room.
    pub(crate) fn new(bytes: usize, queues: usize, all: QueuedBytes) -> Self {
        Self {
            soft: (SOFT_REQUESTS, bytes / SOFT_PART / queues.max(1)),
            hard_bytes: bytes,
            all,
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            drained: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while pushing leaves a whole queue behind: every step is a single push or drain.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `request`, or refuses it at once.
    pub(crate) fn push(&self, request: Request) {
        let mut waiting = self.lock();
        let full = waiting.requests.len() >= HARD_REQUESTS
            || self.all.bytes.load(Ordering::Relaxed) >= self.hard_bytes;
        let refused = match (waiting.closed, full) {
            (true, _) => Some(StoreError::Stopped),
            (false, true) => Some(StoreError::Busy),
            (false, false) => None,
        };
        if let Some(error) = refused {
            drop(waiting);
            return request.refuse(error);
        }
        let weight = request.weight();
        waiting.bytes += weight;
        self.all.bytes.fetch_add(weight, Ordering::Relaxed);
        waiting.requests.push_back(request);
        let wake = waiting.writer_sleeps;
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits until a push is welcome.
    pub(crate) async fn ready(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            let welcome = {
                let waiting = self.lock();
                let (requests, bytes) = self.soft;
                waiting.closed || (waiting.requests.len() < requests && waiting.bytes < bytes)
            };
            if welcome {
                return;
            }
            drained.await;
        }
    }

    /// Takes up to `count` requests of about `bytes` in all. With `wait` it sleeps until there is
    /// one; `None` when the queue is closed and empty.
    pub(crate) fn take(&self, count: usize, bytes: usize, wait: bool) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        while wait && waiting.requests.is_empty() && !waiting.closed {
            waiting.writer_sleeps = true;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.writer_sleeps = false;
        }
        if waiting.requests.is_empty() && waiting.closed {
            return None;
        }
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while taken.len() < count && taken_bytes < bytes {
            let Some(request) = waiting.requests.pop_front() else { break };
            taken_bytes += request.weight();
            taken.push(request);
        }
        waiting.bytes -= taken_bytes;
        self.all.bytes.fetch_sub(taken_bytes, Ordering::Relaxed);
        drop(waiting);
        self.drained.notify_waiters();
        Some(taken)
    }

    /// Refuses everything from now on; what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.drained.notify_waiters();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // What a writer's thread that panicked has left.
        let left = self.lock().bytes;
        self.all.bytes.fetch_sub(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;
    use crate::chunk::completion::Completion;
    use crate::chunk::request::CacheKey;
    use crate::segments::BlockSums;

    const KIB: usize = 1 << 10;

    /// A put of so many bytes; what comes of it.
    fn put(queue: &Queue, bytes: usize) -> Completion<()> {
        let (callback, completion) = Completion::pair();
        let block = Bytes::from(vec![7; bytes]);
        let sums = BlockSums::of(&block);
        queue.push(Request::CachePut(CacheKey { object: 1, block: 2 }, block, sums, callback));
        completion
    }

    #[test]
    fn queues_of_one_process_share_their_bytes_and_one_that_stands_still_holds_up_its_own_first() {
        let all = QueuedBytes::default();
        let stuck = Queue::new(800 * KIB, 2, all.clone());
        let other = Queue::new(800 * KIB, 2, all.clone());
        // Each has a share of the quarter that is welcome.
        let kept = put(&stuck, 100 * KIB);
        assert!(stuck.ready().now_or_never().is_none(), "its own callers wait");
        assert!(other.ready().now_or_never().is_some(), "those of the other do not");
        assert_eq!(put(&other, 700 * KIB).now_or_never(), None, "there is room for all together");
        assert_eq!(put(&stuck, 1).now_or_never(), Some(Err(StoreError::Busy)), "and no more");
        assert_eq!(put(&other, 1).now_or_never(), Some(Err(StoreError::Busy)));
        drop(other.take(8, usize::MAX, false));
        assert_eq!(put(&stuck, 1).now_or_never(), None, "what was taken gives its room back");
        drop(kept);
        drop((stuck, other));
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
