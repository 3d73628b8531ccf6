//! Reading a directory of a mounted bucket: a listing with delimiter `/` becomes names, in name
//! order whatever the endpoint's order, and goes out in batches.
//!
//! What becomes of keys (`docs/FORMAT.md`, "Names of objects", has the same table):
//!
//! | keys below the directory's prefix | becomes |
//! |---|---|
//! | `a` | the file `a` |
//! | `a/…` | the directory `a` |
//! | `a` and `a/…` | the directory `a`; the object is the file `a.cairn-object`, counted as shadowed |
//! | … and `a.cairn-object` exists too | the object is left out, counted as skipped |
//! | the prefix itself (a directory's marker) | nothing; with bytes in it: counted as skipped |
//! | an empty name (`//`), `.`, `..`, NUL in it, over 255 bytes | left out, counted as skipped |
//! | `.cairn-temporary/…` of the mount's root | nothing: what the cluster itself is moving |

mod directory;
mod error;
#[cfg(test)]
mod import_tests;
mod names;
mod odd;
#[cfg(test)]
mod odd_tests;

use crate::objects::TEMPORARY;

pub use directory::{ImportSummary, Imports};
pub use error::ImportError;
pub use names::SHADOWED_SUFFIX;
pub use odd::LeftOut;

/// True for the directory of a mount's root that the namespace does not show: objects on their way lie there.
#[must_use]
pub fn hides(name: &str) -> bool {
    TEMPORARY.strip_suffix('/') == Some(name)
}

/// Entries in one batch, at most.
pub const BATCH_ENTRIES_MAX: usize = 1000;
/// Names in one directory, at most; fewer where the node has little memory.
pub const NAMES_MAX: usize = 1_000_000;
