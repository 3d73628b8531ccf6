//! [`Policy`]: how a directory's files are kept.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::FsError;
use crate::limits::REPLICAS_MAX;

/// What a replica must have done before an append counts there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// `fdatasync` completed: survives loss of power.
    #[default]
    Fsync,
    /// `write(2)` completed: survives the process, not the power.
    Memory,
}

/// When sealed chunks go to S3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persist {
    /// In the background, within the policy's lag.
    #[default]
    Async,
    /// Before `close`, `fsync` and `sync` return.
    Sync,
    /// Never: the bytes live on data nodes alone.
    Never,
}

/// A directory's policy, inherited by what is created under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Policy {
    /// Copies of each chunk that are aimed at, 1–7.
    pub replicas: u8,
    /// Copies without which no chunk is opened, 1–`replicas`.
    pub min_replicas: u8,
    /// What a replica must have done before an append counts.
    pub ack: Ack,
    /// When sealed chunks go to S3.
    pub persist: Persist,
    /// Age of the oldest unpersisted byte that is aimed at, in milliseconds.
    pub max_lag_ms: u64,
    /// Unpersisted bytes of one file above which its writers are slowed, then refused.
    pub max_lag_bytes: u64,
}

impl Policy {
    /// The cluster's default: 3 replicas, 2 at least, fsync, async, 30 s and 1 GiB of lag.
    #[must_use]
    pub const fn cluster() -> Self {
        Self {
            replicas: 3,
            min_replicas: 2,
            ack: Ack::Fsync,
            persist: Persist::Async,
            max_lag_ms: 30_000,
            max_lag_bytes: 1 << 30,
        }
    }

    /// The default of `cairn up`: one replica on one machine.
    #[must_use]
    pub const fn single() -> Self {
        Self { replicas: 1, min_replicas: 1, ..Self::cluster() }
    }

    /// Checks the ranges of every field.
    ///
    /// # Errors
    /// [`FsError::InvalidPolicy`] when a field is out of its range.
    pub fn check(&self) -> Result<(), FsError> {
        let replicas = (1..=REPLICAS_MAX).contains(&self.replicas);
        let min = (1..=self.replicas).contains(&self.min_replicas);
        if replicas && min && self.max_lag_ms >= 100 && self.max_lag_bytes >= 1 << 20 {
            Ok(())
        } else {
            Err(FsError::InvalidPolicy)
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::cluster()
    }
}
