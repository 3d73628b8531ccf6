//! Each bug of a file, in the smallest model that shows it.

use cairn_model::file::{File, Role};

use crate::bugs;

fn plain(chunks: usize) -> File {
    File::new(chunks, [Role::Plain, Role::Plain, Role::Absent])
}

fn taken_over() -> File {
    File::new(2, [Role::Plain, Role::Absent, Role::Exclusive])
}

fn rolled(chunks: usize, third: Role) -> File {
    File { planned: true, spares: true, ..File::new(chunks, [Role::Plain, Role::Plain, third]) }
}

bugs! {
    a_repeat_answered_before_the_commit: RepeatAnsweredEarly
        in plain(2) => AcknowledgedInsideSeal;
    a_gap_in_the_sequences: GapTaken
        in plain(2) => WriterOrder;
    accepting_before_activation: AcceptBeforeActivation
        in taken_over() => OnceOnly;
    a_chunk_that_forgets_sequences: ForgetSequences
        in plain(2) => OnceOnly;
    a_chunk_that_forgets_absent_writers: ForgetAbsentWriters
        in plain(3) => OnceOnly;
    a_seal_that_carries_only_what_was_answered: CarryOnlyAnswered
        in plain(3) => OnceOnly;
    a_generation_that_is_not_checked: GenerationUnchecked
        in taken_over() => FencedNeverAcknowledged;
    a_generation_taken_from_the_proposer: GenerationFromProposer
        in taken_over() => FencedNeverAcknowledged;
    the_next_chunk_before_the_old_is_decided: ActivateBeforeDecided
        in plain(2) => OnceOnly;
    a_rival_that_is_not_fenced: RivalNotFenced
        in File::new(2, [Role::Plain, Role::Exclusive, Role::Exclusive]) => OneOwner;
    a_spare_that_takes_records_before_its_activation: SpareServes
        in rolled(2, Role::Absent) => OnceOnly;
    a_spare_with_the_sequences_of_when_it_was_made: SpareKeepsSequences
        in rolled(2, Role::Absent) => OnceOnly;
    a_spare_with_the_generation_of_when_it_was_made: SpareKeepsGeneration
        in rolled(2, Role::Exclusive) => FencedNeverAcknowledged;
    a_length_from_an_old_tail: LengthOfOldTail
        in File { asks_length: true, ..plain(2) } => LengthNotStale;
}
