//! [`Connections`]: one gRPC channel an address, made when first asked for, and the framed connections
//! beside them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cairn_proto::frames::{Framed, Lane, PeerKind, Replies, Routes, Sending, Transport};
use cairn_proto::handshake;
use cairn_proto::v1::data_client::DataClient;
use cairn_proto::v1::members_client::MembersClient;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_types::ClusterId;
use cairn_types::limits::MESSAGE_BYTES_MAX;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::error::Cause;
use crate::trace;

/// Channels kept at most; beyond it the map starts anew (a cluster has far fewer addresses).
const CHANNELS_MAX: usize = 1024;
/// Room for a message's envelope around the largest payload.
const MESSAGE_ROOM: usize = MESSAGE_BYTES_MAX + (64 << 10);

/// Channels by address. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    // One pointer: it is part of all that makes calls, and of their futures.
    shared: Arc<Shared>,
}

struct Shared {
    cluster: OnceLock<ClusterId>,
    // Guards: one channel per address, so that calls to a server share its connection.
    channels: Mutex<HashMap<String, Channel>>,
    connect_timeout: Duration,
    routes: Routes,
}

impl Connections {
    pub(crate) fn new(connect_timeout: Duration, transport: Transport) -> Self {
        let routes = Routes::new(PeerKind::Client, transport);
        let (cluster, channels) = (OnceLock::new(), Mutex::default());
        Self { shared: Arc::new(Shared { cluster, channels, connect_timeout, routes }) }
    }

    /// A framed stream to the data node at `address`, for so many unsent and unread messages; `None`: it is to
    /// be called by gRPC.
    pub(crate) async fn frames<M: Framed, A: Framed>(
        &self,
        address: &str,
        lane: Lane,
        waiting: (usize, usize),
    ) -> Result<Option<(Sending<M>, Replies<A>)>, Cause> {
        let Some(cluster) = self.cluster() else { return Ok(None) };
        Ok(self.shared.routes.open(address, lane, cluster, waiting).await?)
    }

    /// The cluster whose id every request carries, once known.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.shared.cluster.get().copied()
    }

    /// Takes `id` as the cluster; answers the one in force.
    pub(crate) fn join(&self, id: ClusterId) -> ClusterId {
        *self.shared.cluster.get_or_init(|| id)
    }

    /// True when the data node at `address` is on this machine, as far as is known. One that was never asked is
    /// found out about meanwhile.
    pub(crate) fn is_local(&self, address: &str) -> bool {
        let known = self.shared.routes.is_local(address);
        if known.is_none()
            && let Some(cluster) = self.cluster()
        {
            let (routes, address) = (self.shared.routes.clone(), address.to_owned());
            // Once an address: it is known from now on, if only as one that is elsewhere.
            tokio::spawn(async move {
                if let Err(error) = routes.route(&address, Lane::Reads, cluster).await {
                    tracing::debug!(address, %error, "where a data node runs");
                }
            });
        }
        known.unwrap_or(false)
    }

    fn channel(&self, address: &str) -> Result<Channel, Cause> {
        let mut channels = self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let parse = |_| Cause::Parse { what: "server address (host:port)", text: address.to_owned() };
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(parse)?
            .connect_timeout(self.shared.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .connect_lazy();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets the connections to `address`, so that the next call connects anew.
    pub(crate) fn forget(&self, address: &str) {
        self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        self.shared.routes.forget(address);
    }

    pub(crate) fn meta(&self, address: &str) -> Result<MetaClient<Channel>, Cause> {
        Ok(MetaClient::new(self.channel(address)?)
            .max_decoding_message_size(MESSAGE_ROOM)
            .max_encoding_message_size(MESSAGE_ROOM))
    }

    pub(crate) fn members(&self, address: &str) -> Result<MembersClient<Channel>, Cause> {
        Ok(MembersClient::new(self.channel(address)?))
    }

    pub(crate) fn data(&self, address: &str) -> Result<DataClient<Channel>, Cause> {
        Ok(DataClient::new(self.channel(address)?)
            .max_decoding_message_size(MESSAGE_ROOM)
            .max_encoding_message_size(MESSAGE_ROOM))
    }

    /// A request that carries the cluster's id and a deadline.
    pub(crate) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = self.open_ended(message);
        request.set_timeout(deadline);
        request
    }

    /// A request of a stream that lives as long as its handle.
    pub(crate) fn open_ended<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, self.cluster());
        trace::stamp(&mut request);
        request
    }
}
