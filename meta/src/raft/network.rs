//! The way to the other metadata servers: openraft's calls over gRPC. Every call keeps its
//! deadline; a peer that cannot be reached is an error, never a vote.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1::raft_client::RaftClient;
use cairn_proto::v1::{DigestsRequest, LevelsRequest, RaftMessage, ReadIndexRequest, SnapshotManifest};
use cairn_proto::{ServiceError, WireError, handshake};
use cairn_types::{ClusterId, FeatureLevels};
use futures::{FutureExt, Stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::digest::{Mark, Marks};
use super::met::Met;
use super::record::{
    self, AppendRecord, AppendedRecord, AppliedRecord, AskVoteRecord, RecordError, TransferRecord,
    TransferredRecord, VoteRecord, VotedRecord,
};
use super::snapshot::{Snapshot, SnapshotData};
use super::types::{TypeConfig, Vote};
use super::{admission, snapshot_wire, stream};

/// Bytes in one message between metadata servers, at most.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_millis(1000);
/// An idle connection is probed that often, and given up after as long.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Pieces of a snapshot in flight.
const PIECES_IN_FLIGHT: usize = 4;

/// Connections of different kinds do not wait for each other's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Log,
    Heartbeat,
    Snapshot,
}

/// By peer, address and lane.
type Channels = HashMap<(u64, String, Lane), Channel>;

/// Makes connections to peers.
#[derive(Clone)]
pub struct Network {
    from: u64,
    cluster: watch::Receiver<Option<ClusterId>>,
    met: Arc<Met>,
    // Guards nothing but itself: one connection a peer and lane.
    channels: Arc<Mutex<Channels>>,
}

/// A connection to one peer.
pub struct Peer {
    from: u64,
    to: u64,
    cluster: watch::Receiver<Option<ClusterId>>,
    met: Arc<Met>,
    client: Result<RaftClient<Channel>, BadAddress>,
}

/// A member's address is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{address} is not an address of the form host:port")]
pub struct BadAddress {
    address: String,
}

impl Network {
    /// The network of server `from`; `cluster` is stamped into every call once it is known. Whose
    /// promise is used is written down in `met`.
    #[must_use]
    pub fn new(from: u64, cluster: watch::Receiver<Option<ClusterId>>, met: Arc<Met>) -> Self {
        Self { from, cluster, met, channels: Arc::default() }
    }

