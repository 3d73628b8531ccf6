//! [`Counter`]: the counts and next ids that the state keeps, by name.

use std::fmt;

use bincode::{Decode, Encode};

/// What is counted, or gets ids. New ones are appended: the log carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Counter {
    /// Inodes that have a name; ids of inodes.
    Inodes,
    /// Ids of chunks.
    Chunks,
    /// Open chunks.
    ChunksOpen,
    /// Chunks whose seal is undecided.
    ChunksSealing,
    /// Sealed chunks.
    ChunksSealed,
    /// Live chunks with too few copies.
    UnderReplicated,
    /// Bytes that wait for S3.
    UnpersistedBytes,
    /// Bytes granted to open chunks.
    GrantedBytes,
    /// Packs; ids of packs.
    Packs,
    /// Sessions; ids of sessions.
    Sessions,
    /// Intents; ids of intents.
    Intents,
    /// Ids of data nodes.
    Nodes,
    /// Ids of mounts.
    Mounts,
    /// Numbers of contents that were made for files that were cut.
    Contents,
}

impl Counter {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inodes => "inodes",
            Self::Chunks => "chunks",
            Self::ChunksOpen => "chunks_open",
            Self::ChunksSealing => "chunks_sealing",
            Self::ChunksSealed => "chunks_sealed",
            Self::UnderReplicated => "under_replicated",
            Self::UnpersistedBytes => "unpersisted_bytes",
            Self::GrantedBytes => "granted_bytes",
            Self::Packs => "packs",
            Self::Sessions => "sessions",
            Self::Intents => "intents",
            Self::Nodes => "nodes",
            Self::Mounts => "mounts",
            Self::Contents => "contents",
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
