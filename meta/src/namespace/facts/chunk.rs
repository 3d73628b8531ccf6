//! [`ChunkFact`]: a chunk as a dump has it, and what of it another cluster can still read.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use cairn_types::limits::GRANT_BYTES_FIRST;
use cairn_types::{
    Chain, ChunkId, DiskId, Epoch, Generation, Incarnation, InodeId, LogIndex, NodeId, PackId, Persist,
    Policy, SessionId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::json::wide;
use crate::keys::chunks::{
    Activation, ChunkOwner, ChunkRecord, ChunkState, PackPlace, PlacedReplica, Sealed,
};

/// A chunk. What belongs to sessions (marks of writers, who holds it) is no part of it; one that is
/// open is written as what a load makes of it: its seal begins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkFact {
    /// Its id.
    pub chunk: ChunkId,
    /// The fence epoch of its seal.
    pub epoch: Epoch,
    /// The entry that opened it.
    pub log_index: LogIndex,
    /// When it was opened.
    pub opened_ns: Timestamp,
    /// The file's writer generation then; 0 for a shared chunk.
    pub generation: Generation,
    /// Whose bytes it took.
    #[serde(with = "OwnerJson")]
    pub owner: ChunkOwner,
    /// The policy that it was opened under.
    pub policy: Policy,
    /// Where its replicas are.
    pub replicas: Vec<ReplicaFact>,
    /// The member that ordered its appends, until it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<NodeId>,
    /// What its seal decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedFact>,
    /// Bytes of it that extents point at.
    pub live_bytes: u64,
    /// The end of the furthest range that an extent was ever committed for.
    pub extent_end: u64,
    /// Where it is in S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceFact>,
}

/// A replica of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaFact {
    /// The data node.
    pub node: NodeId,
    /// Its disk.
    #[serde(with = "wide")]
    pub disk: DiskId,
    /// The node's process incarnation when the chunk was opened.
    pub incarnation: Incarnation,
}

/// What a seal decided.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFact {
    /// The chunk's length in bytes.
    pub length: u64,
    /// The chain at that length.
    pub chain: Chain,
    /// The nodes that hold all of it.
    pub holders: Vec<NodeId>,
    /// Wall time of the last record.
    pub mtime_ns: Timestamp,
    /// When it was decided.
    pub at_ns: Timestamp,
}

/// Where a chunk is in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceFact {
    /// The pack.
    pub pack: PackId,
    /// The chunk's first byte in it.
    pub offset: u64,
    /// The chunk's length.
    pub length: u64,
    /// CRC32C of those bytes.
    pub crc32c: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ChunkOwner", rename_all = "snake_case", deny_unknown_fields)]
enum OwnerJson {
    Session(SessionId),
    Tail { ino: InodeId, base: u64 },
}

/// The data nodes of a cluster, by their disks.
pub type Disks = BTreeMap<DiskId, NodeId>;

/// What of a chunk a cluster can still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it, as far as it is known.
    Kept,
    /// Nothing, and nothing points at it: it is left out.
    Unneeded,
    /// It is in no pack, and none of its replicas is here.
    Lost,
}

impl ChunkFact {
    /// What a dump says of a chunk.
    #[must_use]
    pub fn of(record: &ChunkRecord) -> Self {
        let replica =
            |r: &PlacedReplica| ReplicaFact { node: r.node, disk: r.disk, incarnation: r.incarnation };
        let sealed = record.sealed.as_ref().map(|s| SealedFact {
            length: s.length,
            chain: s.chain,
            holders: s.holders.clone(),
            mtime_ns: s.mtime,
            at_ns: s.at,
        });
        let place = record.place.map(|p| PlaceFact {
            pack: p.pack,
            offset: p.offset,
            length: p.length,
            crc32c: p.crc32c,
        });
        Self {
            chunk: record.chunk,
            epoch: if record.state == ChunkState::Open { record.epoch.next() } else { record.epoch },
            log_index: record.activation.log_index,
            opened_ns: record.activation.time,
            generation: record.activation.generation,
            owner: record.owner,
            policy: record.policy,
            replicas: record.replicas.iter().map(replica).collect(),
            primary: sealed.is_none().then_some(record.primary),
            sealed,
            live_bytes: record.live_bytes,
            extent_end: record.extent_end,
            place,
        }
    }

