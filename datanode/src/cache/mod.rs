//! Reading what lies in S3: persisted chunks and objects of mounts, through a cache of blocks of
//! 1 MiB in the node's own segments.
//!
//! ```text
//! reader.rs     a read: which blocks, read-ahead
//! ├── flights.rs   one GET a block, however many wait
//! ├── origin.rs    where a block comes from, and how it is checked
//! ├── ahead.rs     who reads in order
//! └── blocks.rs    where blocks are kept
//! ```

mod ahead;
mod blocks;
#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod chunk_store_tests;
mod error;
mod flights;
mod origin;
mod reader;

pub use blocks::{BlockKey, Blocks};
pub use error::ReadError;
pub use reader::{Cache, Fetches};

/// Bytes of a block; the last of an object may be shorter.
pub const BLOCK_BYTES: u64 = 1 << 20;
