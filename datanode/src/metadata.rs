//! The client to the metadata servers: finds the leader, follows it when it moves, and gives
//! every call a deadline. All calls here are safe to repeat, so they are repeated.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::nodes_client::NodesClient;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::limits::MESSAGE_BYTES_MAX;
use cairn_types::{ChunkId, ClusterId, Epoch, NodeId};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::connection::{Connections, DEADLINE};

/// How long one server may take to answer before another is asked.
const ATTEMPT: Duration = Duration::from_millis(2_000);
/// How long a seal may take: the leader fences every replica, and waits for those that are away.
const SEAL: Duration = Duration::from_millis(10_000);
/// The pause before the servers are asked again, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MOST: Duration = Duration::from_millis(500);
/// Hints that are followed without a pause; then somebody is wrong, and we wait.
const FOLLOWED_AT_ONCE: u32 = 2;

/// The metadata servers as one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metadata {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: OnceLock<ClusterId>,
    connections: Connections,
    // Invariant: `leader` is the last hint that was not disproved, `servers` what a leader named last.
    // Held for a read or a write only.
    route: Mutex<Route>,
}

#[derive(Debug, Default)]
struct Route {
    servers: Vec<String>,
    leader: Option<String>,
    next: usize,
}

impl Route {
    /// Takes the members that a server named, if it is the one that leads: another may be behind.
    fn learn(&mut self, reply: &v1::HelloReply) {
        let named = reply.members.iter().map(|member| member.address.clone());
        let named: Vec<String> = named.filter(|address| !address.is_empty()).collect();
        if reply.leader == reply.node && reply.leader != 0 && !named.is_empty() && named != self.servers {
            tracing::info!(servers = named.join(", "), "the metadata servers");
            self.servers = named;
        }
    }
}

/// What to do after a failed attempt.
enum After {
    Follow,
    Pause,
    GiveUp,
}

impl Metadata {
    /// The servers at `servers` (`host:port`), of which one at least answers.
    #[must_use]
    pub fn new(servers: Vec<String>, connections: Connections) -> Self {
        let route = Mutex::new(Route { servers, ..Route::default() });
        Self { shared: Arc::new(Shared { cluster: OnceLock::new(), connections, route }) }
    }

