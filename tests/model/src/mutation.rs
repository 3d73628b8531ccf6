//! Deliberate bugs: each is one rule left out, and each must be caught.

/// One bug put into the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    // One chunk.
    /// An append is acknowledged when two of three replicas have it (against R3).
    AckTwoOfThree,
    /// An answer is taken from a replica that goes on accepting (against R4).
    LengthWithoutFence,
    /// A restart forgets the fence, and the old epoch is accepted again (against R4, R6).
    FenceNotDurable,
    /// What was accepted before the fence is finished after the answer (against R4).
    FenceWithoutDrain,
    /// A replica confirms what it has not made safe (against R3).
    AckBeforeSync,
    /// The shortest answer becomes the length (against R5).
    SealShortest,
    /// One restarted replica decides alone (against R5).
    LoneLimboDecides,
    /// A restarted primary goes on (against R6).
    PrimaryGoesOn,
    /// Two restarted replicas decide a `memory` chunk (against R5).
    TwoLimboDecideMemory,
    /// All replicas, each restarted, decide a `memory` chunk (against R5).
    AllLimboDecideMemory,
    /// A replica that lacks the chunk answers 0 without making a fenced empty one (against R4).
    LateCreate,
    /// A planned roll counts a close record that two of three replicas have (against R5).
    CloseTwoOfThree,
    /// A reader is served all that the replica holds (against R9).
    ReadUncommitted,
    /// Forwards carry the primary's own length instead of the committed one (against R3).
    ForwardCarriesLength,
    /// A damaged replica is taken as proof of the length (against R5).
    DamagedDecides,
    /// The length may lie below a committed length that was heard (against R5).
    DecideBelowHeard,
    /// A repeated create makes a restarted, emptied replica clean again (against the definition
    /// of clean: the create must name the incarnation it is for).
    CreateForgetsRestart,
    /// A replica is counted as brought up before its bytes are safe (against R5).
    BringUpNotSafe,
    /// A fence answers the length it has in its index, without reading the records back, and so
    /// does not see that one is rotten (against R4: the length is that of a valid prefix).
    FenceUnverified,
    /// A `memory` replica that cut a bad last record at its process's restart still calls itself
    /// clean (against R5 and the failure table: cut, and limbo).
    CutStaysClean,
    /// A restarted replica answers what its page cache kept and its disk may not have (against R4:
    /// drain means that what recovery found is synced before the answer).
    RecoveryNotSynced,
    /// A round cuts what is longer than its own length before the end is decided (against R5).
    CutBeforeSealed,
    /// A second round overwrites the decision of the first (against R5).
    SealWithoutCompare,
    /// Who learned of the seal can still be extended by a slower round (against R5).
    ExtendAfterSealed,
    /// Who deletes the chunk after the seal deletes its fence too, and a late create makes an
    /// empty, willing one (against R4, R8).
    DeleteForgetsFence,
    /// An append is acknowledged when those replicas have it that exist so far (against R1: created
    /// before the first ack).
    AckOfCreatedOnly,
    /// A secondary accepts a record that is not the next at its own length (against R2).
    ForwardOutOfPlace,
    /// A primary takes a sequence again that it has (against R2, R10).
    RepeatTakenAnew,
    /// A seal goes in with fewer holders than it needs (against R5).
    SealBelowHolders,
    /// The planned roll's entry overwrites a seal that was decided by a round (against R5).
    PlannedWithoutCompare,
    /// A reader is served bytes whose checksum was not verified (against R9).
    ReadUnverified,
    /// A restarted node takes a replica that it finds empty for a spare, and so for clean: it may have
    /// been activated and written since (against R6).
    SpareStaysClean,

    // The file.
    /// A repeat is answered before the first one is committed (against R10).
    RepeatAnsweredEarly,
    /// A primary takes a sequence whose predecessor it never had (against R2).
    GapTaken,
    /// A primary accepts before it holds its activation (against R1).
    AcceptBeforeActivation,
    /// A new chunk knows no sequences (against R1).
    ForgetSequences,
    /// A new chunk knows only the sequences of those who wrote in the chunk before (against R1).
    ForgetAbsentWriters,
    /// The sequences of a sealed chunk are those its replicas answered, without what its
    /// activation carried (against R1, where the activation never arrived).
    CarryOnlyAnswered,
    /// A primary does not look at the generation (against R11).
    GenerationUnchecked,
    /// The activation names the generation its proposer knew (against R1).
    GenerationFromProposer,
    /// The next chunk is activated while the end of the last is undecided (against R1, R5).
    ActivateBeforeDecided,
    /// An `open_exclusive` that was overtaken is told that it succeeded (against R11).
    RivalNotFenced,
    /// A length is asked of the primary of a tail that an old metadata read saw (against R9).
    LengthOfOldTail,
    /// A spare takes records before it is activated (against R1).
    SpareServes,
    /// A spare knows the sequences of when it was made (against R1).
    SpareKeepsSequences,
    /// A spare has the generation of when it was made (against R1).
    SpareKeepsGeneration,

    // Grants.
    /// A primary takes whatever fits into a chunk (against R13).
    GrantIgnored,
    /// A primary takes what it has asked for, before it hears that it was granted (against R13).
    TakeBeforeGranted,
    /// The first grant is not charged (against R13).
    ActivationUncharged,
    /// A renewal is not charged (against R13).
    RenewalUncharged,
    /// The bound is looked at when a renewal is sent on, not when it is applied, so that two which
    /// fit alone do not fit together (against R13).
    RenewalCheckedByProposer,
    /// A renewal is applied to a chunk that is sealed (against R13).
    RenewAfterSeal,
    /// The seal does not return the rest of the grant (against R13).
    SealKeepsGrant,
    /// A second seal returns the rest once more (against R5, R13).
    SealReturnsTwice,
    /// The rest is returned when the seal is asked for, while the primary still writes (against
    /// R13).
    ReturnBeforeDecided,
    /// The fence's record has no place of its own on a full disk (against R13).
    FenceNotPreallocated,

    // After the seal.
    /// A replica that is longer than the chunk is kept as it is (against R8).
    KeepsLonger,
    /// A returning replica is kept though it does not reach the length (against R8).
    KeepsShorter,
    /// A replica is kept for its length alone, whatever its chain (against R8).
    ChainUnchecked,
    /// A replica that is to go, or that nobody checked, is served (against R8).
    ServesUnchecked,
    /// A late tombstone takes a copy that was made after it (against R8, R12).
    DeleteTakesLaterCopy,
    /// A copy that was given up, and perhaps deleted, is counted as a holder (against R8).
    LateCopyCounted,
    /// A copy is reported before its bytes are safe (against R8: as R5 has it for a bring-up).
    CopyNotSafe,
    /// A copy is made of bytes whose checksums were not verified; the chain covers headers only
    /// (against R8, R9).
    CopyUnverified,
    /// A holder that is only silent is struck off as if its disk were gone (against R7, R12).
    SilentHolderStruck,
    /// Whether enough other holders are there is looked at when a removal is proposed, not when it
    /// is applied (against R12).
    RemovalCheckedByProposer,
    /// A replica is evicted when its object was sent, before that was read back and recorded (against
    /// R12).
    EvictBeforeRecorded,
    /// An object is recorded that was not read back (against R12).
    PersistedUnread,
    /// An object is put without If-None-Match (against R12).
    PutOverwrites,
    /// What only a restore point retains is collected (against R12).
    RetainedCollected,
    /// The object of what only a restore point retains is deleted (against R12).
    RetainedObjectDeleted,
}

