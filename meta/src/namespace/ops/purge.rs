//! Purge, PurgeContent: what an unlinked inode, or a cut, leaves behind goes in bounded steps.

use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{FeatureLevel, FileKind, FsError, Inode, InodeId};

use crate::keys::contents::{self, ContentId, DetachedRow};
use crate::keys::homes::{self, Home};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::{self, imports, objects, places};
use crate::namespace::jobs;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::ops::import::end_import_of;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::Table;

/// Names that one step removes at the most.
const STEP: usize = 256;
/// Rows after which a step removes no further name: the last one may cost as many more.
const ROWS_PER_STEP: usize = ROWS_PER_ENTRY_MAX / 4;
/// Directories within one another that a step goes down, at most. Trees of a mount are the deepest:
/// a key of 1,024 bytes has at most 512 of them.
const DEPTH_MAX: usize = 1024;

/// Removes some rows of an orphan; the orphan goes when none are left.
pub fn purge(state: &mut State<'_, '_>, ino: InodeId) -> Outcome<Answer> {
    let orphan = state.get::<Orphan>(&orphans::key(ino))?;
    let Some(orphan) = orphan.filter(|orphan| orphan.since.is_none()) else {
        return refuse(FsError::NotFound);
    };
    let done = match (orphan.inode.kind, orphan.inode.mount) {
        // Of a mount that is gone: first what is about its objects.
        (FileKind::Directory, Some(mount)) => state.clean_mount(mount)? && purge_directory(state, ino)?,
        (FileKind::Directory, None) => purge_directory(state, ino)?,
        _ => {
            state.load_keep(&orphan.inode)?;
            state.drop_rows(ino)?
        }
    };
    if done {
        state.delete(Table::Orphans, orphans::key(ino));
    }
    Ok(Answer::default())
}

/// Removes some extents that no file names any more.
pub fn purge_content(state: &mut State<'_, '_>, content: ContentId) -> Outcome<Answer> {
    let key = contents::detached_key(content);
    let Some(row) = state.get::<DetachedRow>(&key)? else { return refuse(FsError::NotFound) };
    if state.is_kept(content)? {
        // An intent needs them still.
        return Ok(Answer::default());
    }
    let limit = state.bounds.rows_at_once;
    if state.drop_extents(content, row.from, limit)? {
        state.delete(Table::Detached, key);
    }
    Ok(Answer::default())
}

/// Removes names below a directory that no path reaches, the deepest first.
fn purge_directory(state: &mut State<'_, '_>, top: InodeId) -> Outcome<bool> {
    let mut above = vec![top];
    let mut removed = 0;
    while let Some(dir) = above.last().copied() {
        if removed >= STEP || state.txn.rows_touched() > ROWS_PER_STEP {
            break;
        }
        let rows = keys::scan::<NodeRow>(&*state.txn, &nodes::all(dir), 1)?;
        let Some((key, row)) = rows.into_iter().next() else {
            above.pop();
            removed += 1;
            end_import_of(state, dir)?;
            forget_marker(state, dir)?;
            state.delete(Table::Imports, imports::key(dir));
            if dir != top {
                remove_name(state, dir)?;
            }
            continue;
        };
        match row {
            NodeRow::Inode(inode) if inode.is_dir() => {
                if above.len() >= DEPTH_MAX {
                    return refuse(FsError::TooLarge);
                }
                // To go down removes nothing and is not counted.
                above.push(inode.ino);
                continue;
            }
            NodeRow::Inode(inode) => purge_file(state, key, &inode)?,
            NodeRow::Link { .. } => state.delete(Table::Nodes, key),
        }
        removed += 1;
    }
    Ok(above.is_empty())
}

/// Removes the row of the object that is a directory's marker.
fn forget_marker(state: &mut State<'_, '_>, dir: InodeId) -> Outcome<()> {
    let home: Option<Home> = state.get(&homes::key(dir))?;
    if let Some(home) = home {
        state.delete(Table::Keys, objects::key(home.mount, &home.key));
        state.drop_home(dir);
    }
    Ok(())
}

/// Removes the name and place of an emptied directory.
fn remove_name(state: &mut State<'_, '_>, dir: InodeId) -> Outcome<()> {
    if let Some(place) = state.get::<places::Place>(&places::key(dir))? {
        state.delete(Table::Nodes, nodes::key(place.parent, &place.name));
        state.delete(Table::Places, places::key(dir));
        state.drop_xattrs(dir)?;
        state.cluster.counts.inodes = state.cluster.counts.inodes.saturating_sub(1);
    }
    Ok(())
}

fn purge_file(state: &mut State<'_, '_>, key: Vec<u8>, inode: &Inode) -> Outcome<()> {
    forget_object(state, inode)?;
    state.delete(Table::Nodes, key);
    state.drop_file(inode)
}

/// Removes the row of the object that a file of a mount stands for.
pub fn forget_object(state: &mut State<'_, '_>, inode: &Inode) -> Outcome<()> {
    let Some(mount) = inode.mount else { return Ok(()) };
    if jobs::level(&*state.txn)? >= FeatureLevel::SIXTH {
        if let Some(home) = state.home(inode)? {
            state.delete(Table::Keys, objects::key(mount, &home));
        }
        state.drop_home(inode.ino);
        return Ok(());
    }
    let Some((place, _)) = crate::namespace::walk::inode(&*state.txn, inode.ino)? else { return Ok(()) };
    if let Some(import) = state.get::<imports::ImportRecord>(&imports::key(place.parent))? {
        let object = [import.prefix, place.name].concat();
        state.delete(Table::Keys, objects::key(mount, &object));
    }
    Ok(())
}
