//! [`File`]: a handle for reading and writing at any offset.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_types::limits::FILE_BYTES_MAX;
use cairn_types::{FsError, Inode, InodeId};

use crate::answer::regular;
use crate::attributes::AttrChange;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::growth::PolicyAt;
use crate::lock::Locks;
use crate::open_files::OpenFile;
use crate::put::ExtentWriter;
use crate::read::View;
use crate::target::At;

/// Looks at a file that is always unlinked when it is looked at, at most.
pub(crate) const OPEN_TRIES_MAX: usize = 8;

/// An open file.
///
/// It stays when others unlink it, or remove the tree that it is in, for as long as this handle is
/// there and the session lives: reads, writes and locks go on by it. The bytes go with the last handle
/// of all clients.
///
/// Reads go by the extents known at `open`, `fsync` or [`File::refresh`]; bytes written to the
/// handle are seen, by it and by others, after `fsync` or `close`. Dropping a handle with
/// unsynced bytes discards them and says so in the log. A handle that may have lost bytes that it
/// took, by a failure or because a call on it was cancelled, stays failed: each later write,
/// `fsync` and `close` says why ([`Cause::Poisoned`](crate::Cause::Poisoned)).
pub struct File {
    client: Client,
    subject: String,
    locks: Locks,
    view: View,
    // Loaded by a read that the view did not lead to its bytes any more. Guards the pointer; never held
    // across an await.
    newer: Mutex<Option<Arc<View>>>,
    writer: ExtentWriter,
    position: u64,
    /// Something is committed that was not loaded, or synced to S3, since.
    unsettled: bool,
    /// Says that the file is open, and when the handle goes that it is not.
    _open: OpenFile,
}

impl File {
    pub(crate) async fn open(client: Client, at: At) -> Result<Self> {
        let subject = at.to_string();
        for _ in 0..OPEN_TRIES_MAX {
            let opening = client.opening().await?;
            let view = View::load(&client, &at.wire("open", false)?, &subject).await?;
            regular("open", &subject, &view.inode)?;
            if let Some(open) = opening.found(&view.inode, view.seen_at) {
                return Ok(Self::of(client.clone(), subject, view, open));
            }
        }
        // It was unlinked each time that it was looked at.
        Err(Error::new("open", &subject, FsError::Stale))
    }

    /// Makes a file and opens it, or opens and perhaps empties the one there is.
    pub(crate) async fn made(
        client: Client,
        at: At,
        mode: u32,
        (exclusive, truncate): (bool, bool),
    ) -> Result<Self> {
        let (inode, open) = client.make_open("create", &at, mode, (exclusive, truncate)).await?;
        let at = At::Inode(inode.ino);
        let subject = at.to_string();
        let view = View::load(&client, &at.wire("open", false)?, &subject).await?;
        regular("open", &subject, &view.inode)?;
        Ok(Self::of(client, subject, view, open))
    }

    fn of(client: Client, subject: String, view: View, open: OpenFile) -> Self {
        let at = PolicyAt { policy: view.policy, ino: view.inode.ino };
        let writer = ExtentWriter::new(at, subject.clone());
        let owner = client.reach().session.new_lock_owner();
        let locks = client.locks_of(view.inode.ino, owner, subject.clone());
        let newer = Mutex::new(None);
        Self { client, subject, locks, view, newer, writer, position: 0, unsettled: false, _open: open }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The file's inode id.
    #[must_use]
    pub fn ino(&self) -> InodeId {
        self.view.inode.ino
    }

    /// The locks of this handle: an owner of its own.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The attributes as last loaded.
    #[must_use]
    pub fn inode(&self) -> &Inode {
        &self.view.inode
    }

    /// The length as last loaded; for a growing file with all bytes acknowledged then.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.view.length()
    }

    /// Loads the extents and the length anew. Linearizable.
    ///
    /// # Errors
    /// `Stale` or `NotFound` when the file is gone.
    pub async fn refresh(&mut self) -> Result<u64> {
        let target = At::Inode(self.ino()).wire("refresh", true)?;
        self.view = View::load(&self.client, &target, &self.subject).await?;
        *self.newer.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        self.writer.set_policy(self.view.policy);
        Ok(self.length())
    }

