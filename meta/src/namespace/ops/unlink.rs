//! Unlink.

use cairn_types::FsError;

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Removes a name of a file or symlink.
pub fn unlink(state: &mut State<'_, '_>, target: &Target) -> Outcome<Answer> {
    let dentry = state.dentry(target, FsError::IsDirectory)?;
    let Some(found) = dentry.found else { return refuse(FsError::NotFound) };
    state.changing(&dentry.parent)?;
    state.may_take(&dentry.parent, &found.inode)?;
    if found.inode.is_dir() {
        return refuse(FsError::IsDirectory);
    }
    state.unlink(dentry.parent.ino, &dentry.name, &found)?;
    Ok(Answer::default())
}
