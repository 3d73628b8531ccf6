//! [`Gather`]: what is asked for at the same time shares a call, and so a message, and for changes
//! an append of the metadata log and its fsync.
//!
//! Nothing waits for company: a request goes out at once, in its caller's own task, while fewer than
//! [`ROUNDS_MAX`] calls of its kind are under way, and what comes meanwhile goes with the next.

mod changes;
mod stats;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_proto::ServiceError;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use crate::connection::Connections;
use crate::error::Cause;

/// Calls under way at once to one server, at most.
const ROUNDS_MAX: usize = 2;
/// Bytes of requests in one call, at most; a single request may be larger.
const ROUND_BYTES_MAX: usize = 1 << 20;

/// A request that may share a call with others.
pub(crate) trait Shares: Message + Clone + 'static {
    /// What is answered to one.
    type Reply: Send + 'static;
    /// Requests that are alike in this may share a call.
    type Kind: Clone + Eq + Hash + Send + 'static;
    /// Requests in one call, at most.
    const AT_ONCE_MAX: usize;

    /// What those that share its call have in common with it.
    fn kind(&self) -> Self::Kind;

    /// Asks the server at `address`, and answers for each request in their order, or what became of
    /// the call as a whole.
    fn send(
        connections: &Connections,
        address: &str,
        requests: Vec<Self>,
        limit: Duration,
    ) -> impl Future<Output = Answers<Self::Reply>> + Send;
}

/// What became of each request, or of the call as a whole.
pub(crate) type Answers<R> = Result<Vec<Result<R, Status>>, Status>;

/// The way of all requests of one sort of a client to the servers. Cheap to clone.
pub(crate) struct Gather<Q: Shares> {
    connections: Connections,
    waiting_max: usize,
    // Guards: how many calls are under way and who waits for the next, for each server and kind; a
    // lane with no call under way has nobody waiting.
    lanes: Arc<Mutex<Lanes<Q>>>,
}

impl<Q: Shares> Clone for Gather<Q> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            waiting_max: self.waiting_max,
            lanes: Arc::clone(&self.lanes),
        }
    }
}

type Key<Q> = (String, <Q as Shares>::Kind);
type Lanes<Q> = HashMap<Key<Q>, Lane<Q>>;

/// A request that waits for its answer.
struct Waiting<Q: Shares> {
    request: Q,
    until: Instant,
    answer: oneshot::Sender<Result<Q::Reply, Status>>,
}

/// One server's requests of one kind.
struct Lane<Q: Shares> {
    waiting: VecDeque<Waiting<Q>>,
    under_way: usize,
}

/// A call that is under way. Dropped, however it ended, the next one goes out.
struct Round<Q: Shares> {
    gather: Gather<Q>,
    key: Key<Q>,
    /// Nothing came back: who waits for this server may go elsewhere at once.
    is_silent: bool,
}

/// When a request goes.
enum Turn<Q: Shares> {
    Now(Round<Q>, Q),
    Later(oneshot::Receiver<Result<Q::Reply, Status>>),
}

impl<Q: Shares> Gather<Q> {
    /// `waiting_max`: those who may wait for a server at once; one more is refused.
    pub(crate) fn new(connections: Connections, waiting_max: usize) -> Self {
        Self { connections, waiting_max, lanes: Arc::default() }
    }

