//! CopyRange: a range of one file in another, or in itself, without moving bytes.

use cairn_types::FsError;

use crate::namespace::chunks::LiveChanges;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::share::end_of;
use crate::namespace::state::State;

/// Shares a range of `from` with `to`; a gap becomes a gap.
pub fn copy_range(
    state: &mut State<'_, '_>,
    (from, from_offset): (&Target, u64),
    (to, to_offset): (&Target, u64),
    length: Option<u64>,
) -> Outcome<Answer> {
    let mut inode = state.changeable(to)?;
    let source = state.settled_file(from)?;
    if source.mount != inode.mount {
        return refuse(FsError::CrossMount);
    }
    state.unmounted(&inode)?;
    let length = length.unwrap_or(source.size.saturating_sub(from_offset));
    let from_end = end_of(from_offset, length)?;
    if from_end > source.size {
        return refuse(FsError::LengthMismatch { expected: from_end, actual: source.size });
    }
    let to_end = end_of(to_offset, length)?;
    if source.ino == inode.ino && from_offset < to_end && to_offset < from_end {
        return refuse(FsError::InvalidRequest);
    }
    if length == 0 {
        return Ok(Answer { inode: Some(inode), ..Answer::default() });
    }
    let list = state.extents_within(source.ino, from_offset, from_end)?;
    let mut live = LiveChanges::new();
    state.carve(inode.ino, to_offset, to_end, &mut live)?;
    state.share(inode.ino, &list, (from_offset, to_offset), &mut live)?;
    state.apply_live(live)?;
    inode.size = inode.size.max(to_end);
    state.changed(inode)
}
