//! The data node: the log-structured chunk store, the append protocol between nodes, and
//! write-through to the under-store.
//!
//! `frames → service → {replicate, chunk, cache, upload, import, objects} → segments → disk`; the metadata servers are
//! reached through [`metadata`] alone.

pub mod ancestry;
pub mod budget;
pub mod cache;
pub mod chunk;
pub mod config;
pub mod connection;
pub mod dirs;
pub mod disk;
pub mod disks;
pub mod endpoint;
pub mod format;
pub mod frames;
pub mod health;
pub mod http;
pub mod import;
pub mod membership;
pub mod metadata;
pub mod node;
pub mod objects;
pub mod replicate;
pub mod scrub;
pub mod segments;
pub mod serve;
pub mod service;
pub mod silent;
pub mod slow;
pub mod standing;
mod start;
pub mod understore;
pub mod upload;
pub mod work;
pub mod write_through;

#[cfg(test)]
mod serve_tests;

pub use config::{Config, ConfigError, UnderStoreConfig};
pub use serve::{Ready, ServeError, serve};
