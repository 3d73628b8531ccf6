//! Data nodes in this process, each in a runtime of its own, so that one can be killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::frames::{Framed, Lane, PeerKind, Replies, Routes, Sending, Transport};
use cairn_proto::v1;
use cairn_proto::v1::append_reply::Outcome;
use cairn_proto::v1::data_client::DataClient;
use futures::StreamExt;
use futures::stream::BoxStream;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::meta::{CLUSTER, FakeMeta, stamped};
use crate::config::UnderStoreConfig;
use crate::disk::{DiskError, RealDisk};
use crate::{Config, ServeError, serve};

pub const WAIT: Duration = Duration::from_secs(20);

/// The generation that the test's chunks are opened in.
pub const GENERATION: u64 = 5;

/// A message's way to a call.
pub enum Way<M> {
    Grpc(mpsc::Sender<M>),
    Frames(Sending<M>),
}

impl<M: Framed> Way<M> {
    pub async fn send(&self, message: M) {
        match self {
            Self::Grpc(way) => way.send(message).await.unwrap(),
            Self::Frames(way) => {
                way.room().await;
                assert!(way.try_send(message).is_ok(), "there was room");
            }
        }
    }
}

pub struct TestNode {
    pub id: u64,
    pub address: String,
    config: Config,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
    runtime: Option<Runtime>,
}

impl TestNode {
    pub fn config(meta: &FakeMeta, dir: PathBuf) -> Config {
        Config {
            dir,
            listen: "127.0.0.1:0".to_owned(),
            http: String::new(),
            meta: vec![meta.address.clone()],
            capacity_mib: 64,
            segment_mib: 4,
            // A busy test machine is not a slow replica.
            replica_deadline_ms: 2_000,
            ..Config::default()
        }
    }

    /// A node that writes through to an under-store.
    pub async fn start_over(meta: &FakeMeta, dir: PathBuf, understore: Option<UnderStoreConfig>) -> Self {
        Self::start_with(Config { understore, ..Self::config(meta, dir) }).await
    }

