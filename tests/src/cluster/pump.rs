//! [`Pump`]: a writer that appends numbered records until it is told to stop.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cairn_sdk::{Acknowledgement, Appender, ErrorKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::records::{Ledger, record};

/// A writer with several records in flight, in a task of its own.
#[derive(Debug)]
pub struct Pump {
    stop: CancellationToken,
    acknowledged: watch::Receiver<u64>,
    task: JoinHandle<(Appender, Ledger)>,
}

impl Pump {
    /// Starts to append records of `length` bytes, numbered from 1, `in_flight` at a time.
    #[must_use]
    pub fn start(appender: Appender, writer: u32, in_flight: usize, length: usize) -> Self {
        let stop = CancellationToken::new();
        let (told, acknowledged) = watch::channel(0);
        let work = Work {
            appender,
            length,
            in_flight,
            told,
            stop: stop.clone(),
            ledger: Ledger { writer, ..Ledger::default() },
            under_way: VecDeque::new(),
            last_at: Instant::now(),
        };
        Self { stop, acknowledged, task: tokio::spawn(work.run()) }
    }

    /// How many are acknowledged.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until `more` records are acknowledged beyond those that are now, or the writer ended.
    pub async fn advance(&mut self, more: u64) {
        let wanted = self.count() + more;
        // It fails when the writer has ended: then there is nothing more to wait for.
        let _ = self.acknowledged.wait_for(|count| *count >= wanted).await;
    }

    /// Waits until the writer ended by itself: an append failed in a way that no later one can heal.
    ///
    /// # Panics
    /// When it still goes on after 30 s.
    #[allow(clippy::expect_used, reason = "a test's writer that should have ended fails its test")]
    pub async fn ended(&mut self) {
        let ended = async { while self.acknowledged.changed().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the writer goes on");
    }

    /// Stops submitting, waits until everything under way is answered, and hands back the appender.
    ///
    /// # Panics
    /// When the writer's task panicked.
    #[allow(clippy::unwrap_used, reason = "a test's writer that panicked fails its test")]
    pub async fn stop(self) -> (Appender, Ledger) {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

struct Work {
    appender: Appender,
    length: usize,
    in_flight: usize,
    told: watch::Sender<u64>,
    stop: CancellationToken,
    ledger: Ledger,
    under_way: VecDeque<(u64, Acknowledgement)>,
    last_at: Instant,
}

impl Work {
    async fn run(mut self) -> (Appender, Ledger) {
        let mut number = 0;
        let mut fenced = false;
        while !self.stop.is_cancelled() && !fenced {
            number += 1;
            let data = record(self.ledger.writer, number, self.length);
            match self.appender.submit(data).await {
                Ok(ticket) => self.under_way.push_back((number, ticket)),
                Err(error) => fenced = self.failed(number, error),
            }
            while self.under_way.len() >= self.in_flight {
                fenced |= self.settle().await;
            }
        }
        while !self.under_way.is_empty() {
            self.settle().await;
        }
        (self.appender, self.ledger)
    }

    /// Waits for the oldest one; true when the writer must not go on.
    async fn settle(&mut self) -> bool {
        let Some((number, ticket)) = self.under_way.pop_front() else { return false };
        match ticket.offset().await {
            Ok(offset) => {
                self.ledger.acknowledged.insert(number, offset);
                let pause = self.last_at.elapsed().as_millis();
                self.last_at = Instant::now();
                self.ledger.longest_pause_ms = self.ledger.longest_pause_ms.max(pause);
                self.told.send_modify(|count| *count += 1);
                false
            }
            Err(error) => self.failed(number, error),
        }
    }

    /// Notes what was not acknowledged; true when the writer is at its end.
    fn failed(&mut self, number: u64, error: cairn_sdk::Error) -> bool {
        let kind = error.kind();
        match kind {
            ErrorKind::Invalid => self.ledger.refused.insert(number),
            _ => self.ledger.unknown.insert(number),
        };
        self.ledger.errors.push((number, error));
        // What the cluster cannot take for now may be taken later; all else ends the handle.
        !matches!(kind, ErrorKind::Unavailable | ErrorKind::Retry)
    }
}
