//! Seals: every chunk in `Sealing` is fenced, decided by rule R5 and finished, by whoever leads.

pub mod decide;
#[cfg(test)]
mod decide_tests;
pub mod loss;
pub mod round;
pub mod stuck;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, Clock};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{Id, JoinSet};

use self::round::Outcome;
use self::stuck::Stuck;
use super::tenure::Tenure;

/// Seals in flight, at most.
const ROUNDS_MAX: usize = 128;
/// Requests that wait for a round, at most; the sweep finds again what did not fit.
const QUEUE_MAX: usize = 4096;
/// How long an undecided chunk rests at first, at most; doubled up to [`REST_MAX`].
const REST: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(5);
/// How often resting chunks are looked at.
const TICK: Duration = Duration::from_millis(50);

/// A request to the seal job.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// Seal this chunk.
    Seal(ChunkId),
    /// A node came back: try again what is undecided.
    Retry,
}

/// The seal job's door.
pub struct Seals {
    asks: mpsc::Sender<Ask>,
    decided: broadcast::Sender<ChunkId>,
    /// Chunks that wait for a replica, or for an operator.
    pub stuck: Stuck,
}

/// The seal job's side of [`Seals`].
pub struct SealAsks(mpsc::Receiver<Ask>);

impl Seals {
    /// The door and what stands behind it.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> (Self, SealAsks) {
        let (asks, rx) = mpsc::channel(QUEUE_MAX);
        let (decided, _) = broadcast::channel(QUEUE_MAX);
        (Self { asks, decided, stuck: Stuck::new(clock) }, SealAsks(rx))
    }

    /// Asks for a chunk in `Sealing` to be decided. Asking twice is harmless, and what does not
    /// fit into the queue is found again by the sweep.
    pub fn ask(&self, chunk: ChunkId) {
        if self.asks.try_send(Ask::Seal(chunk)).is_err() {
            metrics::counter!("cairn_meta_seal_queue_full_total").increment(1);
        }
    }

    /// Tries undecided chunks again now, since a node came back.
    pub fn retry(&self) {
        // A full queue means that the job is busy trying anyway.
        let _ = self.asks.try_send(Ask::Retry);
    }

    /// Chunks as they are decided, from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<ChunkId> {
        self.decided.subscribe()
    }

    /// Tells those who wait that a chunk is sealed.
    pub fn tell(&self, chunk: ChunkId) {
        // An error means that nobody waits.
        let _ = self.decided.send(chunk);
    }
}

#[derive(Clone, Copy)]
struct Rest {
    until: Duration,
    next: Duration,
}

/// What the job owns.
struct Job {
    tenure: Arc<Tenure>,
    rounds: JoinSet<Outcome>,
    running: HashMap<Id, ChunkId>,
    resting: HashMap<ChunkId, Rest>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>, mut asks: SealAsks) {
    let stop = tenure.stop.clone();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut job = Job { tenure, rounds: JoinSet::new(), running: HashMap::new(), resting: HashMap::new() };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ask) = asks.0.recv(), if job.running.len() < ROUNDS_MAX => job.take(ask),
            Some(ended) = job.rounds.join_next_with_id() => job.ended(ended),
            _ = tick.tick(), if !job.resting.is_empty() => job.wake(),
        }
    }
    job.rounds.shutdown().await;
}

impl Job {
    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Seal(chunk) if !self.resting.contains_key(&chunk) => self.start(chunk),
            Ask::Seal(_) => {}
            Ask::Retry => self.resting.values_mut().for_each(|r| r.until = Duration::ZERO),
        }
    }

    fn start(&mut self, chunk: ChunkId) {
        if self.running.values().any(|c| *c == chunk) {
            return;
        }
        let tenure = self.tenure.clone();
        let task = self.rounds.spawn(async move { round::seal(&tenure, chunk).await });
        self.running.insert(task.id(), chunk);
        metrics::gauge!("cairn_meta_seals_running_count").set(self.running.len() as f64);
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a seal round broke off");
                (error.id(), Outcome::Undecided)
            }
        };
        let Some(chunk) = self.running.remove(&id) else { return };
        match outcome {
            Outcome::Decided => {
                self.resting.remove(&chunk);
                self.tenure.seals.stuck.forget(chunk);
                self.tenure.seals.tell(chunk);
            }
            Outcome::Undecided => {
                let now = self.tenure.clock.boottime();
                let next = self.resting.get(&chunk).map_or(REST, |r| r.next);
                // Those of a node that went away do not ask the others together.
                let until = now + self.tenure.random.spread(next);
                self.resting.insert(chunk, Rest { until, next: (next * 2).min(REST_MAX) });
            }
        }
    }

    /// Starts what has rested, as far as there is room.
    fn wake(&mut self) {
        let now = self.tenure.clock.boottime();
        let room = ROUNDS_MAX.saturating_sub(self.running.len());
        let due: Vec<ChunkId> =
            self.resting.iter().filter(|(_, r)| r.until <= now).map(|(c, _)| *c).take(room).collect();
        for chunk in due {
            self.start(chunk);
        }
    }
}
