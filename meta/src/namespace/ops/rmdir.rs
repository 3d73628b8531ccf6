//! Rmdir.

use cairn_types::FsError;

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Removes an empty directory.
pub fn rmdir(state: &mut State<'_, '_>, target: &Target) -> Outcome<Answer> {
    let dentry = state.dentry(target, FsError::IsRoot)?;
    let Some(found) = dentry.found else { return refuse(FsError::NotFound) };
    state.changing(&dentry.parent)?;
    state.may_take(&dentry.parent, &found.inode)?;
    if !found.inode.is_dir() {
        return refuse(FsError::NotDirectory);
    }
    if state.mount_at_root(&found.inode)?.is_some() {
        return refuse(FsError::IsMountRoot);
    }
    state.must_be_read(&found.inode)?;
    if !state.is_empty(found.inode.ino)? {
        return refuse(FsError::NotEmpty);
    }
    state.drop_directory(dentry.parent.ino, &dentry.name, &found.inode)?;
    Ok(Answer::default())
}
