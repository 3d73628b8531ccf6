//! What no path reaches is hung into `/lost+found`, which is made when it is first needed. Its name
//! there is `#` and its inode's number.

use cairn_types::limits::FILE_BYTES_MAX;
use cairn_types::{FileKind, FsError, Inode, InodeId, LogIndex};

use super::content::furthest;
use super::names::{absent, touch};
use super::{counts, record};
use crate::keys::contents::{self, ContentId, ContentRow, DetachedRow, Part};
use crate::keys::events::EventKind;
use crate::keys::extents;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans;
use crate::namespace::check::{At, at, inode, is_branch, ring_of};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::{Birth, State};
use crate::store::{Rows, Table};

/// The directory's name in the root.
const LOST_AND_FOUND: &[u8] = b"lost+found";

fn birth(kind: FileKind) -> Birth {
    // Nobody knows who may read it: its owner is the superuser.
    let mode = if kind == FileKind::Directory { 0o700 } else { 0o600 };
    Birth { kind, mode, uid: 0, gid: 0 }
}

/// The directory, made if it is missing.
fn lost_and_found(state: &mut State<'_, '_>) -> Outcome<InodeId> {
    let _ = record(inode(&*state.txn, InodeId::ROOT)?)?;
    match at::<NodeRow>(&*state.txn, &nodes::key(InodeId::ROOT, LOST_AND_FOUND))? {
        At::Nothing => {
            let made = state.new_inode(&birth(FileKind::Directory), None);
            state.hang(InodeId::ROOT, LOST_AND_FOUND, &made)?;
            Ok(made.ino)
        }
        At::Record(NodeRow::Inode(dir)) if dir.is_dir() && dir.mount.is_none() => {
            let _ = record(inode(&*state.txn, dir.ino)?)?;
            Ok(dir.ino)
        }
        At::Unreadable => refuse(FsError::Damaged),
        At::Record(_) => refuse(FsError::Exists),
    }
}

fn hang(state: &mut State<'_, '_>, found: &Inode) -> Outcome<()> {
    let dir = lost_and_found(state)?;
    let name = format!("#{}", found.ino.0).into_bytes();
    if state.txn.get(Table::Nodes, &nodes::key(dir, &name))?.is_some() {
        return refuse(FsError::Exists);
    }
    state.hang(dir, &name, found)
}

/// A new inode with a number that was in use.
fn reborn(state: &mut State<'_, '_>, ino: InodeId, kind: FileKind) -> Inode {
    let next = state.cluster.next.inode;
    let inode = Inode { ino, ..state.new_inode(&birth(kind), None) };
    state.cluster.next.inode = next;
    inode
}

/// Refuses unless nothing is left of the inode itself.
fn gone(state: &State<'_, '_>, ino: InodeId) -> Outcome<()> {
    absent(state, ino)?;
    let waits = state.txn.get(Table::Orphans, &orphans::key(ino))?.is_some();
    if waits || is_branch(&*state.txn, ino)? || ino.0 == 0 || ino == InodeId::ROOT {
        refuse(FsError::NotFound)
    } else {
        Ok(())
    }
}

/// A directory of which names are left. Nobody can name it, so that its names are those which the
/// check counted.
pub fn directory(state: &mut State<'_, '_>, ino: InodeId, subdirectories: u32) -> Outcome<()> {
    gone(state, ino)?;
    let first = state.txn.scan(Table::Nodes, &nodes::all(ino), 1)?;
    let Some((key, _)) = first.first() else { return refuse(FsError::NotFound) };
    if let NodeRow::Inode(Inode { mount: Some(mount), .. }) = record(at::<NodeRow>(&*state.txn, key)?)? {
        return refuse(FsError::ReadOnlyMount { mount });
    }
    let mut found = reborn(state, ino, FileKind::Directory);
    found.nlink = subdirectories.saturating_add(2);
    hang(state, &found)
}

/// A directory that lies within itself is taken out of the ring.
pub fn ring(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<()> {
    if ring_of(&*state.txn, ino)? != Some(ino) {
        return refuse(FsError::NotFound);
    }
    let (place, mut found) = record(inode(&*state.txn, ino)?)?;
    if let Some(mount) = found.mount {
        return refuse(FsError::ReadOnlyMount { mount });
    }
    state.delete(Table::Nodes, nodes::key(place.parent, &place.name));
    state.tell(place.parent, &place.name, &found, EventKind::Removed { last: false })?;
    if place.parent == ino {
        found.nlink = found.nlink.saturating_sub(1);
    }
    found.version += 1;
    found.ctime = state.now();
    hang(state, &found)?;
    // It was counted where it was.
    state.cluster.counts.inodes = state.cluster.counts.inodes.saturating_sub(1);
    if place.parent == ino { Ok(()) } else { touch(state, place.parent, -1) }
}

/// A file of which content is left: its size is the end of that.
pub fn file(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<()> {
    gone(state, ino)?;
    let cut = state.txn.get(Table::Contents, &contents::key(ino))?.is_some();
    let end = furthest(state, ino)?;
    if end == 0 && !cut {
        return refuse(FsError::NotFound);
    }
    let mut found = reborn(state, ino, FileKind::File);
    found.size = end;
    hang(state, &found)
}

/// A content that no file has becomes a file's. None ever gets one that was made before, so that
/// what the check saw holds until this is done.
pub fn content(state: &mut State<'_, '_>, seen: LogIndex, content: ContentId) -> Outcome<()> {
    if content.number().is_none() {
        return refuse(FsError::InvalidRequest);
    }
    counts::once(state, &content.to_string(), seen)?;
    let until = match at::<DetachedRow>(&*state.txn, &contents::detached_key(content))? {
        At::Nothing => FILE_BYTES_MAX,
        At::Unreadable => return refuse(FsError::Damaged),
        At::Record(row) => row.from,
    };
    // What is detached of it goes on being removed, and lies beyond the new file's end.
    let (first, here) = (extents::key(content, 0), extents::key(content, until));
    if until < FILE_BYTES_MAX || state.txn.last_before(Table::Extents, &first, &here)?.is_none() {
        return refuse(FsError::NotFound);
    }
    let mut found = state.new_inode(&birth(FileKind::File), None);
    let row = ContentRow { parts: vec![Part { from: 0, content }] };
    state.put(contents::key(found.ino), &row);
    found.size = furthest(state, found.ino)?;
    hang(state, &found)
}