    /// The record that a load makes of it.
    #[must_use]
    pub fn record(&self) -> ChunkRecord {
        let replica =
            |r: &ReplicaFact| PlacedReplica { node: r.node, disk: r.disk, incarnation: r.incarnation };
        let replicas: Vec<PlacedReplica> = self.replicas.iter().map(replica).collect();
        let first = replicas.first().map_or(NodeId(0), |r| r.node);
        ChunkRecord {
            chunk: self.chunk,
            state: if self.sealed.is_some() { ChunkState::Sealed } else { ChunkState::Sealing },
            epoch: self.epoch,
            primary: self.primary.unwrap_or(first),
            replicas,
            policy: self.policy,
            owner: self.owner,
            held: false,
            activation: Activation {
                log_index: self.log_index,
                time: self.opened_ns,
                generation: self.generation,
                grant_bytes: GRANT_BYTES_FIRST,
                marks: Vec::new(),
            },
            sealed: self.sealed.as_ref().map(|s| Sealed {
                length: s.length,
                chain: s.chain,
                holders: s.holders.clone(),
                marks: Vec::new(),
                mtime: s.mtime_ns,
                at: s.at_ns,
            }),
            live_bytes: self.live_bytes,
            extent_end: self.extent_end,
            upload: None,
            place: self.place.map(|p| PackPlace {
                pack: p.pack,
                offset: p.offset,
                length: p.length,
                crc32c: p.crc32c,
            }),
        }
    }

    /// Names its replicas as the cluster with these disks does, and forgets those that it does not
    /// know. Answers what becomes of the chunk there.
    pub fn settle(&mut self, disks: &Disks) -> Fate {
        let here = |replica: &ReplicaFact| disks.get(&replica.disk).map(|node| (replica.node, *node));
        let renamed: BTreeMap<NodeId, NodeId> = self.replicas.iter().filter_map(here).collect();
        self.replicas.retain(|r| renamed.contains_key(&r.node));
        for replica in &mut self.replicas {
            replica.node = renamed.get(&replica.node).copied().unwrap_or(replica.node);
        }
        let first = self.replicas.first().map(|r| r.node);
        self.primary = self.primary.and_then(|node| renamed.get(&node).copied().or(first));
        let needed = match self.sealed.as_mut() {
            Some(sealed) => {
                sealed.holders =
                    sealed.holders.iter().filter_map(|node| renamed.get(node).copied()).collect();
                if !sealed.holders.is_empty() || self.place.is_some() {
                    let dead = self.live_bytes == 0 && self.replicas.is_empty();
                    return if dead { Fate::Unneeded } else { Fate::Kept };
                }
                self.live_bytes > 0 && sealed.length > 0
            }
            None if !self.replicas.is_empty() => return Fate::Kept,
            // What a tail took is known to nobody else.
            None => self.live_bytes > 0 || matches!(self.owner, ChunkOwner::Tail { .. }),
        };
        match (needed, self.live_bytes > 0 || !self.replicas.is_empty()) {
            (true, _) => Fate::Lost,
            (false, true) => Fate::Kept,
            (false, false) => Fate::Unneeded,
        }
    }

    /// Ends a lost chunk at 0, as an accepted loss does: what points at it cannot be read, and says so.
    /// Nothing waits for it any more. False when nothing points at it and it can be left out.
    pub fn end(&mut self) -> bool {
        self.policy.persist = Persist::Never;
        self.primary = None;
        let (mtime_ns, at_ns) =
            self.sealed.as_ref().map_or((self.opened_ns, self.opened_ns), |s| (s.mtime_ns, s.at_ns));
        let sealed = SealedFact { length: 0, chain: Chain::default(), holders: Vec::new(), mtime_ns, at_ns };
        self.sealed = Some(sealed);
        self.live_bytes > 0
    }
}
