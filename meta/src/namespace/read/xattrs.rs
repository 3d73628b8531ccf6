//! Reads of extended attributes.

use cairn_types::limits::XATTRS_MAX;
use cairn_types::{Credentials, FsError};

use super::{may_read, resolve_as};
use crate::keys;
use crate::keys::xattrs::{self, XattrRow, XattrTotals};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::xattrs::{XattrSpace, space};
use crate::store::Rows;

/// An extended attribute's value.
///
/// # Errors
/// As [`resolve`](super::resolve), and those of the name; [`FsError::NoSuchAttribute`].
pub fn xattr(rows: &dyn Rows, target: &Target, name: &[u8]) -> Outcome<Vec<u8>> {
    xattr_as(rows, None, target, name)
}

/// As [`xattr`], by a caller that is checked: those of users need the right to read, those that are
/// trusted are there for user 0 alone.
///
/// # Errors
/// As [`xattr`]; `PermissionDenied`.
pub fn xattr_as(
    rows: &dyn Rows,
    caller: Option<&Credentials>,
    target: &Target,
    name: &[u8],
) -> Outcome<Vec<u8>> {
    let space = space(name)?;
    let inode = resolve_as(rows, caller, target)?;
    match space {
        XattrSpace::Trusted if !sees_trusted(caller) => return refuse(FsError::NoSuchAttribute),
        XattrSpace::User => may_read(rows, caller, target, &inode)?,
        _ => {}
    }
    match keys::get::<XattrRow>(rows, &xattrs::key(inode.ino, name))? {
        Some(row) => Ok(row.value),
        None => refuse(FsError::NoSuchAttribute),
    }
}

fn sees_trusted(caller: Option<&Credentials>) -> bool {
    caller.is_none_or(Credentials::is_superuser)
}

/// The names of an inode's extended attributes, in order: 256 at most.
///
/// # Errors
/// As [`resolve`](super::resolve).
pub fn xattr_names(rows: &dyn Rows, target: &Target) -> Outcome<Vec<Vec<u8>>> {
    xattr_names_as(rows, None, target)
}

/// As [`xattr_names`], by a caller that is checked.
///
/// # Errors
/// As [`xattr_names`]; `PermissionDenied`.
pub fn xattr_names_as(
    rows: &dyn Rows,
    caller: Option<&Credentials>,
    target: &Target,
) -> Outcome<Vec<Vec<u8>>> {
    let inode = resolve_as(rows, caller, target)?;
    if keys::get::<XattrTotals>(rows, &xattrs::totals_key(inode.ino))?.is_none() {
        return Ok(Vec::new());
    }
    let found = keys::scan::<XattrRow>(rows, &xattrs::of(inode.ino), XATTRS_MAX as usize)?;
    let names = found.into_iter().map(|(key, _)| xattrs::name(&key).to_vec());
    Ok(names.filter(|name| sees_trusted(caller) || !name.starts_with(b"trusted.")).collect())
}
