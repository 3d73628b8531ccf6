//! A data node that answers what a test tells it to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use cairn_proto::WireError;
use cairn_proto::v1::data_server::{Data, DataServer};
use cairn_proto::v1::{self, report_work_request::Outcome};
use cairn_types::FsError;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::Cluster;

/// One replica.
#[derive(Clone, Default)]
pub struct Held {
    pub length: u64,
    pub health: u32,
    pub heard: u64,
    pub marks: Vec<v1::WriterMark>,
    pub epoch: u32,
}

/// What a test sets and sees.
#[derive(Default)]
pub struct Desk {
    pub held: HashMap<u64, Held>,
    pub unreachable: bool,
    pub extended: Vec<u64>,
    pub fenced: Vec<(u64, u32, u64)>,
    /// The objects under the cluster's packs and their sizes; `None`: it has no under-store.
    pub bucket: Option<BTreeMap<String, u64>>,
    /// What it says that it has room for.
    pub room_bytes: u64,
}

/// The chain that every replica has at a length.
pub fn chain(length: u64) -> u32 {
    (length as u32).wrapping_mul(31).wrapping_add(7)
}

/// A registered data node.
pub struct FakeNode<'c> {
    cluster: &'c Cluster,
    pub id: u64,
    pub disk: u8,
    pub incarnation: u64,
    address: String,
    zone: String,
    host: String,
    pub desk: Arc<Mutex<Desk>>,
    stop: CancellationToken,
}

