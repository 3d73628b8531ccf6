//! Who may do what, where a session said who it is. Without credentials nothing is checked, and
//! nothing is read for it.
//!
//! A call that names an inode by its number alone is as one through an open handle: no directory is
//! searched, and the owner may read and write whatever the mode says, as it could through the handle
//! that it made the file with.

use cairn_types::{Credentials, FileKind, FsError, Inode};

use super::acl::{self, Acl};
use super::error::{Outcome, refuse};
use super::operation::Target;
use super::state::State;
use crate::keys;
use crate::keys::xattrs::{self, XattrRow, XattrTotals};
use crate::store::Rows;

/// Read, or list.
pub const READ: u32 = 4;
/// Write, or change names.
pub const WRITE: u32 = 2;
/// Search a directory.
pub const SEARCH: u32 = 1;

/// Names in it are removed by their owners, the directory's, or user 0 alone.
const STICKY: u32 = 0o1000;

/// Checks that `who` may do all of `want`.
///
/// # Errors
/// [`FsError::PermissionDenied`].
pub fn check(rows: &dyn Rows, who: &Credentials, inode: &Inode, want: u32) -> Outcome<()> {
    if who.is_superuser() {
        return Ok(());
    }
    let granted = |bits: u32| bits & want == want;
    let allowed = if who.uid == inode.uid {
        granted(inode.mode >> 6)
    } else if let Some(acl) = access_acl(rows, inode)? {
        acl.grants(who, inode, want)
    } else if who.is_in(inode.gid) {
        granted(inode.mode >> 3)
    } else {
        granted(inode.mode)
    };
    if allowed { Ok(()) } else { refuse(FsError::PermissionDenied) }
}

/// The access ACL of an inode. The group's bits of its mode are the mask: where they are none, no
/// entry but the owner's and the others' grants anything, and the mode says those.
fn access_acl(rows: &dyn Rows, inode: &Inode) -> Outcome<Option<Acl>> {
    if inode.kind == FileKind::Symlink || inode.mode & 0o070 == 0 {
        return Ok(None);
    }
    if keys::get::<XattrTotals>(rows, &xattrs::totals_key(inode.ino))?.is_none() {
        return Ok(None);
    }
    let row: Option<XattrRow> = keys::get(rows, &xattrs::key(inode.ino, acl::ACCESS))?;
    Ok(row.map(|row| Acl::parse(&row.value)).transpose()?)
}

/// As [`check`], of an inode that was named by its number alone.
///
/// # Errors
/// As [`check`].
pub fn check_handle(rows: &dyn Rows, who: &Credentials, inode: &Inode, want: u32) -> Outcome<()> {
    if who.uid == inode.uid { Ok(()) } else { check(rows, who, inode, want) }
}

impl State<'_, '_> {
    /// Checks what the caller wants of an inode that it named by `target`.
    pub fn may(&self, target: &Target, inode: &Inode, want: u32) -> Outcome<()> {
        match &self.caller {
            None => Ok(()),
            Some(who) if target.path.is_empty() => check_handle(&*self.txn, who, inode, want),
            Some(who) => check(&*self.txn, who, inode, want),
        }
    }

    /// Checks what the caller wants of an inode that it came to by a name.
    pub fn may_by_name(&self, inode: &Inode, want: u32) -> Outcome<()> {
        match &self.caller {
            None => Ok(()),
            Some(who) => check(&*self.txn, who, inode, want),
        }
    }

    /// Checks that the caller may make a name in a directory.
    pub fn may_make_in(&self, dir: &Inode) -> Outcome<()> {
        self.may_by_name(dir, WRITE | SEARCH)
    }

    /// Checks that the caller may take the name of `inode` out of a directory.
    pub fn may_take(&self, dir: &Inode, inode: &Inode) -> Outcome<()> {
        let Some(who) = &self.caller else { return Ok(()) };
        check(&*self.txn, who, dir, WRITE | SEARCH)?;
        let owns = who.is_superuser() || who.uid == inode.uid || who.uid == dir.uid;
        if dir.mode & STICKY != 0 && !owns { refuse(FsError::NotPermitted) } else { Ok(()) }
    }

    /// Checks that the caller owns an inode, or may do everything.
    pub fn must_own(&self, inode: &Inode) -> Outcome<()> {
        match &self.caller {
            Some(who) if !who.is_superuser() && who.uid != inode.uid => refuse(FsError::NotPermitted),
            _ => Ok(()),
        }
    }

    /// Checks that the caller may do everything.
    pub fn must_administer(&self) -> Outcome<()> {
        match &self.caller {
            Some(who) if !who.is_superuser() => refuse(FsError::NotPermitted),
            _ => Ok(()),
        }
    }

    /// The caller, if it is one that may not do everything.
    pub fn limited(&self) -> Option<&Credentials> {
        self.caller.as_ref().filter(|who| !who.is_superuser())
    }
}
