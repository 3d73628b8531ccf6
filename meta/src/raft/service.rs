//! What the other metadata servers call. The envelope is checked before anything is decoded.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_proto::v1::raft_server::{Raft as RaftRpc, RaftServer};
use cairn_proto::v1::{
    AdmissionReply, AdmissionRequest, ApplicantReply, ApplicantRequest, DigestMark, DigestsReply,
    DigestsRequest, LevelsReply, LevelsRequest, RaftMessage, ReadIndexReply, ReadIndexRequest,
    SnapshotManifest, SnapshotPiece, StandingReply, StandingRequest, snapshot_piece,
};
use cairn_proto::{BadMessage, ServiceError, handshake, v1};
use cairn_types::limits::RPC_DEADLINE_MS;
use cairn_types::{Clock, ClusterId, FeatureLevel, FeatureLevels, NodeId};
use futures::{Stream, StreamExt};
use openraft::ReadPolicy;
use openraft::errors::{Fatal, LinearizableReadError, RaftError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::admission::{self, Admission};
use super::digest::Marks;
use super::machine::Current;
use super::met::Met;
use super::network::MESSAGE_BYTES_MAX;
use super::record::{
    self, AppendRecord, AppendedRecord, AppliedRecord, AskVoteRecord, RecordError, StreamedRecord,
    TransferRecord, TransferredRecord, VoteRecord, VotedRecord,
};
use super::snapshot::Snapshot;
use super::snapshot_wire::{self, ReceiveError};
use super::standing::Standing;
use super::types::{Raft, TypeConfig};
use crate::keys::servers::DirectoryId;

/// Who serves.
#[derive(Clone)]
pub struct Own {
    /// The Raft core.
    pub raft: Raft,
    /// The server's id.
    pub node: u64,
    /// Its directory.
    pub directory: DirectoryId,
    /// Its state.
    pub state: Arc<Current>,
    /// The digests of its state.
    pub marks: watch::Receiver<Marks>,
    /// The feature levels that it applies.
    pub levels: FeatureLevels,
    /// The cluster's, as far as it has applied.
    pub level: watch::Receiver<FeatureLevel>,
    /// The boot clock's time from which this server votes for another.
    pub votes_from: Duration,
}

/// How long a round to a majority may take on a follower's behalf.
const READ_INDEX: Duration = Duration::from_millis(RPC_DEADLINE_MS);

/// The Raft service of one server.
#[derive(Clone)]
pub struct RaftService {
    raft: Raft,
    node: u64,
    directory: DirectoryId,
    state: Arc<Current>,
    cluster: watch::Receiver<Option<ClusterId>>,
    standing: watch::Receiver<Standing>,
    marks: watch::Receiver<Marks>,
    levels: FeatureLevels,
    level: watch::Receiver<FeatureLevel>,
    votes_from: Duration,
    met: Arc<Met>,
    incoming: PathBuf,
    received: Arc<AtomicU64>,
    receiving: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    heard: watch::Sender<Option<Duration>>,
    stop: CancellationToken,
}

impl RaftService {
    /// Serves `own` Raft core until `stop`, as far as its `standing` allows. Who makes a
    /// promise is written down in `met`. Snapshots are received under `incoming`.
    #[must_use]
    pub fn new(
        own: Own,
        clock: Arc<dyn Clock>,
        cluster: watch::Receiver<Option<ClusterId>>,
        standing: watch::Receiver<Standing>,
        met: Arc<Met>,
        incoming: PathBuf,
        stop: CancellationToken,
    ) -> Self {
        let receiving = Arc::new(Semaphore::new(1));
        let (heard, received) = (watch::Sender::new(None), Arc::default());
        let Own { raft, node, directory, state, marks, levels, level, votes_from } = own;
        Self {
            raft,
            node,
            directory,
            state,
            cluster,
            standing,
            marks,
            levels,
            level,
            votes_from,
            met,
            incoming,
            received,
            receiving,
            clock,
            heard,
            stop,
        }
    }

    /// True when a leader has called within this time.
    #[must_use]
    pub fn heard_within(&self, limit: Duration) -> bool {
        let heard = *self.heard.borrow();
        heard.is_some_and(|at| self.clock.boottime().saturating_sub(at) < limit)
    }

    /// As [`Self::note`], of a leader's call.
    fn note_leader(&self, from: u64) -> Result<(), Status> {
        self.heard.send_replace(Some(self.clock.boottime()));
        self.note(from)
    }

    /// As a gRPC service, with its limits.
    #[must_use]
    pub fn into_server(self) -> RaftServer<Self> {
        RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A peer that does not know the cluster's id yet is let in: it is forming with us, or it is a
    /// member that missed the entry that named it.
    fn check_caller(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if self.stop.is_cancelled() {
            return Err(ServiceError::Stopping.into());
        }
        handshake::check(metadata, *self.cluster.borrow(), true)
    }

    /// As [`Self::check_caller`], for what Raft itself is to answer: it stays silent while this
    /// server does not know whether it has lost what it promised. The caller takes it for
    /// unreachable.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.check_caller(metadata)?;
        let why = match *self.standing.borrow() {
            Standing::Sure | Standing::Unsure => return Ok(()),
            Standing::Alone if self.cluster.borrow().is_some() => return Ok(()),
            Standing::Alone => "this server makes a cluster of its own",
            Standing::Asking => "this server still asks whether it was a member before",
            Standing::Waiting => "this server waits to be added",
            Standing::Removed => "this server was removed from the group",
        };
        Err(Status::unavailable(why))
    }

    /// How a server stands, as this one's state has it.
    ///
    /// # Errors
    /// `Stopping` when the state is closed, `Internal` when it cannot be read.
    fn standing_of(&self, node: u64, directory: DirectoryId) -> Result<Admission, ServiceError> {
        let state = self.state.get().ok_or(ServiceError::Stopping)?;
        let rows = state.store().snapshot();
        admission::judge(rows.as_ref(), NodeId(node), directory).map_err(|error| {
            tracing::error!(%error, cause = ?error, "the members cannot be read from the state");
            ServiceError::Internal
        })
    }

    /// How this server stands, as its own state has it.
    ///
    /// # Errors
    /// As [`Self::standing_of`].
    pub fn own_standing(&self) -> Result<Admission, ServiceError> {
        self.standing_of(self.node, self.directory)
    }

    /// No vote for a server that was removed: it does not know, and its log may be as long as ours.
    fn check_voter(&self, from: u64) -> Result<(), Status> {
        if self.standing_of(from, DirectoryId::default())? == Admission::Removed {
            return Err(Status::unavailable("the candidate was removed from the group"));
        }
        Ok(())
    }

    /// No vote while a leader that this server heard before it restarted may still count on that.
    fn check_memory(&self, ask: &AskVoteRecord) -> Result<(), Status> {
        if !ask.is_transfer() && self.clock.boottime() < self.votes_from {
            return Err(Status::unavailable("this server restarted just now and may have heard a leader"));
        }
        Ok(())
    }

    /// No vote for a cluster that this server does not know, when not all members could be asked
    /// whether it was in that cluster.
    fn check_candidate(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let unsure = *self.standing.borrow() == Standing::Unsure && self.cluster.borrow().is_none();
        if unsure && metadata.get(handshake::CLUSTER_KEY).is_some() {
            return Err(Status::unavailable("this server does not know yet whether it was in this cluster"));
        }
        Ok(())
    }

    /// Writes down that `from` has made a promise, which whoever calls on it as a candidate or a
    /// leader has: to itself.
    fn note(&self, from: u64) -> Result<(), Status> {
        self.met.note(from).map_err(|error| {
            tracing::error!(%error, from, "a member's promise could not be written down");
            ServiceError::Internal.into()
        })
    }

    fn check_addresses(&self, group: u32, from: u64, to: u64) -> Result<(), Status> {
        if group != 0 {
            return Err(BadMessage("group").into());
        }
        if to != self.node {
            return Err(BadMessage("to").into());
        }
        if from == self.node || from == 0 {
            return Err(BadMessage("from").into());
        }
        Ok(())
    }

    fn wire_levels(&self) -> v1::FeatureLevels {
        v1::FeatureLevels { lowest: self.levels.lowest.0, highest: self.levels.highest.0 }
    }

    fn check_envelope(&self, message: &RaftMessage) -> Result<(), Status> {
        self.check_addresses(message.group, message.from, message.to)
    }

    fn open<T: bincode::Decode<()>>(&self, request: Request<RaftMessage>) -> Result<(u64, T), Status> {
        self.admit(request.metadata())?;
        let message = request.into_inner();
        self.check_envelope(&message)?;
        Ok((message.from, record::decode(&message.payload).map_err(malformed)?))
    }

    fn answer(&self, to: u64, record: &impl bincode::Encode) -> RaftMessage {
        RaftMessage { group: 0, from: self.node, to, payload: record::encode(record) }
    }

    async fn receive_snapshot(
        &self,
        manifest: SnapshotManifest,
        pieces: &mut Streaming<SnapshotPiece>,
    ) -> Result<Response<RaftMessage>, Status> {
        let vote: VoteRecord = record::decode(&manifest.vote).map_err(malformed)?;
        let applied: AppliedRecord = record::decode(&manifest.meta).map_err(malformed)?;
        let meta = applied.meta().map_err(malformed)?;
        let Ok(_turn) = self.receiving.try_acquire() else { return Err(ServiceError::Overloaded.into()) };
        self.note_leader(manifest.from)?;
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        tracing::info!(from = manifest.from, files = manifest.files.len(), %meta, "receiving a snapshot");
        let snapshot = snapshot_wire::receive(path, &manifest, pieces).await.map_err(not_received)?;
        let snapshot = Snapshot { meta, snapshot };
        let response = self.raft.install_full_snapshot(vote.into(), snapshot).await.map_err(stopped)?;
        Ok(Response::new(self.answer(manifest.from, &VoteRecord::from(&response.vote))))
    }
}

fn malformed(error: RecordError) -> Status {
    tracing::warn!(%error, "a peer's record does not decode");
    BadMessage("payload").into()
}

fn not_received(error: ReceiveError) -> Status {
    tracing::warn!(%error, cause = ?error, "a snapshot was not received");
    match error {
        ReceiveError::Malformed(field) => BadMessage(field).into(),
        ReceiveError::Checksum { .. } => ServiceError::ChecksumMismatch.into(),
        ReceiveError::Broken => ServiceError::Deadline.into(),
        ReceiveError::Disk(_) => ServiceError::Internal.into(),
    }
}

fn stopped(error: Fatal<TypeConfig>) -> Status {
    tracing::warn!(%error, "a peer's call meets a stopped server");
    ServiceError::Stopping.into()
}

fn failed(error: RaftError<TypeConfig>) -> Status {
    match error {
        RaftError::Fatal(fatal) => stopped(fatal),
        RaftError::APIError(never) => match never {},
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<RaftMessage, Status>> + Send>>;

#[tonic::async_trait]
impl RaftRpc for RaftService {
    type AppendStreamStream = Answers;

    async fn append(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let (from, append) = self.open::<AppendRecord>(request)?;
        let append = append.try_into().map_err(malformed)?;
        self.note_leader(from)?;
        let reply = self.raft.append_entries(append).await.map_err(failed)?;
        Ok(Response::new(self.answer(from, &AppendedRecord::from(&reply))))
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<RaftMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.admit(request.metadata())?;
        let this = self.clone();
        // A message that breaks the rules ends the stream; its sender sees it end and starts anew.
        let incoming = request.into_inner();
        let appends = futures::stream::unfold(incoming, move |mut incoming| {
            let this = this.clone();
            async move {
                let message = incoming.message().await.ok()??;
                this.check_envelope(&message).ok()?;
                let append: AppendRecord = record::decode(&message.payload).map_err(malformed).ok()?;
                this.note_leader(message.from).ok()?;
                Some((append.try_into().map_err(malformed).ok()?, incoming))
            }
        });
        let this = self.clone();
        // Both ways end with the node: an idle stream would keep its connection beyond that.
        let appends = appends.take_until(self.stop.clone().cancelled_owned());
        let answers = self.raft.stream_append(appends).map(move |result| match result {
            Ok(streamed) => Ok(this.answer(0, &StreamedRecord::from(&streamed))),
            Err(fatal) => Err(stopped(fatal)),
        });
        let answers = answers.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.check_candidate(request.metadata())?;
        let (from, ask) = self.open::<AskVoteRecord>(request)?;
        self.check_voter(from)?;
        self.check_memory(&ask)?;
        self.note(from)?;
        let reply = self.raft.vote(ask.into()).await.map_err(failed)?;
        Ok(Response::new(self.answer(from, &VotedRecord::from(&reply))))
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.check_candidate(request.metadata())?;
        let (from, ask) = self.open::<AskVoteRecord>(request)?;
        self.check_voter(from)?;
        self.check_memory(&ask)?;
        let reply = self.raft.pre_vote(ask.into()).await.map_err(failed)?;
        Ok(Response::new(self.answer(from, &VotedRecord::from(&reply))))
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let (from, ask) = self.open::<TransferRecord>(request)?;
        let reply = self.raft.handle_transfer_leader(ask.into()).await.map_err(stopped)?;
        Ok(Response::new(self.answer(from, &TransferredRecord::from(&reply))))
    }

    async fn standing(&self, request: Request<StandingRequest>) -> Result<Response<StandingReply>, Status> {
        self.check_caller(request.metadata())?;
        let StandingRequest { group, from, to } = request.into_inner();
        self.check_addresses(group, from, to)?;
        let cluster = *self.cluster.borrow();
        let cluster_id = cluster.map(|id| id.0.to_vec()).unwrap_or_default().into();
        let (joined, level) = (self.met.has(from), self.level.borrow().0);
        Ok(Response::new(StandingReply { node: self.node, cluster_id, joined, level }))
    }

    async fn digests(&self, request: Request<DigestsRequest>) -> Result<Response<DigestsReply>, Status> {
        self.admit(request.metadata())?;
        let DigestsRequest { group, from, to } = request.into_inner();
        self.check_addresses(group, from, to)?;
        let marks = self.marks.borrow();
        let marks =
            marks.iter().map(|m| DigestMark { since: m.since, index: m.index, digest: m.digest }).collect();
        Ok(Response::new(DigestsReply { marks }))
    }

    /// Answered in any standing: what this build applies does not depend on it.
    async fn levels(&self, request: Request<LevelsRequest>) -> Result<Response<LevelsReply>, Status> {
        self.check_caller(request.metadata())?;
        let LevelsRequest { group, from, to } = request.into_inner();
        self.check_addresses(group, from, to)?;
        Ok(Response::new(LevelsReply { levels: Some(self.wire_levels()) }))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        self.admit(request.metadata())?;
        let ReadIndexRequest { group, from, to } = request.into_inner();
        self.check_addresses(group, from, to)?;
        let round = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let index = tokio::time::timeout(READ_INDEX, round).await.map_err(|_| ServiceError::Deadline)?;
        match index {
            Ok(id) => Ok(Response::new(ReadIndexReply { index: id.index() })),
            Err(RaftError::Fatal(fatal)) => Err(stopped(fatal)),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                let leader_address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
                Err(ServiceError::NotLeader { leader_address }.into())
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ServiceError::Deadline.into())
            }
        }
    }

    async fn applicant(
        &self,
        request: Request<ApplicantRequest>,
    ) -> Result<Response<ApplicantReply>, Status> {
        self.check_caller(request.metadata())?;
        if request.into_inner().group != 0 {
            return Err(BadMessage("group").into());
        }
        let none = self.directory == DirectoryId::default();
        let directory = if none { Vec::new() } else { self.directory.0.to_vec() };
        let waiting = *self.standing.borrow() == Standing::Waiting;
        let (directory, levels) = (directory.into(), Some(self.wire_levels()));
        Ok(Response::new(ApplicantReply { node: self.node, directory, waiting, levels }))
    }

    async fn admission(
        &self,
        request: Request<AdmissionRequest>,
    ) -> Result<Response<AdmissionReply>, Status> {
        self.check_caller(request.metadata())?;
        let AdmissionRequest { group, from, directory } = request.into_inner();
        self.check_addresses(group, from, self.node)?;
        let directory = directory.as_ref().try_into().map_err(|_| BadMessage("directory"))?;
        let cluster = *self.cluster.borrow();
        // A removed server's state is old: it knows nothing of the others any more.
        let member = !matches!(*self.standing.borrow(), Standing::Removed | Standing::Waiting);
        let known = cluster.filter(|_| member);
        let admission = self.standing_of(from, DirectoryId(directory))?.number();
        let cluster_id = known.map(|id| id.0.to_vec()).unwrap_or_default().into();
        let level = if known.is_some() { self.level.borrow().0 } else { 0 };
        Ok(Response::new(AdmissionReply { node: self.node, cluster_id, admission, level }))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<RaftMessage>, Status> {
        self.admit(request.metadata())?;
        let mut pieces = request.into_inner();
        let Some(SnapshotPiece { piece: Some(snapshot_piece::Piece::Manifest(manifest)) }) =
            pieces.message().await?
        else {
            return Err(BadMessage("manifest").into());
        };
        if manifest.group != 0 || manifest.from == self.node {
            return Err(BadMessage("manifest").into());
        }
        self.receive_snapshot(manifest, &mut pieces).await
    }
}
