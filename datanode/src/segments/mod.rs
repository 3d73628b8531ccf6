//! The log-structured store of one disk: records in batches in preallocated, recycled segments.
//!
//! [`SegmentLog`] writes: one owner, no thread of its own. [`SegmentReader`] reads, from any thread.
//! Bytes are described in docs/FORMAT.md, section "Segments".

pub mod batch;
pub mod error;
pub mod footer;
pub mod inspect;
pub mod log;
mod open;
mod prepare;
pub mod reader;
pub mod record;
pub mod replay;
mod rotate;
mod scan;
pub mod segment;
mod sync;

#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod recovery_tests;

pub use error::{LogError, WriteFailure};
pub use inspect::{ActiveListing, Footer, Frame, Listing};
pub use log::{LogOptions, Privilege, SegmentLog};
pub use reader::{RecordError, SegmentReader, StoredRecord};
pub use record::{BlockSums, Location, RecordHeader, RecordKind};
pub use replay::{Entry, Replay};
