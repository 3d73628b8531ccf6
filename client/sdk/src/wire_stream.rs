//! [`WireStream`]: one append stream to one primary, in frames or by gRPC.

use std::time::Duration;

use cairn_proto::frames::{self, Lane};
use cairn_proto::v1::{AppendReply, AppendRequest, ReadFrame, ReadRequest, TailLengthRequest};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::connection::Connections;
use crate::error::Cause;

/// Requests queued towards the transport, at most.
const QUEUE: usize = 64;
/// Replies of one framed stream that wait to be read, at most. A primary has fewer appends in flight.
const REPLIES_MAX: usize = 1 << 14;

/// The requests' direction of an append stream.
pub(crate) enum Requests {
    Frames(frames::Sending<AppendRequest>),
    Grpc(mpsc::Sender<AppendRequest>),
}

impl Requests {
    /// Sends at once. That the connection is over shows in the replies.
    #[allow(
        clippy::result_large_err,
        reason = "what did not fit is sent later, and must not be boxed for that"
    )]
    pub(crate) fn try_send(&self, request: AppendRequest) -> Result<(), TrySendError<AppendRequest>> {
        match self {
            Self::Frames(sending) => sending.try_send(request),
            Self::Grpc(queue) => queue.try_send(request),
        }
    }

    /// Waits until one more request fits; false when the stream is known to be over.
    pub(crate) async fn room(&self) -> bool {
        match self {
            Self::Frames(sending) => {
                sending.room().await;
                true
            }
            Self::Grpc(queue) => queue.reserve().await.is_ok(),
        }
    }
}

/// The two directions of a `Data.Append` call.
pub(crate) struct WireStream {
    pub(crate) requests: Requests,
    pub(crate) replies: BoxStream<'static, Result<AppendReply, Status>>,
}

impl WireStream {
    /// Opens the stream to the primary at `address`.
    pub(crate) async fn open(connections: &Connections, address: &str) -> Result<Self, Cause> {
        if let Some((sending, replies)) =
            connections.frames(address, Lane::Appends, (QUEUE, REPLIES_MAX)).await?
        {
            return Ok(Self { requests: Requests::Frames(sending), replies: replies.boxed() });
        }
        let (requests, queue) = mpsc::channel(QUEUE);
        let outgoing = connections.open_ended(ReceiverStream::new(queue));
        let replies = connections.data(address)?.append(outgoing).await?.into_inner();
        Ok(Self { requests: Requests::Grpc(requests), replies: replies.boxed() })
    }
}

/// The frames of a read at `address`; dropped, they tell the node to stop.
pub(crate) async fn read(
    connections: &Connections,
    address: &str,
    request: ReadRequest,
    limit: Duration,
) -> Result<BoxStream<'static, Result<ReadFrame, Status>>, Cause> {
    let unread = request.length as usize / cairn_types::limits::READ_FRAME_BYTES_MAX + 2;
    if let Some((sending, frames)) = connections.frames(address, Lane::Reads, (1, unread)).await? {
        // That the connection is over shows in the frames.
        let _ = sending.try_send(request);
        return Ok(frames.boxed());
    }
    let request = connections.request(request, limit);
    Ok(connections.data(address)?.read(request).await?.into_inner().boxed())
}

/// The committed length of an open chunk, by its primary at `address`.
pub(crate) async fn tail_length(
    connections: &Connections,
    address: &str,
    request: TailLengthRequest,
    limit: Duration,
) -> Result<u64, Cause> {
    type Reply = cairn_proto::v1::TailLengthReply;
    let way = connections.frames::<TailLengthRequest, Reply>(address, Lane::Appends, (1, 2)).await?;
    let Some((sending, mut replies)) = way else {
        let request = connections.request(request, limit);
        return Ok(connections.data(address)?.tail_length(request).await?.into_inner().committed);
    };
    // That the connection is over shows in the reply.
    let _ = sending.try_send(request);
    let reply = replies.next().await.transpose()?;
    // The end, as a rule, is there as well: then the primary needs not be told that no more is wanted.
    let _ = replies.next().now_or_never();
    Ok(reply.ok_or(Cause::MalformedAnswer("committed"))?.committed)
}