    pub async fn start_with(config: Config) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (shutdown, (ready, readied)) = (CancellationToken::new(), oneshot::channel());
        let served = runtime.spawn(serve(config.clone(), shutdown.clone(), ready));
        let ready = tokio::time::timeout(WAIT, readied).await.expect("it does not start");
        let Ok(ready) = ready else { panic!("it did not start: {:?}", served.await) };
        let (id, address) = (ready.node.0, ready.listen.to_string());
        Self { id, address, config, shutdown, served, runtime: Some(runtime) }
    }

    pub async fn client(&self) -> DataClient<Channel> {
        DataClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// A framed stream over a connection of its own, by the way that the node is tested over; `None`: by gRPC.
    pub async fn frames<M: Framed, A: Framed>(&self) -> Option<(Sending<M>, Replies<A>)> {
        let transport: Transport = self.config.transport.parse().unwrap();
        let routes = Routes::new(PeerKind::Client, transport);
        let opened = routes.open(&self.address, Lane::Appends, CLUSTER, (1024, 8192)).await.unwrap();
        assert_eq!(opened.is_some(), transport != Transport::Grpc);
        assert_eq!(routes.is_local(&self.address).unwrap_or(false), transport == Transport::Auto);
        opened
    }

    /// As kill -9: nothing is said to anybody.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// As SIGTERM; waits for the end.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(WAIT, &mut self.served).await.expect("it does not stop").unwrap().unwrap();
        self.kill();
    }

    /// The node's directory; of several disks the first one's.
    pub fn dir(&self) -> &Path {
        self.config.dirs.first().unwrap_or(&self.config.dir)
    }

    pub async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// As kill -9, then a start with another configuration.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.kill();
        // The store's thread holds the lock until it has seen that nobody needs it any more; there
        // is nothing to await.
        for dir in self.config.disks() {
            while let Err(DiskError::Locked { .. }) = RealDisk::open(&dir) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let mut config = self.config.clone();
        change(&mut config);
        Self::start_with(config).await
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct TestCluster {
    pub meta: FakeMeta,
    pub nodes: Vec<TestNode>,
    _dirs: TempDir,
}

impl TestCluster {
    pub async fn start(count: usize) -> Self {
        Self::start_over(Transport::Auto, count).await
    }

    pub async fn start_over(transport: Transport, count: usize) -> Self {
        Self::start_with(count, |config| config.transport = format!("{transport:?}").to_lowercase()).await
    }

    pub async fn start_with(count: usize, change: impl Fn(&mut Config)) -> Self {
        let (meta, dirs) = (FakeMeta::start().await, tempfile::tempdir().unwrap());
        let mut nodes = Vec::new();
        for n in 0..count {
            let mut config = TestNode::config(&meta, dirs.path().join(n.to_string()));
            change(&mut config);
            nodes.push(TestNode::start_with(config).await);
        }
        Self { meta, nodes, _dirs: dirs }
    }

    /// A chunk on the first `replicas` nodes; the first is its primary.
    pub fn open_chunk(&self, replicas: usize) -> u64 {
        let ids: Vec<u64> = self.nodes[..replicas].iter().map(|node| node.id).collect();
        self.meta.open_chunk(&ids, 64 << 20, &[])
    }

    pub async fn writer(&self, chunk: u64) -> Writer {
        Writer::open(&self.nodes[0], chunk, 77).await
    }
}

/// An append stream of one writer to one chunk.
pub struct Writer {
    pub chunk: u64,
    pub writer: u64,
    pub generation: u64,
    requests: Way<v1::AppendRequest>,
    replies: BoxStream<'static, Result<v1::AppendReply, Status>>,
}

impl Writer {
    pub async fn open(node: &TestNode, chunk: u64, writer: u64) -> Self {
        if let Some((requests, replies)) = node.frames().await {
            let (requests, replies) = (Way::Frames(requests), replies.boxed());
            return Self { chunk, writer, generation: GENERATION, requests, replies };
        }
        let (requests, sent) = mpsc::channel(1024);
        let mut request = stamped(ReceiverStream::new(sent));
        request.set_timeout(Duration::from_secs(60));
        let replies = node.client().await.append(request).await.unwrap().into_inner().boxed();
        let requests = Way::Grpc(requests);
        Self { chunk, writer, generation: GENERATION, requests, replies }
    }

    pub fn request(&self, sequence: u64, data: &[u8]) -> v1::AppendRequest {
        v1::AppendRequest {
            chunk: self.chunk,
            generation: self.generation,
            writer: self.writer,
            sequence,
            data: Bytes::copy_from_slice(data),
            crc32c: crc32c::crc32c(data),
            ..v1::AppendRequest::default()
        }
    }

    pub async fn send(&self, request: v1::AppendRequest) {
        self.requests.send(request).await;
    }

    pub async fn reply(&mut self) -> v1::AppendReply {
        let reply = tokio::time::timeout(WAIT, self.replies.next()).await.expect("no reply");
        reply.expect("the stream ended").unwrap()
    }

    /// Appends and answers the offset, or the kind of the refusal.
    pub async fn append(&mut self, sequence: u64, data: &[u8]) -> Result<u64, v1::ErrorDetail> {
        self.send(self.request(sequence, data)).await;
        let reply = self.reply().await;
        assert_eq!((reply.chunk, reply.writer, reply.sequence), (self.chunk, self.writer, sequence));
        match reply.outcome.unwrap() {
            Outcome::Offset(offset) => Ok(offset),
            Outcome::Error(detail) => Err(detail),
        }
    }

    /// Appends and answers the kind of the refusal.
    pub async fn refused(&mut self, sequence: u64, data: &[u8]) -> String {
        self.append(sequence, data).await.unwrap_err().kind
    }
}

/// Reads a range of a chunk from one node's own segments.
pub async fn read(
    node: &TestNode,
    chunk: u64,
    offset: u64,
    length: u64,
    known_committed: u64,
) -> Result<Vec<u8>, tonic::Status> {
    let range = v1::ChunkRange { chunk, known_committed, ..v1::ChunkRange::default() };
    let source = Some(v1::read_request::Source::Chunk(range));
    let request = v1::ReadRequest { source, offset, length, ..v1::ReadRequest::default() };
    let mut frames = match node.frames().await {
        Some((asking, frames)) => {
            Way::Frames(asking).send(request).await;
            frames.boxed()
        }
        None => node.client().await.read(stamped(request)).await?.into_inner().boxed(),
    };
    let mut bytes = Vec::new();
    while let Some(frame) = frames.next().await.transpose()? {
        assert_eq!(frame.crc32c, crc32c::crc32c(&frame.data));
        assert_eq!(frame.offset, offset + bytes.len() as u64);
        bytes.extend_from_slice(&frame.data);
    }
    Ok(bytes)
}

pub async fn tail_length(node: &TestNode, chunk: u64) -> Result<u64, tonic::Status> {
    let request = v1::TailLengthRequest { chunk, epoch: 1 };
    if let Some((asking, mut replies)) = node.frames::<_, v1::TailLengthReply>().await {
        Way::Frames(asking).send(request).await;
        return Ok(replies.next().await.expect("no reply")?.committed);
    }
    Ok(node.client().await.tail_length(stamped(request)).await?.into_inner().committed)
}

pub fn kind(status: tonic::Status) -> String {
    use prost::Message;
    v1::ErrorDetail::decode(status.details()).unwrap().kind
}
