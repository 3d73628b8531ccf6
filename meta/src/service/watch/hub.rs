//! [`Hub`]: reads what each applied batch changed once, for all watchers of this server, and counts
//! them.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError};
use cairn_types::{FsError, LogIndex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::namespace::events::{self, Told};
use crate::node::{Node, ReadView};
use crate::service::refusal;

/// Events in one step, about.
pub const STEP_EVENTS: usize = 256;
/// Steps that wait for the slowest watcher; one that falls behind further reads the state itself.
const STEPS_MAX: usize = 64;
/// How often it is looked how many events are kept.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// What changed after one entry, up to another.
pub struct Step {
    /// The last entry before.
    pub after: LogIndex,
    /// The last entry of the step.
    pub upto: LogIndex,
    /// What changed, of whole entries.
    pub events: Vec<Told>,
}

/// The steps, and the watches that may still be taken.
pub struct Hub {
    steps: broadcast::Sender<Arc<Step>>,
    slots: Arc<Semaphore>,
    most: usize,
    /// How long a watcher may leave its events waiting.
    pub patience: Duration,
    /// Ends every watch.
    pub stop: CancellationToken,
}

/// A watch that counts as long as this lives.
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        metrics::gauge!("cairn_meta_watches_open").decrement(1.0);
    }
}

impl Hub {
    /// A hub of at most so many watches.
    #[must_use]
    pub fn new(watches_max: usize, patience: Duration, stop: CancellationToken) -> Self {
        let (steps, _) = broadcast::channel(STEPS_MAX);
        Self { steps, slots: Arc::new(Semaphore::new(watches_max)), most: watches_max, patience, stop }
    }

    /// Takes a watch.
    ///
    /// # Errors
    /// `TooManyWatches`.
    pub fn admit(&self) -> Result<Slot, ServiceError> {
        let permit = Arc::clone(&self.slots).try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::TooManyWatches { most: self.most as u64 })?;
        metrics::gauge!("cairn_meta_watches_open").increment(1.0);
        Ok(Slot { _permit: permit })
    }

    /// The steps from now on: the first one begins no later than a state that is read after this.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Step>> {
        self.steps.subscribe()
    }

    /// Makes steps of what is applied, until the end.
    pub async fn run(&self, node: Node) {
        let mut applied = node.applied();
        let mut after = *applied.borrow_and_update();
        let mut count = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = count.tick() => count_kept(&node),
                changed = applied.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let upto = *applied.borrow_and_update();
                    after = if self.steps.receiver_count() == 0 { upto } else { self.step(&node, after).await };
                }
            }
        }
    }

    /// Sends all that was applied after an entry; answers the last one sent.
    async fn step(&self, node: &Node, mut after: LogIndex) -> LogIndex {
        // The server is stopping, or has failed: the watchers learn of it by themselves.
        let Ok(view) = node.read_local() else { return after };
        while after < view.applied {
            after = match page(&view, after).await {
                Ok(page) => {
                    let upto = page.upto;
                    // Who watches no more needs no answer.
                    let _ = self.steps.send(Arc::new(Step { after, upto, events: page.events }));
                    upto
                }
                // A snapshot was installed that has less. Watchers see the gap and read on by themselves,
                // as they do after a fault, which meets them too.
                Err(WireError::Fs(FsError::Compacted { oldest })) => {
                    LogIndex(oldest.0.saturating_sub(1)).max(LogIndex(after.0 + 1))
                }
                Err(_) => view.applied,
            };
        }
        after
    }
}

/// The next events after an entry, read where a wait for the disk holds up nobody.
pub async fn page(view: &ReadView, after: LogIndex) -> Result<events::Page, WireError> {
    let view = view.clone();
    let read = move || events::page(&*view.store, after, view.applied, STEP_EVENTS);
    match tokio::task::spawn_blocking(read).await {
        Ok(page) => page.map_err(refusal),
        Err(_) => Err(ServiceError::Internal.into()),
    }
}

fn count_kept(node: &Node) {
    let counter = node.read_local().ok().and_then(|view| events::counter(&*view.store).ok()).flatten();
    let kept = counter.map_or(0, |counter| counter.kept);
    metrics::gauge!("cairn_meta_events_kept").set(kept as f64);
}
