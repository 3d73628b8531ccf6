//! [`ReplicaState`]: what a replica is, as it is stored (docs/FORMAT.md, "Segments", replica state).

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{Ack, Chain, ChunkId, Epoch, Incarnation, Sequence, Timestamp, WriterId, WriterMark};

use super::spec::ChunkSpec;

/// The format byte of a stored replica state.
pub const STATE_FORMAT: u8 = 1;

/// A phase as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Phase {
    Open,
    Closed,
    Fenced,
    Sealed,
}

/// A replica's whole state but for its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ReplicaState {
    pub(crate) chunk: ChunkId,
    pub(crate) opened_epoch: Epoch,
    pub(crate) opened_incarnation: Incarnation,
    /// Of the machine when the replica was made; zeros when a fence made it.
    pub(crate) boot_id: [u8; 16],
    pub(crate) ack: Ack,
    pub(crate) base: u64,
    pub(crate) record: Vec<u8>,
    pub(crate) epoch: Epoch,
    pub(crate) phase: Phase,
    pub(crate) damaged: bool,
    pub(crate) length: u64,
    pub(crate) chain: Chain,
    pub(crate) heard: u64,
    pub(crate) mtime_ns: i64,
    /// By writer.
    pub(crate) marks: Vec<WriterMark>,
    pub(crate) place: Option<Vec<u8>>,
}

/// The fields of a stored append or close record that move a state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) writer: WriterId,
    pub(crate) sequence: Sequence,
    pub(crate) chain: Chain,
    pub(crate) committed: u64,
    pub(crate) close: bool,
    pub(crate) wall: Timestamp,
}

impl ReplicaState {
    pub(crate) fn new(spec: &ChunkSpec, boot_id: [u8; 16]) -> Self {
        let mut marks = spec.marks.clone();
        marks.sort_unstable();
        marks.dedup_by_key(|mark| mark.writer);
        Self {
            chunk: spec.chunk,
            opened_epoch: spec.epoch,
            opened_incarnation: spec.opened_incarnation,
            boot_id,
            ack: spec.ack,
            base: spec.base,
            record: spec.record.to_vec(),
            epoch: spec.epoch,
            phase: Phase::Open,
            damaged: false,
            length: 0,
            chain: Chain(0),
            heard: 0,
            mtime_ns: 0,
            marks,
            place: None,
        }
    }

    /// What is left of a replica whose state is lost: nothing that proves anything.
    pub(crate) fn lost(chunk: ChunkId, epoch: Epoch) -> Self {
        let spec = ChunkSpec {
            chunk,
            epoch,
            ack: Ack::Fsync,
            opened_incarnation: Incarnation(0),
            base: 0,
            marks: Vec::new(),
            record: bytes::Bytes::new(),
        };
        Self { damaged: true, ..Self::new(&spec, [0; 16]) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(STATE_FORMAT, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(STATE_FORMAT, bytes)
    }

    pub(crate) fn mark_of(&self, writer: WriterId) -> Option<&WriterMark> {
        let found = self.marks.binary_search_by_key(&writer, |mark| mark.writer);
        found.ok().and_then(|index| self.marks.get(index))
    }

    /// Takes a record that was checked.
    pub(crate) fn advance(&mut self, step: &Step) {
        self.heard = self.heard.max(step.committed);
        self.mtime_ns = step.wall.0;
        if step.close {
            if self.phase == Phase::Open {
                self.phase = Phase::Closed;
            }
            return;
        }
        self.length = step.offset + u64::from(step.length);
        self.chain = step.chain;
        let mark =
            WriterMark { writer: step.writer, sequence: step.sequence, offset: self.base + step.offset };
        match self.marks.binary_search_by_key(&step.writer, |mark| mark.writer) {
            Ok(index) => self.marks[index] = mark,
            Err(index) => self.marks.insert(index, mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_state_is_pinned() {
        let mark = WriterMark { writer: WriterId(1), sequence: Sequence(2), offset: 3 };
        let state = ReplicaState {
            chunk: ChunkId(7),
            opened_epoch: Epoch(1),
            opened_incarnation: Incarnation(4),
            boot_id: [9; 16],
            ack: Ack::Memory,
            base: 10,
            record: vec![11, 12],
            epoch: Epoch(2),
            phase: Phase::Fenced,
            damaged: true,
            length: 13,
            chain: Chain(14),
            heard: 15,
            mtime_ns: 16,
            marks: vec![mark],
            place: Some(vec![17]),
        };
        let mut golden = vec![1, 7, 1, 4];
        golden.extend([9; 16]);
        golden.extend([1, 10, 2, 11, 12, 2, 2, 1, 13, 14, 15, 32, 1, 1, 2, 3, 1, 1, 17]);
        assert_eq!(state.encode(), golden);
        assert_eq!(ReplicaState::decode(&golden), Ok(state));
    }
}
