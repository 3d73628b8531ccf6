//! [`DataService`]: the calls, one short method each.

use std::pin::Pin;

use cairn_proto::v1::data_server::Data;
use cairn_proto::{ServiceError, handshake, v1};
use cairn_types::limits::PROTOCOL_VERSION;
use cairn_types::{ChunkId, Epoch, NodeId};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{append, fence, objects, read, survey};
use crate::node::{Node, Nodes};
use crate::replicate::{refusal, secondary};

/// A stream of replies.
pub type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves `Data` for the nodes of one process.
#[derive(Clone)]
pub struct DataService {
    pub(super) nodes: Nodes,
}

impl DataService {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        handshake::check(request.metadata(), Some(self.nodes.first().cluster), false)
    }

    /// A stream without an end of its own, ended when the node stops.
    fn until_stopped<T: 'static>(
        &self,
        replies: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Replies<T> {
        Box::pin(replies.take_until(self.nodes.first().stop.clone().cancelled_owned()))
    }
}

/// The hot calls, however they came: gRPC's methods below call them, and so does the framed transport.
impl DataService {
    pub(crate) fn node(&self) -> &Node {
        self.nodes.first()
    }

    pub(crate) fn appends(
        &self,
        inbound: impl Stream<Item = Result<v1::AppendRequest, Status>> + Send + Unpin + 'static,
    ) -> Replies<v1::AppendReply> {
        self.until_stopped(append::serve(self.nodes.first().primaries.clone(), inbound))
    }

    pub(crate) fn replications(
        &self,
        inbound: impl Stream<Item = Result<v1::ReplicateRequest, Status>> + Send + Unpin + 'static,
    ) -> Replies<v1::ReplicateReply> {
        self.until_stopped(secondary::replies(self.nodes.contexts().clone(), inbound))
    }

    pub(crate) async fn blocks(&self, request: v1::ReadRequest) -> Result<Replies<v1::ReadFrame>, Status> {
        read::frames(&self.nodes, request).await
    }

    pub(crate) async fn tail(&self, asked: v1::TailLengthRequest) -> Result<v1::TailLengthReply, Status> {
        let committed = fence::tail_length(&self.nodes, ChunkId(asked.chunk), Epoch(asked.epoch)).await?;
        Ok(v1::TailLengthReply { committed })
    }
}

#[tonic::async_trait]
impl Data for DataService {
    async fn hello(
        &self,
        request: Request<v1::DataHelloRequest>,
    ) -> Result<Response<v1::DataHelloReply>, Status> {
        let node = self.nodes.first();
        handshake::check(request.metadata(), Some(node.cluster), true)?;
        Ok(Response::new(v1::DataHelloReply {
            cluster_id: node.cluster.0.to_vec().into(),
            node: node.id.0,
            incarnation: node.context.store.incarnation().0,
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: node.boot_id.to_vec().into(),
        }))
    }

