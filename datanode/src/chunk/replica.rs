//! [`Replica`]: the rules by which a replica takes a record, a fence, a seal. Pure.

use cairn_types::limits::{APPEND_BYTES_MAX, CHUNK_BYTES_MAX, WRITERS_PER_FILE_MAX};
use cairn_types::{Ack, Chain, Epoch, Incarnation, ReplicaHealth, Timestamp};

use super::error::StoreError;
use super::spec::{AppendRecord, ChunkSpec, ChunkView, FenceAnswer, FenceSpec, ReplicaPhase, SealedSpec};
use super::state::{Phase, ReplicaState, Step};
use crate::segments::BlockSums;

/// This process, as replicas see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) incarnation: Incarnation,
    pub(crate) boot_id: [u8; 16],
}

/// What a seal makes of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealStep {
    /// It is sealed exactly so already.
    Already,
    /// It goes.
    Drop,
    /// It lacks bytes.
    Short,
    /// It may be sealed, if its chain at the decided length is that of the seal.
    IfChainMatches,
}

impl ReplicaState {
    pub(crate) fn health(&self, here: &Here) -> ReplicaHealth {
        let same_boot = self.ack == Ack::Memory && self.boot_id == here.boot_id;
        if self.damaged || self.heard > self.length {
            ReplicaHealth::Damaged
        } else if self.opened_incarnation == here.incarnation || same_boot {
            ReplicaHealth::Clean
        } else {
            ReplicaHealth::Limbo
        }
    }

    /// R1, R6: a create for this process, within the limits.
    pub(crate) fn check_spec(spec: &ChunkSpec) -> Result<(), StoreError> {
        let fits =
            spec.record.len() <= super::spec::OPAQUE_BYTES_MAX && spec.marks.len() <= WRITERS_PER_FILE_MAX;
        if fits { Ok(()) } else { Err(StoreError::BadRecord { chunk: spec.chunk }) }
    }

    /// A create for a chunk that is here already.
    pub(crate) fn check_again(&self, spec: &ChunkSpec) -> Result<(), StoreError> {
        let chunk = self.chunk;
        if self.epoch > spec.epoch {
            return Err(StoreError::Fenced { chunk, epoch: self.epoch });
        }
        let same = self.phase == Phase::Open
            && (self.opened_epoch, self.opened_incarnation) == (spec.epoch, spec.opened_incarnation)
            && (self.ack, self.base) == (spec.ack, spec.base);
        if same { Ok(()) } else { Err(StoreError::Exists { chunk }) }
    }

    /// May the record come next? With `extension` it is one between fence and seal.
    pub(crate) fn check_append(
        &self,
        record: &AppendRecord,
        sums: &BlockSums,
        extension: Option<Epoch>,
        here: &Here,
    ) -> Result<(), StoreError> {
        match extension {
            Some(epoch) => self.check_extendable(epoch)?,
            None => self.check_open(here)?,
        }
        let (chunk, offset) = (self.chunk, record.offset);
        if record.epoch != self.opened_epoch {
            return Err(StoreError::WrongEpoch { chunk, epoch: self.opened_epoch });
        }
        if offset != self.length {
            return Err(StoreError::WrongOffset { chunk, length: self.length, offset });
        }
        let bytes = record.payload.len();
        let sized = if record.close { bytes == 0 } else { (1..=APPEND_BYTES_MAX).contains(&bytes) };
        if !sized || record.end() > CHUNK_BYTES_MAX || sums.whole != record.payload_crc32c {
            return Err(StoreError::BadRecord { chunk });
        }
        if record.previous_chain != self.chain || record.next_chain() != record.chain {
            return Err(StoreError::WrongChain { chunk, offset });
        }
        if record.close { Ok(()) } else { self.check_sequence(record) }
    }

    fn check_open(&self, here: &Here) -> Result<(), StoreError> {
        let (chunk, length) = (self.chunk, self.length);
        match self.phase {
            Phase::Sealed => Err(StoreError::Sealed { chunk, length }),
            Phase::Fenced => Err(StoreError::Fenced { chunk, epoch: self.epoch }),
            Phase::Closed => Err(StoreError::Closed { chunk }),
            Phase::Open if self.opened_incarnation != here.incarnation => {
                Err(StoreError::Restarted { chunk })
            }
            Phase::Open if self.damaged => Err(StoreError::Damaged { chunk }),
            Phase::Open => Ok(()),
        }
    }

