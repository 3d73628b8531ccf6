//! The CairnFS metadata server: one Raft group over RocksDB.

// The reference model is the tests' in meta/tests, which name this crate from outside; simulations within
// it use the same.
#[cfg(test)]
extern crate self as cairn_meta;

pub mod config;
pub mod dump;
pub mod http;
pub mod identity;
pub mod keys;
pub mod leader;
pub mod namespace;
pub mod node;
pub mod raft;
pub mod serve;
pub mod service;
mod slow;
pub mod store;
mod trace;

pub use config::{Config, ConfigError};
pub use serve::{Ready, ServeError, serve};
