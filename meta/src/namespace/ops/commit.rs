//! Commit: extents whose bytes are acknowledged.

use cairn_types::{Extent, FileKind, FsError, InodeId, SessionId};

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::{State, writable};

/// Lays extents over a file's content.
pub fn commit(
    state: &mut State<'_, '_>,
    session: SessionId,
    ino: InodeId,
    extents: &[Extent],
    expected_length: Option<u64>,
) -> Outcome<Answer> {
    let mut inode = state.inode(ino)?;
    match inode.kind {
        FileKind::Directory => return refuse(FsError::IsDirectory),
        FileKind::File => {}
        _ => return refuse(FsError::NotFile),
    }
    writable(&inode)?;
    state.may(&Target::ino(ino), &inode, WRITE)?;
    let beyond = inode.tail.is_some_and(|tail| extents.iter().any(|e| e.end() > tail.base));
    if beyond || expected_length.is_some() {
        state.settled(&inode)?;
    }
    if let Some(expected) = expected_length.filter(|l| *l != inode.size) {
        return refuse(FsError::LengthMismatch { expected, actual: inode.size });
    }
    if !extents.is_empty() {
        state.lay_committed(session, &mut inode, extents)?;
        inode.mtime = state.now();
        state.content_changed(&mut inode)?;
        state.change_inode(&mut inode)?;
        state.tell_of(&inode, EventKind::Content)?;
    }
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
