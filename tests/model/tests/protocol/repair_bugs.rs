//! Each bug of a sealed chunk, in the smallest model that shows it.

use cairn_model::repair::Repair;

use crate::bugs;

fn two() -> Repair {
    Repair::new(2)
}

fn stored() -> Repair {
    Repair { persists: true, ..Repair::new(2) }
}

bugs! {
    a_longer_replica_that_is_not_cut: KeepsLonger
        in two() => SealedExactly;
    a_returning_replica_that_falls_short: KeepsShorter
        in Repair { losses: 1, ..two() } => SealedExactly;
    a_copy_whose_chain_is_not_checked: ChainUnchecked
        in two() => ReaderSeesOnlySealed;
    serving_what_was_not_checked: ServesUnchecked
        in two() => ReaderSeesOnlySealed;
    a_late_tombstone_that_takes_a_later_copy: DeleteTakesLaterCopy
        in two() => HoldersHold;
    a_late_report_that_is_counted: LateCopyCounted
        in two() => HoldersHold;
    a_copy_reported_before_it_is_safe: CopyNotSafe
        in two() => HoldersHold;
    a_copy_of_bytes_that_were_not_verified: CopyUnverified
        in Repair { rots: 1, ..two() } => HoldersHold;
    a_silent_holder_struck_off: SilentHolderStruck
        in two() => CopyFirst;
    two_removals_that_are_right_one_by_one: RemovalCheckedByProposer
        in two() => CopyFirst;
    an_eviction_before_the_object_is_recorded: EvictBeforeRecorded
        in stored() => HoldersHold;
    an_object_that_is_not_read_back: PersistedUnread
        in Repair { bad_puts: 1, ..stored() } => PersistedIsStored;
    an_object_that_is_overwritten: PutOverwrites
        in Repair { bad_puts: 1, ..stored() } => PersistedIsStored;
    a_retained_chunk_that_is_collected: RetainedCollected
        in Repair { unlinked: true, ..two() } => HoldersHold;
    a_retained_chunk_whose_object_is_deleted: RetainedObjectDeleted
        in Repair { unlinked: true, ..stored() } => PersistedIsStored;
}
