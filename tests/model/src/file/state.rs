//! Everything there is to know about the file at one moment.

use super::setup::{File, Role};
use crate::log::Log;

/// A chunk in the metadata's log (R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Extent {
    /// No activation entry names it yet.
    #[default]
    Absent,
    /// Its activation is applied; it is the tail.
    Open,
    /// Its end is asked for.
    Sealing,
    /// Its end and its writers' last sequences are decided.
    Sealed,
    /// It is made ahead on all its replicas, to follow the tail, and belongs to no file yet (R1).
    Spare,
}

/// A chunk and its primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// The metadata's view.
    pub extent: Extent,
    /// The generation in its activation entry (R1).
    pub generation: u8,
    /// The inode's generation when the entry was applied. A ghost: equal but for a bug.
    pub due: u8,
    /// Each writer's last sequence in the activation entry (R1).
    pub carried: [u8; 3],
    /// Its primary holds the activation entry (R1).
    pub arrived: bool,
    /// A replica of it is fenced, so nothing more is acknowledged (R4).
    pub fenced: bool,
    /// Its primary closes it by a planned roll and takes nothing more (R5).
    pub closing: bool,
    /// What the primary ordered: sequence as value, writer as header.
    pub log: Log,
    /// How much of it is acknowledged (R3).
    pub committed: u8,
    /// How much of it is the file's, once sealed (R5).
    pub length: u8,
}

impl Chunk {
    /// What is, or is going to be, the file's: the decided content, or before that the committed.
    pub fn content(&self) -> Log {
        let sealed = self.extent == Extent::Sealed;
        self.log.prefix(if sealed { self.length } else { self.committed })
    }

    /// The last sequence of a writer in these records, 0 if there is none.
    pub(super) fn last_in(log: Log, writer: usize) -> u8 {
        let own = log.records().filter(|record| usize::from(record.header) == writer);
        own.map(|record| record.value).max().unwrap_or(0)
    }
}

/// How far a writer's `open_exclusive` has come; a plain writer is always `Writing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Idle,
    /// It raised the inode's generation and waits for the next activation.
    Raised,
    /// It may write.
    Writing,
    /// It was told that a later one overtook it. It writes all the same, and must get nowhere.
    Fenced,
}

/// One writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    /// How far it has come.
    pub phase: Phase,
    /// The generation in each of its appends (R11).
    pub generation: u8,
    /// The chunk at whose base its `open_exclusive` was told the file ends.
    pub end: u8,
}

/// The whole state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The chunks, in the file's order.
    pub chunks: [Chunk; 3],
    /// The inode's writer generation (R11).
    pub generation: u8,
    /// The writers.
    pub writers: [Writer; 3],
    /// For each writer and sequence, where it was told that the record lies: four for each
    /// chunk before, the position, and one; 0 when it was told nothing.
    pub acknowledged: [[u8; 3]; 3],
    /// Bit g: an activation of the next chunk that names generation g is on its way. Only the
    /// bug that trusts the proposer has them.
    pub proposed: u8,
    /// One more than the chunk that was seen as the tail by whoever asks for the length; 0 when
    /// nobody does.
    pub asked: u8,
    /// The end of all that was acknowledged when he saw it. A ghost.
    pub length_due: u8,
    /// A length was answered that is below that.
    pub length_stale: bool,
    /// A writer was acknowledged after a later generation's activation.
    pub acknowledged_late: bool,
}

impl State {
    /// One open chunk at generation 1.
    pub(super) fn start(model: &File) -> Self {
        let mut state = Self { generation: 1, ..Self::default() };
        let first = &mut state.chunks[0];
        first.extent = Extent::Open;
        first.generation = 1;
        first.due = 1;
        first.arrived = true;
        for (writer, role) in state.writers.iter_mut().zip(model.writers) {
            if role == Role::Plain {
                *writer = Writer { phase: Phase::Writing, generation: 1, end: 0 };
            }
        }
        state
    }
}
