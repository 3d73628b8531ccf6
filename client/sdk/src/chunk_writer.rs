//! [`SharedChunks`]: the session's open chunks that take the bytes of many files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Extent, ExtentSource};

use crate::error::Result;
use crate::growth::{Growth, Holds, Placed, PolicyAt, Reach, Source, Ticket};

/// Policies with an open chunk at once, at most; one more replaces them all.
const POLICIES_MAX: usize = 64;
/// Bytes in a chunk from which the next one is opened, so that nobody waits for that when it is full.
const OPEN_NEXT_BYTES: u64 = CHUNK_BYTES_MAX / 8 * 5;

/// One writer for each policy in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedChunks {
    reach: Reach,
    holds: Holds,
    // Guards: one writer for each policy, so that small files share its chunk.
    writers: Arc<Mutex<HashMap<v1::Policy, Writers>>>,
}

/// A policy's writers: each fills one chunk, more or less.
struct Writers {
    /// Takes what is submitted.
    current: Growth,
    /// Bytes that it was handed for its chunk.
    taken: u64,
    /// Has opened the chunk that comes next.
    next: Option<Growth>,
    /// Have full chunks, which are being closed.
    closing: Vec<Growth>,
}

impl Writers {
    fn of(current: Growth) -> Self {
        Self { current, taken: 0, next: None, closing: Vec::new() }
    }
}

impl SharedChunks {
    pub(crate) fn new(reach: Reach) -> Self {
        let holds = Holds::start(reach.session.clone());
        Self { reach, holds, writers: Arc::default() }
    }

    fn start(&self, at: PolicyAt) -> Result<Growth> {
        Growth::start(self.reach.clone(), Source::Shared { policy_of: at.ino }, Some(self.holds.clone()))
    }

    /// The writer for `bytes` more under the policy; another one when it has failed, or its chunk is full.
    fn writer(&self, at: PolicyAt, bytes: u64) -> Result<Growth> {
        let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&at.policy).is_none_or(|writers| writers.current.has_failed()) {
            let fresh = Writers::of(self.start(at)?);
            if all.len() >= POLICIES_MAX {
                all.clear();
            }
            all.insert(at.policy, fresh);
        }
        let Some(writers) = all.get_mut(&at.policy) else { return self.start(at) };
        if writers.taken + bytes > CHUNK_BYTES_MAX {
            let next = match writers.next.take().filter(|next| !next.has_failed()) {
                Some(next) => next,
                None => self.start(at)?,
            };
            let full = std::mem::replace(&mut writers.current, next);
            writers.taken = 0;
            writers.closing.push(full.clone());
            tokio::spawn(self.clone().close(at.policy, full));
        }
        writers.taken += bytes;
        if writers.taken >= OPEN_NEXT_BYTES && writers.next.is_none() {
            let next = self.start(at)?;
            next.open_now(at.ino);
            writers.next = Some(next);
        }
        Ok(writers.current.clone())
    }

    /// Closes a full chunk once what it was handed is acknowledged.
    async fn close(self, policy: v1::Policy, full: Growth) {
        if let Err(error) = full.roll().await {
            // Who wrote there was told; the servers seal what stays open.
            tracing::debug!(%error, "close a full chunk");
        }
        let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writers) = all.get_mut(&policy) {
            writers.closing.retain(|closing| !closing.is(&full));
        }
    }

    /// Hands bytes over (1 byte to 1 MiB); the ticket's answer says where they are and that
    /// every replica has them.
    pub(crate) async fn submit(&self, at: PolicyAt, data: Bytes) -> Result<Ticket> {
        self.writer(at, data.len() as u64)?.submit_under(data, at).await
    }

    /// Closes every open chunk, so that it can be persisted now. All are asked; the first error is
    /// answered. What failed before has been told to those who wrote.
    pub(crate) async fn roll_all(&self) -> Result<()> {
        let writers: Vec<Growth> = {
            let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, writers| !writers.current.has_failed());
            for writers in all.values_mut() {
                writers.taken = 0;
                // What it has opened is empty, and would stay so where nothing more is written.
                writers.closing.extend(writers.next.take());
            }
            let every = all.values().flat_map(|w| std::iter::once(&w.current).chain(&w.closing));
            every.filter(|writer| !writer.has_failed()).cloned().collect()
        };
        // Not a closure over `iter()`: its lifetime would keep callers from spawning this.
        let mut rolls = Vec::with_capacity(writers.len());
        for writer in &writers {
            rolls.push(writer.roll());
        }
        let rolled = futures::future::join_all(rolls).await.into_iter().collect();
        let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in all.values_mut() {
            kept.closing.retain(|closing| !writers.iter().any(|writer| writer.is(closing)));
        }
        rolled
    }
}

/// Adds acknowledged bytes at `file_offset`, joined to the last extent where they follow it
/// in the file and in the chunk.
pub(crate) fn add_extent(extents: &mut Vec<Extent>, file_offset: u64, length: u64, placed: &Placed) {
    if let Some(last) = extents.last_mut()
        && let ExtentSource::Chunk { chunk, offset } = last.source
        && chunk == placed.chunk
        && offset + last.length == placed.chunk_offset
        && last.end() == file_offset
    {
        last.length += length;
        return;
    }
    let source = ExtentSource::Chunk { chunk: placed.chunk, offset: placed.chunk_offset };
    extents.push(Extent { file_offset, length, source });
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::ChunkId;

    #[test]
    fn neighbours_join_only_when_they_follow_in_file_and_chunk() {
        let placed =
            |chunk, at| Placed { chunk: ChunkId(chunk), chunk_offset: at, file_offset: at, hold: None };
        let mut extents = Vec::new();
        add_extent(&mut extents, 0, 10, &placed(1, 5));
        add_extent(&mut extents, 10, 10, &placed(1, 15));
        assert_eq!(extents.len(), 1);
        assert_eq!(extents[0].length, 20);
        add_extent(&mut extents, 20, 10, &placed(1, 26));
        add_extent(&mut extents, 30, 10, &placed(2, 36));
        assert_eq!(extents.len(), 3);
    }
}
