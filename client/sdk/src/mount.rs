//! Mounts: a bucket and prefix at a path.

mod conflicts;
mod objects;
mod options;
mod sync;

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, ListMountsRequest, MountAdd, MountRemove, MountSet};
use cairn_types::{FsError, InodeId, MountId, Timestamp};

pub use conflicts::{ConflictId, MountConflict};
pub use objects::{FileObjects, ListedObjects, ObjectAt};
use options::ms;
pub use options::{ConflictRule, MountAccess, MountOptions, MountRules};
pub use sync::{MountSync, SyncOptions};

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::target::At;

/// How often a wait for the bucket looks whether it has come.
const LOOK: Duration = Duration::from_millis(250);

/// A mount.
#[derive(Clone, Debug, PartialEq)]
pub struct MountStatus {
    /// Its id.
    pub id: MountId,
    /// Its path.
    pub path: Vec<u8>,
    /// Its root directory.
    pub root: InodeId,
    /// Where its objects are, and how they are kept.
    pub options: MountOptions,
    /// True while nothing can be written under it.
    pub read_only: bool,
    /// Why nothing can be, though its rules say so; empty when they do not, or it can be.
    pub read_only_because: String,
    /// What its endpoint was found to do; `None` until it was tried.
    pub abilities: Option<v1::EndpointAbilities>,
    /// How it stands; only when it was asked for.
    pub figures: Option<MountFigures>,
}

/// How a mount stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountFigures {
    /// Objects that are known, as far as directories were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Directories that were never read from the bucket.
    pub unread_directories: u64,
    /// Files and directories whose objects are not as they are to be.
    pub pending: u64,
    /// Bytes of files that are to be written.
    pub pending_bytes: u64,
    /// Objects to be deleted.
    pub surplus: u64,
    /// Since when the oldest of the pending is.
    pub oldest_pending: Option<Timestamp>,
    /// Conflicts that nobody dismissed.
    pub conflicts: u64,
    /// When a directory was last read to its end.
    pub last_sync: Option<Timestamp>,
    /// What is being tried again, having failed.
    pub failing: u64,
    /// Why one of these failed.
    pub last_error: String,
}

impl MountFigures {
    /// True when the bucket holds what the namespace says, as far as is known.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending == 0 && self.surplus == 0
    }
}

impl From<v1::MountFigures> for MountFigures {
    fn from(figures: v1::MountFigures) -> Self {
        let time = |ns| Some(Timestamp(ns)).filter(|time| time.0 != 0);
        Self {
            objects: figures.objects,
            bytes: figures.bytes,
            directories: figures.directories,
            unread_directories: figures.unread_directories,
            pending: figures.pending,
            pending_bytes: figures.pending_bytes,
            surplus: figures.surplus,
            oldest_pending: time(figures.oldest_pending_ns),
            conflicts: figures.conflicts,
            last_sync: time(figures.last_sync_ns),
            failing: figures.failing,
            last_error: figures.last_error,
        }
    }
}

impl From<v1::Mount> for MountStatus {
    fn from(mount: v1::Mount) -> Self {
        Self {
            id: MountId(mount.mount),
            path: mount.path.to_vec(),
            root: InodeId(mount.root),
            options: MountOptions {
                bucket: mount.bucket,
                prefix: mount.prefix,
                endpoint: mount.endpoint,
                region: mount.region,
                force_path_style: mount.force_path_style,
                refresh: Duration::from_millis(mount.refresh_ms),
                access: mount.access.map(MountAccess::from).unwrap_or_default(),
                rules: mount.rules.map(MountRules::from).unwrap_or_default(),
            },
            read_only: mount.read_only,
            read_only_because: mount.read_only_because,
            abilities: mount.abilities,
            figures: mount.figures.map(MountFigures::from),
        }
    }
}

impl Client {
    /// Binds a path, made if it is missing, to a bucket and prefix. Its objects are files at
    /// once; each directory is listed in the bucket when it is first asked for. The mount is
    /// durable, on a majority of the metadata servers, when this returns. One that is to be writable is
    /// read-only until its endpoint was tried: [`mount_ready`](Self::mount_ready) waits for that.
    ///
    /// # Errors
    /// `NotEmpty` when the directory holds entries; `ReadOnlyMount` and `NotSupported` inside another mount;
    /// `MountOverlap` when another mount has some of the keys; `NotSupported` for more than a read-only mount
    /// of the data nodes' own credentials while a metadata server is of an older build.
    pub async fn mount_add(&self, at: impl Into<At>, options: MountOptions) -> Result<MountId> {
        let at = at.into();
        // What older servers know is said as they know it.
        let plain = options.access == MountAccess::default() && options.rules == MountRules::default();
        let add = MountAdd {
            target: Some(at.wire("mount", false)?),
            access: (!plain).then(|| (&options.access).into()),
            rules: (!plain).then(|| options.rules.wire()),
            bucket: options.bucket,
            prefix: options.prefix,
            endpoint: options.endpoint,
            region: options.region,
            refresh_ms: ms(options.refresh),
            force_path_style: options.force_path_style,
        };
        let reply = self
            .reach()
            .session
            .change("mount", &at.to_string(), &Operation::MountAdd(Box::new(add)))
            .await?;
        Ok(MountId(reply.mount.unwrap_or_default()))
    }

