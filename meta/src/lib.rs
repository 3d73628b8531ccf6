//! The CairnFS metadata server: one Raft group over RocksDB.

pub mod keys;
pub mod namespace;
pub mod store;
