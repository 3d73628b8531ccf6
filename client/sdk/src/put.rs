//! [`PutWriter`]: a whole new content for a path, seen at once when it is finished.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cairn_proto::frames::buffers;
use cairn_proto::v1;
use cairn_types::limits::APPEND_BYTES_MAX;
use cairn_types::{Extent, FsError, Inode, InodeId};

use crate::chunk_writer::add_extent;
use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::growth::{Hold, PolicyAt, Ticket};
use crate::target::At;

/// Appends of one writer under way at once, at most.
const TICKETS_MAX: usize = 16;
/// Tries of a small content whose chunk was lost with the session.
pub(crate) const TRIES_MAX: usize = 3;
/// Why a writer is broken whose caller went away in the middle.
const CANCELLED: &str = "a call was cancelled before everything it took was safe";

/// Bytes in one buffer while a content is written.
pub(crate) const PIECE_BYTES: usize = APPEND_BYTES_MAX;

/// Collects bytes into extents of the session's chunks.
///
/// Once some of its bytes may be lost it is broken for good: it takes, finishes and commits
/// nothing more and says why each time, so that no later success hides a hole.
pub(crate) struct ExtentWriter {
    at: PolicyAt,
    subject: String,
    buffer: BytesMut,
    /// The file offset of the buffer's first byte.
    buffer_offset: u64,
    tickets: VecDeque<(u64, u64, Ticket)>,
    /// What is acknowledged and not committed yet.
    extents: Vec<Extent>,
    /// Keeps the chunks that these lie in.
    holds: Vec<Hold>,
    /// Set while anything is awaited, so that a cancelled call leaves it, and kept by a failure.
    broken: Option<Cow<'static, str>>,
}

impl ExtentWriter {
    pub(crate) fn new(at: PolicyAt, subject: String) -> Self {
        Self {
            at,
            subject,
            buffer: BytesMut::new(),
            buffer_offset: 0,
            tickets: VecDeque::new(),
            extents: Vec::new(),
            holds: Vec::new(),
            broken: None,
        }
    }

    /// The policy for what is written from now on.
    pub(crate) fn set_policy(&mut self, policy: v1::Policy) {
        self.at.policy = policy;
    }

    /// Answers why the writer is broken, or marks it so until [`end`](Self::end).
    fn begin(&mut self, action: &'static str) -> Result<()> {
        if let Some(why) = &self.broken {
            return Err(Error::new(action, &self.subject, Cause::Poisoned(why.to_string())));
        }
        self.broken = Some(Cow::Borrowed(CANCELLED));
        Ok(())
    }

