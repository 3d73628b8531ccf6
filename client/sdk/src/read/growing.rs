//! How a view of a growing file is kept up: its tail's primary says when more is acknowledged.

use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::WaitLengthRequest;

use super::View;
use crate::client::Client;
use crate::error::Cause;

impl View {
    /// True when the view ends in an open tail.
    pub(crate) fn is_growing(&self) -> bool {
        self.tail.is_some()
    }

    /// Waits until the tail's primary has acknowledged more than this view shows, which shows it then;
    /// `patience` at most. False when it did not, or there is no tail.
    ///
    /// An error says that the chunk does not go on there, or that its primary did not say: load the file
    /// anew.
    pub(crate) async fn grow(
        &mut self,
        client: &Client,
        patience: Duration,
    ) -> std::result::Result<bool, Cause> {
        let Some(tail) = &self.tail else { return Ok(false) };
        let (chunk, primary) = self.primary_of(tail.chunk)?;
        let reach = client.reach();
        let wait_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let request =
            WaitLengthRequest { chunk: chunk.chunk, epoch: chunk.epoch, beyond: tail.committed, wait_ms };
        // One that is there answers in time; one that hangs is not waited for.
        let limit = patience + reach.options.append_deadline;
        let waiting = async {
            let request = reach.connections.request(request, limit);
            let reply = reach.connections.data(&primary.address)?.wait_length(request).await?;
            Ok::<_, Cause>(reply.into_inner().committed)
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        let committed = waited.unwrap_or_else(|_| Err(ServiceError::Deadline.into()))?;
        let grown = committed > tail.committed;
        if grown && let Some(tail) = &mut self.tail {
            tail.committed = committed;
        }
        Ok(grown)
    }
}
