//! Mkdir.

use cairn_types::{FileKind, FsError, Inode};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};
use crate::namespace::walk::{self, Dentry, End, LastLink};

/// Makes a directory, or with `parents` all that are missing on the way.
pub fn mkdir(state: &mut State<'_, '_>, target: &Target, birth: &Birth, parents: bool) -> Outcome<Answer> {
    let inode = if parents { make_all(state, target, birth)? } else { make_one(state, target, birth)? };
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

fn make_one(state: &mut State<'_, '_>, target: &Target, birth: &Birth) -> Outcome<Inode> {
    let dentry = state.dentry(target, FsError::Exists)?;
    if dentry.found.is_some() {
        return refuse(FsError::Exists);
    }
    make_at(state, &dentry, birth)
}

/// Makes a directory at a name that is free.
pub fn make_at(state: &mut State<'_, '_>, dentry: &Dentry, birth: &Birth) -> Outcome<Inode> {
    state.changing(&dentry.parent)?;
    state.must_be_read(&dentry.parent)?;
    state.check_key_name(&dentry.parent, &dentry.name, true)?;
    let inode = state.born_in(&dentry.parent, birth)?;
    state.hang(dentry.parent.ino, &dentry.name, &inode)?;
    state.note_made(&inode)?;
    Ok(inode)
}

fn make_all(state: &mut State<'_, '_>, target: &Target, birth: &Birth) -> Outcome<Inode> {
    let mut at = state.inode(target.ino)?;
    let mut parts = walk::own_components(&target.path)?;
    while let Some(part) = parts.pop_front() {
        let step = Target::under(at.ino, part);
        let walked = state.walk(&step, LastLink::Stop)?.end;
        let found = match &walked {
            End::Dentry(dentry) => dentry.found.as_ref().map(|f| &f.inode),
            End::Inode(inode) => Some(inode),
        };
        at = match (found, &walked) {
            (Some(inode), _) if inode.kind == FileKind::Symlink => state.resolve(&step)?,
            (Some(inode), _) => inode.clone(),
            (None, End::Dentry(dentry)) => make_at(state, dentry, birth)?,
            (None, End::Inode(_)) => return refuse(FsError::NotFound),
        };
        state.check_rows()?;
        if !at.is_dir() {
            return refuse(if parts.is_empty() { FsError::Exists } else { FsError::NotDirectory });
        }
    }
    if at.is_dir() { Ok(at) } else { refuse(FsError::Exists) }
}
