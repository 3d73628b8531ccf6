//! [`LastDirectory`]: where the path before led to, for many paths through the same directories.

use std::cell::RefCell;
use std::collections::VecDeque;

use cairn_types::limits::PATH_BYTES_MAX;
use cairn_types::{Credentials, Inode, InodeId, Name};

use super::error::Outcome;
use super::operation::Target;
use super::walk::{self, LastLink, Stand, Walk};
use crate::store::{Rows, Table};

/// The directory in which the last component of a path was looked up, as long as no row changes that
/// the way there was read from, but for new names and the directory's own times.
pub struct LastDirectory(RefCell<Option<Known>>);

/// Such a directory.
pub struct Known {
    /// From where the path goes.
    from: InodeId,
    /// The path without its last component.
    path: Vec<u8>,
    /// Whose search it was.
    caller: Option<Credentials>,
    stand: Stand,
}

/// A path, and the name at its end; `None` when it ends in anything else, or is no path at all.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (above, name) = path.split_at_checked(name_at)?;
    let fits = path.len() <= PATH_BYTES_MAX && name != b"." && Name::new(name).is_ok();
    fits.then_some((above, name))
}

impl LastDirectory {
    /// What is known from before.
    pub fn new(known: Option<Known>) -> Self {
        Self(RefCell::new(known))
    }

    /// What is known by now.
    pub fn into_known(self) -> Option<Known> {
        self.0.into_inner()
    }

    /// True for a table that ways are read from.
    pub fn is_of(table: Table) -> bool {
        matches!(table, Table::Nodes | Table::Places | Table::Links | Table::Orphans | Table::Xattrs)
    }

    /// It may lead elsewhere now, or be another.
    pub fn forget(&mut self) {
        *self.0.get_mut() = None;
    }

    /// The directory, if this is its number.
    pub fn inode(&self, ino: InodeId) -> Option<Inode> {
        self.0
            .borrow()
            .as_ref()
            .filter(|known| known.stand.inode.ino == ino)
            .map(|known| known.stand.inode.clone())
    }

    /// Takes the directory's new times.
    pub fn touched(&mut self, inode: &Inode) {
        if let Some(known) = self.0.get_mut().as_mut().filter(|known| known.stand.inode.ino == inode.ino) {
            known.stand.inode = inode.clone();
        }
    }

    /// As [`walk::walk`].
    pub fn walk(
        &self,
        rows: &dyn Rows,
        target: &Target,
        last: LastLink,
        caller: Option<&Credentials>,
    ) -> Outcome<Walk> {
        let Some((above, name)) = split(&target.path) else {
            return walk::walk(rows, target, last, caller, &mut |_| {});
        };
        let is_it = |known: &&Known| {
            known.from == target.ino && known.path == above && known.caller.as_ref() == caller
        };
        let known = self.0.borrow().as_ref().filter(is_it).map(|known| known.stand.clone());
        if let Some(stand) = known {
            let name = VecDeque::from([name.to_vec()]);
            return walk::walk_on(rows, stand, name, last, caller, &mut |_| {}, &mut |_| {});
        }
        let parts = walk::own_components(&target.path)?;
        let stand = Stand::at(rows, target.ino)?;
        walk::walk_on(rows, stand, parts, last, caller, &mut |_| {}, &mut |stand| {
            let (from, path, caller) = (target.ino, above.to_vec(), caller.cloned());
            *self.0.borrow_mut() = Some(Known { from, path, caller, stand: stand.clone() });
        })
    }
}
