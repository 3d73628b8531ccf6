//! Everything that names openraft: the log store, the state machine's driver, snapshots, the
//! network between metadata servers.
//!
//! ```text
//! node ── openraft ──┬── log_store (queue + flusher thread) ── log_disk ── RocksDB raft/
//!                    ├── machine (one WriteBatch a batch of entries) ── state ── store (RocksDB state/)
//!                    └── network ── gRPC ── service (the peer's)
//! ```
//!
//! Durability: an entry counts on this server once the flusher's fsync of the log covers it; the
//! state has no log of its own and is flushed now and then, so that a restart replays the rest.

pub mod admission;
pub mod beside;
#[cfg(test)]
mod damage_tests;
pub mod digest;
pub mod directory;
pub mod durable;
pub mod engine;
#[cfg(test)]
mod faulty_tests;
pub mod flusher;
pub mod lease;
pub mod log_disk;
pub mod log_store;
pub mod machine;
pub mod met;
pub mod network;
pub mod record;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod restart_tests;
pub mod service;
#[cfg(test)]
mod sim;
pub mod snapshot;
pub mod snapshot_wire;
pub mod standing;
pub mod state;
pub mod stream;
#[cfg(test)]
mod suite_tests;
pub mod sync_mark;
pub mod tail;
pub mod types;

pub use types::{Answer, Members, Proposal, Raft, TypeConfig};
