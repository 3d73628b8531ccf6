//! [`Health`]: how the under-store does.

use tokio::sync::watch;

/// The newest failure of the under-store. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    failure: watch::Sender<String>,
}

impl Health {
    /// Notes how a piece of work ended.
    pub fn note(&self, failure: Option<&dyn std::error::Error>) {
        self.failure.send_replace(failure.map(ToString::to_string).unwrap_or_default());
    }

    /// The newest failure; empty when the last piece of work succeeded.
    #[must_use]
    pub fn failure(&self) -> String {
        self.failure.borrow().clone()
    }

    /// Waits until the last piece of work failed.
    pub async fn failed(&self) {
        // It ends early only without a sender, and this is one.
        let _ = self.failure.subscribe().wait_for(|failure| !failure.is_empty()).await;
    }
}
