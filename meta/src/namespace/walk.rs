//! Path resolution, for reads and changes alike.

use std::collections::VecDeque;

use cairn_types::limits::{PATH_BYTES_MAX, SYMLINKS_MAX};
use cairn_types::{Credentials, FileKind, FsError, Inode, InodeId, Name, Policy};

use super::error::{Outcome, refuse};
use super::operation::Target;
use super::permissions;
use crate::keys::counters::{self, Trees};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places::{self, Place};
use crate::keys::trees::{self, RemovedTree};
use crate::keys::{self, RowFault};
use crate::store::{Rows, Table};

/// Directories above one another, at most, where the state machine has to climb.
const DEPTH_MAX: usize = 4096;

/// What a name was found to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The inode.
    pub inode: Inode,
    /// The name is the inode's primary link.
    pub primary: bool,
}

/// A name in a directory that exists; what it leads to may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// The directory.
    pub parent: Inode,
    /// The name.
    pub name: Vec<u8>,
    /// What it leads to.
    pub found: Option<Found>,
}

/// Where a path ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "short-lived, and nearly always a dentry")]
pub enum End {
    /// At a name.
    Dentry(Dentry),
    /// At an inode that no name of the path leads to: the path was empty, or ended in `..`.
    Inode(Inode),
}

/// A resolved path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where it ends.
    pub end: End,
    /// The policy of the deepest directory on the way that has its own; `None` when the way does
    /// not tell.
    pub policy: Option<Policy>,
}

impl Walk {
    /// The inode at the end.
    ///
    /// # Errors
    /// [`FsError::NotFound`] when nothing has that name.
    pub fn inode(self) -> Result<Inode, FsError> {
        match self.end {
            End::Inode(inode) => Ok(inode),
            End::Dentry(dentry) => dentry.found.map(|f| f.inode).ok_or(FsError::NotFound),
        }
    }
}

/// What to do with a symlink that is the last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Go where it points.
    Follow,
    /// Stop at it.
    Stop,
}

/// Where an inode's primary link is. The root's never moves.
///
/// # Errors
/// A fault when the store failed.
pub fn place(rows: &dyn Rows, ino: InodeId) -> Result<Option<Place>, RowFault> {
    if ino == InodeId::ROOT {
        return Ok(Some(Place::of_root()));
    }
    keys::get(rows, &places::key(ino))
}

/// The inode with that id and the place of its primary link; of an unlinked file that may be held,
/// the place that [`orphans::place`] says.
///
/// # Errors
/// A fault when the store failed or the two rows contradict each other.
pub fn inode(rows: &dyn Rows, ino: InodeId) -> Result<Option<(Place, Inode)>, RowFault> {
    let Some(place) = place(rows, ino)? else { return unlinked(rows, ino) };
    let inode = inode_at(rows, ino, &place)?;
    Ok(Some((place, inode)))
}

/// The inode whose primary link is known.
///
/// # Errors
/// A fault when the store failed or the two rows contradict each other.
pub fn inode_at(rows: &dyn Rows, ino: InodeId, place: &Place) -> Result<Inode, RowFault> {
    match keys::get::<NodeRow>(rows, &nodes::key(place.parent, &place.name))? {
        Some(NodeRow::Inode(inode)) if inode.ino == ino => Ok(inode),
        _ => Err(RowFault::Damaged { table: Table::Places, key: places::key(ino) }),
    }
}

/// An unlinked file that may be held.
fn unlinked(rows: &dyn Rows, ino: InodeId) -> Result<Option<(Place, Inode)>, RowFault> {
    Ok(match keys::get::<Orphan>(rows, &orphans::key(ino))? {
        Some(Orphan { inode, since: Some(since) }) => Some((orphans::place(since), inode)),
        _ => None,
    })
}

/// As [`inode`], where it is gone for a caller that named it by its id: so is what lies in a
/// removed tree.
///
/// # Errors
/// [`FsError::Stale`] when there is none; [`FsError::TooLarge`] above 4,096 levels, while a tree is
/// being removed.
pub fn inode_named(rows: &dyn Rows, ino: InodeId) -> Outcome<Inode> {
    let ino = if ino.0 == 0 { InodeId::ROOT } else { ino };
    match inode_by_number(rows, ino)? {
        Some(inode) => Ok(inode),
        None => refuse(FsError::Stale),
    }
}

/// As [`inode_named`], `None` where it is gone. A file of a removed tree that a session may have open
/// has lost its name for everybody, whenever the name's row goes.
///
/// # Errors
/// [`FsError::TooLarge`] above 4,096 levels, while a tree is being removed.
pub fn inode_by_number(rows: &dyn Rows, ino: InodeId) -> Outcome<Option<Inode>> {
    let Some((place, inode)) = inode(rows, ino)? else { return Ok(None) };
    let Some(top) = removed_above(rows, place.parent, &inode)? else { return Ok(Some(inode)) };
    let tree: Option<RemovedTree> = keys::get(rows, &trees::key(top))?;
    Ok(tree.filter(|tree| tree.may_have_open(&inode)).map(|_| Inode { nlink: 0, ..inode }))
}

