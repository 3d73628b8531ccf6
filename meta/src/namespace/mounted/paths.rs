//! Where an inode of a mount ought to be in the bucket, and where it is.

use cairn_types::{ExtentSource, FsError, Inode, InodeId, MountId};

use crate::keys::extents::{self, ExtentRow};
use crate::keys::homes::{self, Home};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::mounts::MountRecord;
use crate::keys::places::{self, Place};
use crate::keys::{RowFault, contents};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;

/// Bytes of an object's key, at most.
pub const KEY_BYTES_MAX: usize = 1024;
/// The directory of a mount's root where objects are that make way for others. No listing shows it.
pub const TEMPORARY: &[u8] = b".cairn-temporary";
/// What an import adds to the name of an object whose name a directory has.
pub const SHADOWED: &[u8] = b".cairn-object";
/// Directories above one another, at most: a key has no more slashes.
const DEPTH_MAX: usize = 4096;

/// True when a name stands for the object `key` that a directory hides.
pub fn is_shadow_of(wanted: &[u8], key: &[u8]) -> bool {
    wanted.strip_suffix(SHADOWED) == Some(key)
}

impl State<'_, '_> {
    /// The key that an inode of a mount ought to have: of a directory, what those of its names begin with. `None`
    /// when it is not below the mount's root, since that was removed.
    pub fn path_key(&self, mount: &MountRecord, inode: &Inode) -> Result<Option<Vec<u8>>, RowFault> {
        let (mut names, mut at) = (Vec::new(), inode.ino);
        while at != mount.root {
            let place: Option<Place> = self.get(&places::key(at))?;
            let Some(place) = place.filter(|_| names.len() < DEPTH_MAX && at != InodeId::ROOT) else {
                return Ok(None);
            };
            at = place.parent;
            names.push(place.name);
        }
        let mut key = mount.source.prefix.clone().into_bytes();
        let slashes = names.len().saturating_sub(usize::from(!inode.is_dir()));
        for (n, name) in names.into_iter().rev().enumerate() {
            key.extend_from_slice(&name);
            if n < slashes {
                key.push(b'/');
            }
        }
        Ok(Some(key))
    }

    /// As [`State::path_key`], where a file that a directory hides stays what it is.
    pub fn wanted_key(&self, inode: &Inode) -> Result<Option<Vec<u8>>, RowFault> {
        let Some(mount) = inode.mount.map(|mount| self.mount(mount)).transpose()?.flatten() else {
            return Ok(None);
        };
        let Some(wanted) = self.path_key(&mount, inode)? else { return Ok(None) };
        if wanted.ends_with(SHADOWED)
            && let Some(home) = self.home(inode)?
            && is_shadow_of(&wanted, &home)
        {
            return Ok(Some(home));
        }
        Ok(Some(wanted))
    }

    /// The object that holds an inode's bytes, or is a directory's marker.
    pub fn home(&self, inode: &Inode) -> Result<Option<Vec<u8>>, RowFault> {
        let Some(mount) = inode.mount else { return Ok(None) };
        if let Some(home) = self.get::<Home>(&homes::key(inode.ino))? {
            return Ok(Some(home.key));
        }
        let mut likely = Vec::new();
        if inode.is_dir() {
            likely.extend(self.get::<ImportRecord>(&imports::key(inode.ino))?.map(|import| import.prefix));
        } else {
            likely.extend(self.first_object(inode.ino, mount)?);
            if let Some(place) = self.get::<Place>(&places::key(inode.ino))?
                && let Some(import) = self.get::<ImportRecord>(&imports::key(place.parent))?
            {
                let key = [import.prefix, place.name].concat();
                likely.extend(key.strip_suffix(SHADOWED).map(<[u8]>::to_vec));
                likely.push(key);
            }
        }
        for key in likely {
            if self.object(mount, &key)?.is_some_and(|row| row.ino == inode.ino) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The object that a file's first byte is in.
    fn first_object(&self, ino: InodeId, mount: MountId) -> Result<Option<Vec<u8>>, RowFault> {
        let spans = contents::of(&*self.txn, ino)?.spans(0, 1);
        let Some(span) = spans.first() else { return Ok(None) };
        let row: Option<ExtentRow> = self.get(&extents::key(span.content, 0))?;
        Ok(row.and_then(|row| match row.source {
            ExtentSource::Object { object, .. } if object.mount == mount => Some(object.key),
            _ => None,
        }))
    }

    /// Refuses a name in a directory of a mount that no key of its bucket can be, or that is the mount's own.
    pub fn check_key_name(&self, parent: &Inode, name: &[u8], directory: bool) -> Outcome<()> {
        let Some(mount) = parent.mount.map(|mount| self.mount(mount)).transpose()?.flatten() else {
            return Ok(());
        };
        if std::str::from_utf8(name).is_err() {
            return refuse(FsError::KeyNotText);
        }
        if name.ends_with(SHADOWED) || (name == TEMPORARY && parent.ino == mount.root) {
            return refuse(FsError::ReservedName);
        }
        let Some(above) = self.path_key(&mount, parent)? else { return refuse(FsError::Stale) };
        if above.len() + name.len() + usize::from(directory) > KEY_BYTES_MAX {
            return refuse(FsError::KeyTooLong);
        }
        Ok(())
    }

    /// Refuses what depends on all names of a directory, before they were read from the bucket.
    pub fn must_be_read(&self, directory: &Inode) -> Outcome<()> {
        if directory.mount.is_none() {
            return Ok(());
        }
        let import: Option<ImportRecord> = self.get(&imports::key(directory.ino))?;
        match import.filter(|import| import.imported_at.is_none()) {
            Some(import) => refuse(FsError::Importing { intent: import.intent.unwrap_or_default() }),
            None => Ok(()),
        }
    }
}