    /// Asks the server at `address`, and waits for at most `limit`.
    pub(crate) async fn ask(&self, address: String, request: Q, limit: Duration) -> Result<Q::Reply, Cause> {
        let until = Instant::now() + limit;
        let answered = match self.turn(address, request, until)? {
            Turn::Now(mut round, request) => {
                // Those that wait for others need no room for a call.
                let answers = Box::pin(round.ask(vec![request], limit)).await;
                drop(round);
                return Ok(answers.and_then(lone)??);
            }
            Turn::Later(answered) => answered,
        };
        match tokio::time::timeout_at(until, answered).await {
            Ok(answer) => Ok(answer.map_err(|_| Cause::Closed)??),
            Err(_) => Err(ServiceError::Deadline.into()),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<Q>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, address: String, request: Q, until: Instant) -> Result<Turn<Q>, Cause> {
        let key = (address, request.kind());
        let mut lanes = self.lanes();
        let lane = lanes.entry(key.clone()).or_default();
        if lane.under_way < ROUNDS_MAX {
            lane.under_way += 1;
            let round = Round { gather: self.clone(), key, is_silent: false };
            return Ok(Turn::Now(round, request));
        }
        if lane.waiting.len() >= self.waiting_max {
            lane.waiting.retain(|w| !w.answer.is_closed());
        }
        if lane.waiting.len() >= self.waiting_max {
            return Err(ServiceError::Overloaded.into());
        }
        let (answer, answered) = oneshot::channel();
        lane.waiting.push_back(Waiting { request, until, answer });
        Ok(Turn::Later(answered))
    }
}

/// The answer to a call of one request.
fn lone<R>(answers: Vec<Result<R, Status>>) -> Result<Result<R, Status>, Status> {
    answers.into_iter().next().ok_or_else(|| Status::internal("the server answered nothing"))
}

impl<Q: Shares> Round<Q> {
    /// Sends the requests, and waits for at most `limit`.
    async fn ask(&mut self, requests: Vec<Q>, limit: Duration) -> Answers<Q::Reply> {
        let asked = requests.len();
        let sent = Q::send(&self.gather.connections, &self.key.0, requests, limit);
        let answers = tokio::time::timeout(limit, sent).await;
        let answers = answers.unwrap_or_else(|_| Err(ServiceError::Deadline.into()));
        self.is_silent = answers.as_ref().err().is_some_and(|s| Cause::from(s.clone()).is_silence());
        match answers {
            Ok(answers) if answers.len() != asked => {
                Err(Status::internal("the server answered another number of requests than were asked for"))
            }
            answers => answers,
        }
    }

    /// Asks for those that waited and hands out the answers.
    async fn ask_waiting(mut self, waiting: Vec<Waiting<Q>>) {
        let until = waiting.iter().map(|w| w.until).max().unwrap_or_else(Instant::now);
        let limit = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let (requests, waiters): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|w| (w.request, w.answer)).unzip();
        match self.ask(requests, limit).await {
            Ok(answers) => {
                for (waiter, answer) in waiters.into_iter().zip(answers) {
                    // A caller that has gone away no longer wants to know.
                    drop(waiter.send(answer));
                }
            }
            Err(status) => {
                for waiter in waiters {
                    drop(waiter.send(Err(status.clone())));
                }
            }
        }
        // Those that an answer has woken come first: they have something to ask.
        tokio::task::yield_now().await;
    }
}

impl<Q: Shares> Drop for Round<Q> {
    fn drop(&mut self) {
        let mut lanes = self.gather.lanes();
        let Some(lane) = lanes.get_mut(&self.key) else { return };
        if self.is_silent {
            lane.turn_away();
        }
        let next = lane.next_round();
        // Without a runtime nobody waits for an answer any more.
        let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| !next.is_empty());
        let Some(runtime) = runtime else {
            lane.under_way -= 1;
            if lane.under_way == 0 {
                lanes.remove(&self.key);
            }
            return;
        };
        let round = Round { gather: self.gather.clone(), key: self.key.clone(), is_silent: false };
        runtime.spawn(round.ask_waiting(next));
    }
}

impl<Q: Shares> Default for Lane<Q> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0 }
    }
}

impl<Q: Shares> Lane<Q> {
    /// The server was silent: what waits for it was not sent, and may go elsewhere at once.
    fn turn_away(&mut self) {
        for waiting in self.waiting.drain(..) {
            let elsewhere = ServiceError::NotLeader { leader_address: String::new() };
            drop(waiting.answer.send(Err(elsewhere.into())));
        }
    }

    /// What goes in one call; callers that were cancelled meanwhile are left out.
    fn next_round(&mut self) -> Vec<Waiting<Q>> {
        let (mut round, mut bytes) = (Vec::new(), 0);
        while round.len() < Q::AT_ONCE_MAX {
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
