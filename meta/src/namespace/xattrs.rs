//! Extended attributes: which names there are, and their rows. All of an inode's are few enough to
//! go in the entry that removes it.

use cairn_types::limits::{XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTRS_MAX};
use cairn_types::{FsError, Inode, InodeId};

use super::acl;
use super::error::Outcome;
use super::state::State;
use crate::keys::xattrs::{self, XattrRow, XattrTotals};
use crate::keys::{self, RowFault};
use crate::store::{Rows, Table};

/// The capabilities that a program is given when it is run.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// What an attribute's name says of it (xattr(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSpace {
    /// `user.`: anybody's, of files and directories.
    User,
    /// `trusted.`: of those who administer the system.
    Trusted,
    /// `security.`: of security modules.
    Security,
    /// `system.posix_acl_access` and `system.posix_acl_default`.
    Acl,
}

/// The space of an attribute's name.
///
/// # Errors
/// [`FsError::NameTooLong`] over 255 bytes; [`FsError::InvalidName`] for one that is empty, ends
/// with its space, or holds NUL; [`FsError::NotSupported`] outside of the spaces known.
pub fn space(name: &[u8]) -> Result<XattrSpace, FsError> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    if name.is_empty() || name.contains(&0) {
        return Err(FsError::InvalidName);
    }
    let spaces: [(&[u8], XattrSpace); 3] = [
        (b"user.", XattrSpace::User),
        (b"trusted.", XattrSpace::Trusted),
        (b"security.", XattrSpace::Security),
    ];
    if name == acl::ACCESS || name == acl::DEFAULT {
        return Ok(XattrSpace::Acl);
    }
    for (prefix, space) in spaces {
        if let Some(rest) = name.strip_prefix(prefix) {
            return if rest.is_empty() { Err(FsError::InvalidName) } else { Ok(space) };
        }
    }
    Err(FsError::NotSupported)
}

/// True where an inode can have attributes of a space: those of users are of files and directories
/// alone, since what a symlink or a device allows says nothing of who may write there.
pub(super) fn fits(inode: &Inode, space: XattrSpace) -> bool {
    space != XattrSpace::User || inode.is_file() || inode.is_dir()
}

impl State<'_, '_> {
    /// What an inode's attributes come to.
    pub fn xattr_totals(&self, ino: InodeId) -> Result<XattrTotals, RowFault> {
        Ok(self.get(&xattrs::totals_key(ino))?.unwrap_or_default())
    }

    /// An attribute's value.
    pub fn xattr(&self, ino: InodeId, name: &[u8]) -> Result<Option<Vec<u8>>, RowFault> {
        let row: Option<XattrRow> = self.get(&xattrs::key(ino, name))?;
        Ok(row.map(|row| row.value))
    }

    /// Sets an attribute within the bounds of its inode.
    pub fn put_xattr(&mut self, ino: InodeId, name: &[u8], value: &[u8]) -> Outcome<()> {
        if value.len() > XATTR_BYTES_MAX {
            return Err(FsError::AttributeTooLarge.into());
        }
        let before = self.xattr(ino, name)?;
        let mut totals = self.xattr_totals(ino)?;
        totals.count += u32::from(before.is_none());
        totals.bytes = totals.bytes.saturating_sub(before.map_or(0, |old| old.len() as u64));
        totals.bytes += value.len() as u64;
        if totals.count > XATTRS_MAX || totals.bytes > XATTR_BYTES_MAX as u64 {
            return Err(FsError::TooManyAttributes.into());
        }
        self.put(xattrs::key(ino, name), &XattrRow { value: value.to_vec() });
        self.put(xattrs::totals_key(ino), &totals);
        Ok(())
    }

    /// Removes an attribute; false when there is none of that name.
    pub fn drop_xattr(&mut self, ino: InodeId, name: &[u8]) -> Result<bool, RowFault> {
        let mut totals = self.xattr_totals(ino)?;
        if totals.count == 0 {
            return Ok(false);
        }
        let Some(old) = self.xattr(ino, name)? else { return Ok(false) };
        self.delete(Table::Xattrs, xattrs::key(ino, name));
        totals.count -= 1;
        totals.bytes = totals.bytes.saturating_sub(old.len() as u64);
        if totals.count == 0 {
            self.delete(Table::Xattrs, xattrs::totals_key(ino));
        } else {
            self.put(xattrs::totals_key(ino), &totals);
        }
        Ok(true)
    }

    /// Removes all attributes of an inode that goes: one read where it has none.
    pub fn drop_xattrs(&mut self, ino: InodeId) -> Result<(), RowFault> {
        if self.xattr_totals(ino)?.count == 0 {
            return Ok(());
        }
        for (key, _) in self.txn.scan(Table::Xattrs, &xattrs::of(ino), XATTRS_MAX as usize)? {
            self.delete(Table::Xattrs, key);
        }
        self.delete(Table::Xattrs, xattrs::totals_key(ino));
        Ok(())
    }

    /// Gives all attributes of one inode to another, which has none.
    pub fn move_xattrs(&mut self, from: InodeId, to: InodeId) -> Result<(), RowFault> {
        let totals = self.xattr_totals(from)?;
        if totals.count == 0 {
            return Ok(());
        }
        let rows = keys::scan::<XattrRow>(&*self.txn, &xattrs::of(from), XATTRS_MAX as usize)?;
        for (key, row) in rows {
            self.put(xattrs::key(to, xattrs::name(&key)), &row);
        }
        self.put(xattrs::totals_key(to), &totals);
        self.drop_xattrs(from)
    }

    /// Gives an inode that has none the attributes of another: all, or those that a caller who may not
    /// do everything may set on what is its own; capabilities not for another owner.
    pub fn clone_xattrs(&mut self, from: InodeId, to: InodeId, changed_owner: bool) -> Outcome<()> {
        if self.xattr_totals(from)?.count == 0 {
            return Ok(());
        }
        let rows = keys::scan::<XattrRow>(&*self.txn, &xattrs::of(from), XATTRS_MAX as usize)?;
        for (key, row) in rows {
            let name = xattrs::name(&key);
            let own = matches!(space(name), Ok(XattrSpace::User | XattrSpace::Acl));
            let kept = !changed_owner || name != CAPABILITY;
            if own || self.limited().is_none() && kept {
                self.put_xattr(to, name, &row.value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_space_or_is_refused() {
        assert_eq!(space(b"user.a"), Ok(XattrSpace::User));
        assert_eq!(space(b"trusted.a"), Ok(XattrSpace::Trusted));
        assert_eq!(space(acl::ACCESS), Ok(XattrSpace::Acl));
        assert_eq!(space(acl::DEFAULT), Ok(XattrSpace::Acl));
        assert_eq!(space(CAPABILITY), Ok(XattrSpace::Security));
        let empty: [&[u8]; 4] = [b"", b"user.", b"security.", b"user.a\0"];
        assert!(empty.iter().all(|name| space(name) == Err(FsError::InvalidName)));
        let foreign: [&[u8]; 4] = [b"user", b"system.x", b"system.posix_acl", b"User.a"];
        assert!(foreign.iter().all(|name| space(name) == Err(FsError::NotSupported)));
        let longest = [b"user.".as_slice(), &[b'x'; 250]].concat();
        assert_eq!(space(&longest), Ok(XattrSpace::User));
        assert_eq!(space(&[longest, vec![b'x']].concat()), Err(FsError::NameTooLong));
    }
}
