//! The atomic steps and how a trace names them.

use std::fmt;

/// One step. Chunks are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The activation of a chunk is applied, with its first grant.
    Open(usize),
    /// The primary takes one byte within its grant.
    Take(usize),
    /// One more byte is acknowledged.
    Commit(usize),
    /// The primary asks for a grant of this many bytes.
    Ask(usize, u8),
    /// The log grants this many bytes.
    Renew(usize, u8),
    /// The primary hears what is granted.
    Hear(usize),
    /// The primary closes the chunk, and the planned roll's entry is applied.
    Roll(usize),
    /// Open → Sealing.
    AskSeal(usize),
    /// The first replica is fenced.
    Fence(usize),
    /// Sealing → Sealed at this length.
    Decide(usize, u8),
    /// A second entry decides the same: only a bug lets it change anything.
    DecideAgain(usize),
    /// The chunk is in S3.
    Persist(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Open(at) => write!(out, "activation of {at} applied"),
            Self::Take(at) => write!(out, "{at} takes a byte"),
            Self::Commit(at) => write!(out, "{at} acknowledges the next"),
            Self::Ask(at, bytes) => write!(out, "{at} asks for {bytes}"),
            Self::Renew(at, bytes) => write!(out, "{at} is granted {bytes}"),
            Self::Hear(at) => write!(out, "{at} hears of its grant"),
            Self::Roll(at) => write!(out, "{at}: planned roll"),
            Self::AskSeal(at) => write!(out, "{at}: Open -> Sealing"),
            Self::Fence(at) => write!(out, "{at} is fenced"),
            Self::Decide(at, length) => write!(out, "{at}: Sealed at {length}"),
            Self::DecideAgain(at) => write!(out, "{at}: Sealed again"),
            Self::Persist(at) => write!(out, "{at} is in S3"),
        }
    }
}
