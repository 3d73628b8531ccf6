//! Rename: one entry, whatever is moved.

use cairn_types::{FsError, Inode};

use crate::keys::events::EventKind;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::places::{self, Place};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::Changed;
use crate::namespace::operation::Target;
use crate::namespace::permissions::WRITE;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk::{self, Dentry, Found};
use crate::store::Table;

/// Moves a name; with `exchange` swaps two.
pub fn rename(
    state: &mut State<'_, '_>,
    from: &Target,
    to: &Target,
    no_replace: bool,
    exchange: bool,
) -> Outcome<Answer> {
    if no_replace && exchange {
        return refuse(FsError::InvalidRequest);
    }
    let from = state.dentry(from, FsError::IsRoot)?;
    let to = state.dentry(to, FsError::IsRoot)?;
    let Some(moved) = from.found.clone() else { return refuse(FsError::NotFound) };
    check_mounts(state, &from, &to, &moved)?;
    match &to.found {
        None if exchange => return refuse(FsError::NotFound),
        Some(_) if no_replace => return refuse(FsError::Exists),
        Some(other) if other.inode.ino == moved.inode.ino => {
            return Ok(Answer { inode: Some(moved.inode), ..Answer::default() });
        }
        _ => {}
    }
    permitted(state, &from, &to, &moved, exchange)?;
    if moved.inode.is_dir() && walk::is_under(&*state.txn, to.parent.ino, moved.inode.ino)? {
        return refuse(FsError::IntoItself);
    }
    let inode = match (exchange, &to.found) {
        (true, Some(other)) => swap(state, &from, &to, moved, other.clone())?,
        (_, other) => {
            if let Some(other) = other {
                replace(state, &to, &moved, other)?;
            }
            shift(state, &from, &to, moved)?
        }
    };
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

fn check_mounts(state: &mut State<'_, '_>, from: &Dentry, to: &Dentry, moved: &Found) -> Outcome<()> {
    if from.parent.mount != to.parent.mount {
        return refuse(FsError::CrossMount);
    }
    state.changing(&from.parent)?;
    state.must_be_read(&to.parent)?;
    for inode in [Some(moved), to.found.as_ref()].into_iter().flatten().map(|f| &f.inode) {
        if state.mount_at_root(inode)?.is_some() {
            return refuse(FsError::IsMountRoot);
        }
    }
    state.check_key_name(&to.parent, &to.name, moved.inode.is_dir())
}

/// Both names are taken from where they are; the directory above is part of a directory, so one that
/// goes elsewhere is written to.
fn permitted(
    state: &State<'_, '_>,
    from: &Dentry,
    to: &Dentry,
    moved: &Found,
    exchange: bool,
) -> Outcome<()> {
    state.may_take(&from.parent, &moved.inode)?;
    match &to.found {
        Some(other) => state.may_take(&to.parent, &other.inode)?,
        None => state.may_make_in(&to.parent)?,
    }
    if from.parent.ino == to.parent.ino {
        return Ok(());
    }
    let swapped = to.found.as_ref().filter(|_| exchange);
    let moving = [Some(moved), swapped].into_iter().flatten().map(|found| &found.inode);
    for inode in moving.filter(|inode| inode.is_dir()) {
        state.may_by_name(inode, WRITE)?;
    }
    Ok(())
}

/// Takes out what the moved name replaces.
fn replace(state: &mut State<'_, '_>, to: &Dentry, moved: &Found, other: &Found) -> Outcome<()> {
    match (moved.inode.is_dir(), other.inode.is_dir()) {
        (true, false) => refuse(FsError::NotDirectory),
        (false, true) => refuse(FsError::IsDirectory),
        (false, false) => state.unlink(to.parent.ino, &to.name, other),
        (true, true) => {
            state.must_be_read(&other.inode)?;
            if !state.is_empty(other.inode.ino)? {
                return refuse(FsError::NotEmpty);
            }
            state.drop_directory(to.parent.ino, &to.name, &other.inode)
        }
    }
}

/// Moves a name to one that is free now. Answers the inode after.
fn shift(state: &mut State<'_, '_>, from: &Dentry, to: &Dentry, moved: Found) -> Outcome<Inode> {
    let subdirectories = i64::from(moved.inode.is_dir());
    let mut found = moved;
    let to_site = state.site(to.parent.ino, &to.name)?;
    before_move(state, &found.inode)?;
    state.move_name((from.parent.ino, &from.name), (to.parent.ino, &to.name), &found)?;
    state.change_inode(&mut found.inode)?;
    state.tell(from.parent.ino, &from.name, &found.inode, EventKind::Renamed { to: to_site })?;
    if from.parent.ino == to.parent.ino {
        state.touch_directory(from.parent.ino, 0)?;
    } else {
        state.touch_directory(from.parent.ino, -subdirectories)?;
        state.touch_directory(to.parent.ino, subdirectories)?;
    }
    after_move(state, &found.inode, from)?;
    Ok(found.inode)
}

/// Swaps two names. Answers the inode that was at `from`.
fn swap(
    state: &mut State<'_, '_>,
    from: &Dentry,
    to: &Dentry,
    mut moved: Found,
    mut other: Found,
) -> Outcome<Inode> {
    if other.inode.is_dir() && walk::is_under(&*state.txn, from.parent.ino, other.inode.ino)? {
        return refuse(FsError::IntoItself);
    }
    let (site, to_site) = (state.site(from.parent.ino, &from.name)?, state.site(to.parent.ino, &to.name)?);
    // Both names are taken out before either is written, so that neither overwrites the other.
    before_move(state, &moved.inode)?;
    before_move(state, &other.inode)?;
    take_out(state, from, &moved);
    take_out(state, to, &other);
    put_in(state, to, &moved);
    put_in(state, from, &other);
    state.change_inode(&mut moved.inode)?;
    state.change_inode(&mut other.inode)?;
    let (swapped, other_kind) = (&other.inode, other.inode.kind);
    let (other_ino, other_version) = (swapped.ino, swapped.version);
    let what = EventKind::Exchanged { to: to_site, other: other_ino, other_kind, other_version };
    state.tell_at(site, &moved.inode, what);
    if from.parent.ino == to.parent.ino {
        state.touch_directory(from.parent.ino, 0)?;
    } else {
        let shift = i64::from(moved.inode.is_dir()) - i64::from(other.inode.is_dir());
        state.touch_directory(from.parent.ino, -shift)?;
        state.touch_directory(to.parent.ino, shift)?;
    }
    after_move(state, &moved.inode, from)?;
    after_move(state, &other.inode, to)?;
    Ok(moved.inode)
}

/// Below a mount: notes where a file's bytes are, or what a directory leaves, while that can be told.
fn before_move(state: &mut State<'_, '_>, inode: &Inode) -> Outcome<()> {
    if inode.is_dir() { state.note_leaving(inode) } else { state.fix_home(inode) }
}

/// Below a mount: notes that a file is to follow its name, and that the directory it was in may be empty.
fn after_move(state: &mut State<'_, '_>, inode: &Inode, from: &Dentry) -> Outcome<()> {
    if inode.mount.is_none() {
        return Ok(());
    }
    state.note_file(inode, Changed::Name)?;
    state.note_taken_from(from.parent.ino)
}

fn take_out(state: &mut State<'_, '_>, at: &Dentry, found: &Found) {
    state.delete(Table::Nodes, nodes::key(at.parent.ino, &at.name));
    if !found.primary {
        let key = crate::keys::links::key(found.inode.ino, at.parent.ino, &at.name);
        state.delete(Table::Links, key);
    }
}

fn put_in(state: &mut State<'_, '_>, at: &Dentry, found: &Found) {
    if found.primary {
        let place = Place { parent: at.parent.ino, name: at.name.clone() };
        let key = nodes::key(at.parent.ino, &at.name);
        state.put(key, &NodeRow::Inode(found.inode.clone()));
        state.put(places::key(found.inode.ino), &place);
    } else {
        state.put_link((at.parent.ino, &at.name), &found.inode);
    }
}
