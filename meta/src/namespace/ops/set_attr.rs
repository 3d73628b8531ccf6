//! SetAttr.

use cairn_types::limits::FILE_BYTES_MAX;
use cairn_types::{FileKind, FsError, Inode, Timestamp};

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::Changed;
use crate::namespace::operation::{Target, TimeChange};
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::set_ids::SET_GROUP_ID;
use crate::namespace::state::State;

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
    pub mtime: Option<TimeChange>,
    /// Last access.
    pub atime: Option<TimeChange>,
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
    state.changing(&inode)?;
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
    permitted(state, target, &inode, changes)?;
    if let Some(size) = changes.size {
        state.begin_keeping(&inode)?;
        set_size(state, &mut inode, size)?;
        state.content_changed(&mut inode)?;
    }
    if changes.uid.is_some() || changes.gid.is_some() {
        // Before the mode that is asked for, which then stands as it is.
        state.take_privileges(&mut inode)?;
    }
    inode.uid = changes.uid.unwrap_or(inode.uid);
    inode.gid = changes.gid.unwrap_or(inode.gid);
    if let Some(mode) = changes.mode {
        set_mode(state, &mut inode, mode)?;
    }
    inode.mtime = time(state, changes.mtime, inode.mtime);
    inode.atime = time(state, changes.atime, inode.atime);
    state.change_inode(&mut inode)?;
    if changes.size.is_some() {
        state.note_file(&inode, Changed::Content)?;
    }
    // A bucket keeps no time of access.
    if changes.mode.or(changes.uid).or(changes.gid).is_some() || changes.mtime.is_some() {
        state.note_file(&inode, Changed::Attributes)?;
    }
    if changes.size.is_some() {
        state.tell_of(&inode, EventKind::Content)?;
    }
    if changes.are_of_attributes() {
        state.tell_of(&inode, EventKind::Attributes)?;
    }
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

/// Who may change what: mode, owner and times are the owner's, its group to one of its own groups
/// alone; the length is whose who may write, and so is setting both times to now.
fn permitted(state: &State<'_, '_>, target: &Target, inode: &Inode, changes: &Changes) -> Outcome<()> {
    let Some(who) = state.limited() else { return Ok(()) };
    if changes.size.is_some() {
        state.may(target, inode, WRITE)?;
    }
    if changes.mode.is_some() {
        state.must_own(inode)?;
    }
    let gives_away = changes.uid.is_some_and(|uid| uid != inode.uid || who.uid != inode.uid);
    let strange = |gid: u32| who.uid != inode.uid || (gid != inode.gid && !who.is_in(gid));
    if gives_away || changes.gid.is_some_and(strange) {
        return refuse(FsError::NotPermitted);
    }
    match (changes.mtime, changes.atime) {
        (None, None) => Ok(()),
        (Some(TimeChange::Now), Some(TimeChange::Now)) if who.uid != inode.uid => {
            state.may(target, inode, WRITE)
        }
        _ => state.must_own(inode),
    }
}

fn set_mode(state: &mut State<'_, '_>, inode: &mut Inode, mode: u32) -> Outcome<()> {
    let foreign = state.limited().is_some_and(|who| !who.is_in(inode.gid));
    inode.mode = if foreign { mode & !SET_GROUP_ID } else { mode };
    state.follow_mode(inode)
}

fn time(state: &State<'_, '_>, change: Option<TimeChange>, was: Timestamp) -> Timestamp {
    match change {
        Some(TimeChange::At(time)) => time,
        Some(TimeChange::Now) => state.now(),
        None => was,
    }
}

fn set_size(state: &mut State<'_, '_>, inode: &mut Inode, size: u64) -> Outcome<()> {
    match inode.kind {
        FileKind::Directory => return refuse(FsError::IsDirectory),
        FileKind::File => {}
        _ => return refuse(FsError::NotFile),
    }
    if size > FILE_BYTES_MAX {
        return refuse(FsError::FileTooLarge);
    }
    state.resize(inode, size)?;
    inode.mtime = state.now();
    Ok(())
}
