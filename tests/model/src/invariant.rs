//! What must hold in every state.

use std::fmt;

/// A promise of the protocol. Every one is checked in every state that is visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// What was acknowledged lies at its offset inside the decided prefix (R3, R5).
    AcknowledgedInsideSeal,
    /// What was acknowledged can still be read from a replica that no fault took (R3), after
    /// the seal from a holder (R5, R8).
    AcknowledgedRecoverable,
    /// While the end is asked for, answers from all replicas would decide it (R5); under `memory`
    /// only while one of them is clean.
    StaysDecidable,
    /// No record lies twice in a replica or in the file (R2, R10).
    OnceOnly,
    /// A writer's records lie in the file in the order of its sequences, without gaps (R2).
    WriterOrder,
    /// Of any two replicas one begins with the other (R2).
    NoDivergence,
    /// What a reader was given lies in the sealed content (R9).
    ReaderSeesOnlySealed,
    /// A chunk's end is decided once (R5).
    DecidedOnce,
    /// Who is counted as a holder has all of the content, unless a disk fault took it since (R5).
    HoldersHold,
    /// A seal goes in with at least min(2, replicas) holders, or what `min_replicas` allows (R5).
    EnoughHolders,
    /// The end is never decided below a committed length that an answer had heard (R5).
    NeverBelowHeard,
    /// Who has learned of the seal holds exactly the content, or nothing (R5, R8).
    SealedExactly,
    /// No writer is acknowledged for the first time after a later generation was activated (R11).
    FencedNeverAcknowledged,
    /// From the end that `open_exclusive` answered, only its own generation or a later one
    /// follows (R11).
    ExactEnd,
    /// `open_exclusive` succeeds only for the generation its chunk was activated for (R11).
    OneOwner,
    /// A length that was asked for covers all that was acknowledged before (R9).
    LengthNotStale,
    /// What is charged, and what all chunks have, stays within the bound (R13).
    WithinBound,
    /// No chunk has more than is charged for it (R13).
    WithinGrant,
    /// What is charged is what the open chunks are granted and what the sealed ones have (R13).
    ChargedExactly,
    /// A chunk that is not in S3 has as many holders as it was sealed with, less those whose disks
    /// are gone (R12).
    CopyFirst,
    /// What is recorded to be in S3 is there (R12).
    PersistedIsStored,
}

impl Invariant {
    /// Every one of them, so that a test can see that each can be broken.
    pub const ALL: &[Self] = &[
        Self::AcknowledgedInsideSeal,
        Self::AcknowledgedRecoverable,
        Self::StaysDecidable,
        Self::OnceOnly,
        Self::WriterOrder,
        Self::NoDivergence,
        Self::ReaderSeesOnlySealed,
        Self::DecidedOnce,
        Self::HoldersHold,
        Self::EnoughHolders,
        Self::NeverBelowHeard,
        Self::SealedExactly,
        Self::FencedNeverAcknowledged,
        Self::ExactEnd,
        Self::OneOwner,
        Self::LengthNotStale,
        Self::WithinBound,
        Self::WithinGrant,
        Self::ChargedExactly,
        Self::CopyFirst,
        Self::PersistedIsStored,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
