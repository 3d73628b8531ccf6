//! The set-user-ID and set-group-ID bits: what a directory hands on, and what a change takes away.

use cairn_types::{Credentials, FileKind, Inode};

use super::error::Outcome;
use super::mounted::Changed;
use super::state::{Birth, State};
use super::xattrs::CAPABILITY;
use crate::keys::RowFault;
use crate::keys::events::EventKind;

/// Runs as the file's owner.
const SET_USER_ID: u32 = 0o4000;
/// Runs as the file's group; of a directory: what is made there gets its group.
pub(super) const SET_GROUP_ID: u32 = 0o2000;
/// The group may execute it.
const GROUP_EXECUTES: u32 = 0o010;

/// The mode of a file whose owner or content changes. Without the group's execute bit the
/// set-group-ID bit has another meaning (mandatory locks) and stays.
#[must_use]
pub(super) fn taken(mode: u32) -> u32 {
    let of_group = if mode & GROUP_EXECUTES != 0 { SET_GROUP_ID } else { 0 };
    mode & !(SET_USER_ID | of_group)
}

impl State<'_, '_> {
    /// A new inode under `parent`, not yet in any table. Under a set-group-ID directory it gets that
    /// directory's group, and a directory the bit too.
    ///
    /// It is the caller's, where there is one that may not give it to others, and has what the
    /// directory's default ACL says.
    ///
    /// # Errors
    /// [`FsError::PermissionDenied`](cairn_types::FsError::PermissionDenied) when the caller may make
    /// nothing there.
    pub fn born_in(&mut self, parent: &Inode, birth: &Birth) -> Outcome<Inode> {
        self.may_make_in(parent)?;
        let mut birth = *birth;
        if let Some(who) = self.limited() {
            (birth.uid, birth.gid) = (who.uid, who.gid);
        }
        if parent.mode & SET_GROUP_ID != 0 {
            birth.gid = parent.gid;
            if birth.kind == FileKind::Directory {
                birth.mode |= SET_GROUP_ID;
            } else if birth.mode & GROUP_EXECUTES != 0 && self.limited().is_some_and(|w| !w.is_in(parent.gid))
            {
                birth.mode &= !SET_GROUP_ID;
            }
        }
        let mut inode = self.new_inode(&birth, parent.mount);
        self.inherit_acl(parent, &mut inode)?;
        Ok(inode)
    }

    /// Writes a file whose content changed now, and tells watchers.
    pub fn write_changed(&mut self, inode: &mut Inode) -> Outcome<()> {
        inode.mtime = self.now();
        self.content_changed(inode)?;
        self.change_inode(inode)?;
        self.note_file(inode, Changed::Content)?;
        self.tell_of(inode, EventKind::Content)
    }

    /// As [`State::take_privileges`] for a change of content: user 0 leaves the set-ID bits.
    pub fn content_changed(&mut self, inode: &mut Inode) -> Result<(), RowFault> {
        let mode = inode.mode;
        self.take_privileges(inode)?;
        if self.caller.as_ref().is_some_and(Credentials::is_superuser) {
            inode.mode = mode;
        }
        Ok(())
    }

    /// Takes from a file what would let others run it with rights that were given to its old owner
    /// or content; the caller writes the inode.
    pub fn take_privileges(&mut self, inode: &mut Inode) -> Result<(), RowFault> {
        if inode.is_dir() {
            return Ok(());
        }
        inode.mode = taken(inode.mode);
        if inode.is_file() {
            self.drop_xattr(inode.ino, CAPABILITY)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_ids_go_but_for_the_one_that_means_a_lock() {
        assert_eq!(taken(0o6755), 0o755);
        assert_eq!(taken(0o6745), 0o2745, "the group does not execute it");
        assert_eq!(taken(0o4644), 0o644);
        assert_eq!(taken(0o1755), 0o1755);
        assert_eq!(taken(0o644), 0o644);
    }
}
