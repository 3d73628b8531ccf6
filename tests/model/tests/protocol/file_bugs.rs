//! Each bug of a file, in the smallest model that shows it.

use cairn_model::file::{File, Role};

use crate::bugs;

fn plain(chunks: usize) -> File {
    File::new(chunks, [Role::Plain, Role::Plain, Role::Absent])
}

fn taken_over() -> File {
    File::new(2, [Role::Plain, Role::Absent, Role::Exclusive])
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
    a_length_from_an_old_tail: LengthOfOldTail
        in File { asks_length: true, ..plain(2) } => LengthNotStale;
}
