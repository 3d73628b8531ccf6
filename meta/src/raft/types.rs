//! The types that openraft is used with.

use std::fmt;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::machine::StateMachine;
use crate::namespace::reply::Reply;

openraft::declare_raft_types!(
    /// Standard Raft: one leader a term.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

#[cfg(not(test))]
#[allow(deprecated, reason = "its own crate is a dependency of openraft's, not of ours")]
use openraft::impls::TokioRuntime as Runtime;

/// tokio, but for the simulation's thread.
#[cfg(test)]
use super::sim::runtime::Runtime;

/// The Raft core of this server.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;
/// A vote as openraft knows it.
pub type Vote = openraft::impls::Vote<leader_id_std::LeaderId<u64, u64>>;
/// A leader as log entries name it: its term.
pub type Committed = <leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::Committed;
/// A log entry's identity: term and index.
pub type LogId = openraft::LogId<Committed>;
/// A log entry.
pub type Entry = openraft::Entry<Committed, EntryPayload<Proposal, u64, BasicNode>>;
/// The membership and the entry that set it.
pub type Members = openraft::StoredMembership<Committed, u64, BasicNode>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::storage::SnapshotMeta<Committed, u64, BasicNode>;

/// An encoded `namespace::Entry`: encoded once by the proposer, decoded once by each server that
/// applies it, and shared by reference in between.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Self)
    }
}

/// What applying an entry answered: `None` for blank and membership entries.
///
/// openraft asks for serde on it, which nothing here ever uses: an answer goes from the state
/// machine to the proposer in the same process.
#[derive(Debug)]
pub struct Answer(pub Option<Reply>);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("an answer never leaves its process"))
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("an answer never leaves its process"))
    }
}