    type AppendStream = Replies<v1::AppendReply>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.check(&request)?;
        Ok(Response::new(self.appends(request.into_inner())))
    }

    type ReplicateStream = Replies<v1::ReplicateReply>;

    async fn replicate(
        &self,
        request: Request<Streaming<v1::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        self.check(&request)?;
        Ok(Response::new(self.replications(request.into_inner())))
    }

    async fn tail_length(
        &self,
        request: Request<v1::TailLengthRequest>,
    ) -> Result<Response<v1::TailLengthReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(self.tail(request.into_inner()).await?))
    }

    async fn close(&self, request: Request<v1::CloseRequest>) -> Result<Response<v1::CloseReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(fence::close(&self.nodes, request.into_inner()).await?))
    }

    async fn fence(&self, request: Request<v1::FenceRequest>) -> Result<Response<v1::FenceReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(fence::fence(&self.nodes, request.into_inner()).await?))
    }

    async fn extend(&self, request: Request<v1::ExtendRequest>) -> Result<Response<v1::ExtendReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(fence::extend(&self.nodes, request.into_inner()).await?))
    }

    type ReadRecordsStream = Replies<v1::RecordFrame>;

    async fn read_records(
        &self,
        request: Request<v1::ReadRecordsRequest>,
    ) -> Result<Response<Self::ReadRecordsStream>, Status> {
        self.check(&request)?;
        let request = request.into_inner();
        let node = self.nodes.addressed(request.node, ChunkId(request.chunk))?;
        let frames = read::records(node.context.store.clone(), request)?;
        Ok(Response::new(Box::pin(frames)))
    }

    type ReadStream = Replies<v1::ReadFrame>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.check(&request)?;
        Ok(Response::new(self.blocks(request.into_inner()).await?))
    }

    async fn evict(&self, request: Request<v1::EvictRequest>) -> Result<Response<v1::EvictReply>, Status> {
        self.check(&request)?;
        let chunk = Some(ChunkId(request.into_inner().chunk)).filter(|chunk| chunk.0 != 0);
        let mut bytes = 0;
        // A disk that failed could note nothing down.
        for node in self.nodes.iter().filter(|node| node.context.store.retired().is_none()) {
            let evicted = node.context.store.evict(chunk).await;
            bytes += evicted.map_err(|error| Status::from(refusal::of_change(node.id, &error)))?;
        }
        Ok(Response::new(v1::EvictReply { bytes }))
    }

    async fn node_status(
        &self,
        request: Request<v1::NodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatusReply>, Status> {
        self.check(&request)?;
        let asked = NodeId(request.into_inner().node);
        let node = if asked.0 == 0 { Some(self.nodes.first()) } else { self.nodes.find(asked) };
        let node = node.ok_or(ServiceError::NoSuchNode { node: asked })?;
        Ok(Response::new(status(node)))
    }

    async fn survey_packs(
        &self,
        request: Request<v1::SurveyPacksRequest>,
    ) -> Result<Response<v1::SurveyPacksReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(survey::packs(self.nodes.first(), request.into_inner()).await?))
    }

    async fn survey_replicas(
        &self,
        request: Request<v1::SurveyReplicasRequest>,
    ) -> Result<Response<v1::SurveyReplicasReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(survey::replicas(&self.nodes, request.into_inner()).await?))
    }

    async fn wait_length(
        &self,
        request: Request<v1::WaitLengthRequest>,
    ) -> Result<Response<v1::WaitLengthReply>, Status> {
        self.check(&request)?;
        let committed = fence::wait_length(self.nodes.first(), request.into_inner()).await?;
        Ok(Response::new(v1::WaitLengthReply { committed }))
    }

    async fn list_objects(
        &self,
        request: Request<v1::ListObjectsRequest>,
    ) -> Result<Response<v1::ListObjectsReply>, Status> {
        self.check(&request)?;
        Ok(Response::new(objects::page(self.nodes.first(), request.into_inner()).await?))
    }
}

fn status(node: &Node) -> v1::NodeStatusReply {
    let store = &node.context.store;
    let (stats, scrub, requests) = (store.stats(), node.scrub.summary(), node.requests.now());
    v1::NodeStatusReply {
        node: node.id.0,
        incarnation: store.incarnation().0,
        used_bytes: stats.used_bytes,
        pinned_bytes: stats.pinned_bytes,
        capacity_bytes: stats.capacity_bytes,
        chunks_open: stats.chunks_open,
        chunks_sealed: stats.chunks_sealed,
        cached_bytes: stats.cached_bytes,
        retired: store.retired().is_some(),
        segments: stats.segments,
        fsyncs: stats.fsyncs,
        fsync_p50_us: stats.fsync_p50_us,
        fsync_p99_us: stats.fsync_p99_us,
        puts: requests.puts,
        gets: requests.gets,
        heads: requests.heads,
        lists: requests.lists,
        deletes: requests.deletes,
        parts: requests.parts,
        bytes_up: requests.bytes_up,
        bytes_down: requests.bytes_down,
        under_store: node.packs_at.clone(),
        scrub_bytes: scrub.bytes,
        scrub_records: scrub.records,
        scrub_damaged: scrub.damaged,
        scrub_repaired: scrub.repaired,
        scrub_unrepairable: scrub.unrepairable,
        scrub_passes: scrub.passes,
        scrub_pass_ms: scrub.pass_ms,
        damaged_replicas: scrub.damaged_replicas,
        room_bytes: stats.room_bytes,
        dir: node.dir.display().to_string(),
    }
}

/// An internal failure, as the caller is told; the log has the rest.
pub(super) fn internal(what: &'static str, error: impl std::fmt::Display) -> Status {
    tracing::error!(%error, what);
    ServiceError::Internal.into()
}
