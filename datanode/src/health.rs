//! [`Health`]: how the under-store does.

use std::sync::{Arc, Mutex, PoisonError};

/// The newest failure of the under-store. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    // Invariant: what the last finished piece of work said. Held to read or write the text.
    failure: Arc<Mutex<String>>,
}

impl Health {
    /// Notes how a piece of work ended.
    pub fn note(&self, failure: Option<&dyn std::error::Error>) {
        let text = failure.map(ToString::to_string).unwrap_or_default();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The newest failure; empty when the last piece of work succeeded.
    #[must_use]
    pub fn failure(&self) -> String {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
