//! The atomic steps and how a trace names them.

use std::fmt;

/// One step of the chunk's life. Replicas are numbered, 0 is the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The create arrives at a replica, late or again (R1, R4).
    Create(usize),
    /// The primary takes a value from its writer (R2).
    Append(u8),
    /// The writer sends a value again, and is answered (R10).
    Repeat(u8),
    /// A secondary takes the record at its own length (R2).
    Forward(usize),
    /// One more record of a replica is safe, and it says so (R3).
    Sync(usize),
    /// The primary acknowledges the next record (R3).
    Commit,
    /// The primary closes the chunk by a record of its own (R5, planned roll).
    Close,
    /// The planned roll's entry: Open → Sealed without a round (R5).
    PlannedSeal,
    /// A process restarts and keeps this many records; it loses nothing that was safe (R6).
    Restart(usize, u8),
    /// A replica restarts having lost its disk's tail, or for `memory` its power.
    Loss(usize, u8),
    /// As `Loss`, and the record of the chunk's creation is gone too.
    LossOfAll(usize),
    /// A record rots on a replica's disk.
    Rot(usize, u8),
    /// Open → Sealing (R5).
    AskSeal,
    /// A round fences a replica, which finishes what it accepted, and has its answer (R4).
    Fence(usize, usize),
    /// As `Fence`, but the replica fails what it accepted.
    FenceDropping(usize, usize),
    /// A round starts again with no answers (R5: anyone may repeat it).
    Again(usize),
    /// A round brings a replica to its length (R5).
    Extend(usize, usize),
    /// A round brings a fresh node to its length (R5).
    ExtendFresh(usize),
    /// A round cuts a replica before the seal: only a bug does.
    CutEarly(usize, usize),
    /// A round's compare-and-set succeeds (R5).
    Seal(usize),
    /// A replica learns of the seal: it cuts, or deletes (R5, R8).
    Learn(usize),
    /// A secondary hears the committed length outside of a record (R3, R9).
    Hear(usize),
    /// A reader reads all that a replica serves (R9).
    Read(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Create(at) => write!(out, "create arrives at {at}"),
            Self::Append(value) => write!(out, "primary takes value {value}"),
            Self::Repeat(value) => write!(out, "value {value} sent again, answered"),
            Self::Forward(at) => write!(out, "forward arrives at {at}"),
            Self::Sync(at) => write!(out, "one more record safe at {at}"),
            Self::Commit => write!(out, "primary acknowledges the next"),
            Self::Close => write!(out, "primary writes the close record"),
            Self::PlannedSeal => write!(out, "planned roll: Open -> Sealed"),
            Self::Restart(at, kept) => write!(out, "{at} restarts with {kept} records"),
            Self::Loss(at, kept) => write!(out, "{at} loses safe bytes, keeps {kept}"),
            Self::LossOfAll(at) => write!(out, "{at} loses the whole chunk"),
            Self::Rot(at, record) => write!(out, "record {record} rots at {at}"),
            Self::AskSeal => write!(out, "Open -> Sealing"),
            Self::Fence(at, round) => write!(out, "round {round} fences {at}"),
            Self::FenceDropping(at, round) => write!(out, "round {round} fences {at}, unsafe fails"),
            Self::Again(round) => write!(out, "round {round} starts again"),
            Self::Extend(at, round) => write!(out, "round {round} brings {at} to its length"),
            Self::ExtendFresh(round) => write!(out, "round {round} brings a fresh node up"),
            Self::CutEarly(at, round) => write!(out, "round {round} cuts {at} before the seal"),
            Self::Seal(round) => write!(out, "round {round}: Sealing -> Sealed"),
            Self::Learn(at) => write!(out, "{at} learns of the seal"),
            Self::Hear(at) => write!(out, "{at} hears the committed length"),
            Self::Read(at) => write!(out, "a reader reads at {at}"),
        }
    }
}
