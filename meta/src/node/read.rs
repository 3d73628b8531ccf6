//! Linearizable reads: all that wait share one round to a majority, and one snapshot. A follower has
//! the leader run the round (ReadIndex, Raft dissertation 6.4), and waits until it has applied as much.

use std::time::Duration;

use cairn_types::limits::RPC_DEADLINE_MS;
use cairn_types::{LogIndex, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Consistency, Node, NodeError, ReadView};
use crate::raft::engine::{LinearizableReadError, RaftError, ReadPolicy};

/// Reads that wait for the next round, at most.
const WAITING_MAX: usize = 8192;
const DEADLINE: Duration = Duration::from_millis(RPC_DEADLINE_MS);

/// A read that waits for a round.
struct Waiting {
    /// A follower may answer it.
    anywhere: bool,
    answer: oneshot::Sender<Result<ReadView, NodeError>>,
}

/// The queue to the task that runs the rounds.
pub struct Reader {
    queue: mpsc::Sender<Waiting>,
    confirmed: watch::Receiver<Option<Duration>>,
}

/// The task's end of the queue.
pub struct Rounds {
    waiting: mpsc::Receiver<Waiting>,
    // When the last round began that was confirmed, on the boot clock: what is applied here shows
    // everything acknowledged before.
    confirmed: watch::Sender<Option<Duration>>,
}

impl Reader {
    /// The queue and its other end.
    pub fn new() -> (Self, Rounds) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let confirmed = watch::Sender::new(None);
        (Self { queue, confirmed: confirmed.subscribe() }, Rounds { waiting, confirmed })
    }

    /// The state, as fresh as `consistency` says.
    pub async fn read(&self, node: &Node, consistency: Consistency) -> Result<ReadView, NodeError> {
        match consistency {
            Consistency::Lease => {
                let begun = node.shared.clock.boottime();
                if confirm(node, ReadPolicy::LeaseRead).await.is_ok() {
                    return Ok(ReadView { as_of: Some(begun), ..node.read_local()? });
                }
            }
            Consistency::Stale(age_max) => {
                // Before the state is taken: it is at least as new.
                let confirmed = *self.confirmed.borrow();
                let fresh = |at: &Duration| node.shared.clock.boottime().saturating_sub(*at) <= age_max;
                if let Some(at) = confirmed.filter(fresh) {
                    return Ok(ReadView { as_of: Some(at), ..node.read_local()? });
                }
            }
            Consistency::Linearizable | Consistency::AnyServer => {}
        }
        let anywhere = matches!(consistency, Consistency::AnyServer | Consistency::Stale(_));
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { anywhere, answer }).map_err(|error| match error {
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
            let begun = node.shared.clock.boottime();
            let confirmed = tokio::select! {
                () = stop.cancelled() => Err(NodeError::Stopping),
                confirmed = confirm(&node, ReadPolicy::ReadIndex) => confirmed,
            };
            let here = self.view(&node, begun, confirmed);
            let (anywhere, leaders): (Vec<_>, Vec<_>) = batch.drain(..).partition(|w| w.anywhere);
            hand_out(leaders, &here);
            let there = match &here {
                Err(NodeError::NotLeader { leader: Some((leader, address)) }) if !anywhere.is_empty() => {
                    let confirmed = tokio::select! {
                        () = stop.cancelled() => Err(NodeError::Stopping),
                        confirmed = confirm_by(&node, *leader, address) => confirmed,
                    };
                    self.view(&node, begun, confirmed)
                }
                _ => here,
            };
            hand_out(anywhere, &there);
        }
    }

    /// The state after a round that began at `begun` on the boot clock.
    fn view(
        &self,
        node: &Node,
        begun: Duration,
        confirmed: Result<(), NodeError>,
    ) -> Result<ReadView, NodeError> {
        confirmed?;
        self.confirmed.send_replace(Some(begun));
        Ok(ReadView { as_of: Some(begun), ..node.read_local()? })
    }
}

fn hand_out(batch: Vec<Waiting>, view: &Result<ReadView, NodeError>) {
    for waiting in batch {
        // Who has gone away needs no answer.
        let _ = waiting.answer.send(view.clone());
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

/// As [`confirm`] on a follower: `leader` confirms, and this server applies what was committed there.
async fn confirm_by(node: &Node, leader: NodeId, address: &str) -> Result<(), NodeError> {
    let asked = node.shared.network.read_index(leader.0, address, DEADLINE).await;
    let index = asked.map_err(|status| {
        tracing::debug!(%leader, address, %status, "the leader does not confirm a read");
        NodeError::NotLeader { leader: None }
    })?;
    let mut applied = node.applied();
    let caught_up = tokio::time::timeout(DEADLINE, applied.wait_for(|at| *at >= LogIndex(index)));
    match caught_up.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(NodeError::Stopping),
        Err(_) => Err(NodeError::Deadline),
    }
}
