//! [`WireStream`]: one append stream to one primary.

use cairn_proto::v1::{AppendReply, AppendRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::connection::Connections;
use crate::error::Cause;

/// Requests queued towards the transport, at most.
const QUEUE: usize = 64;

/// The two directions of a `Data.Append` call.
pub(crate) struct WireStream {
    pub(crate) requests: mpsc::Sender<AppendRequest>,
    pub(crate) replies: Streaming<AppendReply>,
}

impl WireStream {
    /// Opens the stream to the primary at `address`.
    pub(crate) async fn open(connections: &Connections, address: &str) -> Result<Self, Cause> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let outgoing = connections.open_ended(ReceiverStream::new(queue));
        let replies = connections.data(address)?.append(outgoing).await?.into_inner();
        Ok(Self { requests, replies })
    }
}
