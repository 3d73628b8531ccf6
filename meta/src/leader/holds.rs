//! Collects what sessions say of unlinked files, so that one entry carries what many said, and decides
//! on files that no answer is missing of. What is collected is in memory alone: a new leader asks anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::{ServiceError, WireError};
use tokio::sync::{Notify, oneshot};

use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::namespace::command::{ANSWERED_FILES_MAX, ANSWERS_MAX, HoldAnswer};
use crate::namespace::{Command, holds};

/// How long an answer waits for company.
const GATHER: Duration = Duration::from_millis(20);
/// Answers that wait, at most.
const WAITING_MAX: usize = 4096;
/// Entries that decide, in one turn, at most.
const STEPS_MAX: usize = 64;

/// Answers that are to be proposed.
#[derive(Default)]
pub struct HoldAnswers {
    // Guards: nothing beyond the list itself. Never held across an await.
    waiting: Mutex<Vec<Waiting>>,
    came: Notify,
}

struct Waiting {
    answer: HoldAnswer,
    applied: oneshot::Sender<()>,
}

impl HoldAnswers {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an answer in and waits until it is applied.
    ///
    /// # Errors
    /// `Overloaded`; `Deadline`, when it may be applied later.
    pub async fn hand_in(&self, answer: HoldAnswer, deadline: Duration) -> Result<(), WireError> {
        let (applied, done) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.retain(|waiting| !waiting.applied.is_closed());
            if waiting.len() >= WAITING_MAX {
                return Err(ServiceError::Overloaded.into());
            }
            waiting.push(Waiting { answer, applied });
        }
        self.came.notify_one();
        match tokio::time::timeout(deadline, done).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ServiceError::Deadline.into()),
        }
    }

    /// As many answers as one entry takes, in the order in which they came.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut files = 0;
        let fits = |w: &&Waiting| {
            files += w.answer.held.len() + w.answer.released.len();
            files <= ANSWERED_FILES_MAX
        };
        let count = waiting.iter().take(ANSWERS_MAX).take_while(fits).count();
        let count = count.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "holds", Duration::from_secs(1));
    loop {
        tokio::select! {
            turn = turns.next() => {
                if !turn {
                    return;
                }
                count(&tenure);
            }
            () = tenure.answers.came.notified() => tokio::time::sleep(GATHER).await,
        }
        let outcome = async {
            propose(&tenure).await?;
            decide(&tenure).await
        };
        turns.ended(outcome.await);
    }
}

/// Tells how many unlinked files are kept. What cannot be read shows elsewhere.
fn count(tenure: &Tenure) {
    let Ok(view) = tenure.local() else { return };
    if let Ok(kept) = holds::kept(&*view.store, holds::COUNTED_MAX) {
        metrics::gauge!("cairn_meta_unlinked_kept_count").set(kept.files as f64);
        metrics::gauge!("cairn_meta_unlinked_held_count").set(kept.held as f64);
    }
}

/// Proposes all that was handed in. Whoever is not told asks again.
async fn propose(tenure: &Tenure) -> Result<(), JobFault> {
    loop {
        let round = tenure.answers.take();
        if round.is_empty() {
            return Ok(());
        }
        let (answers, applied): (Vec<_>, Vec<_>) = round.into_iter().map(|w| (w.answer, w.applied)).unzip();
        if tenure.try_propose(Command::Deny { answers }).await?.is_some() {
            for applied in applied {
                // One that has gone away asks again.
                let _ = applied.send(());
            }
            tenure.stir();
        }
    }
}

/// Decides on what can be decided on, step by step.
async fn decide(tenure: &Tenure) -> Result<(), JobFault> {
    for _ in 0..STEPS_MAX {
        if holds::decidable(&*tenure.local()?.store)?.is_none() {
            break;
        }
        tenure.try_propose(Command::DecideUnlinked {}).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::{InodeId, SessionId};

    fn waiting(session: u64, files: u64) -> Waiting {
        let held = (0..files).map(InodeId).collect();
        let (applied, _) = oneshot::channel();
        Waiting { answer: HoldAnswer { session: SessionId(session), held, ..Default::default() }, applied }
    }

    #[test]
    fn an_entry_takes_so_many_answers_and_so_many_files_and_always_one() {
        let answers = HoldAnswers::default();
        let all = (0..70).map(|session| waiting(session, 0)).chain([waiting(100, 500), waiting(101, 250)]);
        answers.waiting().extend(all.chain([waiting(102, 7)]));
        let sessions = || answers.take().iter().map(|w| w.answer.session.0).collect::<Vec<_>>();
        assert_eq!(sessions(), (0..64).collect::<Vec<_>>());
        assert_eq!(sessions(), (64..70).collect::<Vec<_>>());
        assert_eq!(sessions(), [100]);
        assert_eq!(sessions(), [101]);
        assert_eq!(sessions(), [102]);
        assert!(sessions().is_empty());
    }
}
