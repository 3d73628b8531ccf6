//! SetPolicy.

use cairn_types::{FsError, InodeId, Policy};

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Sets a directory's own policy, or lets it inherit again. The root always has its own.
pub fn set_policy(state: &mut State<'_, '_>, target: &Target, policy: Option<Policy>) -> Outcome<Answer> {
    if let Some(policy) = &policy {
        policy.check()?;
    }
    let mut inode = state.resolve(target)?;
    if !inode.is_dir() {
        return refuse(FsError::NotDirectory);
    }
    state.changing(&inode)?;
    state.must_own(&inode)?;
    if inode.ino == InodeId::ROOT && policy.is_none() {
        return refuse(FsError::InvalidPolicy);
    }
    inode.policy = policy;
    state.change_inode(&mut inode)?;
    state.tell_of(&inode, EventKind::Policy)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