    /// Reads up to `length` bytes from `offset`; fewer only at the end, none beyond it. Every
    /// byte is checked against the checksum made when it was written.
    ///
    /// Bytes that are not where the handle knows them any more, since the cluster merged small extents, or
    /// brought a mounted file to another key of its bucket, are looked up and read where they are now. An object
    /// that somebody else changed is an error (`ObjectChanged`): its versions are never mixed. Elsewhere, where
    /// others wrote over them, or cut the file, and what was there is collected, that is what is read.
    ///
    /// # Errors
    /// `Corrupt` when no copy passes its checksum, `Unavailable` when none can be reached.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let length = (length as u64).min(self.length().saturating_sub(offset));
        let newer = self.newer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = newer.as_deref().unwrap_or(&self.view);
        let error = match known.read(&self.client, offset, length).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let target = At::Inode(self.ino()).wire("read", true)?;
        let Ok(now) = View::load(&self.client, &target, &self.subject).await else { return Err(error) };
        if !now.differs_from(known, offset, length) {
            return Err(error);
        }
        // Two versions of an object are never mixed: who reads is to be told.
        if self.inode().mount.is_some() && !now.holds_what(known) {
            return Err(error);
        }
        tracing::debug!(subject = self.subject, %error, "the bytes are not where they were: they are looked up");
        let bytes = now.read(&self.client, offset, length).await?;
        *self.newer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(now));
        Ok(bytes)
    }

    /// Reads up to `length` bytes at the handle's position and moves it; empty at the end.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn read(&mut self, length: usize) -> Result<Bytes> {
        let bytes = self.read_at(self.position, length).await?;
        self.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// Moves the handle's position.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Writes `data` at `offset`. Buffered, bounded; durable and seen after
    /// [`fsync`](Self::fsync) or [`close`](Self::close).
    ///
    /// # Errors
    /// `FileTooLarge`; what a write met, and `Poisoned` from then on.
    pub async fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(Error::new("write", &self.subject, FsError::FileTooLarge));
        }
        self.writer.write(&self.client, offset, data).await
    }

    /// Writes `data` at the handle's position and moves it. As [`write_at`](Self::write_at).
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub async fn write(&mut self, data: &[u8]) -> Result<()> {
        self.write_at(self.position, data).await?;
        self.position += data.len() as u64;
        Ok(())
    }

    /// Returns when everything written is on the disks of the policy's replicas and its extents
    /// are committed on a majority of the metadata servers; with `persist = sync`, in S3 too.
    ///
    /// # Errors
    /// What a write met; the bytes since the last `fsync` may then be missing, and every later
    /// call says so (`Poisoned`). After `Unavailable` from the commit or from S3 nothing is lost:
    /// the next `fsync` goes on where this one stopped.
    pub async fn fsync(&mut self) -> Result<()> {
        let ino = self.ino();
        self.unsettled |= self.writer.commit(&self.client, ino).await?;
        if self.unsettled {
            self.refresh().await?;
            if self.view.policy.persist == 1 {
                self.client.sync(ino).await?;
            }
            self.unsettled = false;
        }
        Ok(())
    }

    /// Sets the length: cuts, or grows with zeros. What was written before is synced first. The
    /// new length is on a majority of the metadata servers, and seen by others, when this returns.
    ///
    /// # Errors
    /// `FileTooLarge`, and those of [`fsync`](Self::fsync).
    pub async fn set_len(&mut self, length: u64) -> Result<()> {
        self.fsync().await?;
        self.client.set_attr(self.ino(), AttrChange { size: Some(length), ..AttrChange::default() }).await?;
        self.refresh().await.map(|_| ())
    }

    /// Syncs and closes the handle: what was written is as durable as after
    /// [`fsync`](Self::fsync) when this returns.
    ///
    /// # Errors
    /// Those of [`fsync`](Self::fsync).
    pub async fn close(mut self) -> Result<()> {
        self.fsync().await
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.writer.is_clean() {
            tracing::warn!(
                file = self.subject,
                "dropped without close: the bytes since the last fsync are discarded"
            );
        }
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("ino", &self.ino()).finish_non_exhaustive()
    }
}
