//! PunchHole, Allocate: ranges that hold no bytes.

use cairn_types::{FsError, Inode};

use crate::namespace::chunks::LiveChanges;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::share::end_of;
use crate::namespace::state::State;

/// Makes a range a gap.
pub fn punch_hole(
    state: &mut State<'_, '_>,
    target: &Target,
    (offset, length): (u64, u64),
    keep_size: bool,
) -> Outcome<Answer> {
    let (mut inode, end) = range_of(state, target, offset, length)?;
    let mut live = LiveChanges::new();
    let cut = offset < inode.size && end >= inode.size && state.cut_off(inode.ino, offset, &mut live)?;
    if !cut {
        state.carve(inode.ino, offset, end, &mut live)?;
    }
    state.apply_live(live)?;
    if !keep_size {
        inode.size = inode.size.max(end);
    }
    state.changed(inode)
}

/// Grows a file to the end of a range.
pub fn allocate(
    state: &mut State<'_, '_>,
    target: &Target,
    (offset, length): (u64, u64),
    keep_size: bool,
) -> Outcome<Answer> {
    let (mut inode, end) = range_of(state, target, offset, length)?;
    if keep_size || end <= inode.size {
        return Ok(Answer { inode: Some(inode), ..Answer::default() });
    }
    inode.size = end;
    state.changed(inode)
}

/// A file that can be changed, and the end of a range in it that is not empty.
fn range_of(state: &mut State<'_, '_>, target: &Target, offset: u64, length: u64) -> Outcome<(Inode, u64)> {
    let inode = state.changeable(target)?;
    if length == 0 {
        return refuse(FsError::InvalidRequest);
    }
    Ok((inode, end_of(offset, length)?))
}
