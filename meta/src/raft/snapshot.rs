//! Snapshots on disk: `snapshot/<term>-<index>/`, a RocksDB checkpoint of the state with a file
//! `APPLIED` that says what it covers. Only one is kept; one that is still being sent stays until
//! it is sent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::impls::BasicNode;

use super::durable;
use super::record::{self, AppliedRecord};
use super::types::{Committed, SnapshotMeta};

/// The file that says what a snapshot covers.
pub const APPLIED_FILE: &str = "APPLIED";
const UNFINISHED: &str = ".unfinished";

/// A directory that goes when the last one who uses it has let go, once it is told so.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    doomed: AtomicBool,
}

impl Directory {
    /// A directory that stays.
    #[must_use]
    pub fn kept(path: PathBuf) -> Self {
        Self { path, doomed: AtomicBool::new(false) }
    }

    /// A directory that goes with this value, unless it is moved away before.
    #[must_use]
    pub fn doomed(path: PathBuf) -> Self {
        Self { path, doomed: AtomicBool::new(true) }
    }

    /// From now on it goes with this value.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire)
            && let Err(error) = durable::remove_dir(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a directory of no more use could not be removed");
        }
    }
}

/// What openraft passes around for a snapshot: the directory, complete and durable.
pub type SnapshotData = Arc<Directory>;

/// A snapshot and what it covers.
pub type Snapshot = openraft::storage::Snapshot<Committed, u64, BasicNode, SnapshotData>;

/// The snapshots of this server.
#[derive(Debug)]
pub struct Snapshots {
    root: PathBuf,
    // Guards that the newest snapshot and its directory on disk belong together.
    newest: Mutex<Option<(SnapshotMeta, SnapshotData)>>,
}

impl Snapshots {
    /// Finds the newest complete snapshot under `root` and removes everything else there.
    ///
    /// # Errors
    /// The kernel's. A snapshot that cannot be read is removed: another one is made.
    pub fn open(root: &Path) -> io::Result<Self> {
        durable::create_dir(root)?;
        let mut found: Vec<(SnapshotMeta, PathBuf)> = Vec::new();
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            match read_applied(&path) {
                Ok(meta) if path.extension().is_none() => found.push((meta, path)),
                Ok(_) | Err(_) => durable::remove_dir(&path)?,
            }
        }
        found.sort_by_key(|(meta, _)| meta.last_log_id);
        let newest = found.pop().map(|(meta, path)| (meta, Arc::new(Directory::kept(path))));
        for (_, path) in found {
            durable::remove_dir(&path)?;
        }
        Ok(Self { root: root.to_owned(), newest: Mutex::new(newest) })
    }

    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<Snapshot> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().map(|(meta, data)| Snapshot { meta: meta.clone(), snapshot: Arc::clone(data) })
    }

    /// Makes a snapshot that covers `meta`; `fill` makes the checkpoint in the path that it is
    /// given. Durable when this returns. The one before goes when nobody sends it any more.
    ///
    /// # Errors
    /// What `fill` says, or the kernel.
    pub fn create(
        &self,
        meta: SnapshotMeta,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Snapshot> {
        if let Some(same) = self.newest().filter(|s| s.meta.last_log_id == meta.last_log_id) {
            return Ok(same);
        }
        let name = meta
            .last_log_id
            .map_or_else(|| "empty".to_owned(), |id| format!("{:020}-{:020}", id.leader_id.term, id.index));
        let unfinished = self.root.join(format!("{name}{UNFINISHED}"));
        durable::remove_dir(&unfinished)?;
        fill(&unfinished)?;
        let applied = AppliedRecord::new(meta.last_log_id.as_ref(), &meta.last_membership);
        durable::replace_file(&unfinished.join(APPLIED_FILE), &record::encode(&applied))?;
        let path = self.root.join(name);
        durable::remove_dir(&path)?;
        fs::rename(&unfinished, &path)?;
        durable::sync_dir(&self.root)?;
        let data = Arc::new(Directory::kept(path));
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = newest.replace((meta.clone(), Arc::clone(&data))) {
            before.doom();
        }
        drop(newest);
        Ok(Snapshot { meta, snapshot: data })
    }
}

/// Bytes of the files in `dir`, not below; 0 when it cannot be read.
pub async fn bytes_in(dir: PathBuf) -> u64 {
    let summed = move || {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
    };
    tokio::task::spawn_blocking(summed).await.unwrap_or(0)
}

/// Reads what the snapshot in `dir` covers.
fn read_applied(dir: &Path) -> io::Result<SnapshotMeta> {
    let bytes = fs::read(dir.join(APPLIED_FILE))?;
    Ok(record::decode::<AppliedRecord>(&bytes)?.meta()?)
}
