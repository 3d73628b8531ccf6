//! Reads of extended attributes.

use cairn_types::FsError;
use cairn_types::limits::XATTRS_MAX;

use super::resolve;
use crate::keys;
use crate::keys::xattrs::{self, XattrRow, XattrTotals};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::xattrs::space;
use crate::store::Rows;

/// An extended attribute's value.
///
/// # Errors
/// As [`resolve`], and those of the name; [`FsError::NoSuchAttribute`].
pub fn xattr(rows: &dyn Rows, target: &Target, name: &[u8]) -> Outcome<Vec<u8>> {
    space(name)?;
    let inode = resolve(rows, target)?;
    match keys::get::<XattrRow>(rows, &xattrs::key(inode.ino, name))? {
        Some(row) => Ok(row.value),
        None => refuse(FsError::NoSuchAttribute),
    }
}

/// The names of an inode's extended attributes, in order: 256 at most.
///
/// # Errors
/// As [`resolve`].
pub fn xattr_names(rows: &dyn Rows, target: &Target) -> Outcome<Vec<Vec<u8>>> {
    let inode = resolve(rows, target)?;
    if keys::get::<XattrTotals>(rows, &xattrs::totals_key(inode.ino))?.is_none() {
        return Ok(Vec::new());
    }
    let found = keys::scan::<XattrRow>(rows, &xattrs::of(inode.ino), XATTRS_MAX as usize)?;
    Ok(found.into_iter().map(|(key, _)| xattrs::name(&key).to_vec()).collect())
}