    /// Changes how a mount is kept; what it is bound to stays. Durable, on a majority of the metadata
    /// servers, when this returns. Its endpoint is tried anew where that is needed.
    ///
    /// # Errors
    /// `NoSuchMount`; `NotSupported` while a metadata server is of an older build.
    pub async fn mount_set(
        &self,
        at: impl Into<At>,
        refresh: Duration,
        access: &MountAccess,
        rules: MountRules,
    ) -> Result<()> {
        let at = at.into();
        let set = MountSet {
            target: Some(at.wire("change the mount", false)?),
            refresh_ms: ms(refresh),
            access: Some(access.into()),
            rules: Some(rules.wire()),
        };
        self.change("change the mount", &at, Operation::MountSet(Box::new(set))).await.map(|_| ())
    }

    /// Unbinds a mount's path. The bucket stays as it is. The removal is durable, on a majority of
    /// the metadata servers, when this returns.
    ///
    /// # Errors
    /// `NoSuchMount`; `MountPending` while the bucket lacks changes that were made below the mount:
    /// [`mount_settled`](Self::mount_settled) waits for them, [`mount_abandon`](Self::mount_abandon) gives
    /// them up.
    pub async fn mount_remove(&self, at: impl Into<At>) -> Result<()> {
        self.remove_mount(at.into(), false).await
    }

    /// As [`mount_remove`](Self::mount_remove), also while the bucket lacks changes: they are lost.
    ///
    /// # Errors
    /// `NoSuchMount`.
    pub async fn mount_abandon(&self, at: impl Into<At>) -> Result<()> {
        self.remove_mount(at.into(), true).await
    }

    async fn remove_mount(&self, at: At, abandon: bool) -> Result<()> {
        let remove = MountRemove { target: Some(at.wire("unmount", false)?), abandon };
        let operation = Operation::MountRemove(remove);
        self.reach().session.change("unmount", &at.to_string(), &operation).await.map(|_| ())
    }

    /// Every mount, without its figures.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn mounts(&self) -> Result<Vec<MountStatus>> {
        self.list_mounts(false).await
    }

    /// Every mount and how it stands.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn mounts_with_figures(&self) -> Result<Vec<MountStatus>> {
        self.list_mounts(true).await
    }

    async fn list_mounts(&self, figures: bool) -> Result<Vec<MountStatus>> {
        let request = ListMountsRequest { figures };
        let reply =
            self.reach()
                .leader
                .call("list mounts", "", request, |mut meta, request| async move {
                    meta.list_mounts(request).await
                })
                .await?;
        Ok(reply.mounts.into_iter().map(MountStatus::from).collect())
    }

    /// The mount whose root is at a path, and how it stands.
    ///
    /// # Errors
    /// `NoSuchMount` when there is none.
    pub async fn mount_status(&self, at: impl Into<At>) -> Result<MountStatus> {
        let at = at.into();
        let ours = |mount: &MountStatus| match &at {
            At::Path(path) => mount.path == *path,
            At::Inode(ino) => mount.root == *ino,
        };
        let all = self.mounts_with_figures().await?;
        let found = all.into_iter().find(ours);
        found.ok_or_else(|| Error::new("find the mount", &at, FsError::NoSuchMount))
    }

    /// Waits until a mount's endpoint was tried, as long as the retry budget lasts; answers how it stands.
    /// A mount that is not to be written to is not waited for.
    ///
    /// # Errors
    /// `NoSuchMount`; `Unavailable` when the time is up.
    pub async fn mount_ready(&self, at: impl Into<At>) -> Result<MountStatus> {
        let at = at.into();
        let until = tokio::time::Instant::now() + self.reach().options.retry_budget;
        loop {
            let mount = self.mount_status(&at).await?;
            let known =
                mount.abilities.is_some() && (!mount.read_only || !mount.read_only_because.is_empty());
            if known || !mount.options.rules.writable {
                return Ok(mount);
            }
            if tokio::time::Instant::now() >= until {
                let last = match &mount.figures {
                    Some(figures) if !figures.last_error.is_empty() => figures.last_error.clone(),
                    _ => "its endpoint was not tried yet".to_owned(),
                };
                let seconds = self.reach().options.retry_budget.as_secs();
                return Err(Error::new("wait for the mount", &at, Cause::RetriesUsedUp { seconds, last }));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the bucket holds what the namespace says below a mount, for as long as it takes: `told`
    /// gets its figures as it goes, and ends the wait by `false`. Answers whether it came to that.
    ///
    /// # Errors
    /// `NoSuchMount`; `Unavailable` when no leader answers.
    pub async fn mount_settled(
        &self,
        at: impl Into<At>,
        mut told: impl FnMut(&MountFigures) -> bool,
    ) -> Result<bool> {
        let at = at.into();
        loop {
            let figures = self.mount_status(&at).await?.figures.unwrap_or_default();
            let go_on = told(&figures);
            if figures.is_settled() {
                return Ok(true);
            }
            if !go_on {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