    fn channel(&self, to: u64, address: &str, lane: Lane) -> Result<Channel, BadAddress> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&(to, address.to_owned(), lane)) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| BadAddress { address: address.to_owned() })?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .connect_lazy();
        channels.insert((to, address.to_owned(), lane), channel.clone());
        Ok(channel)
    }

    /// The entry that this server must have applied to answer what it was asked before this call, as
    /// the leader `to` says, within `limit`.
    ///
    /// # Errors
    /// The leader's refusal, among others that it leads no more; `DEADLINE_EXCEEDED`.
    pub async fn read_index(&self, to: u64, address: &str, limit: Duration) -> Result<u64, Status> {
        let request = ReadIndexRequest { group: 0, from: self.from, to };
        let call = async |mut c: RaftClient<Channel>, r| c.read_index(r).await;
        Ok(self.ask(to, address, limit, request, call).await?.index)
    }

    /// Asks another server, on the lane of heartbeats.
    async fn ask<M, R>(
        &self,
        to: u64,
        address: &str,
        limit: Duration,
        message: M,
        call: impl AsyncFnOnce(RaftClient<Channel>, Request<M>) -> Result<tonic::Response<R>, Status>,
    ) -> Result<R, Status> {
        let node = BasicNode { addr: address.to_owned() };
        let peer = self.peer(to, &node, Lane::Heartbeat);
        let mut request = peer.stamped(message);
        request.set_timeout(limit);
        let client = peer.client.map_err(|error| Status::unavailable(error.to_string()))?;
        match tokio::time::timeout(limit, call(client, request)).await {
            Ok(reply) => Ok(reply?.into_inner()),
            Err(_) => Err(ServiceError::Deadline.into()),
        }
    }

    /// The digests that a member remembers, within `limit`; `None` when it does not answer.
    pub async fn digests(&self, to: u64, address: &str, limit: Duration) -> Option<Marks> {
        let request = DigestsRequest { group: 0, from: self.from, to };
        let call = async |mut c: RaftClient<Channel>, r| c.digests(r).await;
        let reply = self.ask(to, address, limit, request, call).await;
        let reply = reply.inspect_err(|status| {
            tracing::debug!(to, %status, "a member does not tell its digests");
        });
        let marks = reply.ok()?.marks.into_iter();
        Some(marks.map(|m| Mark { since: m.since, index: m.index, digest: m.digest }).collect())
    }

    /// The feature levels that a member applies, within `limit`; `None` when it does not answer.
    pub async fn levels(&self, to: u64, address: &str, limit: Duration) -> Option<FeatureLevels> {
        let request = LevelsRequest { group: 0, from: self.from, to };
        let call = async |mut c: RaftClient<Channel>, r| c.levels(r).await;
        match self.ask(to, address, limit, request, call).await {
            Ok(reply) => Some(admission::levels(reply.levels)),
            Err(status) if status.code() == Code::Unimplemented => Some(FeatureLevels::UNTOLD),
            Err(status) => {
                tracing::debug!(to, %status, "a member does not tell its feature levels");
                None
            }
        }
    }

    fn peer(&self, to: u64, node: &BasicNode, lane: Lane) -> Peer {
        let client = self.channel(to, &node.addr, lane).map(|channel| {
            RaftClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        });
        Peer { from: self.from, to, cluster: self.cluster.clone(), met: Arc::clone(&self.met), client }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Snapshot)
    }
}

/// How a peer's refusal looks to openraft.
pub fn refused(status: Status) -> RPCError<TypeConfig> {
    let gone = matches!(status.code(), Code::Unavailable | Code::Unimplemented);
    match WireError::from(status) {
        error @ WireError::Service(
            ServiceError::Stopping | ServiceError::ForeignCluster | ServiceError::ForeignProtocol { .. },
        ) => RPCError::Unreachable(Unreachable::new(&error)),
        error if gone => RPCError::Unreachable(Unreachable::new(&error)),
        error => RPCError::Network(NetworkError::new(&error)),
    }
}

