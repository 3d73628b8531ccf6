//! [`SharedChunks`]: the session's open chunks that take the bytes of many files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::{Extent, ExtentSource};

use crate::error::Result;
use crate::growth::{Growth, Holds, Placed, PolicyAt, Reach, Source, Ticket};

/// Policies with an open chunk at once, at most; one more replaces them all.
const POLICIES_MAX: usize = 64;

/// One writer for each policy in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedChunks {
    reach: Reach,
    holds: Holds,
    // Guards: one writer for each policy, so that small files share its chunk.
    writers: Arc<Mutex<HashMap<v1::Policy, Growth>>>,
}

impl SharedChunks {
    pub(crate) fn new(reach: Reach) -> Self {
        let holds = Holds::start(reach.session.clone());
        Self { reach, holds, writers: Arc::default() }
    }

    /// The policy's writer; another one when it has failed.
    fn writer(&self, at: PolicyAt) -> Result<Growth> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writers.get(&at.policy).filter(|w| !w.has_failed()) {
            return Ok(writer.clone());
        }
        let writer = Growth::start(
            self.reach.clone(),
            Source::Shared { policy_of: at.ino },
            Some(self.holds.clone()),
        )?;
        if writers.len() >= POLICIES_MAX {
            writers.clear();
        }
        writers.insert(at.policy, writer.clone());
        Ok(writer)
    }

    /// Hands bytes over (1 byte to 1 MiB); the ticket's answer says where they are and that
    /// every replica has them.
    pub(crate) async fn submit(&self, at: PolicyAt, data: Bytes) -> Result<Ticket> {
        self.writer(at)?.submit_under(data, at).await
    }

    /// Closes every open chunk, so that it can be persisted now. All are asked; the first error is
    /// answered. What failed before has been told to those who wrote.
    pub(crate) async fn roll_all(&self) -> Result<()> {
        let writers: Vec<Growth> = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.retain(|_, writer| !writer.has_failed());
            writers.values().cloned().collect()
        };
        // Not a closure over `iter()`: its lifetime would keep callers from spawning this.
        let mut rolls = Vec::with_capacity(writers.len());
        for writer in &writers {
            rolls.push(writer.roll());
        }
        futures::future::join_all(rolls).await.into_iter().collect()
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
