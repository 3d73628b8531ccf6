//! What a task waits for: each for ever when there is nothing to wait for.

use cairn_proto::v1::AppendReply;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;
use tonic::Status;

use crate::wire_stream::Requests;

/// The next reply of the stream, when there is one.
pub(super) async fn next_reply(
    replies: Option<&mut BoxStream<'static, Result<AppendReply, Status>>>,
) -> Result<Option<AppendReply>, Status> {
    match replies {
        Some(replies) => replies.next().await.transpose(),
        None => std::future::pending().await,
    }
}

/// Waits until the stream's queue has room. A closed queue shows as a broken reply stream.
pub(super) async fn room(requests: Option<&Requests>) {
    let has_room = match requests {
        Some(requests) => requests.room().await,
        None => false,
    };
    if !has_room {
        std::future::pending::<()>().await;
    }
}

/// Waits until `deadline`; for ever when there is none.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
