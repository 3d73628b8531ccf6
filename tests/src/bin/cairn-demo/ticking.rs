//! Tasks that do something again and again while servers are killed, and note when each was acknowledged.

use std::time::{Duration, Instant};

use cairn_sdk::{Appender, Client};
use cairn_tests::cluster::{Ledger, record};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::DemoError;

/// How long progress may stand still before the demo gives up.
const STALL: Duration = Duration::from_secs(45);
/// Between two directories: the election is to be seen, not the disk to be filled.
const BEAT: Duration = Duration::from_millis(10);

/// One thing acknowledged: when, and how long it took.
#[derive(Clone, Copy)]
pub struct Tick {
    pub at: Instant,
    pub took: Duration,
}

/// A task that goes on until it is told to stop, or something fails.
pub struct Ticking<T> {
    stop: CancellationToken,
    count: watch::Receiver<u64>,
    task: JoinHandle<Result<T, DemoError>>,
    what: &'static str,
}

impl<T> Ticking<T> {
    /// How many are acknowledged.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits for that count; fails when it stands still, or when the task ended, with its reason.
    pub async fn reach(&mut self, wanted: u64) -> Result<(), DemoError> {
        while self.count() < wanted {
            match tokio::time::timeout(STALL, self.count.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    let early = DemoError::Mismatch(format!("the {} ended early", self.what));
                    return Err((&mut self.task).await?.err().unwrap_or(early));
                }
                Err(_) => {
                    let what = format!("{wanted} {}, at {}", self.what, self.count());
                    return Err(DemoError::Late { what, seconds: STALL.as_secs() });
                }
            }
        }
        Ok(())
    }

    /// Lets it finish what it is at, and takes what it brings.
    pub async fn stop(self) -> Result<T, DemoError> {
        self.stop.cancel();
        self.task.await?
    }
}

/// Appends numbered records, one after the other.
pub fn append(appender: Appender, record_bytes: usize) -> Ticking<(Vec<Tick>, Ledger, Appender)> {
    let (stop, (tell, count)) = (CancellationToken::new(), watch::channel(0));
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut ledger = Ledger { writer: 1, ..Ledger::default() };
        let mut ticks = Vec::new();
        let mut number = 0;
        while !stopped.is_cancelled() {
            number += 1;
            let started = Instant::now();
            let offset = appender.append(record(1, number, record_bytes)).await?;
            ticks.push(Tick { at: Instant::now(), took: started.elapsed() });
            ledger.acknowledged.insert(number, offset);
            // Nobody may be waiting just now.
            let _ = tell.send(number);
        }
        Ok((ticks, ledger, appender))
    });
    Ticking { stop, count, task, what: "records" }
}

/// Makes directories below `parent`, one after the other.
pub fn make_directories(client: Client, parent: &'static str) -> Ticking<Vec<Tick>> {
    let (stop, (tell, count)) = (CancellationToken::new(), watch::channel(0));
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut ticks = Vec::new();
        let mut number = 0;
        while !stopped.is_cancelled() {
            number += 1;
            let started = Instant::now();
            client.mkdir(format!("{parent}/{number:06}"), 0o755).await?;
            ticks.push(Tick { at: Instant::now(), took: started.elapsed() });
            // Nobody may be waiting just now.
            let _ = tell.send(number);
            tokio::time::sleep(BEAT).await;
        }
        Ok(ticks)
    });
    Ticking { stop, count, task, what: "directories" }
}
