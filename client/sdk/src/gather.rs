//! [`Gather`]: changes that are asked for at the same time share a call, and so a message, an
//! append of the metadata log and its fsync.
//!
//! Nothing waits for company: a change goes out at once while fewer than [`ROUNDS_MAX`] calls to its
//! server are under way, and what comes meanwhile goes with the next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::mutate_outcome::Outcome;
use cairn_proto::v1::{MutateAllRequest, MutateReply, MutateRequest};
use cairn_types::limits::MUTATIONS_MAX;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

use crate::connection::Connections;
use crate::error::Cause;

/// Calls under way at once to one server, at most.
const ROUNDS_MAX: usize = 2;
/// Bytes of changes in one call, at most; a single change may be larger.
const ROUND_BYTES_MAX: usize = 1 << 20;

/// The way of all changes of a client to the servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gather {
    queue: mpsc::Sender<Waiting>,
}

/// A change that waits for its answer.
struct Waiting {
    address: String,
    request: MutateRequest,
    until: Instant,
    answer: oneshot::Sender<Result<MutateReply, Status>>,
}

/// One server's changes.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

impl Gather {
    /// Starts the task, which ends with the last handle. `callers_max`: those who may ask at once; one
    /// more waits, or takes the place of one that was cancelled.
    pub(crate) fn start(connections: Connections, callers_max: usize) -> Self {
        let (queue, incoming) = mpsc::channel(callers_max);
        tokio::spawn(run(connections, callers_max, incoming));
        Self { queue }
    }

    /// Asks the server at `address` for one change, and waits for at most `limit`.
    pub(crate) async fn ask(
        &self,
        address: String,
        request: MutateRequest,
        limit: Duration,
    ) -> Result<MutateReply, Cause> {
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + limit;
        let asked = async {
            let waiting = Waiting { address, request, until, answer };
            self.queue.send(waiting).await.map_err(|_| Cause::Closed)?;
            Ok(answered.await.map_err(|_| Cause::Closed)??)
        };
        tokio::time::timeout_at(until, asked).await.unwrap_or_else(|_| Err(ServiceError::Deadline.into()))
    }
}

async fn run(connections: Connections, callers_max: usize, mut incoming: mpsc::Receiver<Waiting>) {
    let mut lanes: HashMap<String, Lane> = HashMap::new();
    let mut rounds: JoinSet<Ended> = JoinSet::new();
    let take = |lanes: &mut HashMap<String, Lane>, waiting: Waiting| {
        lanes.entry(waiting.address.clone()).or_default().push(waiting, callers_max);
    };
    loop {
        tokio::select! {
            came = incoming.recv() => match came {
                Some(waiting) => take(&mut lanes, waiting),
                None => break,
            },
            Some(ended) = rounds.join_next() => {
                // A round neither panics nor is cancelled; if it did, its lane would stay one short.
                let Ok(Ended { address, is_silent }) = ended else { continue };
                if let Some(lane) = lanes.get_mut(&address) {
                    lane.under_way -= 1;
                    if is_silent {
                        lane.turn_away();
                    }
                }
            }
        }
        // Those that an answer has woken come first: they have something to ask.
        tokio::task::yield_now().await;
        while let Ok(waiting) = incoming.try_recv() {
            take(&mut lanes, waiting);
        }
        for (address, lane) in &mut lanes {
            while lane.under_way < ROUNDS_MAX {
                let round = lane.next_round();
                if round.is_empty() {
                    break;
                }
                lane.under_way += 1;
                rounds.spawn(ask_all(connections.clone(), address.clone(), round));
            }
        }
        lanes.retain(|_, lane| lane.under_way > 0 || !lane.waiting.is_empty());
    }
    // Nobody waits any more.
    rounds.shutdown().await;
}

impl Lane {
    fn push(&mut self, waiting: Waiting, callers_max: usize) {
        if self.waiting.len() >= callers_max {
            self.waiting.retain(|w| !w.answer.is_closed());
        }
        self.waiting.push_back(waiting);
    }

    /// The server was silent: what waits for it was not sent, and may go elsewhere at once.
    fn turn_away(&mut self) {
        for waiting in self.waiting.drain(..) {
            let elsewhere = ServiceError::NotLeader { leader_address: String::new() };
            drop(waiting.answer.send(Err(elsewhere.into())));
        }
    }

    /// What goes in one call; callers that were cancelled meanwhile are left out.
    fn next_round(&mut self) -> Vec<Waiting> {
        let (mut round, mut bytes) = (Vec::new(), 0);
        while round.len() < MUTATIONS_MAX {
            let Some(next) = self.waiting.front() else { break };
            bytes += next.request.encoded_len();
            if bytes > ROUND_BYTES_MAX && !round.is_empty() {
                break;
            }
            round.extend(self.waiting.pop_front().filter(|w| !w.answer.is_closed()));
        }
        round
    }
}

/// A call that has ended.
struct Ended {
    address: String,
    /// Nothing came back.
    is_silent: bool,
}

/// Asks for all of `round` and hands out the answers.
async fn ask_all(connections: Connections, address: String, round: Vec<Waiting>) -> Ended {
    let until = round.iter().map(|w| w.until).max().unwrap_or_else(Instant::now);
    let limit = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let (requests, answers): (Vec<_>, Vec<_>) = round.into_iter().map(|w| (w.request, w.answer)).unzip();
    let asked = tokio::time::timeout(limit, send(&connections, &address, requests, limit)).await;
    let outcomes = asked.unwrap_or_else(|_| Err(ServiceError::Deadline.into()));
    let is_silent = outcomes.as_ref().err().is_some_and(|status| Cause::from(status.clone()).is_silence());
    match outcomes {
        Ok(outcomes) => {
            // A missing outcome drops its sender; whoever waits there sees that.
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // A caller that has gone away no longer wants to know.
                drop(answer.send(outcome));
            }
        }
        Err(status) => {
            for answer in answers {
                drop(answer.send(Err(status.clone())));
            }
        }
    }
    Ended { address, is_silent }
}

async fn send(
    connections: &Connections,
    address: &str,
    mut requests: Vec<MutateRequest>,
    limit: Duration,
) -> Result<Vec<Result<MutateReply, Status>>, Status> {
    let mut meta = connections.meta(address).map_err(|cause| Status::invalid_argument(cause.to_string()))?;
    if requests.len() == 1
        && let Some(request) = requests.pop()
    {
        let reply = meta.mutate(connections.request(request, limit)).await;
        return Ok(vec![reply.map(tonic::Response::into_inner)]);
    }
    let asked = requests.len();
    let request = connections.request(MutateAllRequest { requests }, limit);
    let outcomes = meta.mutate_all(request).await?.into_inner().outcomes;
    if outcomes.len() != asked {
        return Err(Status::internal("the server answered another number of changes than were asked for"));
    }
    let outcomes = outcomes.into_iter().map(|outcome| match outcome.outcome {
        Some(Outcome::Reply(reply)) => Ok(reply),
        Some(Outcome::Refusal(refusal)) => Err(refusal.into()),
        None => Err(Status::internal("the server left a change unanswered")),
    });
    Ok(outcomes.collect())
}
