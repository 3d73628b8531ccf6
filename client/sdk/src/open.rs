//! Files are opened, made, and put whole.

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::{FsError, Inode, InodeId, LogIndex};

use crate::answer::inode_of;
use crate::append::Appender;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::file::{File, OPEN_TRIES_MAX};
use crate::freshness::Freshness;
use crate::open_files::{OpenFile, Opening};
use crate::put::{PutWriter, put_bytes};
use crate::target::At;

impl Client {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`.
    pub async fn open(&self, at: impl Into<At>) -> Result<File> {
        File::open(self.clone(), at.into()).await
    }

    /// Makes a file, or opens and empties the one there is. The entry is durable, on a majority of
    /// the metadata servers, and seen when this returns; the bytes written to the handle are, at
    /// its `fsync` and `close`.
    ///
    /// # Errors
    /// Those of [`mkdir`](Self::mkdir); `IsDirectory`.
    pub async fn create(&self, at: impl Into<At>, mode: u32) -> Result<File> {
        File::made(self.clone(), at.into(), mode, (false, true)).await
    }

    /// Makes a file that must not exist. The entry is durable, on a majority of the metadata
    /// servers, when this returns.
    ///
    /// # Errors
    /// `Exists`, and those of [`create`](Self::create).
    pub async fn create_new(&self, at: impl Into<At>, mode: u32) -> Result<File> {
        File::made(self.clone(), at.into(), mode, (true, false)).await
    }

    /// Begins to open a file.
    pub(crate) async fn opening(&self) -> Result<Opening> {
        self.reach().session.files().opening(self.reach().options.retry_budget).await
    }

    /// As [`create_entry`](Self::create_entry), and opens the file: it stays from here on.
    pub(crate) async fn make_open(
        &self,
        action: &'static str,
        at: &At,
        mode: u32,
        (exclusive, truncate): (bool, bool),
    ) -> Result<(Inode, OpenFile)> {
        for _ in 0..OPEN_TRIES_MAX {
            let opening = self.opening().await?;
            let inode = self.create_entry(at, mode, exclusive, truncate).await?;
            if let Some(open) = opening.made(&inode) {
                return Ok((inode, open));
            }
            // The servers were answered meanwhile: is it there still?
            let ino = At::Inode(inode.ino);
            match self.stat_wire(action, &ino, true, Freshness::Newest).await {
                Ok(reply) => {
                    let inode = inode_of(action, &ino.to_string(), reply.inode.as_ref())?;
                    if let Some(open) = opening.found(&inode, LogIndex(reply.log_index)) {
                        return Ok((inode, open));
                    }
                }
                Err(error) if error.fs() == Some(&FsError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        // It was unlinked each time that it was made.
        Err(Error::new(action, at, FsError::Stale))
    }

    /// Makes an empty file where none is; one that exists is answered as it is, or emptied with
    /// `truncate`. The entry is durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Exists` when it must not exist and does; `IsDirectory`.
    pub async fn create_entry(&self, at: &At, mode: u32, exclusive: bool, truncate: bool) -> Result<Inode> {
        self.create_with("create", at, mode, exclusive, truncate, Vec::new()).await
    }

    /// As [`create_entry`](Self::create_entry), with the file's first extents.
    pub(crate) async fn create_with(
        &self,
        action: &'static str,
        at: &At,
        mode: u32,
        exclusive: bool,
        truncate: bool,
        extents: Vec<v1::Extent>,
    ) -> Result<Inode> {
        let target = Some(at.wire(action, false)?);
        let (uid, gid) = (self.uid(), self.gid());
        let create = v1::Create { target, mode, uid, gid, exclusive, truncate, extents };
        let reply = self.change(action, at, Operation::Create(create)).await?;
        inode_of(action, &at.to_string(), reply.inode.as_ref())
    }

    /// Opens a file for appending, making it when it is missing. Many may append to it at once;
    /// each append lands whole at the end. The entry of a file that was made is durable, on a
    /// majority of the metadata servers, when this returns; [`Appender::append`] says when a
    /// record is.
    ///
    /// # Errors
    /// `IsDirectory`, `ReadOnlyMount`, and those of [`create`](Self::create).
    pub async fn open_append(&self, at: impl Into<At>) -> Result<Appender> {
        Appender::shared(self.clone(), at.into()).await
    }

    /// Opens a file for appending by this handle alone: every earlier writer is fenced off for
    /// ever. [`Appender::end`] is then the exact end of all acknowledged bytes. The fence is
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Fenced` when another exclusive opening overtakes this one.
    pub async fn open_exclusive(&self, at: impl Into<At>) -> Result<Appender> {
        Appender::exclusive(self.clone(), at.into()).await
    }

    /// Starts a whole new content for a path, seen at once when it is finished. Nothing is durable
    /// or seen before [`PutWriter::finish`] returns.
    ///
    /// # Errors
    /// Those of path resolution.
    pub async fn put_writer(&self, at: impl Into<At>, mode: u32) -> Result<PutWriter> {
        PutWriter::start(self.clone(), at.into(), mode, false).await
    }

    /// Puts a whole content at a path: one append and one metadata entry for up to 1 MiB. When
    /// it returns the bytes are on the disks of the policy's replicas and the entry is on a
    /// majority of the metadata servers; with `persist = sync` the bytes are in S3 too.
    ///
    /// # Errors
    /// Those of [`PutWriter::finish`].
    pub async fn put(&self, at: impl Into<At>, mode: u32, data: impl AsRef<[u8]>) -> Result<Inode> {
        put_bytes(self, &at.into(), mode, false, data.as_ref()).await
    }

    /// As [`put`](Self::put), and as durable, for a path where nothing is.
    ///
    /// # Errors
    /// `Exists`, and those of [`put`](Self::put).
    pub async fn put_new(&self, at: impl Into<At>, mode: u32, data: impl AsRef<[u8]>) -> Result<Inode> {
        put_bytes(self, &at.into(), mode, true, data.as_ref()).await
    }

    pub(crate) async fn commit(&self, ino: InodeId, extents: Vec<v1::Extent>) -> Result<Inode> {
        let at = At::Inode(ino);
        let commit = v1::Commit { ino: ino.0, extents, expected_length: None };
        let reply = self.change("commit", &at, Operation::Commit(commit)).await?;
        inode_of("commit", &at.to_string(), reply.inode.as_ref())
    }
}
