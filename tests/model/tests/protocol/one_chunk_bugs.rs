//! Each bug of one chunk, in the smallest model that shows it.

use cairn_model::one_chunk::{OneChunk, Policy};

use crate::bugs;

fn two() -> OneChunk {
    OneChunk::new(2, Policy::Fsync)
}

fn three() -> OneChunk {
    OneChunk::new(3, Policy::Fsync)
}

fn memory() -> OneChunk {
    OneChunk::new(3, Policy::Memory)
}

bugs! {
    ack_at_two_of_three: AckTwoOfThree
        in OneChunk { fresh: 1, ..three() } => AcknowledgedInsideSeal;
    lengths_read_without_fencing: LengthWithoutFence
        in two() => AcknowledgedInsideSeal;
    a_fence_that_is_not_durable: FenceNotDurable
        in OneChunk { crashes: 1, fresh: 1, ..two() } => AcknowledgedInsideSeal;
    fencing_without_draining: FenceWithoutDrain
        in two() => AcknowledgedInsideSeal;
    ack_before_fsync: AckBeforeSync
        in OneChunk { crashes: 2, ..two() } => AcknowledgedRecoverable;
    sealing_at_the_shortest_length: SealShortest
        in OneChunk { losses: 1, ..two() } => AcknowledgedInsideSeal;
    a_lone_restarted_replica_as_proof: LoneLimboDecides
        in OneChunk { losses: 1, fresh: 1, ..two() } => AcknowledgedInsideSeal;
    a_primary_going_on_after_its_restart: PrimaryGoesOn
        in OneChunk { crashes: 1, two_writers: true, ..two() } => NoDivergence;
    two_in_limbo_deciding_memory: TwoLimboDecideMemory
        in OneChunk { losses: 2, ..memory() } => AcknowledgedInsideSeal;
    all_in_limbo_deciding_memory: AllLimboDecideMemory
        in OneChunk { records: 1, losses: 3, ..memory() } => AcknowledgedInsideSeal;
    a_late_create_after_the_answer: LateCreate
        in OneChunk { late_creates: true, fresh: 1, ..two() } => AcknowledgedInsideSeal;
    a_close_record_acknowledged_by_two_of_three: CloseTwoOfThree
        in OneChunk { closes: true, ..three() } => HoldersHold;
    a_repeat_answered_before_the_commit: RepeatAnsweredEarly
        in two() => AcknowledgedRecoverable;
    a_reader_served_uncommitted_bytes: ReadUncommitted
        in OneChunk { reads: true, ..two() } => ReaderSeesOnlySealed;
    forwards_that_carry_the_length: ForwardCarriesLength
        in OneChunk { crashes: 1, hears: true, ..two() } => StaysDecidable;
    a_damaged_replica_as_proof: DamagedDecides
        in OneChunk { rots: 1, fresh: 2, ..two() } => AcknowledgedInsideSeal;
    damaged_deciding_below_a_heard_length: DecideBelowHeard
        in OneChunk { crashes: 2, rots: 2, hears: true, fresh: 1, beyond_promise: true, ..two() }
        => NeverBelowHeard;
    a_restarted_spare_taken_as_clean: SpareStaysClean
        in OneChunk { losses: 1, fresh: 1, ..two() } => AcknowledgedInsideSeal;
    a_create_that_forgets_the_restart: CreateForgetsRestart
        in OneChunk { losses: 1, late_creates: true, fresh: 1, ..two() }
        => AcknowledgedInsideSeal;
    a_holder_counted_before_it_is_safe: BringUpNotSafe
        in OneChunk { crashes: 1, ..two() } => HoldersHold;
    a_fence_that_does_not_read_back: FenceUnverified
        in OneChunk { rots: 1, fresh: 1, ..two() } => HoldersHold;
    a_cut_tail_that_stays_clean: CutStaysClean
        in OneChunk { crashes: 1, rots: 1, fresh: 1, ..memory() } => AcknowledgedInsideSeal;
    a_recovery_that_does_not_sync: RecoveryNotSynced
        in OneChunk { crashes: 2, ..two() } => HoldersHold;
    a_round_that_cuts_before_the_seal: CutBeforeSealed
        in OneChunk { rounds: 2, ..three() } => HoldersHold;
    a_second_round_that_overwrites: SealWithoutCompare
        in OneChunk { rounds: 2, ..three() } => DecidedOnce;
    a_slow_round_that_extends_after_the_seal: ExtendAfterSealed
        in OneChunk { rounds: 2, ..three() } => SealedExactly;
    a_deleted_replica_that_forgets_its_fence: DeleteForgetsFence
        in OneChunk { late_creates: true, fresh: 2, leaves_out: true, ..two() }
        => AcknowledgedInsideSeal;
    an_ack_without_those_not_created_yet: AckOfCreatedOnly
        in OneChunk { late_creates: true, fresh: 1, ..two() } => AcknowledgedInsideSeal;
    a_forward_taken_out_of_place: ForwardOutOfPlace
        in two() => NoDivergence;
    a_repeat_taken_anew: RepeatTakenAnew
        in two() => OnceOnly;
    a_seal_with_too_few_holders: SealBelowHolders
        in two() => EnoughHolders;
    a_planned_roll_over_a_decided_seal: PlannedWithoutCompare
        in OneChunk { closes: true, leaves_out: true, ..three() } => HoldersHold;
    a_reader_served_unverified_bytes: ReadUnverified
        in OneChunk { rots: 1, fresh: 1, reads: true, ..two() } => ReaderSeesOnlySealed;
}
