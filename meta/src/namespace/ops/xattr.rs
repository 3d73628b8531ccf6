//! SetXattr, RemoveXattr.

use cairn_types::{FileKind, FsError, Inode};

use crate::keys::events::EventKind;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::{Target, XattrMode};
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::xattrs::{self, XattrSpace};

/// The inode of a target, if the caller may change its attributes of a space.
fn changeable(state: &mut State<'_, '_>, target: &Target, space: XattrSpace) -> Outcome<Inode> {
    let inode = state.resolve(target)?;
    state.unmounted(&inode)?;
    if space == XattrSpace::Acl && inode.kind == FileKind::Symlink {
        return refuse(FsError::NotSupported);
    }
    if !xattrs::fits(&inode, space) {
        return refuse(FsError::NotPermitted);
    }
    match space {
        XattrSpace::Trusted | XattrSpace::Security => state.must_administer()?,
        XattrSpace::Acl => state.must_own(&inode)?,
        XattrSpace::User => {
            // In a directory whose names are their owners' its attributes are its owner's.
            if inode.is_dir() && inode.mode & 0o1000 != 0 {
                state.must_own(&inode)?;
            }
            state.may(target, &inode, WRITE)?;
        }
    }
    Ok(inode)
}

/// Sets an extended attribute.
pub fn set(
    state: &mut State<'_, '_>,
    target: &Target,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
) -> Outcome<Answer> {
    let space = xattrs::space(name)?;
    let mut inode = changeable(state, target, space)?;
    if mode != XattrMode::Any {
        match (mode, state.xattr(inode.ino, name)?) {
            (XattrMode::Create, Some(_)) => return refuse(FsError::Exists),
            (XattrMode::Replace, None) => return refuse(FsError::NoSuchAttribute),
            _ => {}
        }
    }
    match space {
        XattrSpace::Acl => state.change_acl(&mut inode, name, Some(value))?,
        _ => state.put_xattr(inode.ino, name, value)?,
    }
    state.change_inode(&mut inode)?;
    state.tell_of(&inode, EventKind::Attributes)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

/// Removes an extended attribute.
pub fn remove(state: &mut State<'_, '_>, target: &Target, name: &[u8]) -> Outcome<Answer> {
    let mut inode = changeable(state, target, xattrs::space(name)?)?;
    if !state.drop_xattr(inode.ino, name)? {
        return refuse(FsError::NoSuchAttribute);
    }
    state.change_inode(&mut inode)?;
    state.tell_of(&inode, EventKind::Attributes)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
