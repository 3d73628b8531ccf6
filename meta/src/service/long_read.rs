//! [`LongRead`]: a read of the whole state at one point in time, in steps, beside the server's other work.

use std::time::Duration;

use cairn_proto::ServiceError;
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

/// What is read, and the state; away while a step is read on another thread.
pub struct LongRead<W>(Option<(W, ReadView)>);

impl<W: Send + 'static> LongRead<W> {
    /// Begins with what `work` holds, in the state `view`.
    pub fn new(work: W, view: ReadView) -> Self {
        Self(Some((work, view)))
    }

    /// What is read; `None` after a step that failed.
    pub fn work(&mut self) -> Option<&mut W> {
        self.0.as_mut().map(|(work, _)| work)
    }

    /// Reads some rows, on a thread that may block.
    pub async fn step<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut W, &dyn Rows) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (mut work, view) = self.0.take().ok_or_else(Ended::internal)?;
        let read = tokio::task::spawn_blocking(move || {
            let answer = read(&mut work, &*view.store);
            (work, view, answer)
        });
        let (work, view, answer) = read.await.map_err(|_| Ended::internal())?;
        self.0 = Some((work, view));
        Ok(answer)
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
