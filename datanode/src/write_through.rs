//! [`WriteThrough`]: what a node needs of its under-store, put together from its configuration.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_types::{Clock, ClusterId, SystemRandom};

use crate::cache::Cache;
use crate::chunk::ChunkStore;
use crate::config::Config;
use crate::import::Importer;
use crate::understore::{self, LocationError, MountStores, S3Clients};
use crate::upload::Uploader;

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

/// The parts that reach S3.
pub struct WriteThrough {
    /// Writes packs; absent without an under-store.
    pub uploader: Option<Uploader>,
    /// Lists buckets.
    pub importer: Importer,
    /// Reads objects through the cache.
    pub cache: Cache,
    /// How the under-store does.
    pub health: Health,
}
