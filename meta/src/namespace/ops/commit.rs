//! Commit: extents whose bytes are acknowledged.

use cairn_types::{Extent, FsError, InodeId, SessionId};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::{State, regular};

/// Lays extents over a file's content.
pub fn commit(
    state: &mut State<'_, '_>,
    session: SessionId,
    ino: InodeId,
    extents: &[Extent],
    expected_length: Option<u64>,
) -> Outcome<Answer> {
    let mut inode = state.inode(ino)?;
    regular(&inode)?;
    state.changing(&inode)?;
    state.begin_keeping(&inode)?;
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
        state.write_changed(&mut inode)?;
    }
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
