//! The names of one directory, in their order, with attributes.

use cairn_types::limits::LIST_BATCH_MAX;
use cairn_types::{Inode, InodeId};

use super::error::Outcome;
use super::walk;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::{Record, RowFault};
use crate::store::{Caching, KeyRange, Rows, Table};

/// A name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// What it leads to. While it has a tail its size is the last recorded one.
    pub inode: Inode,
}

/// Names of a directory, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The names.
    pub entries: Vec<Listed>,
    /// There are no more.
    pub last: bool,
}

/// What the row of a name leads to.
pub(super) fn inode_of(rows: &dyn Rows, row: NodeRow, key: &[u8]) -> Result<Inode, RowFault> {
    match row {
        NodeRow::Inode(inode) => Ok(inode),
        NodeRow::Link { ino, .. } => match walk::inode(rows, ino)? {
            Some((_, inode)) => Ok(inode),
            None => Err(RowFault::Damaged { table: Table::Nodes, key: key.to_vec() }),
        },
    }
}

/// Which names of a directory are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'n> {
    /// Those greater than this one; empty: from the first.
    pub start_after: &'n [u8],
    /// Those up to this one; empty: to the last.
    pub until: &'n [u8],
    /// Those that begin with it.
    pub prefix: &'n [u8],
}

impl Names<'_> {
    /// The keys of their rows.
    fn range(&self, directory: InodeId) -> KeyRange {
        let KeyRange { from, mut until } = nodes::after(directory, self.start_after);
        let begun = KeyRange::prefix(&nodes::key(directory, self.prefix));
        if !self.until.is_empty() {
            let behind = [nodes::key(directory, self.until).as_slice(), &[0]].concat();
            until = Some(until.map_or(behind.clone(), |end| end.min(behind)));
        }
        let until = match (until, begun.until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        KeyRange { from: from.max(begun.from), until }
    }
}

/// Names of a directory greater than `start_after` (empty: from the first), `limit` at most and
/// never more than 4,096. One scan: the attributes come with the names.
///
/// # Errors
/// A fault of the store. The directory's existence is the caller's to check.
pub fn list(rows: &dyn Rows, directory: InodeId, start_after: &[u8], limit: usize) -> Outcome<Listing> {
    list_some(rows, directory, Names { start_after, ..Names::default() }, limit)
}

/// As [`list`], of some of the names.
///
/// # Errors
/// As [`list`].
pub fn list_some(rows: &dyn Rows, directory: InodeId, names: Names<'_>, limit: usize) -> Outcome<Listing> {
    let limit = limit.clamp(1, LIST_BATCH_MAX as usize);
    let mut entries: Vec<Listed> = Vec::new();
    let last = visit_some(rows, directory, names, &mut |name, inode| {
        entries.push(Listed { name: name.to_vec(), inode });
        entries.len() < limit
    })?;
    Ok(Listing { entries, last })
}

/// Shows the names one by one, with what they lead to, until `each` wants no more; true when there are
/// no more.
///
/// # Errors
/// As [`list`].
pub fn visit_some(
    rows: &dyn Rows,
    directory: InodeId,
    names: Names<'_>,
    each: &mut dyn FnMut(&[u8], Inode) -> bool,
) -> Outcome<bool> {
    let (mut goes_on, mut last, mut fault) = (true, true, None);
    // Who goes on with a listing reads a large directory once, from end to end.
    let caching = if names.start_after.is_empty() { Caching::Fill } else { Caching::Bypass };
    rows.visit(Table::Nodes, &names.range(directory), caching, &mut |key, value| {
        if !goes_on {
            last = false;
            return false;
        }
        // A row of a directory with attributes is decoded where it lies, and nothing of it copied.
        match NodeRow::from_bytes(key, value).and_then(|row| inode_of(rows, row, key)) {
            Ok(inode) => goes_on = each(nodes::name(key), inode),
            Err(error) => fault = Some(error),
        }
        fault.is_none()
    })?;
    match fault {
        Some(fault) => Err(fault.into()),
        None => Ok(last),
    }
}
