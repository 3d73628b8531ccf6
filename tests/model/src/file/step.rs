//! The atomic steps and how a trace names them.

use std::fmt;

/// One step of the file's life. Writers are A, B and C, chunks are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A primary takes a writer's sequence (R2).
    Take {
        /// Who sends.
        writer: usize,
        /// What.
        sequence: u8,
        /// To the primary of this chunk.
        chunk: usize,
    },
    /// A primary answers a repeat that it has not committed: only a bug does.
    AnswerEarly {
        /// Who repeats.
        writer: usize,
        /// What.
        sequence: u8,
        /// To the primary of this chunk.
        chunk: usize,
    },
    /// The next record of a chunk is on all replicas, and acknowledged (R3).
    Commit(usize),
    /// Open → Sealing (R5).
    AskSeal(usize),
    /// The first replica of the chunk is fenced (R4).
    Fence(usize),
    /// Sealing → Sealed at this length (R5).
    Decide(usize, u8),
    /// The primary writes its close record (R5).
    Close(usize),
    /// Open → Sealed and the next activation in one entry (R5, planned roll).
    PlannedRoll(usize),
    /// Somebody proposes the activation of a chunk for the generation he knows: only a bug cares.
    Propose(usize),
    /// The activation of a chunk is applied (R1).
    Activate(usize),
    /// The activation reaches the chunk's primary, perhaps late (R1).
    Arrive(usize),
    /// `open_exclusive` raises the inode's generation (R11).
    Raise(usize),
    /// A linearizable read of the metadata sees this chunk as the open tail (R9).
    SeeTail(usize),
    /// Its primary answers how long the file is.
    Length(usize),
    /// A chunk is made ahead of its activation (R1).
    Prepare(usize),
    /// It is given up before that.
    LoseSpare(usize),
}

fn name(writer: usize) -> char {
    ['A', 'B', 'C'].get(writer).copied().unwrap_or('?')
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Take { writer, sequence, chunk } => {
                write!(out, "chunk {chunk} takes {}{sequence}", name(writer))
            }
            Self::AnswerEarly { writer, sequence, chunk } => {
                write!(out, "chunk {chunk} answers {}{sequence} early", name(writer))
            }
            Self::Commit(chunk) => write!(out, "chunk {chunk} acknowledges the next"),
            Self::AskSeal(chunk) => write!(out, "chunk {chunk}: Open -> Sealing"),
            Self::Fence(chunk) => write!(out, "chunk {chunk} is fenced"),
            Self::Decide(chunk, length) => write!(out, "chunk {chunk}: Sealed at {length}"),
            Self::Close(chunk) => write!(out, "chunk {chunk} writes its close record"),
            Self::PlannedRoll(chunk) => write!(out, "chunk {chunk}: planned roll"),
            Self::Propose(chunk) => write!(out, "activation of {chunk} proposed"),
            Self::Activate(chunk) => write!(out, "activation of {chunk} applied"),
            Self::Arrive(chunk) => write!(out, "activation reaches chunk {chunk}"),
            Self::SeeTail(chunk) => write!(out, "chunk {chunk} is seen as the tail"),
            Self::Length(chunk) => write!(out, "chunk {chunk} answers the length"),
            Self::Prepare(chunk) => write!(out, "chunk {chunk} is made ahead"),
            Self::LoseSpare(chunk) => write!(out, "spare {chunk} is given up"),
            Self::Raise(writer) => write!(out, "{} raises the generation", name(writer)),
        }
    }
}
