//! [`SharedChunks`]: the session's open chunks that take the bytes of many files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::{Extent, ExtentSource, InodeId};

use crate::error::Result;
use crate::growth::{Growth, Placed, Reach, Source, Ticket};

/// Policies with an open chunk at once, at most; one more replaces them all.
const POLICIES_MAX: usize = 64;

/// One writer for each policy in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedChunks {
    reach: Reach,
    // Guards: one writer for each policy, so that small files share its chunk.
    writers: Arc<Mutex<HashMap<Vec<u8>, Growth>>>,
}

/// A policy in force, and an inode under which it is.
#[derive(Clone, Debug)]
pub(crate) struct PolicyAt {
    pub(crate) policy: v1::Policy,
    pub(crate) ino: InodeId,
}

impl SharedChunks {
    pub(crate) fn new(reach: Reach) -> Self {
        Self { reach, writers: Arc::default() }
    }

    fn writer(&self, at: &PolicyAt) -> Result<Growth> {
        let key = prost_key(&at.policy);
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writers.get(&key) {
            return Ok(writer.clone());
        }
        let writer = Growth::start(self.reach.clone(), Source::Shared { policy_of: at.ino })?;
        if writers.len() >= POLICIES_MAX {
            writers.clear();
        }
        writers.insert(key, writer.clone());
        Ok(writer)
    }

    /// Hands bytes over (1 byte to 1 MiB); the ticket's answer says where they are and that
    /// every replica has them.
    pub(crate) async fn submit(&self, at: &PolicyAt, data: Bytes) -> Result<Ticket> {
        self.writer(at)?.submit(data, None).await
    }

    /// Forgets the writer of this policy: it failed, and the next write starts another.
    pub(crate) fn renew(&self, at: &PolicyAt) {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).remove(&prost_key(&at.policy));
    }

    /// Closes every open chunk, so that it can be persisted now.
    pub(crate) async fn roll_all(&self) -> Result<()> {
        let writers: Vec<Growth> =
            self.writers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for writer in writers {
            writer.roll().await?;
        }
        Ok(())
    }
}

fn prost_key(policy: &v1::Policy) -> Vec<u8> {
    format!("{policy:?}").into_bytes()
}

/// Adds acknowledged bytes at `file_offset`, joined to the last extent where they follow it
/// in the file and in the chunk.
pub(crate) fn add_extent(extents: &mut Vec<Extent>, file_offset: u64, length: u64, placed: Placed) {
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
        let placed = |chunk, at| Placed { chunk: ChunkId(chunk), chunk_offset: at, file_offset: at };
        let mut extents = Vec::new();
        add_extent(&mut extents, 0, 10, placed(1, 5));
        add_extent(&mut extents, 10, 10, placed(1, 15));
        assert_eq!(extents.len(), 1);
        assert_eq!(extents[0].length, 20);
        add_extent(&mut extents, 20, 10, placed(1, 26));
        add_extent(&mut extents, 30, 10, placed(2, 36));
        assert_eq!(extents.len(), 3);
    }
}
