//! FollowMove, EndMove: what lies in a directory that was renamed follows it.

use cairn_types::{FsError, Inode, InodeId, MountId};

use crate::keys;
use crate::keys::moves;
use crate::keys::nodes::{self, NodeRow};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::Changed;
use crate::namespace::ops::import::end_import_of;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::Table;

/// Names of one step. Each costs its home, what is pending of it, and that by age.
const NAMES_AT_ONCE: usize = 512;

/// One step: files become pending, and directories follow as this one does. After the last name the directory's
/// own objects are looked for where it is now.
pub fn follow(state: &mut State<'_, '_>, mount: MountId, directory: InodeId) -> Outcome<Answer> {
    let Some(mut row) = state.pending(mount, directory)? else { return Ok(Answer::default()) };
    let Some(after) = row.walk.clone() else { return Ok(Answer::default()) };
    let Some((_, dir)) = walk::inode(&*state.txn, directory)? else {
        state.put_pending(mount, directory, None)?;
        return Ok(Answer::default());
    };
    state.must_be_read(&dir)?;
    let rows = keys::scan::<NodeRow>(&*state.txn, &nodes::after(directory, &after), NAMES_AT_ONCE)?;
    let full = rows.len() == NAMES_AT_ONCE;
    let last = rows.last().map(|(key, _)| nodes::name(key).to_vec());
    for (_, name) in rows {
        if let NodeRow::Inode(inode) = name {
            follow_one(state, mount, &inode)?;
        }
    }
    if full && last.is_some() {
        row.walk.clone_from(&last);
        state.put_pending(mount, directory, Some(&row))?;
        return Ok(Answer { resume_after: last, ..Answer::default() });
    }
    arrive(state, mount, &dir)?;
    Ok(Answer::default())
}

fn follow_one(state: &mut State<'_, '_>, mount: MountId, inode: &Inode) -> Outcome<()> {
    if inode.is_dir() {
        let mut row = state.begin_pending(mount, inode.ino)?;
        row.walk = Some(Vec::new());
        return Ok(state.put_pending(mount, inode.ino, Some(&row))?);
    }
    state.fix_home(inode)?;
    state.note_file(inode, Changed::Name)
}

/// All names of a directory know where their objects are: it is looked for new ones at its new prefix.
fn arrive(state: &mut State<'_, '_>, mount: MountId, dir: &Inode) -> Outcome<()> {
    let Some(mut row) = state.pending(mount, dir.ino)? else { return Ok(()) };
    let (wanted, import) = (state.wanted_key(dir)?, state.import_of(dir.ino)?);
    if let (Some(wanted), Some(mut import)) = (wanted, import)
        && import.prefix != wanted
    {
        // One that has a marker and needs it elsewhere keeps it until that is there.
        if !state.is_empty(dir.ino)? || state.home(dir)?.is_none() {
            state.forget_marker(mount, dir)?;
        }
        end_import_of(state, dir.ino)?;
        import.intent = None;
        import.prefix = wanted;
        state.put_import(dir.ino, Some(&import))?;
    }
    row.walk = None;
    row.marker |= state.is_empty(dir.ino)? && state.mount_at_root(dir)?.is_none();
    state.settle_pending(dir, row)
}

/// Forgets that a directory left a prefix, once no directory is being followed.
pub fn end(state: &mut State<'_, '_>, mount: MountId, prefix: &[u8]) -> Outcome<Answer> {
    if state.mount_counts(mount)?.walking > 0 {
        return refuse(FsError::KeyBusy);
    }
    state.delete(Table::Moves, moves::key(mount, prefix));
    Ok(Answer::default())
}