    /// Ends what [`begin`](Self::begin) began: a failure stays.
    fn end<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.broken = outcome.as_ref().err().map(|error| Cow::Owned(error.to_string()));
        outcome
    }

    /// Takes `data` for the file's bytes from `offset` on.
    pub(crate) async fn write(&mut self, client: &Client, offset: u64, data: &[u8]) -> Result<()> {
        self.begin("write")?;
        let outcome = self.take(client, offset, data).await;
        self.end(outcome)
    }

    async fn take(&mut self, client: &Client, offset: u64, mut data: &[u8]) -> Result<()> {
        if self.buffer_offset + self.buffer.len() as u64 != offset {
            self.flush(client).await?;
            self.buffer_offset = offset;
        }
        while !data.is_empty() {
            let room = PIECE_BYTES - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
            if self.buffer.is_empty() && now.len() >= buffers::LARGE_BYTES {
                self.buffer = buffers::take(PIECE_BYTES);
            }
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == PIECE_BYTES {
                self.flush(client).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, client: &Client) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data: Bytes = self.buffer.split().freeze();
        let length = data.len() as u64;
        buffers::keep(&data);
        let ticket = client.chunks().submit(self.at, data).await?;
        self.tickets.push_back((self.buffer_offset, length, ticket));
        self.buffer_offset += length;
        while self.tickets.len() > TICKETS_MAX {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        let Some((offset, length, ticket)) = self.tickets.pop_front() else { return Ok(()) };
        let placed = ticket.placed().await?;
        add_extent(&mut self.extents, offset, length, &placed);
        self.holds.extend(placed.hold.filter(|new| self.holds.iter().all(|h| h.chunk() != new.chunk())));
        Ok(())
    }

    async fn settle_all(&mut self, client: &Client) -> Result<()> {
        self.flush(client).await?;
        while !self.tickets.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Waits until everything taken is acknowledged; answers the extents that are not committed.
    pub(crate) async fn finish(&mut self, client: &Client) -> Result<Vec<v1::Extent>> {
        self.begin("finish the write")?;
        let outcome = self.settle_all(client).await;
        self.end(outcome)?;
        Ok(self.extents.iter().map(v1::Extent::from).collect())
    }

    /// Commits everything taken to the file; false when there was nothing to commit. What was
    /// certainly not committed is kept for the next call; where that is unknown the writer is
    /// broken.
    pub(crate) async fn commit(&mut self, client: &Client, ino: InodeId) -> Result<bool> {
        let extents = self.finish(client).await?;
        if extents.is_empty() {
            return Ok(false);
        }
        self.begin("commit")?;
        match client.commit(ino, extents).await {
            Ok(_) => {
                self.extents.clear();
                self.holds.clear();
                self.end(Ok(true))
            }
            Err(error) => {
                let kept = matches!(
                    error.kind(),
                    ErrorKind::Retry | ErrorKind::RetryElsewhere | ErrorKind::Unavailable
                );
                let outcome = self.end(Err(error));
                if kept {
                    self.broken = None;
                }
                outcome
            }
        }
    }

    /// True while nothing is buffered, under way, waiting for its commit, or lost.
    pub(crate) fn is_clean(&self) -> bool {
        self.broken.is_none() && self.buffer.is_empty() && self.tickets.is_empty() && self.extents.is_empty()
    }
}

/// Writes a new content for a path. Nothing is seen at the path before [`PutWriter::finish`],
/// which replaces the file's content, or makes the file, in one atomic step. Dropped without
/// it, nothing changes.
pub struct PutWriter {
    client: Client,
    target: At,
    mode: u32,
    exclusive: bool,
    writer: ExtentWriter,
    size: u64,
}

impl PutWriter {
    pub(crate) async fn start(client: Client, target: At, mode: u32, exclusive: bool) -> Result<Self> {
        let at = client.policy_for_new(&target).await?;
        let writer = ExtentWriter::new(at, target.to_string());
        Ok(Self { client, target, mode, exclusive, writer, size: 0 })
    }

    /// Takes more bytes. Buffered, bounded; not durable before [`finish`](Self::finish).
    ///
    /// # Errors
    /// What an earlier write met. The content is then lost, the path is as it was, and every
    /// later call fails as [`Cause::Poisoned`].
    pub async fn write(&mut self, data: &[u8]) -> Result<()> {
        let outcome = self.writer.write(&self.client, self.size, data).await;
        self.heed(outcome)?;
        self.size += data.len() as u64;
        Ok(())
    }

    /// Makes the content visible. When this returns, every byte is on the disks of the
    /// policy's replicas and the entry is on a majority of the metadata servers. With
    /// `persist = sync` it is in S3 as well.
    ///
    /// # Errors
    /// [`FsError::Exists`] when it was to be exclusive; [`FsError::ChunkGone`] when the session
    /// expired meanwhile: write again. [`Cause::Poisoned`] when an earlier write failed. With
    /// `persist = sync`, `Unavailable` when S3 does not take it in time: the content may be
    /// visible then, and goes up later.
    pub async fn finish(mut self) -> Result<Inode> {
        let extents = self.acknowledged().await?;
        self.publish(extents).await
    }

    /// Waits until every byte is acknowledged.
    async fn acknowledged(&mut self) -> Result<Vec<v1::Extent>> {
        let outcome = self.writer.finish(&self.client).await;
        self.heed(outcome)
    }

    /// After a failure the directory, whose policy was remembered and which may be gone, is asked
    /// for anew.
    fn heed<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.client.forget_policies();
        }
        outcome
    }

    async fn publish(self, extents: Vec<v1::Extent>) -> Result<Inode> {
        let inode =
            self.client.create_with("put", &self.target, self.mode, self.exclusive, true, extents).await?;
        if self.writer.at.policy.persist == 1 {
            self.client.sync(inode.ino).await?;
        }
        Ok(inode)
    }
}

/// True when bytes that were not acknowledged may be written anew: nothing names them, and what
/// was in their way is not there for a new writer.
pub(crate) fn may_write_again(error: &Error) -> bool {
    matches!(
        error.cause(),
        Cause::Poisoned(_)
            | Cause::Fs(
                FsError::ChunkGone { .. } | FsError::SessionExpired | FsError::Stale | FsError::NotFound
            )
    )
}

/// Puts a small content: kept in memory, so that it can be written again.
pub(crate) async fn put_bytes(
    client: &Client,
    target: &At,
    mode: u32,
    exclusive: bool,
    data: &[u8],
) -> Result<Inode> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut writer = PutWriter::start(client.clone(), target.clone(), mode, exclusive).await?;
        let acknowledged = match writer.write(data).await {
            Ok(()) => writer.acknowledged().await,
            Err(error) => Err(error),
        };
        let extents = match acknowledged {
            Err(error) if tries < TRIES_MAX && may_write_again(&error) => continue,
            acknowledged => acknowledged?,
        };
        match writer.publish(extents).await {
            Err(error)
                if tries < TRIES_MAX && matches!(error.cause(), Cause::Fs(FsError::ChunkGone { .. })) => {}
            outcome => return outcome,
        }
    }
}

impl std::fmt::Debug for PutWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutWriter")
            .field("target", &self.target)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
