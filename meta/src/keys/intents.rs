//! `intents`: intent → [`IntentRecord`].

use bincode::{Decode, Encode};
use cairn_types::{Chain, ChunkId, InodeId, IntentId, LogIndex, MountId, NodeId, PackId, Timestamp};

use super::Record;
use super::chunks::PackPlace;
use crate::store::Table;

/// Work outside the state machine, until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IntentRecord {
    /// Its id.
    pub intent: IntentId,
    /// The data node that does it.
    pub assignee: NodeId,
    /// What is to be done.
    pub work: Work,
    /// The state's time when it was made.
    pub created: Timestamp,
    /// The state's time when it was last given to a node.
    pub assigned: Timestamp,
    /// How often it failed.
    pub failures: u32,
    /// Why it failed last, for people; empty when it never did.
    pub message: String,
    /// It failed for good and is kept for those who wait for it.
    pub failed: bool,
}

impl IntentRecord {
    /// Work that is new, at the state's time `now`.
    #[must_use]
    pub fn new(intent: IntentId, assignee: NodeId, work: Work, now: Timestamp) -> Self {
        Self {
            intent,
            assignee,
            work,
            created: now,
            assigned: now,
            failures: 0,
            message: String::new(),
            failed: false,
        }
    }
}

/// What an intent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Work {
    /// Put chunks into S3 as one pack.
    Upload {
        /// The pack.
        pack: PackId,
        /// Its key.
        key: String,
        /// The chunks, in the order of the pack.
        chunks: Vec<UploadChunk>,
    },
    /// Read a mount's directory from S3.
    Import {
        /// The mount.
        mount: MountId,
        /// The directory.
        directory: InodeId,
        /// What its keys start with.
        prefix: Vec<u8>,
        /// Names up to this one are done.
        start_after: Vec<u8>,
    },
    /// Delete a pack from S3.
    DeletePack {
        /// The pack.
        pack: PackId,
        /// Its key.
        key: String,
    },
    /// Write chunks that are in packs of S3 into one new pack.
    Compact {
        /// The new pack.
        pack: PackId,
        /// Its key.
        key: String,
        /// The packs that the chunks are in.
        from: Vec<PackSource>,
        /// The chunks, in the order of the new pack.
        chunks: Vec<PackedChunk>,
    },
    /// Write runs of small extents of files as chunks of one new pack.
    Merge {
        /// The new pack.
        pack: PackId,
        /// Its key.
        key: String,
        /// The runs, in the order of the new pack.
        runs: Vec<MergeRun>,
    },
    /// Write an object of a mounted bucket, as its [`PictureRow`](super::pictures::PictureRow) says.
    PutObject {
        /// The mount.
        mount: MountId,
        /// The file, or the directory whose marker it is.
        ino: InodeId,
        /// The object's key.
        key: Vec<u8>,
        /// The ETag of what it replaces; empty: nothing may be there.
        replaces: String,
        /// The entry that took the picture: content that changed in none later is as in the picture.
        version: LogIndex,
        /// The object's length.
        length: u64,
        /// The key is below `.cairn-temporary/`: it makes way for another file, and goes on from there.
        temporary: bool,
    },
    /// Delete an object of a mounted bucket.
    DeleteObject {
        /// The mount.
        mount: MountId,
        /// The object's key.
        key: Vec<u8>,
        /// The version that is known; empty: none is, and what is there is told.
        etag: String,
    },
    /// Find out what a mounted bucket's endpoint can do.
    ProbeMount {
        /// The mount.
        mount: MountId,
        /// What every key of the mount starts with.
        prefix: String,
        /// Try writes too.
        write: bool,
    },
}

impl Work {
    /// The mount whose bucket it is about.
    #[must_use]
    pub fn mount(&self) -> Option<MountId> {
        match self {
            Self::Import { mount, .. }
            | Self::PutObject { mount, .. }
            | Self::DeleteObject { mount, .. }
            | Self::ProbeMount { mount, .. } => Some(*mount),
            Self::Upload { .. } | Self::DeletePack { .. } | Self::Compact { .. } | Self::Merge { .. } => None,
        }
    }
}

/// Extents of a file that follow on one another, and the chunk that is to take their place.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MergeRun {
    /// The chunk; it has no row before it takes their place.
    pub chunk: ChunkId,
    /// The file.
    pub ino: InodeId,
    /// The file offset of the first byte.
    pub base: u64,
    /// The extents as they were found, in the order of the file: they are replaced only if they are still so.
    pub pieces: Vec<MergePiece>,
}

impl MergeRun {
    /// Its bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }
}

/// One extent of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MergePiece {
    /// The chunk.
    pub chunk: ChunkId,
    /// The offset of its first byte in the chunk.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// A pack that chunks are read from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PackSource {
    /// The pack.
    pub pack: PackId,
    /// Its key.
    pub key: String,
}

/// A chunk that moves from a pack to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PackedChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its chain.
    pub chain: Chain,
    /// The file whose tail it was; 0 for a shared chunk.
    pub ino: InodeId,
    /// The file offset of its first byte, when `ino` is not 0.
    pub base: u64,
    /// Where it was found: it moves only if it is there still.
    pub place: PackPlace,
}

/// A chunk to be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UploadChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its length.
    pub length: u64,
    /// Its chain.
    pub chain: Chain,
}

impl Record for IntentRecord {
    const TABLE: Table = Table::Intents;
}

/// The row's key.
#[must_use]
pub fn key(intent: IntentId) -> Vec<u8> {
    intent.0.to_be_bytes().to_vec()
}
