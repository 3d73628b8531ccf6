//! Connections to other servers: one HTTP/2 channel an address, made when first used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1::data_client::DataClient;
use cairn_proto::{ServiceError, WireError, handshake};
use cairn_types::ClusterId;
use cairn_types::limits::{MESSAGE_BYTES_MAX, RPC_DEADLINE_MS};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

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
}

impl Peers {
    /// Peers of `cluster`.
    #[must_use]
    pub fn new(cluster: ClusterId, connections: Connections) -> Self {
        Self { cluster, connections }
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