/// The directory without a name that an inode of a removed tree lies under. A file with further names
/// counts as within reach: one of them may be outside, and those inside go one by one. So does one that
/// has lost its last name.
fn removed_above(rows: &dyn Rows, parent: InodeId, inode: &Inode) -> Outcome<Option<InodeId>> {
    if inode.ino == InodeId::ROOT || parent == orphans::NOWHERE || (!inode.is_dir() && inode.nlink > 1) {
        return Ok(None);
    }
    let trees: Option<Trees> = keys::get(rows, counters::TREES_KEY)?;
    if trees.is_none_or(|trees| trees.pending == 0) {
        return Ok(None);
    }
    let mut above = parent;
    for _ in 0..DEPTH_MAX {
        if above == InodeId::ROOT {
            return Ok(None);
        }
        match keys::get::<Place>(rows, &places::key(above))? {
            Some(place) => above = place.parent,
            None => return Ok(Some(above)),
        }
    }
    refuse(FsError::TooLarge)
}

/// What `name` in `parent` leads to.
///
/// # Errors
/// A fault when the store failed or a reference leads nowhere.
pub fn lookup(rows: &dyn Rows, parent: InodeId, name: &[u8]) -> Result<Option<Found>, RowFault> {
    let key = nodes::key(parent, name);
    match keys::get::<NodeRow>(rows, &key)? {
        None => Ok(None),
        Some(NodeRow::Inode(inode)) => Ok(Some(Found { inode, primary: true })),
        Some(NodeRow::Link { ino, .. }) => match inode(rows, ino)? {
            Some((_, inode)) => Ok(Some(Found { inode, primary: false })),
            None => Err(RowFault::Damaged { table: Table::Nodes, key }),
        },
    }
}

/// The directory above, the root above itself; `None` where the tree above was removed.
fn above(rows: &dyn Rows, dir: &Inode) -> Result<Option<Inode>, RowFault> {
    if dir.ino == InodeId::ROOT {
        return Ok(Some(dir.clone()));
    }
    let Some((place, _)) = inode(rows, dir.ino)? else { return Ok(None) };
    Ok(inode(rows, place.parent)?.map(|(_, inode)| inode))
}

/// The directory above, the root above itself.
fn parent_of(rows: &dyn Rows, dir: &Inode) -> Outcome<Inode> {
    above(rows, dir)?.map_or_else(|| refuse(FsError::Stale), Ok)
}

/// True when `ino` is `above` or lies under it.
///
/// # Errors
/// [`FsError::TooLarge`] above 4,096 levels; [`FsError::Stale`] when the tree above was removed.
pub fn is_under(rows: &dyn Rows, ino: InodeId, above: InodeId) -> Outcome<bool> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        if at == above {
            return Ok(true);
        }
        if at == InodeId::ROOT {
            return Ok(false);
        }
        match keys::get::<Place>(rows, &places::key(at))? {
            Some(place) => at = place.parent,
            None => return refuse(FsError::Stale),
        }
    }
    refuse(FsError::TooLarge)
}

/// The policy in force at an inode: its own, or that of the nearest directory above, also in a removed
/// tree whose files are kept. The root's for a file whose primary link lies in a removed tree, and that
/// has other names.
///
/// # Errors
/// As [`is_under`].
pub fn policy_at(rows: &dyn Rows, start: &Inode) -> Outcome<Policy> {
    Ok(policy_and_origin(rows, start)?.0)
}

/// As [`policy_at`], and the inode that it is set on.
///
/// # Errors
/// As [`is_under`].
pub fn policy_and_origin(rows: &dyn Rows, start: &Inode) -> Outcome<(Policy, InodeId)> {
    let mut at = start.clone();
    for _ in 0..DEPTH_MAX {
        if let Some(policy) = at.policy {
            return Ok((policy, at.ino));
        }
        if at.ino == InodeId::ROOT {
            return Ok((Policy::default(), at.ino));
        }
        at = match above(rows, &at)? {
            Some(above) => above,
            None if !start.is_dir() && start.nlink > 1 => inode_named(rows, InodeId::ROOT)?,
            None => return policy_of_removed(rows, &at),
        };
    }
    refuse(FsError::TooLarge)
}