/// A peer's answer that does not decode.
pub fn garbage(error: RecordError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

/// A peer's promise that could not be written down counts as none.
pub fn unnoted(error: io::Error) -> RPCError<TypeConfig> {
    tracing::error!(%error, "a member's promise could not be written down");
    RPCError::Network(NetworkError::new(&error))
}

impl Peer {
    /// Writes down that the peer has made a promise, before it is used.
    fn promised(&self) -> Result<(), RPCError<TypeConfig>> {
        self.met.note(self.to).map_err(unnoted)
    }

    /// A message to the peer.
    fn message(&self, payload: bytes::Bytes) -> RaftMessage {
        RaftMessage { group: 0, from: self.from, to: self.to, payload }
    }

    /// A request with the handshake's entries.
    fn stamped<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, *self.cluster.borrow());
        request
    }

    fn client(&self) -> Result<RaftClient<Channel>, RPCError<TypeConfig>> {
        self.client.clone().map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout { action, id: self.from, target: self.to, timeout }
    }

    /// One call with its deadline: record out, record in.
    async fn call<Reply, F>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        payload: bytes::Bytes,
        call: impl FnOnce(RaftClient<Channel>, Request<RaftMessage>) -> F,
    ) -> Result<Reply, RPCError<TypeConfig>>
    where
        Reply: bincode::Decode<()>,
        F: Future<Output = Result<Response<RaftMessage>, Status>>,
    {
        let deadline = option.soft_ttl();
        let mut request = self.stamped(self.message(payload));
        request.set_timeout(deadline);
        let answer = tokio::time::timeout(deadline, call(self.client()?, request))
            .await
            .map_err(|_| RPCError::Timeout(self.timeout(action, deadline)))?
            .map_err(refused)?;
        record::decode(&answer.into_inner().payload).map_err(garbage)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let payload = record::encode(&AppendRecord::from(&rpc));
        let call = |mut c: RaftClient<Channel>, r| async move { c.append(r).await };
        let reply: AppendedRecord = self.call(RPCTypes::AppendEntries, &option, payload, call).await?;
        let reply = AppendEntriesResponse::<TypeConfig>::from(reply);
        if matches!(reply, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) {
            self.promised()?;
        }
        Ok(reply)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + openraft::OptionalSend + Unpin + 'static,
    {
        async move {
            let (from, to) = (self.from, self.to);
            let client = self.client()?;
            let late = self.timeout(RPCTypes::AppendEntries, stream::idle(&option));
            let stamp = self.stamped(());
            stream::open(client, stamp, input, (from, to), late, Arc::clone(&self.met)).await
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let payload = record::encode(&AskVoteRecord::from(&rpc));
        let call = |mut c: RaftClient<Channel>, r| async move { c.vote(r).await };
        let reply: VotedRecord = self.call(RPCTypes::Vote, &option, payload, call).await?;
        let reply = VoteResponse::<TypeConfig>::from(reply);
        if reply.vote_granted {
            self.promised()?;
        }
        Ok(reply)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let payload = record::encode(&AskVoteRecord::from(&rpc));
        let call = |mut c: RaftClient<Channel>, r| async move { c.pre_vote(r).await };
        let reply: VotedRecord = self.call(RPCTypes::Vote, &option, payload, call).await?;
        Ok(reply.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let meta = AppliedRecord::new(snapshot.meta.last_log_id.as_ref(), &snapshot.meta.last_membership);
        let data = snapshot.snapshot;
        let listed = Arc::clone(&data);
        let files = tokio::task::spawn_blocking(move || snapshot_wire::list(listed.path()))
            .await
            .map_err(|e| NetworkError::new(&e))?
            .map_err(|e| NetworkError::new(&e))?;
        let bytes: u64 = files.iter().map(|f| f.bytes).sum();
        tracing::info!(to = self.to, files = files.len(), bytes, "sending a snapshot");
        let manifest = SnapshotManifest {
            group: 0,
            from: self.from,
            vote: record::encode(&VoteRecord::from(&vote)),
            meta: record::encode(&meta),
            files,
        };
        let (pieces, outgoing) = mpsc::channel(PIECES_IN_FLIGHT);
        let mut client = self.client()?;
        let request = self.stamped(ReceiverStream::new(outgoing));
        let sending = snapshot_wire::send(data, manifest, pieces);
        let transfer = async {
            let (sent, answer) = tokio::join!(sending, client.snapshot(request));
            let answer = answer.map_err(|s| StreamingError::<TypeConfig>::from(refused(s)))?;
            sent.map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
            Ok::<_, StreamingError<TypeConfig>>(answer)
        };
        let answer: Response<RaftMessage> = tokio::select! {
            reason = cancel => return Err(reason.into()),
            answer = tokio::time::timeout(deadline, transfer) => answer
                .map_err(|_| StreamingError::Timeout(self.timeout(RPCTypes::InstallSnapshot, deadline)))??,
        };
        let vote: VoteRecord = record::decode(&answer.into_inner().payload).map_err(garbage)?;
        self.promised()?;
        Ok(SnapshotResponse::new(vote.into()))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<Result<(), TransferLeaderError<TypeConfig>>, RPCError<TypeConfig>> {
        let payload = record::encode(&TransferRecord::from(&req));
        let call = |mut c: RaftClient<Channel>, r| async move { c.transfer_leader(r).await };
        let reply: TransferredRecord = self.call(RPCTypes::TransferLeader, &option, payload, call).await?;
        Ok(reply.into())
    }
}
