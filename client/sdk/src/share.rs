//! What moves no bytes: files that share content, and ranges that hold none.

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::Inode;

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::Result;
use crate::file::File;
use crate::target::At;

/// The wire form of a clone.
pub(crate) fn clone_wire(
    client: &Client,
    from: &At,
    to: &At,
    replace: bool,
    recursive: bool,
) -> Result<v1::CloneFile> {
    Ok(v1::CloneFile {
        from: Some(from.wire("clone", false)?),
        to: Some(to.wire("clone", false)?),
        uid: client.uid(),
        gid: client.gid(),
        replace,
        recursive,
        range: None,
    })
}

/// The wire form of a range that is shared.
pub(crate) fn copy_wire(
    (from, from_offset): (&At, u64),
    (to, to_offset): (&At, u64),
    length: Option<u64>,
) -> Result<v1::CloneFile> {
    Ok(v1::CloneFile {
        from: Some(from.wire("copy a range", false)?),
        to: Some(to.wire("copy a range", false)?),
        range: Some(v1::CloneRange { from_offset, to_offset, length }),
        ..v1::CloneFile::default()
    })
}

/// The wire form of a concatenation.
pub(crate) fn concat_wire(to: &At, from: &[At]) -> Result<v1::Concat> {
    let from = from.iter().map(|at| at.wire("concatenate", false)).collect::<Result<_>>()?;
    Ok(v1::Concat { target: Some(to.wire("concatenate", false)?), from })
}

impl Client {
    /// Makes `to` a file with the content and mode of `from`, sharing its bytes: one metadata entry,
    /// whatever the length. With `replace` a file that is there takes the content. A growing file is
    /// sealed first. Durable, on a majority of the metadata servers, and seen when this returns; the bytes
    /// keep the policy that they were written under, whatever the one at `to` is.
    ///
    /// # Errors
    /// `Exists`, `IsDirectory`, `CrossMount` (objects of a mount are not shared), `TooLarge` for a
    /// file of more than about 4,000 extents: copy it in ranges.
    pub async fn clone_file(&self, from: impl Into<At>, to: impl Into<At>, replace: bool) -> Result<Inode> {
        self.clone_with(&from.into(), &to.into(), replace, false).await
    }

    /// As [`clone_file`](Self::clone_file), of a directory with all that is below it, as it is at one
    /// point in time. Nothing may be at `to`. Hard links below stay links of one another.
    ///
    /// # Errors
    /// `TooLarge` for a tree over 4,096 rows, which nothing is done of: a file takes four and one for
    /// each extent, a directory or symlink four (about 800 small files). `IntoItself`, `Exists`.
    pub async fn clone_tree(&self, from: impl Into<At>, to: impl Into<At>) -> Result<Inode> {
        self.clone_with(&from.into(), &to.into(), false, true).await
    }

    async fn clone_with(&self, from: &At, to: &At, replace: bool, recursive: bool) -> Result<Inode> {
        let clone = clone_wire(self, from, to, replace, recursive)?;
        self.share("clone", to, Operation::CloneFile(clone)).await
    }

    /// Makes `length` bytes of `to`, from `to_offset` on, those of `from`, from `from_offset` on,
    /// without moving them; without a length those up to the end. Both may be one file, if the ranges
    /// do not overlap. As durable as [`clone_file`](Self::clone_file).
    ///
    /// # Errors
    /// `LengthMismatch` when `from` ends before the range does, `InvalidRequest` for ranges that
    /// overlap, `CrossMount`, `FileTooLarge`, `TooLarge` for more than about 4,000 extents.
    pub async fn copy_range(
        &self,
        from: impl Into<At>,
        from_offset: u64,
        to: impl Into<At>,
        to_offset: u64,
        length: Option<u64>,
    ) -> Result<Inode> {
        let (from, to) = (from.into(), to.into());
        let copy = copy_wire((&from, from_offset), (&to, to_offset), length)?;
        self.share("copy a range to", &to, Operation::CloneFile(copy)).await
    }

