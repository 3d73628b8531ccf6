//! Chunks made ahead (R1): the entry that makes one names no file, no generation and no sequence.

use super::Steps;
use super::setup::File;
use super::state::{Chunk, Extent, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    if !model.spares {
        return;
    }
    for at in 1..model.chunks {
        match (state.chunks[at - 1].extent, state.chunks[at].extent) {
            (Extent::Open, Extent::Absent) => out.push((Step::Prepare(at), prepared(model, state, at))),
            // One of its nodes restarted: it is sealed, empty, and another may be made.
            (_, Extent::Spare) => out.push((Step::LoseSpare(at), given_up(state, at))),
            _ => {}
        }
    }
}

/// Only the bugs that activate a spare by what was so when it was made look at this.
fn prepared(model: &File, state: &State, at: usize) -> State {
    let mut next = *state;
    let carried = state.chunks[at - 1].carried;
    let spare = &mut next.chunks[at];
    spare.extent = Extent::Spare;
    if model.has(Mutation::SpareKeepsSequences) {
        spare.carried = carried;
    }
    if model.has(Mutation::SpareKeepsGeneration) {
        spare.generation = state.generation;
    }
    next
}

/// The state without the spare at this place, if there is one: whatever was sent to it is refused.
pub(super) fn given_up(state: &State, at: usize) -> State {
    let mut next = *state;
    if let Some(spare) = next.chunks.get_mut(at).filter(|chunk| chunk.extent == Extent::Spare) {
        *spare = Chunk::default();
    }
    next
}
