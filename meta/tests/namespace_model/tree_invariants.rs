//! Removed trees that are not all gone: trees ↔ branches ↔ names.

use std::collections::BTreeSet;

use cairn_meta::keys::counters::{self, Trees};
use cairn_meta::keys::places::Place;
use cairn_meta::keys::trees::{self, Branch, RemovedTree};
use cairn_meta::keys::{self, nodes};
use cairn_meta::store::{Rows, Table};
use cairn_types::InodeId;

use super::{all, raw};

/// Directories of removed trees that are being emptied: no name leads to them.
pub fn branches(rows: &dyn Rows) -> BTreeSet<InodeId> {
    all::<Branch>(rows).into_iter().map(|(_, branch)| branch.directory).collect()
}

/// trees ↔ branches ↔ counter; what is gone from a branch is gone.
pub fn check(rows: &dyn Rows) {
    let removed: Vec<RemovedTree> = all(rows).into_iter().map(|(_, tree)| tree).collect();
    let stacks = removed.iter().flat_map(|t| (0..t.height).map(|nth| trees::branch_key(t.inode.ino, nth)));
    assert_eq!(raw(rows, Table::Branches), stacks.collect::<BTreeSet<_>>(), "branches");
    assert!(removed.iter().all(|t| t.height > 0 && t.inode.is_dir()), "a tree that is all gone: {removed:?}");
    let counter = keys::get::<Trees>(rows, counters::TREES_KEY).unwrap().unwrap_or_default();
    assert_eq!(counter.pending, removed.len() as u64, "pending trees");
    assert!(counter.purged >= removed.iter().map(|t| t.purged).sum::<u64>(), "purged names");
    let branches: Vec<Branch> = all(rows).into_iter().map(|(_, branch)| branch).collect();
    for tree in &removed {
        check_stack(rows, tree);
    }
    let mut directories: Vec<InodeId> = branches.iter().map(|b| b.directory).collect();
    directories.sort_unstable();
    directories.dedup();
    assert_eq!(directories.len(), branches.len(), "a directory is in two branches");
}

/// The directory of a tree has no name. The others of its stack have none either where its files are
/// kept for nobody; else they have the last of their names in the stack left to go, in a branch below.
fn check_stack(rows: &dyn Rows, tree: &RemovedTree) {
    let get = |nth| keys::get::<Branch>(rows, &trees::branch_key(tree.inode.ino, nth)).unwrap().unwrap();
    let stack: Vec<Branch> = (0..tree.height).map(get).collect();
    let mut named = BTreeSet::new();
    for (nth, branch) in stack.iter().enumerate() {
        let place: Option<Place> = keys::get(rows, &keys::places::key(branch.directory)).unwrap();
        if nth == 0 {
            assert_eq!(branch.directory, tree.inode.ino, "the first branch");
        }
        if nth == 0 || tree.open.is_none() {
            assert_eq!(place, None, "a branch has a name");
        } else {
            let place = place.expect("a branch has its name until it is empty");
            let below = stack[..nth].iter().find(|b| b.directory == place.parent).expect("below it");
            assert!(place.name <= below.after, "{branch:?} is not passed in {below:?}");
            named.insert(nodes::key(place.parent, &place.name));
        }
        assert_eq!(branch.policy.is_some(), tree.open.is_some(), "the policy of {branch:?}");
    }
    let mut passed = BTreeSet::new();
    for branch in &stack {
        let mut gone = nodes::all(branch.directory);
        gone.until = Some([nodes::key(branch.directory, &branch.after).as_slice(), &[0]].concat());
        passed.extend(rows.scan(Table::Nodes, &gone, usize::MAX).unwrap().into_iter().map(|(key, _)| key));
    }
    assert_eq!(passed, named, "earlier names of branches");
}
