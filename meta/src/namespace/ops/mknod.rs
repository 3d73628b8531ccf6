//! Mknod.

use cairn_types::{FileKind, FsError};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};

/// Makes a fifo, a socket or a device; the rest has verbs of its own.
pub fn mknod(state: &mut State<'_, '_>, target: &Target, birth: &Birth) -> Outcome<Answer> {
    match birth.kind {
        FileKind::Fifo | FileKind::Socket => {}
        FileKind::CharacterDevice(device) | FileKind::BlockDevice(device) if device.is_valid() => {}
        _ => return refuse(FsError::InvalidRequest),
    }
    let dentry = state.dentry(target, FsError::Exists)?;
    if dentry.found.is_some() {
        return refuse(FsError::Exists);
    }
    state.unmounted(&dentry.parent)?;
    if birth.kind.device().is_some() {
        state.must_administer()?;
    }
    let inode = state.born_in(&dentry.parent, birth)?;
    state.hang(dentry.parent.ino, &dentry.name, &inode)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
