//! [`Completion`]: the outcome of a submitted change, awaited or polled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::error::StoreError;

/// Called once, on the writer's thread, with the outcome: it must be short and must not block.
pub type Callback<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// Resolves when the change counts, or was refused. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Completion<T> {
    receiver: oneshot::Receiver<Result<T, StoreError>>,
}

impl<T: Send + 'static> Completion<T> {
    /// A completion and the callback that resolves it.
    #[must_use]
    pub fn pair() -> (Callback<T>, Self) {
        let (sender, receiver) = oneshot::channel();
        let callback: Callback<T> = Box::new(move |outcome| {
            // The submitter may have gone; the change stands all the same.
            let _gone = sender.send(outcome);
        });
        (callback, Self { receiver })
    }

    /// Blocks the thread for the outcome. Not for async tasks.
    ///
    /// # Errors
    /// What the change was refused with; [`StoreError::Stopped`] when the store went away.
    pub fn wait(self) -> Result<T, StoreError> {
        self.receiver.blocking_recv().unwrap_or(Err(StoreError::Stopped))
    }
}

impl<T> Future for Completion<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|r| r.unwrap_or(Err(StoreError::Stopped)))
    }
}
