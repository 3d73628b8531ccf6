//! [`DataNodes`]: what the leader asks of data nodes, each call with its deadline.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::convert::replica_health;
use cairn_proto::v1::data_client::DataClient;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::limits::MESSAGE_BYTES_MAX;
use cairn_types::{Chain, ChunkId, ClusterId, NodeId, Timestamp, WriterMark};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::seal::decide::Answer;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_millis(500);
/// Connections kept, at most; above that all are made anew.
const CHANNELS_MAX: usize = 1024;

/// Connections to data nodes, by address, made when first used.
pub struct DataNodes {
    cluster: ClusterId,
    // Guards: one channel an address. Never held across an await.
    channels: Mutex<HashMap<String, Channel>>,
}

impl DataNodes {
    /// No connections yet.
    #[must_use]
    pub fn new(cluster: ClusterId) -> Self {
        Self { cluster, channels: Mutex::new(HashMap::new()) }
    }

    fn client(&self, address: &str) -> Result<DataClient<Channel>, WireError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = if let Some(channel) = channels.get(address) {
            channel.clone()
        } else {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|_| ServiceError::Malformed { field: "address".to_owned() })?;
            let channel = endpoint.connect_timeout(CONNECT).tcp_nodelay(true).connect_lazy();
            if channels.len() >= CHANNELS_MAX {
                channels.clear();
            }
            channels.insert(address.to_owned(), channel.clone());
            channel
        };
        Ok(DataClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, Some(self.cluster));
        crate::trace::stamp(&mut request);
        request.set_timeout(deadline);
        request
    }

    /// Fences one replica (rule R4).
    ///
    /// # Errors
    /// [`WireError`] when the node could not be reached in time, or refused.
    pub async fn fence(
        &self,
        node: NodeId,
        address: &str,
        fence: v1::FenceRequest,
        deadline: Duration,
    ) -> Result<Answer, WireError> {
        let mut client = self.client(address)?;
        let call = client.fence(self.request(fence, deadline));
        answer(node, &within(deadline, call).await?)
    }

    /// Asks a replica to pull what it lacks (rule R5); answers the length and chain that it has
    /// durable now.
    ///
    /// # Errors
    /// As [`Self::fence`].
    pub async fn extend(
        &self,
        address: &str,
        extend: v1::ExtendRequest,
        deadline: Duration,
    ) -> Result<(u64, Chain), WireError> {
        let mut client = self.client(address)?;
        let reply = within(deadline, client.extend(self.request(extend, deadline))).await?;
        Ok((reply.length, Chain(reply.chain)))
    }

    /// Asks a primary to close its chunk by a planned roll; with `go_on` into the chunk made ahead, when
    /// its writers are busy.
    ///
    /// # Errors
    /// As [`Self::fence`].
    pub async fn close(
        &self,
        address: &str,
        chunk: ChunkId,
        go_on: bool,
        deadline: Duration,
    ) -> Result<(), WireError> {
        let mut client = self.client(address)?;
        let close = v1::CloseRequest { chunk: chunk.0, go_on };
        within(deadline, client.close(self.request(close, deadline))).await.map(|_| ())
    }

    /// A page of the objects under the cluster's packs.
    ///
    /// # Errors
    /// As [`Self::fence`]; `NotSupported` from a node without an under-store.
    pub async fn survey_packs(
        &self,
        address: &str,
        request: v1::SurveyPacksRequest,
        deadline: Duration,
    ) -> Result<v1::SurveyPacksReply, WireError> {
        let mut client = self.client(address)?;
        within(deadline, client.survey_packs(self.request(request, deadline))).await
    }

    /// A page of the replicas on a node's disks.
    ///
    /// # Errors
    /// As [`Self::fence`].
    pub async fn survey_replicas(
        &self,
        address: &str,
        request: v1::SurveyReplicasRequest,
        deadline: Duration,
    ) -> Result<v1::SurveyReplicasReply, WireError> {
        let mut client = self.client(address)?;
        within(deadline, client.survey_replicas(self.request(request, deadline))).await
    }

    /// The committed length of an open chunk, by its primary (rule R9).
    ///
    /// # Errors
    /// As [`Self::fence`].
    pub async fn tail_length(
        &self,
        address: &str,
        tail: v1::TailLengthRequest,
        deadline: Duration,
    ) -> Result<u64, WireError> {
        let mut client = self.client(address)?;
        let call = client.tail_length(self.request(tail, deadline));
        within(deadline, call).await.map(|r| r.committed)
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(ServiceError::Deadline.into()),
    }
}

/// Checks what a replica answered.
fn answer(node: NodeId, reply: &v1::FenceReply) -> Result<Answer, WireError> {
    let health = replica_health(reply.health).map_err(ServiceError::from)?;
    if reply.length > cairn_types::limits::CHUNK_BYTES_MAX {
        return Err(ServiceError::Malformed { field: "length".to_owned() }.into());
    }
    Ok(Answer {
        node,
        length: reply.length,
        chain: Chain(reply.chain),
        marks: reply.marks.iter().map(WriterMark::from).collect(),
        health,
        heard_committed: reply.heard_committed,
        mtime: Timestamp(i64::try_from(reply.mtime_ns).unwrap_or(0)),
    })
}