/// The policy that was in force at the directory of a removed tree, under which an inode lies.
fn policy_of_removed(rows: &dyn Rows, below: &Inode) -> Outcome<(Policy, InodeId)> {
    let Some(place) = place(rows, below.ino)? else { return refuse(FsError::Stale) };
    let tree: Option<RemovedTree> = keys::get(rows, &trees::key(place.parent))?;
    match tree.filter(|tree| tree.open.is_some()).and_then(|tree| tree.inode.policy) {
        Some(policy) => Ok((policy, place.parent)),
        None => refuse(FsError::Stale),
    }
}

/// Resolves a target. `enter` is told each directory before a name is looked up in it; a `caller`
/// must be allowed to search it.
///
/// # Errors
/// [`FsError::PermissionDenied`] for a directory that the caller may not search;
/// [`FsError`] as POSIX path resolution has them; [`FsError::InvalidPath`] for `..` or NUL in the
/// target's own path; [`FsError::Stale`] when its inode is gone.
pub fn walk(
    rows: &dyn Rows,
    target: &Target,
    last: LastLink,
    caller: Option<&Credentials>,
    enter: &mut dyn FnMut(&Inode),
) -> Outcome<Walk> {
    let parts = own_components(&target.path)?;
    walk_on(rows, Stand::at(rows, target.ino)?, parts, last, caller, enter, &mut |_| {})
}

/// How far a walk has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    /// The inode there.
    pub inode: Inode,
    /// As [`Walk::policy`].
    pub policy: Option<Policy>,
    /// Symlinks that were followed.
    pub links: usize,
}

impl Stand {
    /// At the inode that a path goes from, as [`inode_named`].
    pub fn at(rows: &dyn Rows, ino: InodeId) -> Outcome<Self> {
        let inode = inode_named(rows, ino)?;
        Ok(Self { policy: inode.policy, inode, links: 0 })
    }
}

/// As [`walk`], from where one stands. `before_last` is told where the last of `parts` is looked up.
pub(super) fn walk_on(
    rows: &dyn Rows,
    from: Stand,
    parts: VecDeque<Vec<u8>>,
    last: LastLink,
    caller: Option<&Credentials>,
    enter: &mut dyn FnMut(&Inode),
    before_last: &mut dyn FnMut(&Stand),
) -> Outcome<Walk> {
    let mut at = from;
    let mut left = parts;
    let mut is_told = false;
    while let Some(part) = left.pop_front() {
        if !at.inode.is_dir() {
            return refuse(FsError::NotDirectory);
        }
        let is_last = left.is_empty();
        // What a symlink at the end leads to has a last component of its own.
        if is_last && !std::mem::replace(&mut is_told, true) {
            before_last(&at);
        }
        if let Some(caller) = caller {
            permissions::check(rows, caller, &at.inode, permissions::SEARCH)?;
        }
        if part == b".." {
            let inode = parent_of(rows, &at.inode)?;
            at = Stand { policy: inode.policy, inode, links: at.links };
            continue;
        }
        enter(&at.inode);
        let found = lookup(rows, at.inode.ino, &part)?;
        match found {
            Some(found)
                if found.inode.kind == FileKind::Symlink && (!is_last || last == LastLink::Follow) =>
            {
                at.links += 1;
                if at.links > SYMLINKS_MAX {
                    return refuse(FsError::TooManySymlinks);
                }
                let to = found.inode.target.unwrap_or_default();
                if to.first() == Some(&b'/') {
                    at = Stand { links: at.links, ..Stand::at(rows, InodeId::ROOT)? };
                }
                for part in link_components(&to)?.into_iter().rev() {
                    left.push_front(part);
                }
            }
            found if is_last => {
                let policy = found.as_ref().and_then(|f| f.inode.policy).or(at.policy);
                let end = End::Dentry(Dentry { parent: at.inode, name: part, found });
                return Ok(Walk { end, policy });
            }
            Some(found) => {
                let policy = found.inode.policy.or(at.policy);
                at = Stand { inode: found.inode, policy, links: at.links };
            }
            None => return refuse(FsError::NotFound),
        }
    }
    Ok(Walk { end: End::Inode(at.inode), policy: at.policy })
}

/// The components of a target's own path, `.` dropped, each a valid name.
pub(super) fn own_components(path: &[u8]) -> Result<VecDeque<Vec<u8>>, FsError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    let mut parts = VecDeque::new();
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        match Name::new(part) {
            Ok(name) => parts.push_back(name.into_bytes()),
            Err(FsError::InvalidName) => return Err(FsError::InvalidPath),
            Err(other) => return Err(other),
        }
    }
    Ok(parts)
}

/// The components of a symlink's target, where `..` has its meaning.
fn link_components(path: &[u8]) -> Result<Vec<Vec<u8>>, FsError> {
    let parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts
        .map(|part| match part {
            b".." => Ok(part.to_vec()),
            _ => Name::new(part).map(Name::into_bytes),
        })
        .collect()
}
