//! `contents`: ino → [`ContentRow`], and `detached`: content → [`DetachedRow`].
//!
//! A content is a key space of `extents`. A file's extents lie under its own number until it is cut
//! where too many lay for one entry: from the cut on it then has another content, and what lay
//! there is detached, to be removed in steps.

use std::fmt;

use bincode::{Decode, Encode};
use cairn_types::InodeId;

use super::{Record, RowFault};
use crate::store::{Rows, Table};

/// The first content that no inode's number names: the top bit of a group is never set.
const LATER: u64 = 1 << 63;
/// Parts of one file, at most.
pub const PARTS_MAX: usize = 64;

/// A key space of `extents`: the first 8 bytes of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ContentId(pub u64);

impl ContentId {
    /// The `n`th content that was made for a file that was cut.
    #[must_use]
    pub fn later(n: u64) -> Self {
        Self(LATER | n)
    }

    /// The `n` of [`ContentId::later`]; `None` when it is an inode's number.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        (self.0 & LATER != 0).then_some(self.0 & !LATER)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "content-{}", self.0)
    }
}

impl From<InodeId> for ContentId {
    fn from(ino: InodeId) -> Self {
        Self(ino.0)
    }
}

/// Where the extents of a file lie whose own number does not name them all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ContentRow {
    /// In order; the first begins at 0, each goes up to the next, the last has no end. No extent
    /// goes beyond the end of its part.
    pub parts: Vec<Part>,
}

/// From where on a file's extents lie under a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// The first file offset.
    pub from: u64,
    /// The content.
    pub content: ContentId,
}

/// Extents of a content that no file names any more: those that start at `from` or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DetachedRow {
    /// The first file offset.
    pub from: u64,
}

impl Record for ContentRow {
    const TABLE: Table = Table::Contents;
}

impl Record for DetachedRow {
    const TABLE: Table = Table::Detached;
}

/// A range of a file, not empty, whose extents lie under one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The content.
    pub content: ContentId,
    /// The first file offset.
    pub from: u64,
    /// The file offset behind the last.
    pub until: u64,
}

impl ContentRow {
    /// What holds for a file without a row.
    #[must_use]
    pub fn own(ino: InodeId) -> Self {
        Self { parts: vec![Part { from: 0, content: ino.into() }] }
    }

    /// The spans of `[start, end)`, in order.
    #[must_use]
    pub fn spans(&self, start: u64, end: u64) -> Vec<Span> {
        let ends = self.parts.iter().skip(1).map(|part| part.from).chain([u64::MAX]);
        let all = self.parts.iter().zip(ends).map(|(part, until)| Span {
            content: part.content,
            from: part.from.max(start),
            until: until.min(end),
        });
        all.filter(|span| span.from < span.until).collect()
    }
}

/// The key in `contents`.
#[must_use]
pub fn key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}

/// The key in `detached`.
#[must_use]
pub fn detached_key(content: ContentId) -> Vec<u8> {
    content.0.to_be_bytes().to_vec()
}

/// The content in a key of `detached`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn detached(key: &[u8]) -> Result<ContentId, RowFault> {
    Ok(ContentId(super::u64_at(Table::Detached, key, 0)?))
}

/// Where a file's extents lie.
///
/// # Errors
/// [`RowFault`] when the store failed or the row is damaged.
pub fn of(rows: &(impl Rows + ?Sized), ino: InodeId) -> Result<ContentRow, RowFault> {
    let row: Option<ContentRow> = super::get(rows, &key(ino))?;
    Ok(row.unwrap_or_else(|| ContentRow::own(ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_the_parts_cut_to_a_range() {
        let own = ContentRow::own(InodeId(7));
        let span = |content, from, until| Span { content, from, until };
        assert_eq!(own.spans(3, 9), [span(ContentId(7), 3, 9)]);
        assert!(own.spans(3, 3).is_empty());
        let later = ContentId::later(1);
        let parts = vec![Part { from: 0, content: ContentId(7) }, Part { from: 5, content: later }];
        let cut = ContentRow { parts };
        assert_eq!(cut.spans(3, u64::MAX), [span(ContentId(7), 3, 5), span(later, 5, u64::MAX)]);
        assert_eq!(cut.spans(0, 5), [span(ContentId(7), 0, 5)]);
        assert_eq!(cut.spans(5, 6), [span(later, 5, 6)]);
    }
}
