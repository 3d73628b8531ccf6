//! [`PutWriter`]: a whole new content for a path, seen at once when it is finished.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::limits::APPEND_BYTES_MAX;
use cairn_types::{Extent, FsError, Inode};

use crate::chunk_writer::{PolicyAt, add_extent};
use crate::client::{Client, inode_of};
use crate::error::{Cause, Result};
use crate::growth::Ticket;
use crate::target::At;

/// Appends of one writer under way at once, at most.
const TICKETS_MAX: usize = 16;
/// Tries of a small content whose chunk was lost with the session.
const TRIES_MAX: usize = 3;

/// Bytes in one buffer while a content is written.
pub(crate) const PIECE_BYTES: usize = APPEND_BYTES_MAX;

/// Collects bytes into extents of the session's chunks.
pub(crate) struct ExtentWriter {
    at: PolicyAt,
    buffer: BytesMut,
    /// The file offset of the buffer's first byte.
    buffer_offset: u64,
    tickets: VecDeque<(u64, u64, Ticket)>,
    extents: Vec<Extent>,
}

impl ExtentWriter {
    pub(crate) fn new(at: PolicyAt) -> Self {
        Self { at, buffer: BytesMut::new(), buffer_offset: 0, tickets: VecDeque::new(), extents: Vec::new() }
    }

    /// Takes `data` for the file's bytes from `offset` on.
    pub(crate) async fn write(&mut self, client: &Client, offset: u64, mut data: &[u8]) -> Result<()> {
        if self.buffer_offset + self.buffer.len() as u64 != offset {
            self.flush(client).await?;
            self.buffer_offset = offset;
        }
        while !data.is_empty() {
            let room = PIECE_BYTES - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
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
        let ticket = client.chunks().submit(&self.at, data).await?;
        self.tickets.push_back((self.buffer_offset, length, ticket));
        self.buffer_offset += length;
        while self.tickets.len() > TICKETS_MAX {
            self.settle_one(client).await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self, client: &Client) -> Result<()> {
        let Some((offset, length, ticket)) = self.tickets.pop_front() else { return Ok(()) };
        match ticket.placed().await {
            Ok(placed) => {
                add_extent(&mut self.extents, offset, length, placed);
                Ok(())
            }
            Err(error) => {
                client.chunks().renew(&self.at);
                Err(error)
            }
        }
    }

    /// Waits until everything taken is acknowledged; answers its extents and starts anew.
    pub(crate) async fn finish(&mut self, client: &Client) -> Result<Vec<Extent>> {
        self.flush(client).await?;
        while !self.tickets.is_empty() {
            self.settle_one(client).await?;
        }
        Ok(std::mem::take(&mut self.extents))
    }

    /// True while nothing is buffered, under way or waiting for its commit.
    pub(crate) fn is_clean(&self) -> bool {
        self.buffer.is_empty() && self.tickets.is_empty() && self.extents.is_empty()
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
        Ok(Self { client, target, mode, exclusive, writer: ExtentWriter::new(at), size: 0 })
    }

    /// Takes more bytes. Buffered, bounded; not durable before [`finish`](Self::finish).
    ///
    /// # Errors
    /// What an earlier write met. The content is then lost; the path is as it was.
    pub async fn write(&mut self, data: &[u8]) -> Result<()> {
        self.writer.write(&self.client, self.size, data).await?;
        self.size += data.len() as u64;
        Ok(())
    }

    /// Makes the content visible. When this returns, every byte is on the disks of the
    /// policy's replicas and the entry is on a majority of the metadata servers. With
    /// `persist = sync` it is in S3 as well.
    ///
    /// # Errors
    /// [`FsError::Exists`] when it was to be exclusive; [`FsError::ChunkGone`] when the session
    /// expired meanwhile: write again.
    pub async fn finish(mut self) -> Result<Inode> {
        let extents = self.writer.finish(&self.client).await?;
        let inode = create(&self.client, &self.target, self.mode, self.exclusive, &extents).await?;
        if self.writer.at.policy.persist == 1 {
            self.client.sync(inode.ino).await?;
        }
        Ok(inode)
    }
}

async fn create(
    client: &Client,
    target: &At,
    mode: u32,
    exclusive: bool,
    extents: &[Extent],
) -> Result<Inode> {
    let operation = v1::Create {
        target: Some(target.wire("put", false)?),
        mode,
        uid: client.uid(),
        gid: client.gid(),
        exclusive,
        truncate: true,
        extents: extents.iter().map(v1::Extent::from).collect(),
    };
    let subject = target.to_string();
    loop {
        let operation = Operation::Create(operation.clone());
        match client.reach().session.change("put", &subject, operation).await {
            Ok(reply) => return inode_of("put", &subject, reply.inode.as_ref()),
            Err(error) => client.seal_or_give_up(error).await?,
        }
    }
}

/// Puts a small content: kept in memory, so that it can be written again.
pub(crate) async fn put_bytes(
    client: &Client,
    target: &At,
    mode: u32,
    exclusive: bool,
    data: &[u8],
) -> Result<Inode> {
    for _ in 1..TRIES_MAX {
        let mut writer = PutWriter::start(client.clone(), target.clone(), mode, exclusive).await?;
        writer.write(data).await?;
        match writer.finish().await {
            Err(error) if matches!(error.cause(), Cause::Fs(FsError::ChunkGone { .. })) => {}
            outcome => return outcome,
        }
    }
    let mut writer = PutWriter::start(client.clone(), target.clone(), mode, exclusive).await?;
    writer.write(data).await?;
    writer.finish().await
}

impl std::fmt::Debug for PutWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutWriter")
            .field("target", &self.target)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