    fn check_extendable(&self, epoch: Epoch) -> Result<(), StoreError> {
        let (chunk, length) = (self.chunk, self.length);
        match self.phase {
            Phase::Sealed => Err(StoreError::Sealed { chunk, length }),
            Phase::Fenced if self.epoch == epoch => Ok(()),
            Phase::Fenced if self.epoch > epoch => Err(StoreError::Fenced { chunk, epoch: self.epoch }),
            _ => Err(StoreError::NotFenced { chunk }),
        }
    }

    fn check_sequence(&self, record: &AppendRecord) -> Result<(), StoreError> {
        let (chunk, writer, sequence) = (self.chunk, record.writer, record.sequence);
        match self.mark_of(writer) {
            Some(mark) if mark.sequence.next() != sequence => {
                Err(StoreError::SequenceGap { chunk, writer, last: mark.sequence, sequence })
            }
            None if self.marks.len() >= WRITERS_PER_FILE_MAX => Err(StoreError::TooManyWriters { chunk }),
            _ => Ok(()),
        }
    }

    /// R4. `true`: the fence is new and must be made durable.
    pub(crate) fn fence(&mut self, fence: &FenceSpec) -> Result<bool, StoreError> {
        let (chunk, length) = (self.chunk, self.length);
        if self.phase == Phase::Sealed {
            return Err(StoreError::Sealed { chunk, length });
        }
        if fence.epoch < self.epoch {
            return Err(StoreError::Fenced { chunk, epoch: self.epoch });
        }
        if fence.epoch == self.epoch {
            let fenced = self.phase == Phase::Fenced;
            return if fenced { Ok(false) } else { Err(StoreError::WrongEpoch { chunk, epoch: self.epoch }) };
        }
        self.epoch = fence.epoch;
        self.phase = Phase::Fenced;
        self.learn_base(fence.spec.base);
        Ok(true)
    }

    /// A spare was made before it was known where in the file it would lie; the fence's record says it.
    fn learn_base(&mut self, base: u64) {
        if self.base == 0 && base > 0 {
            self.base = base;
            self.marks.iter_mut().for_each(|mark| mark.offset += base);
        }
    }

    pub(crate) fn fence_answer(&self, here: &Here) -> FenceAnswer {
        FenceAnswer {
            length: self.length,
            chain: self.chain,
            marks: self.marks.clone(),
            health: self.health(here),
            heard_committed: self.heard,
            mtime: Timestamp(self.mtime_ns),
            epoch: self.epoch,
        }
    }

    pub(crate) fn seal_step(&self, sealed: &SealedSpec) -> Result<SealStep, StoreError> {
        let (chunk, length) = (self.chunk, self.length);
        let same = (length, self.chain) == (sealed.length, sealed.chain);
        if self.phase == Phase::Sealed && !same {
            return Err(StoreError::Sealed { chunk, length });
        }
        Ok(match (sealed.holder, self.phase) {
            (false, _) => SealStep::Drop,
            (true, Phase::Sealed) => SealStep::Already,
            (true, _) if length < sealed.length => SealStep::Short,
            (true, _) => SealStep::IfChainMatches,
        })
    }

    /// Takes the seal; `seal_step` and the chain said that it may.
    pub(crate) fn seal(&mut self, sealed: &SealedSpec) {
        self.phase = Phase::Sealed;
        self.epoch = self.epoch.max(sealed.epoch);
        self.length = sealed.length;
        self.chain = sealed.chain;
        self.heard = self.heard.min(sealed.length);
        self.marks.clear();
        self.damaged = false;
    }

    pub(crate) fn view(&self, here: &Here) -> ChunkView {
        let open = self.phase == Phase::Open;
        ChunkView {
            chunk: self.chunk,
            opened_epoch: self.opened_epoch,
            epoch: self.epoch,
            opened_incarnation: self.opened_incarnation,
            ack: self.ack,
            phase: match self.phase {
                Phase::Open => ReplicaPhase::Open,
                Phase::Closed => ReplicaPhase::Closed,
                Phase::Fenced => ReplicaPhase::Fenced,
                Phase::Sealed => ReplicaPhase::Sealed,
            },
            accepts: open && !self.damaged && self.opened_incarnation == here.incarnation,
            health: self.health(here),
            length: self.length,
            chain: self.chain,
            heard_committed: self.heard,
            base: self.base,
            mtime: Timestamp(self.mtime_ns),
            record: self.record.clone().into(),
            place: self.place.clone().map(Into::into),
        }
    }
}

impl AppendRecord {
    pub(crate) fn step(&self, wall: Timestamp) -> Step {
        Step {
            offset: self.offset,
            length: self.payload.len() as u32,
            writer: self.writer,
            sequence: self.sequence,
            chain: if self.close { Chain(0) } else { self.chain },
            committed: self.committed,
            close: self.close,
            wall,
        }
    }
}
