//! `keys` ↔ files of mounts; `imports` ↔ directories of mounts; `mounts` ↔ their roots.

use cairn_types::{Inode, InodeId, MountId};

use super::look::{At, Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::extents;
use crate::keys::homes::{self, Home};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::mounts::{self, MountRecord};
use crate::keys::objects::{self, NOBODY, ObjectRow};
use crate::keys::{pending, surplus};
use crate::namespace::mounted::{SHADOWED, is_shadow_of};
use crate::store::{StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Mounts(Cursor::all(Table::Mounts))),
        Box::new(Keys(Cursor::all(Table::Keys))),
        Box::new(Imports(Cursor::all(Table::Imports))),
    ]
}

/// What an inode under a mount says of itself. After the mount's removal it is so until it is purged.
pub(super) fn named(
    look: &mut Look<'_>,
    parent: InodeId,
    name: &[u8],
    inode: &Inode,
    mount: MountId,
) -> Result<(), StoreFault> {
    let ino = inode.ino;
    if !look.has(Table::Mounts, &mounts::key(mount))? && !look.is_orphaned(ino)? {
        look.found(Finding::NoMount { ino, mount });
        return Ok(());
    }
    if inode.is_dir() {
        if !look.has(Table::Imports, &imports::key(ino))? {
            look.found(Finding::MissingImport { ino });
        }
        return Ok(());
    }
    let Some(import) = look.at::<ImportRecord>(&imports::key(parent))?.record() else { return Ok(()) };
    if is_noted(look, mount, inode)? || name.ends_with(SHADOWED) {
        return Ok(());
    }
    let object = [import.prefix.as_slice(), name].concat();
    let row = look.at::<ObjectRow>(&objects::key(mount, &object))?;
    // A row that names another file is found where the rows are looked at.
    let no_bytes = inode.size > 0 && !look.any(Table::Extents, &extents::starting_at(ino.into(), 0))?;
    if row.is_absent() || no_bytes {
        look.found(Finding::MissingKey { ino });
    }
    Ok(())
}

struct Mounts(Cursor);

impl Pass for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(record) = look.read::<MountRecord>(&key, &bytes) else { continue };
            let (mount, ino) = (record.mount, record.root);
            look.tally.id(Counter::Mounts, u64::from(mount.0));
            let root = look.inode(ino)?;
            if !root.holds_readable(|(_, root)| root.is_dir() && root.mount == Some(mount)) {
                look.found(Finding::NoMountRoot { mount, ino });
            }
        }
        Ok(ended)
    }
}

struct Keys(Cursor);

impl Pass for Keys {
    fn name(&self) -> &'static str {
        "objects of mounts"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some((number, object)) = key.split_at_checked(4) else {
                look.unreadable(Table::Keys, &key);
                continue;
            };
            let Some(row) = look.read::<ObjectRow>(&key, &bytes) else { continue };
            let mount = MountId(number.iter().fold(0, |n, byte| (n << 8) | u32::from(*byte)));
            look.tally.id(Counter::Mounts, u64::from(mount.0));
            if !stands_for(look, mount, object, &row)? {
                look.found(Finding::StrayKey { mount, key: object.to_vec(), ino: row.ino });
            }
        }
        Ok(ended)
    }
}

/// True for a file of which rows of its own say where its bytes are, and what of them is to be written.
fn is_noted(look: &Look<'_>, mount: MountId, inode: &Inode) -> Result<bool, StoreFault> {
    Ok(look.has(Table::Homes, &homes::key(inode.ino))?
        || look.has(Table::Pending, &pending::key(mount, inode.ino))?)
}

/// True when a file is the one that an object is said to be.
fn stands_for(look: &Look<'_>, mount: MountId, object: &[u8], row: &ObjectRow) -> Result<bool, StoreFault> {
    if row.ino == NOBODY {
        return look.has(Table::Surplus, &surplus::key(mount, object));
    }
    match look.at::<Home>(&homes::key(row.ino))? {
        At::Nothing => {}
        At::Unreadable => return Ok(true),
        At::Record(home) => return Ok(home.mount == mount && home.key == object),
    }
    let (place, inode) = match look.inode(row.ino)? {
        At::Nothing => return Ok(false),
        At::Unreadable => return Ok(true),
        At::Record(found) => found,
    };
    if inode.mount != Some(mount) || inode.is_dir() || inode.size != row.size {
        return Ok(false);
    }
    Ok(match look.at::<ImportRecord>(&imports::key(place.parent))? {
        At::Record(import) => {
            let key = [import.prefix, place.name].concat();
            key == object || is_shadow_of(&key, object)
        }
        // What is missing is found with the directory.
        _ => true,
    })
}

struct Imports(Cursor);

impl Pass for Imports {
    fn name(&self) -> &'static str {
        "directories of mounts"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(ino) = look.number(Table::Imports, &key, 0).map(InodeId) else { continue };
            let Some(record) = look.read::<ImportRecord>(&key, &bytes) else { continue };
            if !is_directory(look, ino, record.mount)? {
                look.found(Finding::StrayImport { ino });
            }
        }
        Ok(ended)
    }
}

/// True when an inode is a directory of a mount, or that cannot be told.
fn is_directory(look: &Look<'_>, ino: InodeId, mount: MountId) -> Result<bool, StoreFault> {
    let fits = |inode: Inode| inode.is_dir() && inode.mount == Some(mount);
    Ok(look.known(ino)?.holds_readable(fits))
}

/// Whether what was found of objects and imports is so still.
pub(super) fn is_so(look: &Look<'_>, finding: &Finding) -> Result<bool, StoreFault> {
    match finding {
        Finding::StrayKey { mount, key, .. } => {
            match look.at::<ObjectRow>(&objects::key(*mount, key))?.record() {
                Some(row) => Ok(!stands_for(look, *mount, key, &row)?),
                None => Ok(false),
            }
        }
        Finding::StrayImport { ino } => match look.at::<ImportRecord>(&imports::key(*ino))?.record() {
            Some(import) => Ok(!is_directory(look, *ino, import.mount)?),
            None => Ok(false),
        },
        _ => Ok(false),
    }
}
