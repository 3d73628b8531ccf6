//! `counters`: seven rows, the [`ClusterRecord`], the [`ContentCounter`], [`Granted`], the
//! [`EventCounter`], [`Trees`], [`Servers`](super::servers::Servers) and
//! [`ClusterLevel`](super::levels::ClusterLevel), and a [`Repaired`] for each
//! count that was ever mended.

use bincode::{Decode, Encode};
use cairn_types::{
    ChunkId, ClusterId, InodeId, IntentId, LogIndex, MountId, NodeId, PackId, SessionId, Timestamp,
};

use super::Record;
use crate::store::Table;

/// The key of the [`ClusterRecord`].
pub const KEY: &[u8] = b"";
/// The key of the [`ContentCounter`].
pub const CONTENTS_KEY: &[u8] = b"contents";
/// The key of [`Granted`].
pub const GRANTED_KEY: &[u8] = b"granted";
/// The key of the [`EventCounter`].
pub const EVENTS_KEY: &[u8] = b"events";

/// The key of [`Trees`].
pub const TREES_KEY: &[u8] = b"trees";

/// What the state knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterRecord {
    /// The cluster's identity; nil before its first entry.
    pub cluster: ClusterId,
    /// The largest time that an entry was stamped with.
    pub time: Timestamp,
    /// The ids that are given next.
    pub next: NextIds,
    /// How many there are.
    pub counts: Counts,
}

/// The ids that are given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NextIds {
    /// Of inodes.
    pub inode: InodeId,
    /// Of chunks.
    pub chunk: ChunkId,
    /// Of sessions.
    pub session: SessionId,
    /// Of data nodes; metadata servers have the ids below 101.
    pub node: NodeId,
    /// Of packs.
    pub pack: PackId,
    /// Of mounts.
    pub mount: MountId,
    /// Of intents.
    pub intent: IntentId,
}

/// How many there are, kept so that nobody counts rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counts {
    /// Inodes that have a name.
    pub inodes: u64,
    /// Open chunks.
    pub chunks_open: u64,
    /// Chunks whose seal is undecided.
    pub chunks_sealing: u64,
    /// Sealed chunks.
    pub chunks_sealed: u64,
    /// Live chunks with fewer copies than their policy asks, not persisted.
    pub under_replicated: u64,
    /// Bytes of sealed live chunks that wait for S3.
    pub unpersisted_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Sessions.
    pub sessions: u64,
    /// Intents, failed ones included.
    pub intents: u64,
    /// Seals that found an extent beyond the decided length. Always 0, unless a client committed
    /// what it had not been acknowledged, or an operator accepted a loss.
    pub extents_beyond_seal: u64,
}

impl Default for ClusterRecord {
    fn default() -> Self {
        Self {
            cluster: ClusterId::default(),
            time: Timestamp(0),
            next: NextIds {
                inode: InodeId::ROOT.next(),
                chunk: ChunkId(1),
                session: SessionId(1),
                node: NodeId(101),
                pack: PackId(1),
                mount: MountId(1),
                intent: IntentId(1),
            },
            counts: Counts::default(),
        }
    }
}

impl Record for ClusterRecord {
    const TABLE: Table = Table::Counters;
}

/// How many contents were made for files that were cut; absent before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ContentCounter {
    /// How many; the last one's number.
    pub made: u64,
}

impl Record for ContentCounter {
    const TABLE: Table = Table::Counters;
}

/// Bytes that were granted to open chunks, as far as they count towards the lag: those that are
/// never persisted do not. Absent before the first chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Granted {
    /// How many.
    pub bytes: u64,
}

impl Record for Granted {
    const TABLE: Table = Table::Counters;
}

/// Which events are kept. Absent before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EventCounter {
    /// The entry of the oldest event that may be there.
    pub first: LogIndex,
    /// The number of that event in its entry: those before it are removed.
    pub first_number: u16,
    /// How many are kept.
    pub kept: u64,
}

impl EventCounter {
    /// The first entry from which on all events are kept. Who has all up to the entry before it
    /// misses none.
    #[must_use]
    pub fn oldest(&self) -> LogIndex {
        if self.first_number == 0 { self.first } else { LogIndex(self.first.0.saturating_add(1)) }
    }
}

impl Record for EventCounter {
    const TABLE: Table = Table::Counters;
}

/// Directories that were removed with all below them. Absent before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Trees {
    /// Those that are not all gone.
    pub pending: u64,
    /// Names that went with them so far, of all there ever were.
    pub purged: u64,
}

impl Record for Trees {
    const TABLE: Table = Table::Counters;
}

/// When a count, or what else one look at it cannot tell, was last mended: a finding of a check
/// before that is not mended again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Repaired {
    /// The entry that mended it.
    pub at: LogIndex,
}

impl Record for Repaired {
    const TABLE: Table = Table::Counters;
}

/// The key of a [`Repaired`]: what was mended.
#[must_use]
pub fn repaired_key(what: &str) -> Vec<u8> {
    [b"repaired ", what.as_bytes()].concat()
}
