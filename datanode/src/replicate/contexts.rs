//! [`Contexts`]: the disks of a process, each of which is a data node to everybody else, and which of them a
//! chunk is on.

use std::sync::Arc;

use cairn_types::{ChunkId, NodeId};

use super::context::Context;
use crate::chunk::{ChunkStore, ReplicaPhase};

/// The disks of a process; one at least. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Contexts {
    first: Arc<Context>,
    others: Arc<[Arc<Context>]>,
}

impl Contexts {
    /// These disks.
    #[must_use]
    pub fn new(first: Arc<Context>, others: Vec<Arc<Context>>) -> Self {
        Self { first, others: others.into() }
    }

    /// The first one. What disks share (the metadata, time, tasks, spares) is the same in all.
    #[must_use]
    pub fn first(&self) -> &Arc<Context> {
        &self.first
    }

    /// The disk, when there is one alone.
    #[must_use]
    pub fn only(&self) -> Option<&Arc<Context>> {
        Some(&self.first).filter(|_| self.others.is_empty())
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Context>> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// The disk that is the node `id`.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Arc<Context>> {
        self.iter().find(|context| context.node == id)
    }

    /// The disk that has a replica of the chunk. Two may have for a while, when one takes over what the other
    /// is to lose: then it is the one that is good for more.
    #[must_use]
    pub fn with(&self, chunk: ChunkId) -> Option<&Arc<Context>> {
        if self.others.is_empty() {
            return Some(&self.first).filter(|context| context.store.has(chunk));
        }
        let having: Vec<&Arc<Context>> = self.iter().filter(|context| context.store.has(chunk)).collect();
        match having.as_slice() {
            [one] => Some(one),
            several => several.iter().copied().max_by_key(|context| worth(&context.store, chunk)),
        }
    }

    /// The disk that has a replica of the chunk, else one that takes writes: the same one each time, for what
    /// is kept of the chunk besides.
    #[must_use]
    pub fn with_or_for(&self, chunk: ChunkId) -> &Arc<Context> {
        self.with(chunk).unwrap_or_else(|| self.chosen(chunk.0))
    }

    /// One of the disks that take writes, the same one each time for the same `key`.
    #[must_use]
    pub fn chosen(&self, key: u64) -> &Arc<Context> {
        let sound: Vec<&Arc<Context>> = self.iter().filter(|c| c.store.retired().is_none()).collect();
        // Rendezvous: a disk that fails moves what was kept there alone.
        let drawn = sound.into_iter().max_by_key(|c| mix(key ^ mix(c.node.0)));
        drawn.unwrap_or(&self.first)
    }
}

/// A disk that takes writes before one that does not, then a replica that is sealed before one that is not.
fn worth(store: &ChunkStore, chunk: ChunkId) -> (bool, bool) {
    let is_sealed = store.chunk(chunk).is_some_and(|view| view.phase == ReplicaPhase::Sealed);
    (store.retired().is_none(), is_sealed)
}

/// SplitMix64's finalizer: spreads every bit of `x` over the result.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
