//! Connections to other servers: one HTTP/2 channel an address, made when first used, and framed ones
//! beside them for the hot calls.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cairn_proto::frames::{Lane, PeerKind, Routes, Transport};
use cairn_proto::v1::data_client::DataClient;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::ClusterId;
use cairn_types::limits::{MESSAGE_BYTES_MAX, READ_FRAME_BYTES_MAX, RPC_DEADLINE_MS};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(1_000);
/// How often a silent peer is asked whether it lives, and how long it may take to answer.
pub const KEEPALIVE: Duration = Duration::from_millis(2_000);
/// Bytes in flight on one stream before its reader must have taken some.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes in flight on one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Connections kept; beyond, all are dropped and made again as they are used.
const CHANNELS_MAX: usize = 256;

/// The deadline of a call for which nobody names another.
pub const DEADLINE: Duration = Duration::from_millis(RPC_DEADLINE_MS);

/// The channels of a process to the servers it talks to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    // Invariant: at most one channel an address. Held for the length of a map operation only.
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Connections {
    /// The channel to `address` (`host:port`). It connects when first used and again after a failure.
    ///
    /// # Errors
    /// [`ServiceError::Malformed`] when the address is none.
    pub fn channel(&self, address: &str) -> Result<Channel, WireError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = endpoint(address)?.connect_lazy();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

fn endpoint(address: &str) -> Result<Endpoint, WireError> {
    let malformed = || WireError::Service(ServiceError::Malformed { field: "address".to_owned() });
    if address.is_empty() {
        return Err(malformed());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// The other data nodes of the cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    cluster: ClusterId,
    connections: Connections,
    routes: Routes,
}

/// What a secondary says to its primary.
pub type Replicated = BoxStream<'static, Result<v1::ReplicateReply, Status>>;
/// What a peer sends of a range of bytes.
pub type Blocks = BoxStream<'static, Result<v1::ReadFrame, Status>>;

/// Replies of one framed stream that wait to be read: each record in flight has one.
const REPLICATED_MAX: usize = 1 << 14;

impl Peers {
    /// Peers of `cluster`.
    #[must_use]
    pub fn new(cluster: ClusterId, connections: Connections) -> Self {
        Self { cluster, connections, routes: Routes::new(PeerKind::Node, Transport::Auto) }
    }

    /// The same, reached by this transport.
    #[must_use]
    pub fn by(self, transport: Transport) -> Self {
        Self { routes: Routes::new(PeerKind::Node, transport), ..self }
    }

    /// The stream to the secondary at `address` that carries `messages`, of which there are no more than
    /// the sender's capacity. It is opened when the replies are first asked for, and moves on as they are.
    ///
    /// # Errors
    /// [`ServiceError::Malformed`] when the address is none.
    pub fn replicate(
        &self,
        address: &str,
        messages: mpsc::Receiver<v1::ReplicateRequest>,
    ) -> Result<impl Future<Output = Result<Replicated, Status>> + Send + 'static, WireError> {
        let (peers, address, mut client) = (self.clone(), address.to_owned(), self.client(address)?);
        Ok(async move {
            let room = (Semaphore::MAX_PERMITS, REPLICATED_MAX);
            let (lane, cluster) = (Lane::Appends, peers.cluster);
            let way = peers.routes.open(&address, lane, cluster, room).await?;
            let Some((sending, mut replies)) = way else {
                let request = peers.stream(ReceiverStream::new(messages));
                return Ok(client.replicate(request).await?.into_inner().boxed());
            };
            let (mut messages, mut sending) = (messages, Some(sending));
            Ok(futures::stream::poll_fn(move |context| {
                // In the task that waits for the replies: no other needs to be woken for a record.
                while let Some(open) = &sending {
                    match messages.poll_recv(context) {
                        // That the connection is over shows in the replies; there is room for all.
                        Poll::Ready(Some(message)) => {
                            let _ = open.try_send(message);
                        }
                        Poll::Ready(None) => sending = None,
                        Poll::Pending => break,
                    }
                }
                replies.poll_next_unpin(context)
            })
            .boxed())
        })
    }

    /// The frames of a read by the node at `address`. How long they may take is for the caller to say.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn read(&self, address: &str, message: v1::ReadRequest) -> Result<Blocks, WireError> {
        let unread = message.length as usize / READ_FRAME_BYTES_MAX + 2;
        let way = self.routes.open(address, Lane::Reads, self.cluster, (1, unread)).await?;
        let Some((sending, replies)) = way else {
            let mut client = self.client(address)?;
            return Ok(client.read(self.request(message, DEADLINE)).await?.into_inner().boxed());
        };
        // That the connection is over shows in the replies.
        let _ = sending.try_send(message);
        Ok(replies.boxed())
    }

    /// A client of the data node at `address`.
    ///
    /// # Errors
    /// [`ServiceError::Malformed`] when the address is none.
    pub fn client(&self, address: &str) -> Result<DataClient<Channel>, WireError> {
        Ok(DataClient::new(self.connections.channel(address)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// `message` as a stamped request without a deadline: a stream that lives as long as its chunk.
    pub fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, Some(self.cluster));
        request
    }

    /// `message` as a stamped request with a deadline.
    pub fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(deadline);
        request
    }
}
