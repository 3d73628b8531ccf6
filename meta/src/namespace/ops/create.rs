//! Create.

use cairn_types::{Extent, FsError, Inode, SessionId};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::Changed;
use crate::namespace::operation::Target;
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State, replaceable};
use crate::namespace::walk::{Dentry, End, LastLink};

/// What becomes of a file that exists already, and the content.
pub struct Content<'c> {
    /// Refuse an existing file.
    pub exclusive: bool,
    /// Replace an existing file's content.
    pub truncate: bool,
    /// The content.
    pub extents: &'c [Extent],
}

/// Makes a file, or opens the one that is there.
pub fn create(
    state: &mut State<'_, '_>,
    session: SessionId,
    target: &Target,
    birth: &Birth,
    content: &Content<'_>,
) -> Outcome<Answer> {
    let stop = target.no_follow || content.exclusive;
    let last = if stop { LastLink::Stop } else { LastLink::Follow };
    let inode = match state.walk(target, last)?.end {
        End::Dentry(Dentry { parent, .. }) if !parent.is_dir() => return refuse(FsError::NotDirectory),
        End::Dentry(Dentry { parent, name, found: None }) => {
            state.changing(&parent)?;
            state.must_be_read(&parent)?;
            state.check_key_name(&parent, &name, false)?;
            let mut inode = state.born_in(&parent, birth)?;
            state.hang(parent.ino, &name, &inode)?;
            if !content.extents.is_empty() {
                state.lay_committed(session, &mut inode, content.extents)?;
                let place = crate::keys::places::Place { parent: parent.ino, name };
                state.put_at(&place, &inode);
            }
            state.note_file(&inode, Changed::Content)?;
            inode
        }
        End::Dentry(Dentry { found: Some(found), .. }) => {
            reopen(state, session, target, found.inode, content)?
        }
        End::Inode(inode) => reopen(state, session, target, inode, content)?,
    };
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

fn reopen(
    state: &mut State<'_, '_>,
    session: SessionId,
    target: &Target,
    mut inode: Inode,
    content: &Content<'_>,
) -> Outcome<Inode> {
    if content.exclusive {
        return refuse(FsError::Exists);
    }
    replaceable(&inode)?;
    if !content.truncate {
        // Extents of a file that was not made would be dropped in silence.
        return if content.extents.is_empty() { Ok(inode) } else { refuse(FsError::Exists) };
    }
    state.changing(&inode)?;
    state.begin_keeping(&inode)?;
    state.may(target, &inode, WRITE)?;
    state.settled(&inode)?;
    state.resize(&mut inode, 0)?;
    state.lay_committed(session, &mut inode, content.extents)?;
    state.write_changed(&mut inode)?;
    Ok(inode)
}
