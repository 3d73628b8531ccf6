//! Link.

use cairn_types::FsError;
use cairn_types::limits::LINKS_MAX;

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Gives a file or symlink one more name.
pub fn link(state: &mut State<'_, '_>, from: &Target, to: &Target) -> Outcome<Answer> {
    let mut inode = state.resolve(from)?;
    let dentry = state.dentry(to, FsError::Exists)?;
    if inode.nlink == 0 {
        // Nothing gives an unlinked file a name again.
        return refuse(FsError::NotFound);
    }
    if inode.is_dir() {
        return refuse(FsError::LinkDirectory);
    }
    if dentry.found.is_some() {
        return refuse(FsError::Exists);
    }
    if inode.mount != dentry.parent.mount {
        return refuse(FsError::CrossMount);
    }
    state.unmounted(&inode)?;
    state.may_make_in(&dentry.parent)?;
    if inode.nlink >= LINKS_MAX {
        return refuse(FsError::TooManyLinks);
    }
    inode.nlink += 1;
    state.change_inode(&mut inode)?;
    state.put_link((dentry.parent.ino, &dentry.name), &inode);
    state.tell(dentry.parent.ino, &dentry.name, &inode, EventKind::Created)?;
    state.touch_directory(dentry.parent.ino, 0)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
