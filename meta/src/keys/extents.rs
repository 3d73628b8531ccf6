//! `extents`: (content, file offset) → [`ExtentRow`]. The rows of a content never overlap.
//! [`contents`](super::contents) says which contents are a file's: its own number, unless it was cut.

use bincode::{Decode, Encode};
use cairn_types::{Extent, ExtentSource};

use super::contents::ContentId;
use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// Where a range of a file is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExtentRow {
    /// The range's length in bytes, at least 1.
    pub length: u64,
    /// Where its bytes are.
    pub source: ExtentSource,
}

impl Record for ExtentRow {
    const TABLE: Table = Table::Extents;
}

/// The row's key.
#[must_use]
pub fn key(content: impl Into<ContentId>, file_offset: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&content.into().0.to_be_bytes());
    key.extend_from_slice(&file_offset.to_be_bytes());
    key
}

/// The extents that start in `[from, until)`.
#[must_use]
pub fn starting_in(content: ContentId, from: u64, until: u64) -> KeyRange {
    KeyRange { from: key(content, from), until: Some(key(content, until)) }
}

/// The extents that start at `from` or later.
#[must_use]
pub fn starting_at(content: ContentId, from: u64) -> KeyRange {
    KeyRange::prefix_from(&content.0.to_be_bytes(), &key(content, from))
}

/// The extent of a row.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn extent(key: &[u8], row: ExtentRow) -> Result<Extent, RowFault> {
    let file_offset = super::u64_at(Table::Extents, key, 8)?;
    Ok(Extent { file_offset, length: row.length, source: row.source })
}
