//! Names, places, links, link counts, orphans.

use cairn_types::{FsError, Inode, InodeId};

use super::record;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::places::{self, Place};
use crate::keys::{self, links, orphans};
use crate::namespace::check::{At, at, inode, is_orphaned};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{Rows, Table};

/// Names that are counted again, at most: of more, what the check counted holds as long as the
/// inode's version is the same, since every change of its names raises it.
const COUNTED_MAX: usize = 4096;

/// The inode at a name gets its place.
pub fn place(state: &mut State<'_, '_>, ino: InodeId, parent: InodeId, name: &[u8]) -> Outcome<()> {
    let row: NodeRow = record(at(&*state.txn, &nodes::key(parent, name))?)?;
    if !matches!(&row, NodeRow::Inode(inode) if inode.ino == ino) {
        return refuse(FsError::NotFound);
    }
    if let At::Record(_) = inode(&*state.txn, ino)? {
        // Here, or elsewhere: then it is at two names, and nobody knows which is right.
        return refuse(FsError::NotFound);
    }
    state.put(places::key(ino), &Place { parent, name: name.to_vec() });
    Ok(())
}

/// A place where the inode is not goes.
pub fn drop_place(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<()> {
    let _: Place = record(at(&*state.txn, &places::key(ino))?)?;
    absent(state, ino)?;
    state.delete(Table::Places, places::key(ino));
    Ok(())
}

/// Refuses unless the inode is gone.
pub fn absent(state: &State<'_, '_>, ino: InodeId) -> Outcome<()> {
    match inode(&*state.txn, ino)? {
        At::Nothing => Ok(()),
        At::Record(_) => refuse(FsError::NotFound),
        At::Unreadable => refuse(FsError::Damaged),
    }
}

/// A hard link to what is gone goes.
pub fn drop_name(state: &mut State<'_, '_>, ino: InodeId, parent: InodeId, name: &[u8]) -> Outcome<()> {
    link(state, ino, parent, name)?;
    absent(state, ino)?;
    state.delete(Table::Nodes, nodes::key(parent, name));
    state.delete(Table::Links, links::key(ino, parent, name));
    touch(state, parent, 0)
}

/// Refuses unless the name is a hard link to the inode.
fn link(state: &State<'_, '_>, ino: InodeId, parent: InodeId, name: &[u8]) -> Outcome<()> {
    let row: NodeRow = record(at(&*state.txn, &nodes::key(parent, name))?)?;
    let is_link = matches!(row, NodeRow::Link { ino: to, .. } if to == ino);
    if is_link { Ok(()) } else { refuse(FsError::NotFound) }
}

/// Notes that a directory's names changed, when it is there.
pub fn touch(state: &mut State<'_, '_>, dir: InodeId, subdirectories: i64) -> Outcome<()> {
    match inode(&*state.txn, dir)? {
        At::Record(_) => state.touch_directory(dir, subdirectories),
        _ => Ok(()),
    }
}

/// A hard link is listed.
pub fn list_link(state: &mut State<'_, '_>, ino: InodeId, parent: InodeId, name: &[u8]) -> Outcome<()> {
    link(state, ino, parent, name)?;
    let key = links::key(ino, parent, name);
    if state.txn.get(Table::Links, &key)?.is_some() {
        return refuse(FsError::NotFound);
    }
    state.mark(Table::Links, key);
    Ok(())
}

/// What is listed as a hard link and is none goes.
pub fn drop_link(state: &mut State<'_, '_>, ino: InodeId, parent: InodeId, name: &[u8]) -> Outcome<()> {
    let key = links::key(ino, parent, name);
    let listed = state.txn.get(Table::Links, &key)?.is_some();
    let row = at::<NodeRow>(&*state.txn, &nodes::key(parent, name))?;
    if !listed || row.holds_readable(|row| matches!(row, NodeRow::Link { ino: to, .. } if to == ino)) {
        return refuse(FsError::NotFound);
    }
    state.delete(Table::Links, key);
    Ok(())
}

/// A link count becomes what there is.
pub fn count_links(state: &mut State<'_, '_>, ino: InodeId, version: u64, counted: u32) -> Outcome<()> {
    let (place, mut found) = record(inode(&*state.txn, ino)?)?;
    if is_orphaned(&*state.txn, ino)? {
        return refuse(FsError::NotFound);
    }
    let count = match counted_again(state, &found)? {
        Some(count) => count,
        None if found.version == version => counted,
        None => return refuse(FsError::VersionMismatch { expected: version, actual: found.version }),
    };
    if count == found.nlink {
        return refuse(FsError::NotFound);
    }
    found.nlink = count;
    found.version += 1;
    found.ctime = state.now();
    state.put_at(&place, &found);
    Ok(())
}

/// The names of a file, or the directories in a directory; `None` when there are too many to look at.
fn counted_again(state: &State<'_, '_>, of: &Inode) -> Outcome<Option<u32>> {
    let mut count = if of.is_dir() { 2 } else { 1 };
    if of.is_dir() {
        let rows = state.txn.scan(Table::Nodes, &nodes::all(of.ino), COUNTED_MAX + 1)?;
        if rows.len() > COUNTED_MAX {
            return Ok(None);
        }
        for (key, bytes) in rows {
            let Ok(row) = <NodeRow as keys::Record>::from_bytes(&key, &bytes) else {
                return refuse(FsError::Damaged);
            };
            count += u32::from(matches!(row, NodeRow::Inode(inode) if inode.is_dir()));
        }
        return Ok(Some(count));
    }
    let rows = state.txn.scan(Table::Links, &links::of(of.ino), COUNTED_MAX + 1)?;
    if rows.len() > COUNTED_MAX {
        return Ok(None);
    }
    for (key, _) in rows {
        let Ok(Place { parent, name }) = links::place(&key) else { return refuse(FsError::Damaged) };
        let row = at::<NodeRow>(&*state.txn, &nodes::key(parent, &name))?;
        count +=
            u32::from(row.holds_readable(|row| matches!(row, NodeRow::Link { ino, .. } if ino == of.ino)));
    }
    Ok(Some(count))
}

/// What has a name does not wait for its removal.
pub fn drop_orphan(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<()> {
    let _ = record(inode(&*state.txn, ino)?)?;
    if state.txn.get(Table::Orphans, &orphans::key(ino))?.is_none() {
        return refuse(FsError::NotFound);
    }
    state.delete(Table::Orphans, orphans::key(ino));
    Ok(())
}
