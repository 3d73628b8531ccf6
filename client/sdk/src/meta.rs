//! [`Leader`]: calls to the metadata leader, found and found again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::{HelloReply, HelloRequest};
use cairn_types::{ClusterId, FsError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::connection::Connections;
use crate::error::{Cause, Error, ErrorKind};
use crate::options::ConnectOptions;
use crate::trace;

/// The pauses between rounds of questions to those who may answer: the first, doubled each time, and the longest.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(20);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long a server has to answer a read that others can answer too.
const READER_DEADLINE: Duration = Duration::from_secs(1);
/// How long a server that did not is left out.
const REST: Duration = Duration::from_secs(5);

/// The metadata servers, of which one leads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leader {
    connections: Connections,
    options: Arc<ConnectOptions>,
    // One at a time asks who the members are.
    refreshing: Arc<Semaphore>,
    // Guards: where the leader is believed to be, and every address heard of.
    known: Arc<Mutex<Known>>,
}

struct Known {
    current: String,
    addresses: Vec<String>,
    /// Counts the reads that any server may answer.
    turn: usize,
    /// Servers that did not answer one, and until when they are left out.
    resting: HashMap<String, Instant>,
}

impl Known {
    /// Takes the members from a server's answer: all of them, and no one else, when it is the leader's.
    fn members(&mut self, reply: &HelloReply) {
        let named = reply.members.iter().map(|member| &member.address).filter(|address| !address.is_empty());
        if reply.leader == reply.node {
            let named: Vec<String> = named.cloned().collect();
            if !named.is_empty() {
                self.addresses = named;
            }
            return;
        }
        for address in named {
            if !self.addresses.contains(address) {
                self.addresses.push(address.clone());
            }
        }
    }

    /// Goes on to the server after `from`, or to the first when `from` is none of them any more.
    fn leave(&mut self, from: &str) {
        let at = self.addresses.iter().position(|address| address == from).map_or(0, |at| at + 1);
        if self.current == from
            && let Some(next) = self.addresses.get(at).or(self.addresses.first())
        {
            self.current = next.clone();
        }
    }
}

/// How a failed attempt goes on.
enum Next {
    /// Ask there at once.
    Redirect(String),
    /// Ask the next server after a pause.
    Elsewhere,
    /// Ask the same server after a pause.
    Same,
    /// Do not ask again.
    Stop,
}

