//! Linearizable reads: all that wait share one round to a majority, and one snapshot.

use std::time::Duration;

use cairn_types::limits::RPC_DEADLINE_MS;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Consistency, Node, NodeError, ReadView};
use crate::raft::engine::{LinearizableReadError, RaftError, ReadPolicy};

/// Reads that wait for the next round, at most.
const WAITING_MAX: usize = 8192;
const DEADLINE: Duration = Duration::from_millis(RPC_DEADLINE_MS);

type Answer = oneshot::Sender<Result<ReadView, NodeError>>;

/// The queue to the task that runs the rounds.
pub struct Reader {
    queue: mpsc::Sender<Answer>,
}

/// The task's end of the queue.
pub struct Rounds {
    waiting: mpsc::Receiver<Answer>,
}

impl Reader {
    /// The queue and its other end.
    pub fn new() -> (Self, Rounds) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        (Self { queue }, Rounds { waiting })
    }

    /// The state, as fresh as `consistency` says.
    pub async fn read(&self, node: &Node, consistency: Consistency) -> Result<ReadView, NodeError> {
        if consistency == Consistency::Lease && confirm(node, ReadPolicy::LeaseRead).await.is_ok() {
            return node.read_local();
        }
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(answer).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NodeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopping,
        })?;
        answered.await.map_err(|_| NodeError::Stopping)?
    }
}

impl Rounds {
    /// Runs rounds until `stop`. A read that comes during a round waits for the next: only a round
    /// that begins after it may answer it.
    pub async fn run(mut self, node: Node, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.waiting.recv_many(&mut batch, WAITING_MAX) => if count == 0 { return },
            }
            metrics::histogram!("cairn_meta_read_round_reads").record(batch.len() as f64);
            let view = tokio::select! {
                () = stop.cancelled() => Err(NodeError::Stopping),
                confirmed = confirm(&node, ReadPolicy::ReadIndex) => confirmed.and_then(|()| node.read_local()),
            };
            for answer in batch.drain(..) {
                // Who has gone away needs no answer.
                let _ = answer.send(view.clone());
            }
        }
    }
}

/// Confirms that this server leads and has applied what was committed when it was asked.
async fn confirm(node: &Node, policy: ReadPolicy) -> Result<(), NodeError> {
    let round = tokio::time::timeout(DEADLINE, node.shared.raft.ensure_linearizable(policy));
    match round.await.map_err(|_| NodeError::Deadline)? {
        Ok(_) => Ok(()),
        Err(RaftError::Fatal(fatal)) => Err(Node::fatal(&fatal)),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(node.not_leader(&forward))
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(NodeError::Deadline),
    }
}
