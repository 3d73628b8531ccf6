//! [`Turns`]: when a job looks at the state: at a period, and soon after it is stirred.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tenure::{JobFault, Tenure};
use crate::namespace::read;
use crate::node::Node;

/// The shortest time between two turns of a job: a busy cluster stirs all the time.
const PACE: Duration = Duration::from_millis(20);

/// A job's turns.
pub struct Turns {
    job: &'static str,
    node: Node,
    period: Duration,
    stop: CancellationToken,
    stirred: watch::Receiver<u64>,
    first: bool,
}

impl Turns {
    /// The turns of `job`: the first at once, then one a `period` at least.
    #[must_use]
    pub fn new(tenure: &Tenure, job: &'static str, period: Duration) -> Self {
        let (node, stop, stirred) = (tenure.node.clone(), tenure.stop.clone(), tenure.stirred());
        Self { job, node, period, stop, stirred, first: true }
    }

    /// Waits for the next turn; false when the tenure is over. While a dump is loaded there is none.
    pub async fn next(&mut self) -> bool {
        while self.next_of_any().await {
            if !self.is_loading() {
                return true;
            }
        }
        false
    }

    /// What is loaded is no job's yet. What cannot be read is the turn's to tell.
    fn is_loading(&self) -> bool {
        let Ok(view) = self.node.read_local() else { return false };
        matches!(read::load(&*view.store), Ok(Some(_)))
    }

    /// As [`Turns::next`], also while a dump is loaded: for what has nothing to do with the namespace.
    pub async fn next_of_any(&mut self) -> bool {
        if std::mem::take(&mut self.first) {
            return !self.stop.is_cancelled();
        }
        let stirred = &mut self.stirred;
        let wait = async {
            tokio::time::sleep(PACE).await;
            // The sender lives in the tenure, which this job keeps alive.
            let _ = tokio::time::timeout(self.period, stirred.changed()).await;
        };
        self.stop.run_until_cancelled(wait).await.is_some()
    }

    /// Notes how a turn went: what broke off is tried again at the next one.
    pub fn ended(&self, result: Result<(), JobFault>) {
        if let Err(error) = result {
            metrics::counter!("cairn_meta_job_faults_total", "job" => self.job).increment(1);
            tracing::warn!(job = self.job, %error, "a job's turn broke off");
        }
    }
}
