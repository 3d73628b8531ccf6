//! Symlink.

use cairn_types::limits::SYMLINK_BYTES_MAX;
use cairn_types::{FileKind, FsError};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};

/// Makes a symlink.
pub fn symlink(state: &mut State<'_, '_>, target: &Target, to: &[u8], uid: u32, gid: u32) -> Outcome<Answer> {
    if to.is_empty() || to.len() > SYMLINK_BYTES_MAX || to.contains(&0) {
        return refuse(FsError::InvalidTarget);
    }
    let dentry = state.dentry(target, FsError::Exists)?;
    if dentry.found.is_some() {
        return refuse(FsError::Exists);
    }
    state.unmounted(&dentry.parent)?;
    let birth = Birth { kind: FileKind::Symlink, mode: 0o777, uid, gid };
    let mut inode = state.born_in(&dentry.parent, &birth)?;
    inode.target = Some(to.to_vec());
    inode.size = to.len() as u64;
    state.hang(dentry.parent.ino, &dentry.name, &inode)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
