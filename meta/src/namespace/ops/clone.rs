//! Clone: a file or a tree at a new name, sharing all bytes.

use std::collections::{BTreeMap, VecDeque};

use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{FileKind, FsError, Inode, InodeId};

use crate::keys;
use crate::keys::events::EventKind;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::places::Place;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::permissions::{READ, SEARCH, WRITE};
use crate::namespace::reply::Answer;
use crate::namespace::set_ids;
use crate::namespace::state::{Birth, State, regular, replaceable};
use crate::namespace::walk::{self, Dentry, End, LastLink};

/// What is made, and what may be in its way.
pub struct Manner {
    /// Owner and group of what is made.
    pub owner: (u32, u32),
    /// Replace an existing file's content.
    pub replace: bool,
    /// Directories with all below them.
    pub recursive: bool,
}

/// Clones a file, or a tree.
pub fn clone(state: &mut State<'_, '_>, from: &Target, to: &Target, manner: &Manner) -> Outcome<Answer> {
    let source = state.resolve(from)?;
    if !manner.recursive {
        regular(&source)?;
    }
    state.may(from, &source, read_of(&source))?;
    let follow = manner.replace && !to.no_follow;
    let last = if follow { LastLink::Follow } else { LastLink::Stop };
    let inode = match state.walk(to, last)?.end {
        End::Dentry(Dentry { parent, .. }) if !parent.is_dir() => return refuse(FsError::NotDirectory),
        End::Dentry(Dentry { parent, name, found: None }) => {
            if source.mount != parent.mount {
                return refuse(FsError::CrossMount);
            }
            state.unmounted(&parent)?;
            state.may_make_in(&parent)?;
            if source.is_dir() && walk::is_under(&*state.txn, parent.ino, source.ino)? {
                return refuse(FsError::IntoItself);
            }
            clone_at(state, &source, (parent.ino, name), manner.owner)?
        }
        End::Dentry(Dentry { found: Some(found), .. }) => replace(state, &source, found.inode, (to, manner))?,
        End::Inode(inode) => replace(state, &source, inode, (to, manner))?,
    };
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

/// Gives a file that is there the content of another.
fn replace(
    state: &mut State<'_, '_>,
    source: &Inode,
    mut inode: Inode,
    (to, manner): (&Target, &Manner),
) -> Outcome<Inode> {
    if !manner.replace || !source.is_file() {
        return refuse(FsError::Exists);
    }
    replaceable(&inode)?;
    if source.ino == inode.ino {
        return refuse(FsError::InvalidRequest);
    }
    if source.mount != inode.mount {
        return refuse(FsError::CrossMount);
    }
    state.unmounted(&inode)?;
    state.may(to, &inode, WRITE)?;
    state.settled(source)?;
    state.settled(&inode)?;
    state.resize(&mut inode, 0)?;
    state.share_all(source, &mut inode)?;
    state.write_changed(&mut inode)?;
    Ok(inode)
}

/// What it takes to read an inode.
fn read_of(inode: &Inode) -> u32 {
    match inode.kind {
        FileKind::Directory => READ | SEARCH,
        FileKind::File => READ,
        _ => 0,
    }
}

/// Clones to a name that is free, directories level by level.
fn clone_at(
    state: &mut State<'_, '_>,
    source: &Inode,
    (parent, name): (InodeId, Vec<u8>),
    owner: (u32, u32),
) -> Outcome<Inode> {
    let top = make(state, source, Place { parent, name }, owner)?;
    let mut waiting = VecDeque::new();
    if source.is_dir() {
        waiting.push_back((source.ino, top.ino));
    }
    // Files with several names below have as many in the clone.
    let mut linked: BTreeMap<InodeId, InodeId> = BTreeMap::new();
    while let Some((from, to)) = waiting.pop_front() {
        let rows = keys::scan::<NodeRow>(&*state.txn, &nodes::all(from), ROWS_PER_ENTRY_MAX)?;
        if rows.len() == ROWS_PER_ENTRY_MAX {
            return refuse(FsError::TooLarge);
        }
        for (key, row) in rows {
            let inode = match row {
                NodeRow::Inode(inode) => inode,
                NodeRow::Link { ino, .. } => state.inode(ino)?,
            };
            if inode.mount.is_some() {
                return refuse(FsError::CrossMount);
            }
            state.may_by_name(&inode, read_of(&inode))?;
            let place = Place { parent: to, name: nodes::name(&key).to_vec() };
            if let Some(made) = linked.get(&inode.ino) {
                link(state, *made, &place)?;
                continue;
            }
            let made = make(state, &inode, place, owner)?;
            if inode.is_dir() {
                waiting.push_back((inode.ino, made.ino));
            } else if inode.nlink > 1 {
                linked.insert(inode.ino, made.ino);
            }
        }
    }
    // Its names changed since it was made.
    state.inode(top.ino)
}

/// Makes one inode like `source`: a file with its content, an empty directory, or what has no content.
/// A caller who may not do everything owns it, and makes no device. What gets another owner runs as
/// nobody else than who runs it.
fn make(state: &mut State<'_, '_>, source: &Inode, place: Place, owner: (u32, u32)) -> Outcome<Inode> {
    state.settled(source)?;
    let mut birth = Birth { kind: source.kind, mode: source.mode, uid: owner.0, gid: owner.1 };
    if source.kind.device().is_some() {
        state.must_administer()?;
    }
    if let Some(who) = state.limited() {
        (birth.uid, birth.gid) = (who.uid, who.gid);
    }
    // As a change of owner: what ran as one user does not run as another with the same bytes.
    let changed_owner = (birth.uid, birth.gid) != (source.uid, source.gid);
    if !source.is_dir() && (changed_owner || state.limited().is_some()) {
        birth.mode = set_ids::taken(birth.mode);
    }
    let mut inode = state.new_inode(&birth, None);
    // A file has one of its own once it is unlinked.
    inode.policy = source.policy.filter(|_| source.is_dir());
    inode.target.clone_from(&source.target);
    inode.size = source.size;
    state.hang(place.parent, &place.name, &inode)?;
    if source.is_file() {
        state.share_all(source, &mut inode)?;
        state.put_at(&place, &inode);
    }
    state.clone_xattrs(source.ino, inode.ino, changed_owner)?;
    state.check_rows()?;
    Ok(inode)
}

/// Gives a file of the clone one more name.
fn link(state: &mut State<'_, '_>, ino: InodeId, place: &Place) -> Outcome<()> {
    let mut inode = state.inode(ino)?;
    inode.nlink += 1;
    state.change_inode(&mut inode)?;
    state.put_link((place.parent, &place.name), &inode);
    state.tell(place.parent, &place.name, &inode, EventKind::Created)?;
    state.touch_directory(place.parent, 0)?;
    Ok(state.check_rows()?)
}
