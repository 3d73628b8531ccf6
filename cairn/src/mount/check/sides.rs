//! [`Sides`]: what the bucket and the namespace have in one directory.

use std::collections::{BTreeMap, BTreeSet};

use cairn_sdk::types::{FsError, Inode};
use cairn_sdk::{Client, ListedObjects, ListingOptions, MountStatus, ObjectAt};

use crate::exit::CliError;

/// What is added to the name of an object whose name a directory has (docs/FORMAT.md).
const SHADOWED_SUFFIX: &[u8] = b".cairn-object";

/// A file of the namespace.
pub struct FileAt {
    pub inode: Inode,
    pub growing: bool,
}

/// One directory, as each side has it.
#[derive(Default)]
pub struct Sides {
    pub bucket: ListedObjects,
    /// Objects by the names that they have in the namespace, with what of their keys lies behind the prefix.
    pub objects: BTreeMap<Vec<u8>, ObjectAt>,
    pub files: BTreeMap<Vec<u8>, FileAt>,
    directories: BTreeSet<Vec<u8>>,
}

impl Sides {
    pub async fn load(client: &Client, mount: &MountStatus, below: &[u8]) -> Result<Self, CliError> {
        let bucket = super::bucket_side(client, mount, below).await?;
        let mut sides = Self::default();
        let mut listing = client.list(path(mount, below), ListingOptions::default());
        loop {
            let entry = match listing.next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // Of what the bucket alone has.
                Err(error) if absent(&error) => break,
                Err(error) => return Err(error.into()),
            };
            let name = entry.name.as_bytes().to_vec();
            if entry.inode.is_dir() {
                sides.directories.insert(name);
            } else {
                sides.files.insert(name, FileAt { inode: entry.inode, growing: entry.growing });
            }
        }
        sides.take(bucket);
        Ok(sides)
    }

    fn take(&mut self, mut bucket: ListedObjects) {
        let directories: BTreeSet<Vec<u8>> = bucket.directories.drain(..).collect();
        for object in bucket.objects.drain(..) {
            let mut name = object.name.clone();
            // A directory has its name, in the bucket or here.
            if directories.contains(&name) || self.directories.contains(&name) {
                name.extend_from_slice(SHADOWED_SUFFIX);
            }
            self.objects.insert(name, object);
        }
        self.directories.extend(directories);
        self.bucket = bucket;
    }

    /// Directories on either side.
    pub fn directories(self) -> Vec<Vec<u8>> {
        self.directories.into_iter().collect()
    }

    /// Names of files and objects on either side.
    pub fn names(&self) -> u64 {
        let only_there = self.objects.keys().filter(|name| !self.files.contains_key(*name)).count();
        (self.files.len() + only_there) as u64
    }
}

/// The path of what lies at `below` under a mount's root.
pub fn path(mount: &MountStatus, below: &[u8]) -> Vec<u8> {
    let below = below.strip_prefix(b"/").unwrap_or(below);
    if below.is_empty() { mount.path.clone() } else { [mount.path.as_slice(), b"/", below].concat() }
}

/// True when nothing, or no directory, is there.
pub fn absent(error: &cairn_sdk::Error) -> bool {
    matches!(error.fs(), Some(FsError::NotFound | FsError::NotDirectory))
}
