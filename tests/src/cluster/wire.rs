//! [`Wire`]: bare gRPC calls, for what the SDK does not let a test do.

use std::time::Duration;

use cairn_proto::handshake;
use cairn_proto::v1::data_client::DataClient;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::{
    self, ExtentsRequest, GetChunkRequest, HelloRequest, MutateRequest, OpenSessionRequest, SealChunkRequest,
    StatRequest, mutate_request,
};
use cairn_sdk::Client;
use cairn_sdk::types::limits::MESSAGE_BYTES_MAX;
use cairn_sdk::types::{ClusterId, FsPath};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::{Cluster, ClusterError, eventually};

/// How long a leader may take to be found.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// The deadline of a call.
const DEADLINE: Duration = Duration::from_secs(10);
/// Room for a message's envelope around the largest payload.
const MESSAGE_ROOM: usize = MESSAGE_BYTES_MAX + (64 << 10);

/// Makes bare gRPC calls to the servers of one cluster.
#[derive(Debug, Clone)]
pub struct Wire {
    cluster: Option<ClusterId>,
    metas: Vec<String>,
}

fn unreachable(address: &str, error: &dyn std::fmt::Display) -> ClusterError {
    tonic::Status::unavailable(format!("{address}: {error}")).into()
}

impl Wire {
    /// For the cluster that `client` is connected to.
    #[must_use]
    pub fn new(cluster: &Cluster, client: &Client) -> Self {
        Self { cluster: client.cluster_id(), metas: cluster.meta_addresses() }
    }

    /// A connection to one address.
    ///
    /// # Errors
    /// When it is no address, or nobody listens there.
    pub async fn channel(&self, address: &str) -> Result<Channel, ClusterError> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|e| unreachable(address, &e))?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(2)).timeout(DEADLINE);
        endpoint.connect().await.map_err(|e| unreachable(address, &e))
    }

    /// A metadata server.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub async fn meta(&self, address: &str) -> Result<MetaClient<Channel>, ClusterError> {
        Ok(MetaClient::new(self.channel(address).await?))
    }

    /// A data node.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub async fn data(&self, address: &str) -> Result<DataClient<Channel>, ClusterError> {
        Ok(DataClient::new(self.channel(address).await?)
            .max_decoding_message_size(MESSAGE_ROOM)
            .max_encoding_message_size(MESSAGE_ROOM))
    }

    /// A request with the cluster's id and the protocol's version.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, self.cluster);
        request
    }

    /// The metadata leader, once there is one.
    ///
    /// # Errors
    /// When none is found in 20 s.
    pub async fn leader(&self) -> Result<MetaClient<Channel>, ClusterError> {
        eventually("a metadata leader", LEADER_WITHIN, || async {
            for address in &self.metas {
                let Ok(mut meta) = self.meta(address).await else { continue };
                let Ok(hello) = meta.hello(self.request(HelloRequest { client: "test".into() })).await else {
                    continue;
                };
                let hello = hello.into_inner();
                if hello.leader == hello.node {
                    return Some(meta);
                }
            }
            None
        })
        .await
    }

    /// The answer to a stat of a path, asked of whoever leads until it is answered.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub async fn stat(&self, path: &str) -> Result<v1::StatReply, ClusterError> {
        let request = StatRequest { target: Some(target(path)), ..StatRequest::default() };
        self.asked("a stat to be answered", async |mut leader| {
            leader.stat(self.request(request.clone())).await
        })
        .await
    }

    /// The open tail of a path.
    ///
    /// # Errors
    /// What the leader answers; NOT_FOUND when no tail is open.
    pub async fn tail(&self, path: &str) -> Result<v1::Chunk, ClusterError> {
        let tail = self.stat(path).await?.tail;
        tail.ok_or_else(|| tonic::Status::not_found(format!("{path} has no open tail")).into())
    }

    /// What the metadata knows of a chunk, asked of whoever leads until it is answered.
    ///
    /// # Errors
    /// What the leader answers, except that it is not the leader, or is not reached.
    pub async fn chunk(&self, chunk: u64) -> Result<v1::Chunk, ClusterError> {
        self.asked("a chunk to be told", async |mut leader| {
            leader.get_chunk(self.request(GetChunkRequest { chunk })).await
        })
        .await
    }

    /// All extents of a path, and the chunks that they name, asked of whoever leads until it is answered.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub async fn extents(&self, target: v1::Target) -> Result<v1::ExtentsReply, ClusterError> {
        let (target, length) = (Some(target), u64::MAX >> 1);
        let request = ExtentsRequest { target, length, ..ExtentsRequest::default() };
        self.asked("extents to be told", async |mut leader| {
            leader.extents(self.request(request.clone())).await
        })
        .await
    }

    /// Has a chunk sealed, by whoever leads, and answers it as it was decided.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub async fn seal(&self, chunk: u64) -> Result<v1::Chunk, ClusterError> {
        self.asked("a chunk to be sealed", async |mut leader| {
            let reason = "test".to_owned();
            leader.seal_chunk(self.request(SealChunkRequest { chunk, epoch: 0, reason, blame_node: 0 })).await
        })
        .await
    }

    /// Asks whoever leads until it is answered.
    async fn asked<T>(
        &self,
        what: &str,
        ask: impl AsyncFn(MetaClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, ClusterError> {
        eventually(what, LEADER_WITHIN, || async {
            match ask(self.leader().await.ok()?).await {
                Ok(reply) => Some(Ok(reply.into_inner())),
                Err(status) => match status.code() {
                    Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => None,
                    _ => Some(Err(ClusterError::from(status))),
                },
            }
        })
        .await?
    }

    /// A session of one's own, which nobody renews.
    ///
    /// # Errors
    /// What the leader answers.
    pub async fn open_session(&self) -> Result<u64, ClusterError> {
        let request = OpenSessionRequest { client: "test".into(), ..Default::default() };
        Ok(self.leader().await?.open_session(self.request(request)).await?.into_inner().session)
    }

    /// One change with a sequence of one's own choice, asked of whoever leads until it is answered.
    ///
    /// # Errors
    /// What the leader answers, except that it is not the leader, or is not reached.
    pub async fn mutate(
        &self,
        session: u64,
        sequence: u64,
        operation: mutate_request::Operation,
    ) -> Result<v1::MutateReply, ClusterError> {
        let message = MutateRequest {
            group: 0,
            session,
            sequence,
            acknowledged_below: 0,
            operation: Some(operation),
            holding: None,
        };
        self.asked("a change to be answered", async |mut leader| {
            leader.mutate(self.request(message.clone())).await
        })
        .await
    }
}

/// A path as the wire names it.
#[must_use]
pub fn target(path: &str) -> v1::Target {
    let path = path.parse::<FsPath>().map(|p| p.to_bytes()).unwrap_or_default();
    v1::Target { ino: 0, path: path.into(), no_follow: false }
}