impl Drop for FakeNode<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<'c> FakeNode<'c> {
    pub async fn start_all(cluster: &'c Cluster, count: u8) -> Vec<FakeNode<'c>> {
        let mut nodes = Vec::new();
        for disk in 1..=count {
            nodes.push(Self::start(cluster, disk).await);
        }
        nodes
    }

    pub async fn start(cluster: &'c Cluster, disk: u8) -> FakeNode<'c> {
        Self::start_in(cluster, disk, "", "").await
    }

    /// One that says where it is.
    pub async fn start_in(cluster: &'c Cluster, disk: u8, zone: &str, host: &str) -> FakeNode<'c> {
        Self::try_start_in(cluster, disk, zone, host).await.expect("registered")
    }

    /// A further disk of the process that serves `other`.
    pub async fn start_beside(cluster: &'c Cluster, disk: u8, other: &Self, zone: &str) -> FakeNode<'c> {
        let (address, desk) = (other.address.clone(), other.desk.clone());
        let (zone, host) = (zone.to_owned(), other.host.clone());
        let stop = CancellationToken::new();
        let mut node = Self { cluster, id: 0, disk, incarnation: 1, address, zone, host, desk, stop };
        node.register(1).await;
        node.beat().await;
        node
    }

    pub async fn try_start_in(
        cluster: &'c Cluster,
        disk: u8,
        zone: &str,
        host: &str,
    ) -> Result<FakeNode<'c>, WireError> {
        let desk = Arc::new(Mutex::new(Desk::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = CancellationToken::new();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let router = Server::builder().add_service(DataServer::new(Served(desk.clone())));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let (zone, host) = (zone.to_owned(), host.to_owned());
        let mut node = Self { cluster, id: 0, disk, incarnation: 1, address, zone, host, desk, stop };
        node.try_register(1).await?;
        node.beat().await;
        Ok(node)
    }

    /// Registers as a new process.
    pub async fn register(&mut self, incarnation: u64) {
        self.try_register(incarnation).await.expect("registered");
    }

    async fn try_register(&mut self, incarnation: u64) -> Result<(), WireError> {
        let message = v1::RegisterRequest {
            disk: vec![self.disk; 16].into(),
            address: self.address.clone(),
            incarnation,
            boot_id: vec![1; 16].into(),
            capacity_bytes: 100 << 30,
            version: "test".into(),
            zone: self.zone.clone(),
            host: self.host.clone(),
        };
        let reply = self.cluster.nodes.clone().register(self.cluster.request(message)).await?;
        self.incarnation = incarnation;
        self.id = reply.into_inner().node;
        Ok(())
    }

    pub async fn beat(&self) {
        let message = v1::HeartbeatRequest {
            node: self.id,
            incarnation: self.incarnation,
            capacity_bytes: 100 << 30,
            room_bytes: self.see(|desk| desk.room_bytes),
            ..Default::default()
        };
        let reply = self.cluster.nodes.clone().heartbeat(self.cluster.request(message)).await;
        reply.expect("a heartbeat");
    }

    /// From now on it holds `length` bytes of a chunk, in this health: 0 clean, 1 limbo, 2 damaged.
    pub fn hold(&self, chunk: u64, length: u64, health: u32) {
        let held = Held { length, health, ..Held::default() };
        self.desk.lock().expect("unpoisoned").held.insert(chunk, held);
    }

    pub fn change(&self, change: impl FnOnce(&mut Desk)) {
        change(&mut self.desk.lock().expect("unpoisoned"));
    }

    pub fn see<T>(&self, see: impl FnOnce(&Desk) -> T) -> T {
        see(&self.desk.lock().expect("unpoisoned"))
    }

    pub async fn pull(&self) -> Streaming<v1::Work> {
        let message = v1::PullWorkRequest { node: self.id, incarnation: self.incarnation };
        self.cluster.nodes.clone().pull_work(self.cluster.request(message)).await.expect("work").into_inner()
    }

    pub async fn report(&self, intent: u64, outcome: Outcome) -> Result<(), Status> {
        let message = v1::ReportWorkRequest { node: self.id, intent, outcome: Some(outcome) };
        self.cluster.nodes.clone().report_work(self.cluster.request(message)).await.map(drop)
    }
}

struct Served(Arc<Mutex<Desk>>);

impl Served {
    fn desk(&self) -> Result<std::sync::MutexGuard<'_, Desk>, Status> {
        let desk = self.0.lock().expect("unpoisoned");
        if desk.unreachable { Err(Status::unavailable("away")) } else { Ok(desk) }
    }
}

type Answered<R> = Result<Response<R>, Status>;
type Frames<T> = ReceiverStream<Result<T, Status>>;

fn absent<R>() -> Answered<R> {
    Err(Status::unimplemented("not a part of this test"))
}

#[tonic::async_trait]
impl Data for Served {
    type AppendStream = Frames<v1::AppendReply>;
    type ReplicateStream = Frames<v1::ReplicateReply>;
    type ReadRecordsStream = Frames<v1::RecordFrame>;
    type ReadStream = Frames<v1::ReadFrame>;

    async fn hello(&self, _: Request<v1::DataHelloRequest>) -> Answered<v1::DataHelloReply> {
        absent()
    }

    async fn append(&self, _: Request<Streaming<v1::AppendRequest>>) -> Answered<Self::AppendStream> {
        absent()
    }

    async fn replicate(
        &self,
        _: Request<Streaming<v1::ReplicateRequest>>,
    ) -> Answered<Self::ReplicateStream> {
        absent()
    }

    async fn tail_length(&self, r: Request<v1::TailLengthRequest>) -> Answered<v1::TailLengthReply> {
        let desk = self.desk()?;
        let held = desk.held.get(&r.into_inner().chunk).ok_or_else(|| Status::not_found("no such chunk"))?;
        Ok(Response::new(v1::TailLengthReply { committed: held.length }))
    }

    async fn close(&self, _: Request<v1::CloseRequest>) -> Answered<v1::CloseReply> {
        absent()
    }

    async fn fence(&self, r: Request<v1::FenceRequest>) -> Answered<v1::FenceReply> {
        let fence = r.into_inner();
        let mut desk = self.desk()?;
        desk.fenced.push((fence.chunk, fence.epoch, fence.opened_incarnation));
        let held = desk.held.entry(fence.chunk).or_default();
        held.epoch = fence.epoch;
        Ok(Response::new(v1::FenceReply {
            length: held.length,
            chain: chain(held.length),
            marks: held.marks.clone(),
            health: held.health,
            heard_committed: held.heard,
            incarnation: 1,
            mtime_ns: 5,
        }))
    }

    async fn extend(&self, r: Request<v1::ExtendRequest>) -> Answered<v1::ExtendReply> {
        let extend = r.into_inner();
        let mut desk = self.desk()?;
        if (extend.sources.is_empty() && extend.length > 0) || extend.record.is_none() {
            return Err(Status::invalid_argument("nothing to extend from"));
        }
        desk.extended.push(extend.chunk);
        let held = desk.held.entry(extend.chunk).or_default();
        held.length = extend.length;
        Ok(Response::new(v1::ExtendReply { length: extend.length, chain: extend.chain }))
    }

    async fn read_records(&self, _: Request<v1::ReadRecordsRequest>) -> Answered<Self::ReadRecordsStream> {
        absent()
    }

    async fn read(&self, _: Request<v1::ReadRequest>) -> Answered<Self::ReadStream> {
        absent()
    }

    async fn evict(&self, _: Request<v1::EvictRequest>) -> Answered<v1::EvictReply> {
        absent()
    }

    async fn node_status(&self, _: Request<v1::NodeStatusRequest>) -> Answered<v1::NodeStatusReply> {
        absent()
    }

    async fn survey_packs(&self, r: Request<v1::SurveyPacksRequest>) -> Answered<v1::SurveyPacksReply> {
        let after = r.into_inner().start_after;
        let desk = self.desk()?;
        let Some(bucket) = &desk.bucket else { return Err(WireError::Fs(FsError::NotSupported).into()) };
        let all = bucket.iter().filter(|(key, _)| **key > after);
        // Small pages, so that there are several.
        let object = |(key, bytes): (&String, &u64)| v1::SurveyedObject {
            key: key.clone(),
            bytes: *bytes,
            etag: "e".into(),
        };
        let objects = all.clone().take(2).map(object).collect();
        Ok(Response::new(v1::SurveyPacksReply { objects, more: all.count() > 2, abandoned_uploads: 0 }))
    }

    async fn survey_replicas(
        &self,
        r: Request<v1::SurveyReplicasRequest>,
    ) -> Answered<v1::SurveyReplicasReply> {
        let after = r.into_inner().after;
        let desk = self.desk()?;
        let mut all: Vec<_> = desk.held.iter().filter(|(chunk, _)| **chunk > after).collect();
        all.sort_by_key(|(chunk, _)| **chunk);
        let replica =
            |(chunk, held): &(&u64, &Held)| v1::SurveyedReplica { chunk: **chunk, bytes: held.length };
        let replicas = all.iter().take(2).map(replica).collect();
        Ok(Response::new(v1::SurveyReplicasReply { replicas, more: all.len() > 2 }))
    }

    async fn wait_length(&self, _: Request<v1::WaitLengthRequest>) -> Answered<v1::WaitLengthReply> {
        absent()
    }

    async fn list_objects(&self, _: Request<v1::ListObjectsRequest>) -> Answered<v1::ListObjectsReply> {
        absent()
    }
}
