//! The namespace as facts, one a line of a dump: read from one point in time, in bounded steps, and
//! written back by entries (`ops/load.rs`).
//!
//! Everything that follows from other facts is left out: where an inode's names are listed, queues,
//! counts, what a pack's chunks come to. So are sessions and what lives with them.

mod chunk;
mod fact;
mod json;
mod read;

pub use chunk::{ChunkFact, Disks, Fate, PlaceFact, ReplicaFact, SealedFact};
pub use fact::{Fact, PartFact};
pub use json::wide;
pub use read::{Facts, LOADED, Next, holds_nothing, next_ids};

/// Facts in one entry of a load, at most: one costs up to nine rows.
pub const FACTS_PER_ENTRY_MAX: usize = 400;
