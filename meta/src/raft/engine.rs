//! What the node needs of openraft to drive it: its settings, its metrics, its errors. Named here so
//! that a change of openraft's own names stops at this directory.

pub use openraft::ChangeMembers;
pub use openraft::async_runtime::WatchReceiver;
pub use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError,
    RaftError,
};
pub use openraft::impls::BasicNode;
pub use openraft::metrics::RaftMetrics;
pub use openraft::type_config::TypeConfigExt;
pub use openraft::{Config as RaftConfig, ConfigError, Instant, ReadPolicy, ServerState, SnapshotPolicy};
