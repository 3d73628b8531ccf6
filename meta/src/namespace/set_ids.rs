//! The set-user-ID and set-group-ID bits: what a directory hands on, and what a change takes away.

use cairn_types::{FileKind, Inode};

use super::state::{Birth, State};
use super::xattrs::CAPABILITY;
use crate::keys::RowFault;

/// Runs as the file's owner.
const SET_USER_ID: u32 = 0o4000;
/// Runs as the file's group; of a directory: what is made there gets its group.
const SET_GROUP_ID: u32 = 0o2000;
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
    pub fn born_in(&mut self, parent: &Inode, birth: &Birth) -> Inode {
        let (mut mode, mut gid) = (birth.mode, birth.gid);
        if parent.mode & SET_GROUP_ID != 0 {
            gid = parent.gid;
            mode |= if birth.kind == FileKind::Directory { SET_GROUP_ID } else { 0 };
        }
        let birth = Birth { kind: birth.kind, mode, uid: birth.uid, gid };
        self.new_inode(&birth, parent.mount)
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
