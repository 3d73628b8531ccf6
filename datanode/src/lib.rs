//! The data node: the log-structured chunk store, the append protocol between nodes, and
//! write-through to the under-store.
//!
//! `service → {replicate, chunk, cache, upload, import} → segments → disk`; the metadata servers are
//! reached through [`metadata`] alone.

pub mod config;
pub mod connection;
pub mod http;
pub mod metadata;
pub mod understore;

pub use config::{Config, ConfigError};