impl Mutation {
    /// Every one of them, so that a test can see that none was left out.
    pub const ALL: &[Self] = &[
        Self::AckTwoOfThree,
        Self::LengthWithoutFence,
        Self::FenceNotDurable,
        Self::FenceWithoutDrain,
        Self::AckBeforeSync,
        Self::SealShortest,
        Self::LoneLimboDecides,
        Self::PrimaryGoesOn,
        Self::TwoLimboDecideMemory,
        Self::AllLimboDecideMemory,
        Self::LateCreate,
        Self::CloseTwoOfThree,
        Self::ReadUncommitted,
        Self::ForwardCarriesLength,
        Self::DamagedDecides,
        Self::DecideBelowHeard,
        Self::CreateForgetsRestart,
        Self::BringUpNotSafe,
        Self::FenceUnverified,
        Self::CutStaysClean,
        Self::RecoveryNotSynced,
        Self::CutBeforeSealed,
        Self::SealWithoutCompare,
        Self::ExtendAfterSealed,
        Self::DeleteForgetsFence,
        Self::AckOfCreatedOnly,
        Self::ForwardOutOfPlace,
        Self::RepeatTakenAnew,
        Self::SealBelowHolders,
        Self::PlannedWithoutCompare,
        Self::ReadUnverified,
        Self::SpareStaysClean,
        Self::RepeatAnsweredEarly,
        Self::GapTaken,
        Self::AcceptBeforeActivation,
        Self::ForgetSequences,
        Self::ForgetAbsentWriters,
        Self::CarryOnlyAnswered,
        Self::GenerationUnchecked,
        Self::GenerationFromProposer,
        Self::ActivateBeforeDecided,
        Self::RivalNotFenced,
        Self::LengthOfOldTail,
        Self::SpareServes,
        Self::SpareKeepsSequences,
        Self::SpareKeepsGeneration,
        Self::GrantIgnored,
        Self::TakeBeforeGranted,
        Self::ActivationUncharged,
        Self::RenewalUncharged,
        Self::RenewalCheckedByProposer,
        Self::RenewAfterSeal,
        Self::SealKeepsGrant,
        Self::SealReturnsTwice,
        Self::ReturnBeforeDecided,
        Self::FenceNotPreallocated,
        Self::KeepsLonger,
        Self::KeepsShorter,
        Self::ChainUnchecked,
        Self::ServesUnchecked,
        Self::DeleteTakesLaterCopy,
        Self::LateCopyCounted,
        Self::CopyNotSafe,
        Self::CopyUnverified,
        Self::SilentHolderStruck,
        Self::RemovalCheckedByProposer,
        Self::EvictBeforeRecorded,
        Self::PersistedUnread,
        Self::PutOverwrites,
        Self::RetainedCollected,
        Self::RetainedObjectDeleted,
    ];
}
