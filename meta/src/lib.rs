//! The CairnFS metadata server: one Raft group over RocksDB.
