//! What a call waits for: a tail that is sealed, a directory that is read from its bucket, bytes
//! that are in S3.

use std::time::Duration;

use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, WaitIntentRequest, WaitPersistedRequest};
use cairn_types::{ChunkId, FsError, IntentId};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::growth;
use crate::target::At;

/// How long one question about an intent waits at the server.
const WAIT_MS: u64 = 2_000;

impl Client {
    pub(crate) async fn change(
        &self,
        action: &'static str,
        at: &At,
        operation: Operation,
    ) -> Result<v1::MutateReply> {
        self.change_named(action, &at.to_string(), operation).await
    }

    /// As [`change`](Self::change), of what is no single target.
    pub(crate) async fn change_named(
        &self,
        action: &'static str,
        subject: &str,
        operation: Operation,
    ) -> Result<v1::MutateReply> {
        loop {
            match self.reach().session.change(action, subject, &operation).await {
                Ok(reply) => return Ok(reply),
                // Rare, and large: what every change waits in stays small.
                Err(error) => Box::pin(self.seal_or_give_up(error)).await?,
            }
        }
    }

    /// Seals the open tail, or waits for the import, that `error` names; any other error is
    /// given back.
    pub(crate) async fn seal_or_give_up(&self, error: Error) -> Result<()> {
        match error.fs().map(FsError::reason) {
            Some(FsError::TailOpen { chunk } | FsError::ChunkState { chunk }) => {
                self.seal(*chunk, "a change depends on the file's length").await
            }
            Some(FsError::Importing { intent }) => self.wait_intent(*intent).await,
            _ => Err(error),
        }
    }

    pub(crate) async fn seal(&self, chunk: ChunkId, reason: &str) -> Result<()> {
        match growth::seal(self.reach(), chunk, 0, reason, 0).await {
            // Sealed and collected already.
            Err(error) if error.fs() == Some(&FsError::NotFound) => Ok(()),
            sealed => sealed.map(|_| ()),
        }
    }

    /// Waits until an intent is done, as long as the retry budget lasts.
    pub(crate) async fn wait_intent(&self, intent: IntentId) -> Result<()> {
        self.wait_intent_until(intent, Some(Instant::now() + self.reach().options.retry_budget)).await
    }

    /// Waits until an intent is done, or failed, for as long as that takes.
    pub(crate) async fn wait_intent_done(&self, intent: IntentId) -> Result<()> {
        self.wait_intent_until(intent, None).await
    }

    async fn wait_intent_until(&self, intent: IntentId, deadline: Option<Instant>) -> Result<()> {
        loop {
            let request = WaitIntentRequest { intent: intent.0, timeout_ms: WAIT_MS };
            let reply = self
                .reach()
                .leader
                .call("wait for S3", &intent.to_string(), request, |mut meta, request| async move {
                    meta.wait_intent(request).await
                })
                .await?;
            if reply.done && reply.failure.is_empty() {
                return Ok(());
            }
            if !reply.failure.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let seconds = self.reach().options.retry_budget.as_secs();
                let last = if reply.failure.is_empty() {
                    "S3 has not answered yet".to_owned()
                } else {
                    reply.failure
                };
                return Err(Error::new("wait for S3", "", Cause::RetriesUsedUp { seconds, last }));
            }
        }
    }

    /// A read of the metadata, in the name of the session that it is given, that waits for an import
    /// when one is needed. An expired session is replaced.
    pub(crate) async fn ask_imported<M, R, F, Fut>(
        &self,
        action: &'static str,
        subject: &str,
        (freshness, message): (Freshness, impl Fn(u64) -> M),
        send: F,
    ) -> Result<R>
    where
        M: Clone,
        F: Fn(MetaClient<Channel>, Request<M>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        let (leader, send) = (&self.reach().leader, &send);
        let attempt = |address: String, limit, message: M| async move {
            leader.ask(&address, limit, &message, send).await
        };
        self.ask_imported_by(action, subject, (freshness, message), attempt).await
    }

    /// As [`ask_imported`](Self::ask_imported): `attempt` asks the server at an address, for at most so
    /// long.
    pub(crate) async fn ask_imported_by<M, R, F, Fut>(
        &self,
        action: &'static str,
        subject: &str,
        (freshness, message): (Freshness, impl Fn(u64) -> M),
        attempt: F,
    ) -> Result<R>
    where
        M: Clone,
        F: Fn(String, Duration, M) -> Fut,
        Fut: Future<Output = std::result::Result<R, Cause>>,
    {
        let leader = &self.reach().leader;
        let anywhere = freshness.is_anywhere(&self.reach().options);
        loop {
            let session = self.reach().session.reader();
            let message = message(session.0);
            let attempt = |address, limit| attempt(address, limit, message.clone());
            let asked = match anywhere {
                true => leader.retry_any(action, subject, attempt).await,
                false => leader.retry(leader.retry_budget(), action, subject, attempt).await,
            };
            match asked {
                Ok(reply) => return Ok(reply),
                Err(error) => match error.fs() {
                    Some(FsError::SessionExpired) if session.0 != 0 && !self.reach().session.has_ended() => {
                        Box::pin(self.reach().session.replace(session)).await?;
                    }
                    Some(FsError::Importing { intent }) => Box::pin(self.wait_intent(*intent)).await?,
                    _ => return Err(error),
                },
            }
        }
    }

    /// Waits until every byte of the file that is acknowledged now is in S3 and recorded there.
    /// An open tail is sealed for it.
    ///
    /// # Errors
    /// `Unavailable` when S3 does not take them within the retry budget; they stay on the data
    /// nodes and go up later.
    pub async fn sync(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        // Boxed: it is done rarely, and the futures of all calls would have room for it.
        Box::pin(self.chunks().roll_all()).await?;
        let deadline = Instant::now() + self.reach().options.retry_budget;
        loop {
            let target = Some(at.wire("sync", false)?);
            let request = WaitPersistedRequest { target, timeout_ms: WAIT_MS };
            let reply = self
                .reach()
                .leader
                .call("sync", &at.to_string(), request, |mut meta, request| async move {
                    meta.wait_persisted(request).await
                })
                .await?;
            if reply.done {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let last = format!("{} bytes are not in S3 yet", reply.unpersisted_bytes);
                let seconds = self.reach().options.retry_budget.as_secs();
                return Err(Error::new("sync", &at, Cause::RetriesUsedUp { seconds, last }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RenameMode;

    /// A page of memory and a half.
    const BYTES_MAX: usize = 6 << 10;

    fn size<'c, R>(_: impl Fn(&'c Client) -> R) -> usize {
        size_of::<R>()
    }

    /// A call's future is copied from layer to layer on its way to the task that awaits it.
    #[test]
    fn the_futures_of_calls_are_small() {
        let sizes = [
            ("create", size(|c| c.create("/x", 0o644))),
            ("mkdir", size(|c| c.mkdir("/x", 0o755))),
            ("unlink", size(|c| c.unlink("/x"))),
            ("rename", size(|c| c.rename("/x", "/y", RenameMode::Replace))),
            ("stat", size(|c| c.stat("/x"))),
            ("open", size(|c| c.open("/x"))),
            ("open_append", size(|c| c.open_append("/x"))),
        ];
        for (call, bytes) in sizes {
            assert!(bytes <= BYTES_MAX, "the future of {call} takes {bytes} bytes");
        }
    }
}
