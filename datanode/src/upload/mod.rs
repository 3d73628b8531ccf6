//! Write-through: sealed chunks go up in packs, self-describing objects of the cluster's own bucket.
//!
//! ```text
//! uploader.rs  one piece of work: survey, put, verify, answer
//! ├── survey.rs   reads the chunks once, for lengths and checksums: a Plan
//! ├── body.rs     reads them again, as the pack's bytes
//! ├── adopt.rs    is a pack that exists already what we would have written?
//! ├── findings.rs what the under-store was found to do: uploads wait for it
//! ├── pack.rs     the bytes of a pack (docs/FORMAT.md, "Packs")
//! ├── packed.rs   chunks that are in packs already, for a compaction
//! └── source.rs   where the chunks are read from
//! ```

mod adopt;
mod body;
mod error;
mod findings;
pub mod pack;
#[cfg(test)]
mod pack_tests;
mod packed;
mod source;
mod survey;
mod uploader;
#[cfg(test)]
pub(crate) mod uploader_tests;

pub use error::UploadError;
pub use findings::Findings;
pub use source::{ReadFailed, SealedChunk, SealedChunks};
pub use survey::Plan;
pub use uploader::Uploader;
