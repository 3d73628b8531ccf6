//! SetAttr.

use cairn_types::limits::FILE_BYTES_MAX;
use cairn_types::{FileKind, FsError, Inode, Timestamp};

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::{State, writable};

/// The attributes to set; `None` leaves one as it is.
pub struct Changes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last change of content.
    pub mtime: Option<Timestamp>,
    /// Last access.
    pub atime: Option<Timestamp>,
}

impl Changes {
    fn are_none(&self) -> bool {
        self.size.is_none() && !self.are_of_attributes()
    }

    /// Something other than the length is set.
    fn are_of_attributes(&self) -> bool {
        self.mode.or(self.uid).or(self.gid).is_some() || self.mtime.or(self.atime).is_some()
    }
}

/// Changes attributes.
pub fn set_attr(
    state: &mut State<'_, '_>,
    target: &Target,
    changes: &Changes,
    expected_version: Option<u64>,
) -> Outcome<Answer> {
    let mut inode = state.resolve(target)?;
    writable(&inode)?;
    if changes.size.is_some() || expected_version.is_some() {
        state.settled(&inode)?;
    }
    if let Some(expected) = expected_version.filter(|v| *v != inode.version) {
        return refuse(FsError::VersionMismatch { expected, actual: inode.version });
    }
    if changes.mode.is_some_and(|mode| mode > 0o7777) {
        return refuse(FsError::InvalidRequest);
    }
    if changes.are_none() {
        return Ok(Answer { inode: Some(inode), ..Answer::default() });
    }
    if let Some(size) = changes.size {
        set_size(state, &mut inode, size)?;
    }
    inode.mode = changes.mode.unwrap_or(inode.mode);
    inode.uid = changes.uid.unwrap_or(inode.uid);
    inode.gid = changes.gid.unwrap_or(inode.gid);
    inode.mtime = changes.mtime.unwrap_or(inode.mtime);
    inode.atime = changes.atime.unwrap_or(inode.atime);
    state.change_inode(&mut inode)?;
    if changes.size.is_some() {
        state.tell_of(&inode, EventKind::Content)?;
    }
    if changes.are_of_attributes() {
        state.tell_of(&inode, EventKind::Attributes)?;
    }
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

fn set_size(state: &mut State<'_, '_>, inode: &mut Inode, size: u64) -> Outcome<()> {
    match inode.kind {
        FileKind::Directory => return refuse(FsError::IsDirectory),
        FileKind::Symlink => return refuse(FsError::NotFile),
        FileKind::File => {}
    }
    if size > FILE_BYTES_MAX {
        return refuse(FsError::FileTooLarge);
    }
    state.resize(inode, size)?;
    inode.mtime = state.now();
    Ok(())
}