    /// Appends the contents of `from`, in their order, to the file `to`, which is none of them,
    /// without moving a byte: in one entry, so that others see all of it or nothing. As durable as
    /// [`clone_file`](Self::clone_file).
    ///
    /// # Errors
    /// `TooLarge` for more than 256 files or about 4,000 extents, `InvalidRequest`, `CrossMount`.
    pub async fn concat(&self, to: impl Into<At>, from: &[At]) -> Result<Inode> {
        let to = to.into();
        let concat = concat_wire(&to, from)?;
        self.share("concatenate to", &to, Operation::Concat(concat)).await
    }

    /// Makes a range of a file zeros that take no space; its length stays. As durable as
    /// [`clone_file`](Self::clone_file).
    ///
    /// # Errors
    /// `TooLarge` for more than about 4,000 extents in the middle of the file, `InvalidRequest` for
    /// an empty range.
    pub async fn punch_hole(&self, at: impl Into<At>, offset: u64, length: u64) -> Result<Inode> {
        self.punch(&at.into(), offset, length, true).await
    }

    /// As [`punch_hole`](Self::punch_hole), and the file grows to the range's end.
    ///
    /// # Errors
    /// As [`punch_hole`](Self::punch_hole); `FileTooLarge`.
    pub async fn zero_range(&self, at: impl Into<At>, offset: u64, length: u64) -> Result<Inode> {
        self.punch(&at.into(), offset, length, false).await
    }

    async fn punch(&self, at: &At, offset: u64, length: u64, keep_size: bool) -> Result<Inode> {
        let target = Some(at.wire("punch a hole", false)?);
        let punch = v1::PunchHole { target, offset, length, keep_size };
        self.share("punch a hole in", at, Operation::PunchHole(punch)).await
    }

    /// Grows a file with zeros to the end of a range, as fallocate(2); a file that is longer stays as
    /// it is. No space is reserved: what is written later may still meet `NoSpace`. As durable as
    /// [`clone_file`](Self::clone_file).
    ///
    /// # Errors
    /// `FileTooLarge`, `InvalidRequest` for an empty range.
    pub async fn allocate(&self, at: impl Into<At>, offset: u64, length: u64) -> Result<Inode> {
        let at = at.into();
        let target = Some(at.wire("allocate", false)?);
        let allocate = v1::Allocate { target, offset, length, keep_size: false };
        self.share("allocate", &at, Operation::Allocate(allocate)).await
    }

    async fn share(&self, action: &'static str, at: &At, operation: Operation) -> Result<Inode> {
        let reply = self.change(action, at, operation).await?;
        inode_of(action, &at.to_string(), reply.inode.as_ref())
    }
}

impl File {
    /// As [`Client::punch_hole`]. What was written before is synced first.
    ///
    /// # Errors
    /// Those of [`Client::punch_hole`] and of [`fsync`](Self::fsync).
    pub async fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        self.fsync().await?;
        self.client().punch_hole(self.ino(), offset, length).await?;
        self.refresh().await.map(|_| ())
    }

    /// As [`Client::allocate`]. What was written before is synced first.
    ///
    /// # Errors
    /// Those of [`Client::allocate`] and of [`fsync`](Self::fsync).
    pub async fn allocate(&mut self, offset: u64, length: u64) -> Result<()> {
        self.fsync().await?;
        self.client().allocate(self.ino(), offset, length).await?;
        self.refresh().await.map(|_| ())
    }

    /// As [`Client::copy_range`], from `from` to this file. What was written to it before is synced
    /// first; of `from` what its own handle synced is seen.
    ///
    /// # Errors
    /// Those of [`Client::copy_range`] and of [`fsync`](Self::fsync).
    pub async fn copy_range(
        &mut self,
        from: impl Into<At>,
        from_offset: u64,
        to_offset: u64,
        length: Option<u64>,
    ) -> Result<()> {
        self.fsync().await?;
        self.client().copy_range(from, from_offset, self.ino(), to_offset, length).await?;
        self.refresh().await.map(|_| ())
    }
}
