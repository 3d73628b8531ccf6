//! Workloads: what the clients do, and how the end is looked at.

pub mod append;
pub mod rename;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_sdk::{Client, Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::history::{Outcome, Recorder};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Several writers append to a few files.
    Append,
    /// Several processes rename and list directories.
    Rename,
}

/// What every process of a workload is given.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number, from 0.
    pub number: u32,
    /// Its own client, with its own session.
    pub client: Client,
    /// Where it notes what it does.
    pub recorder: Recorder,
    /// When it must stop.
    pub stop: CancellationToken,
    /// Operations that succeeded, of all processes.
    pub succeeded: Arc<AtomicU64>,
    /// What its choices follow from.
    pub seed: u64,
}

impl Process {
    fn succeed(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an operation that answered with an error may have happened. Only what the error's kind
/// promises not to have happened counts as failed.
#[must_use]
pub fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Retry | ErrorKind::RetryElsewhere | ErrorKind::Invalid => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}
