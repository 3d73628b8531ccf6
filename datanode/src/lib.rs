//! The data node: the log-structured chunk store, the append protocol between nodes, and
//! write-through to the under-store.
//!
//! `service → {replicate, chunk, cache, upload, import} → segments → disk`; the metadata servers are
//! reached through [`metadata`] alone.

pub mod cache;
pub mod chunk;
pub mod config;
pub mod connection;
pub mod disk;
pub mod http;
pub mod import;
pub mod metadata;
pub mod segments;
pub mod understore;
pub mod upload;

pub use config::{Config, ConfigError};
