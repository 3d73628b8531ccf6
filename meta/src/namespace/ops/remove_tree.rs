//! RemoveTree, PurgeTree: a directory goes with all below it. One entry takes it out of everybody's
//! reach; its names go in bounded steps, the first of them in that entry. Its files stay, without a
//! name, for sessions that may have them open.

use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{FeatureLevel, FsError, Inode, InodeId, Policy};

use crate::keys::counters::{self, Trees};
use crate::keys::events::EventKind;
use crate::keys::mounts::MountRecord;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::places::{self, Place};
use crate::keys::trees::{self, Branch, MayBeOpen, RemovedTree};
use crate::keys::{self, RowFault};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::jobs;
use crate::namespace::operation::Target;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk::{self, Found};
use crate::store::{KeyRange, Table};

/// Rows from which on a step takes no further name: the most costly one, a file of as many extents
/// as an entry removes, touches fewer than what is left.
const ROWS_PER_STEP: usize = ROWS_PER_ENTRY_MAX / 4;

/// Removes a directory with all below it.
pub fn remove_tree(state: &mut State<'_, '_>, target: &Target) -> Outcome<Answer> {
    let dentry = state.dentry(target, FsError::IsRoot)?;
    let Some(Found { inode, .. }) = dentry.found else { return refuse(FsError::NotFound) };
    state.unmounted(&dentry.parent)?;
    if !inode.is_dir() {
        return refuse(FsError::NotDirectory);
    }
    // What lies below has permissions of its own, which nobody looks at in one step.
    state.must_administer()?;
    if holds_a_mount(state, inode.ino)? {
        return refuse(FsError::IsMountRoot);
    }
    let open = may_be_open(state)?;
    let policy = match open {
        Some(_) => Some(state.policy_now(&inode)?),
        None => None,
    };
    let place = Place { parent: dentry.parent.ino, name: dentry.name };
    take_out(state, &place, inode.ino)?;
    state.tell(place.parent, &place.name, &inode, EventKind::Removed { last: true })?;
    state.touch_directory(place.parent, -1)?;
    let removed = state.now();
    let kept = Inode { policy: policy.or(inode.policy), ..inode.clone() };
    let mut tree = RemovedTree { inode: kept, place, removed, purged: 0, height: 0, open };
    push(state, &mut tree, inode.ino, policy);
    let mut trees: Trees = state.get(counters::TREES_KEY)?.unwrap_or_default();
    trees.pending += 1;
    step(state, tree, trees)?;
    Ok(Answer { inode: Some(inode), ..Answer::default() })
}

/// Removes some names of a removed tree; its row goes with the last.
pub fn purge(state: &mut State<'_, '_>, top: InodeId) -> Outcome<Answer> {
    let Some(tree) = state.get::<RemovedTree>(&trees::key(top))? else { return refuse(FsError::NotFound) };
    let trees: Trees = state.get(counters::TREES_KEY)?.unwrap_or_default();
    step(state, tree, trees)?;
    Ok(Answer::default())
}

