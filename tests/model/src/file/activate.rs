//! Activating the next chunk (R1, R11).

use super::Steps;
use super::setup::File;
use super::state::{Chunk, Extent, Phase, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    for at in 1..model.chunks {
        let before = state.chunks[at - 1].extent;
        let decided = before == Extent::Sealed;
        let early = before == Extent::Sealing && model.has(Mutation::ActivateBeforeDecided);
        if state.chunks[at].extent == Extent::Absent && before != Extent::Absent {
            propose(model, state, at, out);
            if decided || early {
                let applied = apply(model, state, at);
                out.extend(applied.into_iter().map(|next| (Step::Activate(at), next)));
            }
        }
        arrive(state, at, out);
    }
}

/// The entry of a right activation says nothing that its proposer knew, so when it was proposed
/// does not matter. With the bug it names the generation of that moment.
fn propose(model: &File, state: &State, at: usize, out: &mut Steps) {
    if model.has(Mutation::GenerationFromProposer) && state.proposed >> state.generation & 1 == 0 {
        let mut next = *state;
        next.proposed |= 1 << state.generation;
        out.push((Step::Propose(at), next));
    }
}

/// R1: the states after the activation of a chunk is applied. The generation is the inode's of
/// now; the sequences cover every writer; who waits in `open_exclusive` is answered (R11).
pub(super) fn apply(model: &File, state: &State, at: usize) -> Vec<State> {
    if !model.has(Mutation::GenerationFromProposer) {
        return vec![applied(model, state, at, state.generation)];
    }
    let proposed = (1..8).filter(|generation| state.proposed >> generation & 1 == 1);
    proposed.map(|generation| applied(model, state, at, generation)).collect()
}

fn applied(model: &File, state: &State, at: usize, generation: u8) -> State {
    let mut next = *state;
    next.proposed = 0;
    let carried = carried(model, &state.chunks[at - 1]);
    let chunk = &mut next.chunks[at];
    let spare = chunk.extent == Extent::Spare;
    let kept = *chunk;
    chunk.extent = Extent::Open;
    let old = spare && model.has(Mutation::SpareKeepsGeneration);
    chunk.generation = if old { kept.generation } else { generation };
    chunk.due = state.generation;
    let old = spare && model.has(Mutation::SpareKeepsSequences);
    chunk.carried = if old { kept.carried } else { carried };
    for writer in next.writers.iter_mut().filter(|writer| writer.phase == Phase::Raised) {
        let current = writer.generation == state.generation;
        let told = current || model.has(Mutation::RivalNotFenced);
        writer.phase = if told { Phase::Writing } else { Phase::Fenced };
        writer.end = if told { at as u8 } else { 0 };
    }
    next
}

/// R1, R5: every writer's last sequence at the end of a chunk, whether it wrote there or not.
fn carried(model: &File, before: &Chunk) -> [u8; 3] {
    let mut carried = [0; 3];
    for (writer, last) in carried.iter_mut().enumerate() {
        let here = Chunk::last_in(before.content(), writer);
        let unheard = !before.arrived && model.has(Mutation::CarryOnlyAnswered);
        let forgotten = model.has(Mutation::ForgetAbsentWriters) || unheard;
        *last = if forgotten { here } else { here.max(before.carried[writer]) };
    }
    if model.has(Mutation::ForgetSequences) { [0; 3] } else { carried }
}

/// The entry reaches the primary, late perhaps; after a fence it changes nothing (R4).
fn arrive(state: &State, at: usize, out: &mut Steps) {
    let chunk = &state.chunks[at];
    let known = matches!(chunk.extent, Extent::Open | Extent::Sealing);
    if known && !chunk.arrived && !chunk.fenced {
        let mut next = *state;
        next.chunks[at].arrived = true;
        out.push((Step::Arrive(at), next));
    }
}
