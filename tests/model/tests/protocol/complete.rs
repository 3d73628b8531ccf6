//! No bug of the list is without a test, and no invariant is one that nothing can break.

use cairn_model::file::{Chunk, Extent, File, Phase, Role, State, Writer};
use cairn_model::{Invariant, Log, Model, Mutation, Record};

use crate::{file_bugs, grant_bugs, one_chunk_bugs, repair_bugs};

fn caught() -> impl Iterator<Item = &'static (Mutation, Invariant)> {
    [one_chunk_bugs::CAUGHT, file_bugs::CAUGHT, grant_bugs::CAUGHT, repair_bugs::CAUGHT].into_iter().flatten()
}

#[test]
fn every_mutation_has_a_test() {
    for mutation in Mutation::ALL {
        assert!(caught().any(|(tested, _)| tested == mutation), "{mutation:?} has no test");
    }
}

#[test]
fn every_invariant_is_broken_by_some_bug() {
    for invariant in Invariant::ALL {
        let by_hand = *invariant == Invariant::ExactEnd;
        let broken = caught().any(|(_, broken)| broken == invariant);
        assert!(broken || by_hand, "nothing breaks {invariant}");
    }
}

/// Every bug that breaks it is caught by a nearer one, so the state is made by hand: an older
/// writer's record, never acknowledged, in the decided content behind the exact end.
#[test]
fn exact_end_is_broken_by_an_old_record_behind_it() {
    let model = File::new(2, [Role::Plain, Role::Absent, Role::Exclusive]);
    let mut state = State { generation: 2, ..State::default() };
    state.writers[0] = Writer { phase: Phase::Writing, generation: 1, end: 0 };
    state.writers[2] = Writer { phase: Phase::Writing, generation: 2, end: 1 };
    state.chunks[0] = Chunk { extent: Extent::Sealed, due: 1, ..Chunk::default() };
    let old = Log::default().with(Record { value: 1, header: 0 });
    let holds = Chunk { extent: Extent::Sealed, due: 2, ..Chunk::default() };
    state.chunks[1] = holds;
    assert_eq!(model.broken(&state), None);
    state.chunks[1] = Chunk { log: old, length: 1, committed: 1, ..holds };
    assert_eq!(model.broken(&state), Some(Invariant::ExactEnd));
}
