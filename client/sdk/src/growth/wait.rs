//! What a task waits for: each for ever when there is nothing to wait for.

use cairn_proto::v1::{AppendReply, AppendRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

/// The next reply of the stream, when there is one.
pub(super) async fn next_reply(
    replies: Option<&mut Streaming<AppendReply>>,
) -> Result<Option<AppendReply>, tonic::Status> {
    match replies {
        Some(replies) => replies.message().await,
        None => std::future::pending().await,
    }
}

/// Waits until the stream's queue has room. A closed queue shows as a broken reply stream.
pub(super) async fn room(requests: Option<&mpsc::Sender<AppendRequest>>) {
    let reserved = match requests {
        Some(requests) => requests.reserve().await.is_ok(),
        None => false,
    };
    if !reserved {
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