    /// The cluster that calls are stamped with, once [`Metadata::join`] has learned it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.cluster.get().copied()
    }

    /// Asks any server which cluster it belongs to; `None` while the cluster is forming.
    ///
    /// # Errors
    /// What the servers answered last, when none answered in time.
    pub async fn hello(&self) -> Result<Option<ClusterId>, WireError> {
        let message = v1::HelloRequest { client: "datanode".to_owned() };
        let reply = self.call(DEADLINE, ATTEMPT, message, async |m, r| m.meta.hello(r).await).await?;
        self.route().learn(&reply);
        Ok(ClusterId::from_bytes(&reply.cluster_id).filter(|id| !id.is_nil()))
    }

    /// Asks the leader who the metadata servers are, so that those that come are found when those that
    /// were configured have gone.
    ///
    /// # Errors
    /// That nobody could be reached: the servers known so far stay.
    pub async fn refresh(&self) -> Result<(), WireError> {
        let message = v1::HelloRequest { client: "datanode".to_owned() };
        let reply = self.call(ATTEMPT, ATTEMPT, message, async |m, r| m.meta.hello(r).await).await?;
        self.route().learn(&reply);
        Ok(())
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.shared.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stamps all further calls with `cluster`. The first one stays.
    pub fn join(&self, cluster: ClusterId) {
        self.shared.cluster.get_or_init(|| cluster);
    }

    /// Registers this process.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn register(&self, message: v1::RegisterRequest) -> Result<v1::RegisterReply, WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.nodes.register(r).await).await
    }

    /// Tells the leader that this node lives.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn heartbeat(&self, message: v1::HeartbeatRequest) -> Result<v1::HeartbeatReply, WireError> {
        self.call(ATTEMPT, ATTEMPT, message, async |m, r| m.nodes.heartbeat(r).await).await
    }

    /// The stream of this node's work. It ends when leadership moves.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn pull_work(&self, message: v1::PullWorkRequest) -> Result<Streaming<v1::Work>, WireError> {
        self.call_for(DEADLINE, ATTEMPT, None, message, async |m, r| m.nodes.pull_work(r).await).await
    }

    /// Reports what became of a piece of work.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn report_work(&self, message: v1::ReportWorkRequest) -> Result<(), WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.nodes.report_work(r).await).await.map(drop)
    }

    /// What is known of a chunk, linearizable.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn get_chunk(&self, chunk: ChunkId) -> Result<v1::Chunk, WireError> {
        let message = v1::GetChunkRequest { chunk: chunk.0 };
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.meta.get_chunk(r).await).await
    }

    /// Asks for a seal round (rules R4, R5) and waits until it is decided.
    ///
    /// # Errors
    /// The leader's refusal, or that it was not decided in time: it may be later.
    pub async fn seal_chunk(
        &self,
        chunk: ChunkId,
        epoch: Epoch,
        reason: &str,
        blame: Option<NodeId>,
    ) -> Result<v1::Chunk, WireError> {
        let message = v1::SealChunkRequest {
            chunk: chunk.0,
            epoch: epoch.0,
            reason: reason.to_owned(),
            blame_node: blame.unwrap_or_default().0,
        };
        self.call(SEAL, SEAL, message, async |m, r| m.meta.seal_chunk(r).await).await
    }

    /// Seals a chunk whose close record is on every replica.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached: it may be sealed all the same.
    pub async fn seal_planned(&self, message: v1::SealPlannedRequest) -> Result<v1::Chunk, WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.nodes.seal_planned(r).await).await
    }

    /// Has the chunk allocated that is to follow a tail.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn prepare_spare(&self, message: v1::PrepareSpareRequest) -> Result<v1::Chunk, WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.nodes.prepare_spare(r).await).await
    }

    /// Seals a chunk as [`Self::seal_planned`], and activates the one made ahead.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached: both may be done all the same.
    pub async fn roll(&self, message: v1::RollRequest) -> Result<v1::RollReply, WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.nodes.roll(r).await).await
    }

    /// Opens a session, for the changes that a node proposes itself.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub async fn open_session(&self, client: &str) -> Result<v1::OpenSessionReply, WireError> {
        let message = v1::OpenSessionRequest { client: client.to_owned(), ..Default::default() };
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.meta.open_session(r).await).await
    }

    /// Proposes a change, once per (session, sequence) however often it is sent.
    ///
    /// # Errors
    /// The outcome, or that the leader could not be reached: it may be applied all the same.
    pub async fn mutate(&self, message: v1::MutateRequest) -> Result<v1::MutateReply, WireError> {
        self.call(DEADLINE, ATTEMPT, message, async |m, r| m.meta.mutate(r).await).await
    }

    async fn call<M: Clone, T>(
        &self,
        budget: Duration,
        attempt: Duration,
        message: M,
        send: impl AsyncFn(&mut Clients, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, WireError> {
        self.call_for(budget, attempt, Some(attempt), message, send).await
    }

    /// Sends until it is answered, refused for good, or `budget` is over. `lifetime` bounds the
    /// call's stream, `attempt` the wait for its first answer.
    async fn call_for<M: Clone, T>(
        &self,
        budget: Duration,
        attempt: Duration,
        lifetime: Option<Duration>,
        message: M,
        send: impl AsyncFn(&mut Clients, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, WireError> {
        let mut last = WireError::Service(ServiceError::Deadline);
        let attempts = async {
            let (mut pause, mut followed) = (PAUSE_FIRST, 0);
            loop {
                let address = self.address();
                let mut clients = Clients::new(self.shared.connections.channel(&address)?);
                let mut request = Request::new(message.clone());
                handshake::stamp(&mut request, self.cluster());
                if let Some(lifetime) = lifetime {
                    request.set_timeout(lifetime);
                }
                let error = match timeout(attempt, send(&mut clients, request)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    Ok(Err(status)) => WireError::from(status),
                    Err(_) => WireError::Service(ServiceError::Deadline),
                };
                match self.after(&address, &error) {
                    After::GiveUp => return Err(error),
                    After::Follow if followed < FOLLOWED_AT_ONCE => followed += 1,
                    After::Follow | After::Pause => {
                        last = error;
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MOST);
                        followed = 0;
                    }
                }
            }
        };
        match timeout(budget, attempts).await {
            Ok(outcome) => outcome,
            Err(_) => Err(last),
        }
    }

    fn address(&self) -> String {
        let route = self.route();
        let servers = &route.servers;
        let next = || servers.get(route.next % servers.len().max(1)).cloned().unwrap_or_default();
        route.leader.clone().unwrap_or_else(next)
    }

    fn after(&self, asked: &str, error: &WireError) -> After {
        let mut route = self.route();
        let mut elsewhere = || {
            route.leader = None;
            route.next = route.next.wrapping_add(1);
            After::Pause
        };
        match error {
            WireError::Service(ServiceError::NotLeader { leader_address }) => {
                if leader_address.is_empty() || leader_address == asked {
                    return elsewhere();
                }
                route.leader = Some(leader_address.clone());
                After::Follow
            }
            WireError::Service(ServiceError::Overloaded) => After::Pause,
            WireError::Service(
                ServiceError::Deadline | ServiceError::AnswerLost | ServiceError::Stopping,
            ) => elsewhere(),
            WireError::Transport { code, .. } if connection_failed(*code) => elsewhere(),
            WireError::Transport { .. } | WireError::Service(_) | WireError::Fs(_) => After::GiveUp,
        }
    }
}

/// Codes that tonic gives when the connection, not the server's answer, failed.
fn connection_failed(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
}

struct Clients {
    meta: MetaClient<Channel>,
    nodes: NodesClient<Channel>,
}

impl Clients {
    fn new(channel: Channel) -> Self {
        let meta = MetaClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let nodes = NodesClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { meta, nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_names_the_servers() {
        let servers = vec!["a".to_owned(), "b".to_owned()];
        let mut route = Route { servers, ..Route::default() };
        let reply = |leader, members: &[&str]| v1::HelloReply {
            node: 3,
            leader,
            members: members.iter().map(|a| v1::MetaMember { node: 1, address: (*a).to_owned() }).collect(),
            ..v1::HelloReply::default()
        };
        route.learn(&reply(1, &["c"]));
        route.learn(&reply(0, &["c"]));
        route.learn(&reply(3, &[""]));
        assert_eq!(route.servers, ["a", "b"]);
        route.learn(&reply(3, &["b", "c", "d"]));
        assert_eq!(route.servers, ["b", "c", "d"]);
    }
}
