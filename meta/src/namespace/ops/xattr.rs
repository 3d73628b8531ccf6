//! SetXattr, RemoveXattr.

use cairn_types::FsError;

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::{Target, XattrMode};
use crate::namespace::reply::Answer;
use crate::namespace::state::{State, writable};
use crate::namespace::xattrs;

/// Sets an extended attribute.
pub fn set(
    state: &mut State<'_, '_>,
    target: &Target,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
) -> Outcome<Answer> {
    let space = xattrs::space(name)?;
    let mut inode = state.resolve(target)?;
    writable(&inode)?;
    if !xattrs::fits(&inode, space) {
        return refuse(FsError::NotPermitted);
    }
    if mode != XattrMode::Any {
        match (mode, state.xattr(inode.ino, name)?) {
            (XattrMode::Create, Some(_)) => return refuse(FsError::Exists),
            (XattrMode::Replace, None) => return refuse(FsError::NoSuchAttribute),
            _ => {}
        }
    }
    state.put_xattr(inode.ino, name, value)?;
    state.change_inode(&mut inode)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

/// Removes an extended attribute.
pub fn remove(state: &mut State<'_, '_>, target: &Target, name: &[u8]) -> Outcome<Answer> {
    let space = xattrs::space(name)?;
    let mut inode = state.resolve(target)?;
    writable(&inode)?;
    if !xattrs::fits(&inode, space) {
        return refuse(FsError::NotPermitted);
    }
    if !state.drop_xattr(inode.ino, name)? {
        return refuse(FsError::NoSuchAttribute);
    }
    state.change_inode(&mut inode)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}
