//! [`Grants`]: asks the metadata for more room in an open chunk (rule R13).

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::LAG_PAUSE_MS_MAX;
use cairn_types::{ChunkId, Epoch, FsError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metadata::Metadata;

/// Renewals that may wait; a primary whose renewal finds no place goes on when it asks again.
const QUEUE_MAX: usize = 256;

/// Room in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How many bytes the chunk may hold.
    pub bytes: u64,
    /// How long the primary waits before it uses the room: the lag is near its bound.
    pub pause: Duration,
}

/// What a primary asks for.
#[derive(Debug)]
struct Renewal {
    chunk: ChunkId,
    epoch: Epoch,
    bytes: u64,
    answer: oneshot::Sender<Result<Granted, WireError>>,
}

/// The node's way to renew grants: one task, one session, one renewal at a time.
#[derive(Clone, Debug)]
pub struct Grants {
    renewals: mpsc::Sender<Renewal>,
}

impl Grants {
    /// The way, and the task that must run for it to lead anywhere.
    #[must_use]
    pub fn new(metadata: Metadata, client: String) -> (Self, GrantTask) {
        let (renewals, asked) = mpsc::channel(QUEUE_MAX);
        (Self { renewals }, GrantTask { metadata, client, asked, session: None })
    }

    /// Asks that `chunk` may hold `bytes`; answers how many it may hold, and from when on.
    ///
    /// # Errors
    /// The metadata's refusal, or that it could not be asked.
    pub async fn renew(&self, chunk: ChunkId, epoch: Epoch, bytes: u64) -> Result<Granted, WireError> {
        let (answer, answered) = oneshot::channel();
        let renewal = Renewal { chunk, epoch, bytes, answer };
        self.renewals.try_send(renewal).map_err(|_| WireError::Service(ServiceError::Overloaded))?;
        answered.await.unwrap_or(Err(WireError::Service(ServiceError::Stopping)))
    }
}

/// Owns the session in which grants are renewed.
#[derive(Debug)]
pub struct GrantTask {
    metadata: Metadata,
    client: String,
    asked: mpsc::Receiver<Renewal>,
    session: Option<Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: u64,
    sequence: u64,
}

impl GrantTask {
    /// Renews until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let serve = async {
            while let Some(renewal) = self.asked.recv().await {
                let outcome = self.renew(&renewal).await;
                if let Err(error) = &outcome {
                    tracing::warn!(chunk = renewal.chunk.0, %error, "renew a grant");
                }
                // A primary that is gone needs no answer.
                let _ = renewal.answer.send(outcome);
            }
        };
        stop.run_until_cancelled(serve).await;
    }

    async fn renew(&mut self, renewal: &Renewal) -> Result<Granted, WireError> {
        match self.attempt(renewal).await {
            // The session had ended unused: the renewal is asked for in a new one.
            Err(WireError::Fs(FsError::SessionExpired | FsError::StaleSequence { .. })) => {
                self.session = None;
                self.attempt(renewal).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(&mut self, renewal: &Renewal) -> Result<Granted, WireError> {
        let session = match self.session {
            Some(session) => session,
            None => Session { id: self.metadata.open_session(&self.client).await?.session, sequence: 0 },
        };
        let session = Session { sequence: session.sequence + 1, ..session };
        self.session = Some(session);
        let operation = v1::mutate_request::Operation::RenewGrant(v1::RenewGrant {
            chunk: renewal.chunk.0,
            epoch: renewal.epoch.0,
            grant_bytes: renewal.bytes,
        });
        let request = v1::MutateRequest {
            group: 0,
            session: session.id,
            sequence: session.sequence,
            acknowledged_below: session.sequence,
            operation: Some(operation),
            holding: None,
        };
        let reply = self.metadata.mutate(request).await?;
        let pause = Duration::from_millis(u64::from(reply.pause_ms).min(LAG_PAUSE_MS_MAX));
        let granted = reply.chunk.and_then(|chunk| chunk.activation).map(|a| a.grant_bytes);
        Ok(Granted { bytes: granted.unwrap_or(renewal.bytes), pause })
    }
}
