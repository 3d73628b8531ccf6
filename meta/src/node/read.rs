//! Linearizable reads: all that wait share one round to a majority, and one snapshot. A follower has
//! the leader run the round (ReadIndex, Raft dissertation 6.4), and waits until it has applied as much.

use std::sync::Arc;
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

/// How long a follower waits for the leader's word, and then for what it has to apply: the client may
/// ask elsewhere.
const FOLLOWER_DEADLINE: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<ReadView, NodeError>>;

/// The queues to the tasks that run the rounds: reads that a follower may answer wait for its leader,
/// and hold up no other.
pub struct Reader {
    leading: mpsc::Sender<Answer>,
    anywhere: mpsc::Sender<Answer>,
    confirmed: watch::Receiver<Option<Duration>>,
}

/// A task's end of a queue.
pub struct Rounds {
    waiting: mpsc::Receiver<Answer>,
    /// A follower has its leader run the rounds of these.
    anywhere: bool,
    // When the last round began that was confirmed, on the boot clock: what is applied here shows
    // everything acknowledged before.
    confirmed: Arc<watch::Sender<Option<Duration>>>,
}

impl Reader {
    /// The queues and their other ends.
    pub fn new() -> (Self, [Rounds; 2]) {
        let confirmed = Arc::new(watch::Sender::new(None));
        let queue = |anywhere| {
            let (queue, waiting) = mpsc::channel(WAITING_MAX);
            (queue, Rounds { waiting, anywhere, confirmed: Arc::clone(&confirmed) })
        };
        let ((leading, of_leader), (anywhere, of_any)) = (queue(false), queue(true));
        (Self { leading, anywhere, confirmed: confirmed.subscribe() }, [of_leader, of_any])
    }

    /// Tells how many reads wait for a round.
    pub fn sample(&self) {
        let waiting = |queue: &mpsc::Sender<Answer>| queue.max_capacity() - queue.capacity();
        let count = waiting(&self.leading) + waiting(&self.anywhere);
        metrics::gauge!("cairn_meta_reads_waiting_count").set(count as f64);
    }

    /// The state, as fresh as `consistency` says.
    pub async fn read(&self, node: &Node, consistency: Consistency) -> Result<ReadView, NodeError> {
        metrics::counter!("cairn_meta_reads_total", "kind" => consistency.name()).increment(1);
        match consistency {
            Consistency::Lease => {
                let begun = node.shared.clock.boottime();
                if node.has_lease() {
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
        if node.is_removed() {
            // Nothing is applied here any more, and who leads is not known.
            return Err(NodeError::NotLeader { leader: None });
        }
        let queue = match consistency {
            Consistency::AnyServer | Consistency::Stale(_) => &self.anywhere,
            Consistency::Linearizable | Consistency::Lease => &self.leading,
        };
        let (answer, answered) = oneshot::channel();
        queue.try_send(answer).map_err(|error| match error {
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
                confirmed = self.confirm(&node) => confirmed,
            };
            let view = confirmed.and_then(|()| {
                self.confirmed.send_modify(|known| *known = (*known).max(Some(begun)));
                Ok(ReadView { as_of: Some(begun), ..node.read_local()? })
            });
            for answer in batch.drain(..) {
                // Who has gone away needs no answer.
                let _ = answer.send(view.clone());
            }
        }
    }

    async fn confirm(&self, node: &Node) -> Result<(), NodeError> {
        match confirm(node).await {
            Err(NodeError::NotLeader { leader: Some((leader, address)) }) if self.anywhere => {
                confirm_by(node, leader, &address).await
            }
            confirmed => confirmed,
        }
    }
}

/// Confirms that this server leads and has applied what was committed when it was asked.
async fn confirm(node: &Node) -> Result<(), NodeError> {
    let round = tokio::time::timeout(DEADLINE, node.shared.raft.ensure_linearizable(ReadPolicy::ReadIndex));
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
    let asked = node.shared.network.read_index(leader.0, address, FOLLOWER_DEADLINE).await;
    let index = asked.map_err(|status| {
        tracing::debug!(%leader, address, %status, "the leader does not confirm a read");
        NodeError::NotLeader { leader: None }
    })?;
    let mut applied = node.applied();
    let caught_up = tokio::time::timeout(FOLLOWER_DEADLINE, applied.wait_for(|at| *at >= LogIndex(index)));
    match caught_up.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(NodeError::Stopping),
        Err(_) => Err(NodeError::Deadline),
    }
}
