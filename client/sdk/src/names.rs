//! Names: directories, symlinks, links, and what moves and removes them.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{convert, v1};
use cairn_types::{FileKind, FsError, Inode};

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::target::At;

/// What a rename does about an existing destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as rename(2) does.
    #[default]
    Replace,
    /// Refuse with `Exists` (RENAME_NOREPLACE of renameat2(2)).
    NoReplace,
    /// Swap the two (RENAME_EXCHANGE of renameat2(2)).
    Exchange,
}

impl Client {
    /// Makes a directory. It is durable, on a majority of the metadata servers, and seen by
    /// everybody when this returns.
    ///
    /// # Errors
    /// `Exists`, `NotFound` (its parent), `NotDirectory`, `NameTooLong`, `ReadOnlyMount`.
    pub async fn mkdir(&self, at: impl Into<At>, mode: u32) -> Result<Inode> {
        self.mkdir_with(&at.into(), mode, false).await
    }

    /// Makes a directory and those above it that are missing; one that exists is answered. All are
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir); `Exists` when the path is no directory.
    pub async fn mkdir_all(&self, at: impl Into<At>, mode: u32) -> Result<Inode> {
        self.mkdir_with(&at.into(), mode, true).await
    }

    async fn mkdir_with(&self, at: &At, mode: u32, parents: bool) -> Result<Inode> {
        let target = Some(at.wire("mkdir", false)?);
        let mkdir = v1::Mkdir { target, mode, uid: self.uid(), gid: self.gid(), parents };
        let reply = self.change("mkdir", at, Operation::Mkdir(mkdir)).await?;
        inode_of("mkdir", &at.to_string(), reply.inode.as_ref())
    }

    /// Makes a fifo, a socket or a device. It is a name with attributes: what opens it by a mount of
    /// this namespace meets the kernel's fifo, socket or device of its own machine. It is durable, on
    /// a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `InvalidRequest` for a file, a directory, a symlink, and a device number out of its range;
    /// those of [`mkdir`](Self::mkdir).
    pub async fn mknod(&self, at: impl Into<At>, kind: FileKind, mode: u32) -> Result<Inode> {
        let at = at.into();
        let target = Some(at.wire("mknod", true)?);
        let (kind, device) = convert::kind_and_device(kind);
        let (kind, uid, gid) = (kind.into(), self.uid(), self.gid());
        let mknod = v1::Mknod { target, kind, device, mode, uid, gid };
        let reply = self.change("mknod", &at, Operation::Mknod(mknod)).await?;
        inode_of("mknod", &at.to_string(), reply.inode.as_ref())
    }

    /// Makes a symlink at `at` that leads to `to`, which need not exist. It is durable, on a
    /// majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `Exists`, `InvalidTarget` and those of [`mkdir`](Self::mkdir).
    pub async fn symlink(&self, to: impl AsRef<[u8]>, at: impl Into<At>) -> Result<Inode> {
        let at = at.into();
        let target = Some(at.wire("symlink", true)?);
        let to = to.as_ref().to_vec().into();
        let symlink = v1::Symlink { target, to, uid: self.uid(), gid: self.gid() };
        let reply = self.change("symlink", &at, Operation::Symlink(symlink)).await?;
        inode_of("symlink", &at.to_string(), reply.inode.as_ref())
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// `NotSymlink`, and those of [`stat`](Self::stat).
    pub async fn read_link(&self, at: impl Into<At>) -> Result<Vec<u8>> {
        let at = at.into();
        let inode = self.stat_at(&at, true).await?;
        inode.target.ok_or_else(|| Error::new("read the link", &at, FsError::NotSymlink))
    }

    /// Gives the file at `from` one more name, `to`. The name is durable, on a majority of the
    /// metadata servers, when this returns.
    ///
    /// # Errors
    /// `LinkDirectory`, `TooManyLinks`, `CrossMount`, `Exists`.
    pub async fn link(&self, from: impl Into<At>, to: impl Into<At>) -> Result<Inode> {
        let (from, to) = (from.into(), to.into());
        let link = v1::Link { from: Some(from.wire("link", true)?), to: Some(to.wire("link", true)?) };
        let reply = self.change("link", &to, Operation::Link(link)).await?;
        inode_of("link", &to.to_string(), reply.inode.as_ref())
    }

    /// Renames a file or a directory, whatever it holds, in one atomic step. It is durable, on a
    /// majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `NotFound`, `Exists` (with [`RenameMode::NoReplace`]), `NotEmpty`, `IsDirectory`,
    /// `NotDirectory`, `IntoItself`, `CrossMount`, `ReadOnlyMount`.
    pub async fn rename(&self, from: impl Into<At>, to: impl Into<At>, mode: RenameMode) -> Result<()> {
        let (from, to) = (from.into(), to.into());
        let rename = v1::Rename {
            from: Some(from.wire("rename", true)?),
            to: Some(to.wire("rename", true)?),
            no_replace: mode == RenameMode::NoReplace,
            exchange: mode == RenameMode::Exchange,
        };
        self.change("rename", &from, Operation::Rename(rename)).await.map(|_| ())
    }

    /// Removes the name of a file or symlink. The removal is durable, on a majority of the
    /// metadata servers, when this returns; the bytes are deleted later.
    ///
    /// # Errors
    /// `IsDirectory`, `NotFound`, `ReadOnlyMount`.
    pub async fn unlink(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        let unlink = v1::Unlink { target: Some(at.wire("remove", true)?) };
        self.change("remove", &at, Operation::Unlink(unlink)).await.map(|_| ())
    }

    /// Removes an empty directory. The removal is durable, on a majority of the metadata servers,
    /// when this returns.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `IsMountRoot`, `IsRoot`.
    pub async fn rmdir(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        let rmdir = v1::Rmdir { target: Some(at.wire("remove the directory", true)?) };
        self.change("remove the directory", &at, Operation::Rmdir(rmdir)).await.map(|_| ())
    }

    /// Removes a file, a symlink or an empty directory. The removal is durable, on a majority of
    /// the metadata servers, when this returns.
    ///
    /// # Errors
    /// Those of [`unlink`](Self::unlink) and [`rmdir`](Self::rmdir).
    pub async fn remove(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        match self.unlink(&at).await {
            Err(error) if error.fs() == Some(&FsError::IsDirectory) => self.rmdir(&at).await,
            outcome => outcome,
        }
    }
}
