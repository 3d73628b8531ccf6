//! [`Seals`]: asks the metadata to seal a chunk that this node does not go on with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, Epoch, InodeId, NodeId};

use crate::metadata::Metadata;

/// A file's tail is given up for a replica that is merely slow at most once in this time (R3).
const SLOW_ONCE_IN: Duration = Duration::from_millis(10_000);
/// Files whose last such seal is remembered.
const REMEMBERED_MAX: usize = 4096;

/// Why a chunk is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A replica refused, or its stream broke.
    Broken,
    /// A replica was over its deadline.
    Slow,
    /// This node's own disk failed.
    Disk,
    /// A replica's disk is full: as [`ServiceError::DiskFull`] has it.
    Full {
        /// Whose.
        node: NodeId,
        /// What is left of it for appends.
        free_bytes: u64,
        /// What it takes of them.
        capacity_bytes: u64,
    },
    /// A planned close did not come to its end.
    Close,
    /// This node restarted while the chunk was open (R6).
    Restarted,
    /// Acknowledged bytes of this node's replica do not read.
    Damaged,
}

impl Reason {
    /// The word for the log and the metadata.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "replica broken",
            Self::Slow => "replica slow",
            Self::Disk => "primary's disk failed",
            Self::Full { .. } => "disk full",
            Self::Close => "close failed",
            Self::Restarted => "node restarted",
            Self::Damaged => "replica damaged",
        }
    }

    /// That a replica refused with `error`: its disk is full, or `otherwise`.
    #[must_use]
    pub fn of(error: &WireError, otherwise: Self) -> Self {
        match *error {
            WireError::Service(ServiceError::DiskFull { node, free_bytes, capacity_bytes }) => {
                Self::Full { node, free_bytes, capacity_bytes }
            }
            _ => otherwise,
        }
    }

    /// What the chunk's writers are told.
    #[must_use]
    pub fn refusal(self, chunk: ChunkId) -> ServiceError {
        match self {
            Self::Full { node, free_bytes, capacity_bytes } => {
                ServiceError::DiskFull { node, free_bytes, capacity_bytes }
            }
            _ => ServiceError::ChunkFenced { chunk },
        }
    }
}

/// Asks for seals, and knows which tails were given up for slowness lately.
#[derive(Debug, Default)]
pub struct Seals {
    // Invariant: the boot time of each file's last seal for slowness. Held for a map operation.
    slow: Mutex<HashMap<InodeId, Duration>>,
}

impl Seals {
    /// True when the tail of `ino` may be given up for slowness `now`; then it counts.
    pub fn may_give_up(&self, ino: InodeId, now: Duration) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        slow.retain(|_, at| now.saturating_sub(*at) < SLOW_ONCE_IN);
        if slow.contains_key(&ino) || slow.len() >= REMEMBERED_MAX {
            return false;
        }
        // Shared chunks have no inode; each is given up on its own account.
        if ino != InodeId(0) {
            slow.insert(ino, now);
        }
        true
    }
}

/// Asks for the seal of `chunk` and waits until it is decided.
///
/// # Errors
/// The leader's refusal, or that it is not decided yet; whoever needs the chunk asks again.
pub async fn ask(
    metadata: &Metadata,
    chunk: ChunkId,
    epoch: Epoch,
    reason: Reason,
    blame: Option<NodeId>,
) -> Result<v1::Chunk, WireError> {
    metrics::counter!("cairn_data_seals_asked_total", "reason" => reason.word()).increment(1);
    tracing::info!(chunk = chunk.0, epoch = epoch.0, reason = reason.word(), ?blame, "ask for a seal");
    let sealed = metadata.seal_chunk(chunk, epoch, reason.word(), blame).await;
    if let Err(error) = &sealed {
        tracing::warn!(chunk = chunk.0, %error, "ask for a seal");
    }
    sealed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_given_up_for_slowness_once_in_ten_seconds() {
        let seals = Seals::default();
        let at = Duration::from_secs;
        assert!(seals.may_give_up(InodeId(5), at(100)));
        assert!(!seals.may_give_up(InodeId(5), at(109)));
        assert!(seals.may_give_up(InodeId(6), at(109)));
        assert!(seals.may_give_up(InodeId(5), at(110)));
        assert!(seals.may_give_up(InodeId(0), at(110)));
        assert!(seals.may_give_up(InodeId(0), at(110)));
    }
}