/// True when the directory is a mount's root, or has one below it.
fn holds_a_mount(state: &State<'_, '_>, directory: InodeId) -> Outcome<bool> {
    for (_, mount) in keys::scan::<MountRecord>(&*state.txn, &KeyRange::default(), usize::MAX)? {
        if walk::is_under(&*state.txn, mount.root, directory)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes a directory's name away; what lies below stays.
fn take_out(state: &mut State<'_, '_>, place: &Place, directory: InodeId) -> Result<(), RowFault> {
    state.delete(Table::Nodes, nodes::key(place.parent, &place.name));
    state.delete(Table::Places, places::key(directory));
    state.drop_xattrs(directory)?;
    state.cluster.counts.inodes = state.cluster.counts.inodes.saturating_sub(1);
    Ok(())
}

/// Puts a directory on the stack of those that are to be emptied.
fn push(state: &mut State<'_, '_>, tree: &mut RemovedTree, directory: InodeId, policy: Option<Policy>) {
    let key = trees::branch_key(tree.inode.ino, tree.height);
    state.put(key, &Branch { directory, after: Vec::new(), policy });
    tree.height += 1;
}

/// Which files of a tree that is removed now sessions may have open: nobody opens another one of it
/// later. `None` below the third feature level: they are kept for nobody.
fn may_be_open(state: &State<'_, '_>) -> Result<Option<MayBeOpen>, RowFault> {
    if jobs::level(&*state.txn)? < FeatureLevel::THIRD {
        return Ok(None);
    }
    Ok(Some(match state.all_held()? {
        Some(inos) => MayBeOpen::These(inos.to_vec()),
        None => MayBeOpen::Any,
    }))
}

/// Takes names away, as many as one entry may, those of the directory on the top of the stack first.
fn step(state: &mut State<'_, '_>, mut tree: RemovedTree, mut trees: Trees) -> Outcome<()> {
    let top = tree.inode.ino;
    let mut left = state.bounds.rows_at_once.max(1);
    while tree.height > 0 && left > 0 && state.txn.rows_touched() < ROWS_PER_STEP {
        let key = trees::branch_key(top, tree.height - 1);
        let Some(mut branch) = state.get::<Branch>(&key)? else {
            return Err(RowFault::Damaged { table: Table::Branches, key }.into());
        };
        let names = nodes::after(branch.directory, &branch.after);
        let rows = keys::scan::<NodeRow>(&*state.txn, &names, left)?;
        if rows.is_empty() {
            pop(state, &mut tree, key, branch.directory)?;
            left -= 1;
            continue;
        }
        for (row_key, row) in rows {
            if state.txn.rows_touched() >= ROWS_PER_STEP {
                break;
            }
            let name = nodes::name(&row_key);
            take_name(state, &mut tree, &branch, name, row)?;
            branch.after = name.to_vec();
            left -= 1;
            tree.purged += 1;
            trees.purged += 1;
        }
        state.put(key, &branch);
    }
    if tree.height == 0 {
        state.delete(Table::Trees, trees::key(top));
        trees.pending = trees.pending.saturating_sub(1);
    } else {
        state.put(trees::key(top), &tree);
    }
    state.put(counters::TREES_KEY.to_vec(), &trees);
    Ok(())
}

/// Takes a directory that has been emptied from the stack. In a tree whose files are kept it had its
/// name until now: by that the policy of what lay in it was found.
fn pop(
    state: &mut State<'_, '_>,
    tree: &mut RemovedTree,
    key: Vec<u8>,
    directory: InodeId,
) -> Result<(), RowFault> {
    state.delete(Table::Branches, key);
    tree.height -= 1;
    if let Some(place) = state.get::<Place>(&places::key(directory))? {
        take_out(state, &place, directory)?;
    }
    Ok(())
}

/// Takes one name away. A file goes with its last name, unless a session may hold it; one that has
/// others keeps them.
fn take_name(
    state: &mut State<'_, '_>,
    tree: &mut RemovedTree,
    branch: &Branch,
    name: &[u8],
    row: NodeRow,
) -> Outcome<()> {
    let parent = branch.directory;
    let found = match row {
        NodeRow::Inode(inode) if inode.is_dir() => {
            if tree.open.is_none() {
                take_out(state, &Place { parent, name: name.to_vec() }, inode.ino)?;
            }
            push(state, tree, inode.ino, branch.policy.map(|above| inode.policy.unwrap_or(above)));
            return Ok(());
        }
        NodeRow::Inode(inode) if inode.nlink <= 1 => Found { inode, primary: true },
        // A name that went a moment ago, in this step, may have changed what the others lead to.
        _ => match walk::lookup(&*state.txn, parent, name)? {
            Some(found) => found,
            None => {
                let key = nodes::key(parent, name);
                return Err(RowFault::Damaged { table: Table::Nodes, key }.into());
            }
        },
    };
    let inode = &found.inode;
    if inode.nlink <= 1 && tree.may_have_open(inode) && state.may_be_held(inode)? {
        let policy = inode.policy.or(branch.policy).unwrap_or_default();
        state.keep_with_policy(parent, name, inode, policy);
        return Ok(());
    }
    state.take_file(parent, name, &found)
}
