//! [`LongRead`]: a read of the whole state at one point in time, in steps, beside the server's other work.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_types::Clock;
use tokio::sync::mpsc;
use tonic::Status;

use crate::node::ReadView;
use crate::store::Rows;

/// Why it ended early.
pub enum Ended {
    /// The client has gone.
    Alone,
    /// It cannot go on.
    Failed(Status),
}

impl Ended {
    /// This server is to blame; its log says for what.
    pub fn internal() -> Self {
        Self::Failed(ServiceError::Internal.into())
    }
}

/// A long read, as far as it has come.
pub struct LongRead<W> {
    /// What is read, and the state; away while a step is read on another thread.
    read: Option<(W, ReadView)>,
    clock: Arc<dyn Clock>,
    /// How long the last step took.
    took: Duration,
}

impl<W: Send + 'static> LongRead<W> {
    /// Begins with what `work` holds, in the state `view`.
    pub fn new(work: W, view: ReadView, clock: Arc<dyn Clock>) -> Self {
        Self { read: Some((work, view)), clock, took: Duration::ZERO }
    }

    /// What is read; `None` after a step that failed.
    pub fn work(&mut self) -> Option<&mut W> {
        self.read.as_mut().map(|(work, _)| work)
    }

    /// Reads some rows, on a thread that may block.
    pub async fn step<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut W, &dyn Rows) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (mut work, view) = self.read.take().ok_or_else(Ended::internal)?;
        let began = self.clock.boottime();
        let read = tokio::task::spawn_blocking(move || {
            let answer = read(&mut work, &*view.store);
            (work, view, answer)
        });
        let (work, view, answer) = read.await.map_err(|_| Ended::internal())?;
        self.read = Some((work, view));
        self.took = self.clock.boottime().saturating_sub(began);
        Ok(answer)
    }

    /// Rests as long as the last step took: clients get the other half of the time.
    pub async fn rest(&self) {
        tokio::time::sleep(self.took).await;
    }
}

/// Messages to a client that takes each within `patience`. Who takes nothing is as good as gone: the state
/// is not kept for it.
pub struct Sink<M> {
    /// Where they go.
    pub messages: mpsc::Sender<Result<M, Status>>,
    /// How long the client may leave one waiting.
    pub patience: Duration,
}

impl<M> Sink<M> {
    /// Sends a message.
    pub async fn send(&self, message: M) -> Result<(), Ended> {
        self.messages.send_timeout(Ok(message), self.patience).await.map_err(|_| Ended::Alone)
    }

    /// Tells the client why there is no more, if it is still there.
    pub async fn end(&self, outcome: Result<(), Ended>) {
        if let Err(Ended::Failed(status)) = outcome {
            drop(self.messages.send_timeout(Err(status), self.patience).await);
        }
    }
}
