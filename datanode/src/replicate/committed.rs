//! [`Committed`]: how far an open chunk is on every replica, for those who read and those who wait.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The committed length of one chunk. It only grows.
#[derive(Debug, Default)]
pub struct Committed {
    length: AtomicU64,
    grown: Notify,
}

impl Committed {
    /// The length.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Everything below `length` is on every replica; wakes those who wait for it. Only the chunk's one
    /// primary calls this.
    pub fn advance(&self, length: u64) {
        self.length.store(length, Ordering::Release);
        self.grown.notify_waiters();
    }

    /// Waits until the length is greater than `beyond`, and answers it.
    pub async fn beyond(&self, beyond: u64) -> u64 {
        loop {
            // Armed before the look: what grows between the two wakes.
            let mut grown = pin!(self.grown.notified());
            grown.as_mut().enable();
            let length = self.get();
            if length > beyond {
                return length;
            }
            grown.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_by_what_it_waits_for_and_not_before() {
        let committed = Arc::new(Committed::default());
        committed.advance(5);
        assert_eq!(committed.beyond(4).await, 5);
        let waits = Arc::clone(&committed);
        let mut waiting = tokio::spawn(async move { waits.beyond(9).await });
        for length in 6..=9 {
            committed.advance(length);
            tokio::task::yield_now().await;
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        committed.advance(10);
        assert_eq!(waiting.await.unwrap(), 10);
    }
}
