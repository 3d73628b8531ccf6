//! What the node needs of openraft to drive it: its settings, its metrics, its errors. Named here so
//! that a change of openraft's own names stops at this directory.

use std::sync::Arc;

pub use openraft::ChangeMembers;
use openraft::SnapshotPolicy;
pub use openraft::async_runtime::WatchReceiver;
pub use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError,
    RaftError,
};
pub use openraft::impls::BasicNode;
pub use openraft::metrics::RaftMetrics;
pub use openraft::type_config::TypeConfigExt;
pub use openraft::{Config as RaftConfig, ConfigError, Instant, ReadPolicy, ServerState};

/// How long one transfer of a snapshot may take.
const SNAPSHOT_MS: u64 = 20 * 60 * 1000;

/// openraft's settings: a leader's heartbeat, the least and the greatest time without a leader before
/// an election, in milliseconds, and how many entries stay in the log below a snapshot.
///
/// # Errors
/// [`ConfigError`] when the times do not fit each other.
pub fn settings(
    heartbeat_ms: u64,
    election_ms: (u64, u64),
    keep_entries: u64,
) -> Result<Arc<RaftConfig>, ConfigError> {
    let config = RaftConfig {
        cluster_name: "cairn".to_owned(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min: election_ms.0,
        election_timeout_max: election_ms.1,
        install_snapshot_timeout: SNAPSHOT_MS,
        max_payload_entries: 4096,
        // A snapshot is made when the state has been flushed anyway: `keep_snapshots` of the node.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: keep_entries,
        enable_pre_vote: Some(true),
        // A leader that restarts must be elected again: what it knew to be committed may be ahead
        // of what it saved, and a read must never see an older state than an earlier one did.
        enable_leader_restore: Some(false),
        ..RaftConfig::default()
    };
    Ok(Arc::new(config.validate()?))
}