impl Leader {
    /// Finds the cluster: asks each address for its cluster's id until one answers.
    pub(crate) async fn connect(
        connections: Connections,
        options: Arc<ConnectOptions>,
    ) -> Result<Self, Error> {
        let addresses = options.meta.clone();
        let current = addresses.first().cloned().unwrap_or_default();
        let refreshing = Arc::new(Semaphore::new(1));
        let known = Known { current, addresses, turn: 0, resting: HashMap::new() };
        let leader = Self { connections, options, refreshing, known: Arc::new(Mutex::new(known)) };
        let deadline = Instant::now() + leader.options.retry_budget;
        let mut pause = BACKOFF_FIRST;
        loop {
            match leader.hello_any().await {
                Ok(()) => return Ok(leader),
                Err(error) if Instant::now() + pause >= deadline => return Err(error),
                Err(error) if matches!(error.cause(), Cause::OtherCluster { .. } | Cause::Parse { .. }) => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn hello_any(&self) -> Result<(), Error> {
        let mut last = "no address was given".to_owned();
        for address in self.addresses() {
            match self.hello(&address).await {
                Ok(reply) if reply.cluster_id.is_empty() || reply.leader == 0 => {
                    last = format!("{address}: the cluster has no leader yet");
                }
                Ok(reply) => return self.learn(&reply),
                Err(Cause::Parse { what, text }) => {
                    return Err(Error::new("connect", "", Cause::Parse { what, text }));
                }
                Err(cause) => last = format!("{address}: {cause}"),
            }
        }
        let asked = self.addresses().join(", ");
        Err(Error::new("connect", "", Cause::NoLeader { asked, last }))
    }

    async fn hello(&self, address: &str) -> Result<HelloReply, Cause> {
        let request = HelloRequest { client: self.options.name.clone() };
        let request = self.connections.request(request, Duration::from_secs(2));
        Ok(self.connections.meta(address)?.hello(request).await?.into_inner())
    }

    fn learn(&self, reply: &HelloReply) -> Result<(), Error> {
        let id = ClusterId::from_bytes(&reply.cluster_id)
            .ok_or_else(|| Error::new("connect", "", Cause::MalformedAnswer("cluster_id")))?;
        let expected = self.options.cluster_id.unwrap_or(id);
        if expected != id || self.connections.join(id) != id {
            let cause = Cause::OtherCluster { found: id.to_string(), expected: expected.to_string() };
            return Err(Error::new("connect", "", cause));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.members(reply);
        if !reply.leader_address.is_empty() {
            known.current = reply.leader_address.clone();
        }
        Ok(())
    }

    /// Asks the leader who the members are, so that those who come are found when those who were
    /// there have gone. What fails here is asked again later.
    pub(crate) async fn refresh(&self) {
        let Ok(_one) = self.refreshing.try_acquire() else { return };
        match self.hello(&self.current()).await {
            // A server that does not lead may be behind, or removed.
            Ok(reply) if reply.leader == reply.node && reply.leader != 0 => {
                if let Err(error) = self.learn(&reply) {
                    tracing::warn!(%error, "the metadata servers were not learned");
                }
            }
            Ok(_) => {}
            Err(cause) => tracing::debug!(%cause, "the metadata leader did not name the members"),
        }
    }

    /// The connections that it calls over.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// How long a call is retried.
    pub(crate) fn retry_budget(&self) -> Duration {
        self.options.retry_budget
    }

    fn addresses(&self) -> Vec<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).addresses.clone()
    }

    fn current(&self) -> String {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    fn go_to(&self, address: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.addresses.contains(&address) {
            known.addresses.push(address.clone());
        }
        known.current = address;
    }

    /// Goes on to the server after `from`, unless somebody else has done so already.
    fn leave(&self, from: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).leave(from);
    }

    /// Calls the leader, again and again until it answers, refuses, or the budget is used up.
    ///
    /// Only for calls that may be repeated: reads, and mutations that carry (session, sequence).
    /// An error has the kind `Unknown` when some attempt may have been carried out.
    pub(crate) async fn call<M, R, F, Fut>(
        &self,
        action: &'static str,
        subject: &str,
        message: M,
        send: F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Fn(MetaClient<Channel>, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_within(self.options.retry_budget, action, subject, message, send).await
    }

    /// As [`call`](Self::call), with a budget of its own.
    pub(crate) async fn call_within<M, R, F, Fut>(
        &self,
        budget: Duration,
        action: &'static str,
        subject: &str,
        message: M,
        send: F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Fn(MetaClient<Channel>, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let (message, send) = (&message, &send);
        let attempt =
            |address: String, limit: Duration| async move { self.ask(&address, limit, message, send).await };
        self.retry(budget, action, subject, attempt).await
    }

    /// Asks one server once.
    pub(crate) async fn ask<M, R, F, Fut>(
        &self,
        address: &str,
        limit: Duration,
        message: &M,
        send: &F,
    ) -> Result<R, Cause>
    where
        M: Clone,
        F: Fn(MetaClient<Channel>, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = self.connections.meta(address)?;
        let request = self.connections.request(message.clone(), limit);
        match tokio::time::timeout(limit, Box::pin(send(client, request))).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(ServiceError::Deadline.into()),
        }
    }

    /// As [`retry`](Self::retry), of a read that every server can answer: asks the servers in turn, and
    /// goes on as `retry` does when the one whose turn it is does not answer.
    pub(crate) async fn retry_any<R, F, Fut>(
        &self,
        action: &'static str,
        subject: &str,
        attempt: F,
    ) -> Result<R, Error>
    where
        F: Fn(String, Duration) -> Fut,
        Fut: Future<Output = Result<R, Cause>>,
    {
        let asked = async {
            let address = self.next_reader();
            let limit = self.options.rpc_deadline.min(READER_DEADLINE);
            let cause = match attempt(address.clone(), limit).await {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            if matches!(next_step(&cause), Next::Stop) {
                return Err(stopped(action, subject, cause, false));
            }
            tracing::debug!(action, subject, address, %cause, "a server did not answer a read: asking the leader");
            self.rest(address);
            Box::pin(self.retry(self.options.retry_budget, action, subject, attempt)).await
        };
        // The attempt here and those that follow are one operation.
        trace::operation(asked).await
    }

    /// The server whose turn it is to answer a read.
    fn next_reader(&self) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.resting.retain(|_, until| *until > now);
        let awake: Vec<&String> =
            known.addresses.iter().filter(|a| !known.resting.contains_key(*a)).collect();
        let address = match awake.len() {
            0 => known.current.clone(),
            count => awake[known.turn % count].clone(),
        };
        known.turn = known.turn.wrapping_add(1);
        address
    }

    /// Leaves a server out of the turns for a while.
    fn rest(&self, address: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.resting.insert(address, Instant::now() + REST);
    }

    /// As [`call`](Self::call): `attempt` asks the server at an address, for at most so long.
    pub(crate) async fn retry<R, F, Fut>(
        &self,
        budget: Duration,
        action: &'static str,
        subject: &str,
        attempt: F,
    ) -> Result<R, Error>
    where
        F: Fn(String, Duration) -> Fut,
        Fut: Future<Output = Result<R, Cause>>,
    {
        trace::operation(self.repeat(budget, action, subject, attempt)).await
    }

    async fn repeat<R, F, Fut>(
        &self,
        budget: Duration,
        action: &'static str,
        subject: &str,
        attempt: F,
    ) -> Result<R, Error>
    where
        F: Fn(String, Duration) -> Fut,
        Fut: Future<Output = Result<R, Cause>>,
    {
        let deadline = Instant::now() + budget;
        let mut pause = BACKOFF_FIRST;
        let mut carried_out = false;
        let mut moved = false;
        loop {
            let address = self.current();
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = self.options.rpc_deadline.min(left).max(Duration::from_millis(1));
            let cause = match attempt(address.clone(), limit).await {
                Ok(answer) => {
                    if moved {
                        let leader = self.clone();
                        // Another leader may have come with other members.
                        tokio::spawn(async move { leader.refresh().await });
                    }
                    return Ok(answer);
                }
                Err(cause) => cause,
            };
            let next = next_step(&cause);
            if matches!(next, Next::Stop) {
                return Err(stopped(action, subject, cause, carried_out));
            }
            let lost = matches!(cause, Cause::Service(ServiceError::AnswerLost | ServiceError::Stopping));
            carried_out |= cause.is_silence() || lost;
            let trace = trace::current();
            tracing::debug!(action, subject, address, %cause, %trace, "metadata call failed, retrying");
            if Instant::now() + pause >= deadline {
                return Err(used_up(action, subject, budget, cause, carried_out));
            }
            match next {
                Next::Redirect(leader) if leader != address => {
                    moved = true;
                    self.go_to(leader);
                    pause = BACKOFF_FIRST;
                    continue;
                }
                Next::Same => {}
                _ => {
                    moved = true;
                    self.leave(&address);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

/// The error of a call whose budget is used up. What could not be placed or taken keeps its
/// own cause: it says more than the budget does.
fn used_up(action: &'static str, subject: &str, budget: Duration, cause: Cause, carried_out: bool) -> Error {
    let error = match cause {
        Cause::Fs(_) => Error::new(action, subject, cause),
        cause => {
            let last = cause.to_string();
            Error::new(action, subject, Cause::RetriesUsedUp { seconds: budget.as_secs(), last })
        }
    };
    if carried_out { error.with_kind(ErrorKind::Unknown) } else { error }
}

/// The error of a call that is not asked again. An expired session leaves only those calls
/// unknown that some earlier attempt may have carried out; what a server says without looking at the
/// namespace says nothing of that attempt.
fn stopped(action: &'static str, subject: &str, cause: Cause, carried_out: bool) -> Error {
    let expired = matches!(cause, Cause::Fs(FsError::SessionExpired));
    let says_nothing = matches!(cause, Cause::Service(_));
    let error = Error::new(action, subject, cause);
    match carried_out {
        true if says_nothing => error.with_kind(ErrorKind::Unknown),
        false if expired => error.with_kind(ErrorKind::Retry),
        _ => error,
    }
}

fn next_step(cause: &Cause) -> Next {
    match cause {
        Cause::Service(ServiceError::NotLeader { leader_address }) if !leader_address.is_empty() => {
            Next::Redirect(leader_address.clone())
        }
        Cause::Service(
            ServiceError::NotLeader { .. }
            | ServiceError::Stopping
            | ServiceError::Deadline
            | ServiceError::TooManyWatches { .. },
        ) => Next::Elsewhere,
        // The answer to a change that is made: it is kept for its sequence.
        Cause::Service(ServiceError::Overloaded | ServiceError::AnswerLost) => Next::Same,
        Cause::Fs(
            FsError::TooFewNodes { .. }
            | FsError::LagBound { .. }
            | FsError::NoSpace
            | FsError::TooManyReplies,
        ) => Next::Same,
        Cause::Transport { code, .. } => match code {
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Internal => {
                Next::Elsewhere
            }
            Code::ResourceExhausted => Next::Same,
            _ => Next::Stop,
        },
        _ => Next::Stop,
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::v1::MetaMember;

    use super::*;

    fn answer(node: u64, leader: u64, members: &[&str]) -> HelloReply {
        let member =
            |(n, address): (usize, &&str)| MetaMember { node: n as u64 + 1, address: (*address).to_owned() };
        let members = members.iter().enumerate().map(member).collect();
        HelloReply { node, leader, members, ..HelloReply::default() }
    }

    fn known(addresses: &[&str]) -> Known {
        let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
        Known { current: addresses[0].clone(), addresses, turn: 0, resting: HashMap::new() }
    }

    #[test]
    fn the_leader_s_members_are_all_there_are_and_another_s_are_more() {
        let mut servers = known(&["a", "b"]);
        servers.members(&answer(2, 1, &["b", "c", ""]));
        assert_eq!(servers.addresses, ["a", "b", "c"], "a follower may be behind");
        servers.members(&answer(3, 3, &["c", "d"]));
        assert_eq!(servers.addresses, ["c", "d"], "a and b are gone");
        servers.members(&answer(3, 3, &[]));
        assert_eq!(servers.addresses, ["c", "d"]);
    }

    #[test]
    fn a_server_that_is_no_member_any_more_is_left_for_the_first() {
        let mut servers = known(&["a", "b"]);
        for next in ["b", "a", "b"] {
            let from = servers.current.clone();
            servers.leave(&from);
            assert_eq!(servers.current, next);
        }
        servers.members(&answer(3, 3, &["c", "d"]));
        servers.leave("b");
        assert_eq!(servers.current, "c");
        servers.leave("b");
        assert_eq!(servers.current, "c", "somebody else has left it already");
    }
}
