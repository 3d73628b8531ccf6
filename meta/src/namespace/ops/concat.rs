//! Concat: files joined to one, without moving bytes.

use cairn_types::FsError;
use cairn_types::limits::TRANSACTION_PARTS_MAX;

use crate::namespace::chunks::LiveChanges;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::share::end_of;
use crate::namespace::state::State;

/// Appends the contents of files.
pub fn concat(state: &mut State<'_, '_>, target: &Target, from: &[Target]) -> Outcome<Answer> {
    if from.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    if from.len() > TRANSACTION_PARTS_MAX {
        return refuse(FsError::TooLarge);
    }
    let mut inode = state.changeable(target)?;
    let mut live = LiveChanges::new();
    for part in from {
        let source = state.settled_file(part)?;
        if source.mount != inode.mount {
            return refuse(FsError::CrossMount);
        }
        state.unmounted(&inode)?;
        if source.ino == inode.ino {
            return refuse(FsError::InvalidRequest);
        }
        let end = end_of(inode.size, source.size)?;
        let list = state.extents_within(source.ino, 0, source.size)?;
        state.share(inode.ino, &list, (0, inode.size), &mut live)?;
        inode.size = end;
    }
    state.apply_live(live)?;
    state.changed(inode)
}
