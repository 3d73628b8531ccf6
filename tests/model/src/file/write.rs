//! Appends, repeats and acknowledgements (R1, R2, R3, R10, R11).

use super::Steps;
use super::setup::File;
use super::state::{Chunk, Extent, Phase, State};
use super::step::Step;
use crate::log::Record;
use crate::mutation::Mutation;

pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    for chunk in 0..model.chunks {
        if !serves(model, &state.chunks[chunk]) {
            continue;
        }
        for writer in 0..model.writers.len() {
            if matches!(state.writers[writer].phase, Phase::Writing | Phase::Fenced) {
                receive(model, state, writer, chunk, out);
            }
        }
        commit(state, chunk, out);
    }
}

/// R1: a chunk accepts, forwards and acknowledges nothing until its primary holds the entry.
fn serves(model: &File, chunk: &Chunk) -> bool {
    let known = matches!(chunk.extent, Extent::Open | Extent::Sealing);
    let early = chunk.extent == Extent::Spare && model.has(Mutation::SpareServes);
    early || known && (chunk.arrived || model.has(Mutation::AcceptBeforeActivation))
}

/// What the primary knows of the generation: nothing before the entry reached it.
fn generation(chunk: &Chunk) -> u8 {
    if chunk.arrived { chunk.generation } else { 0 }
}

/// R2, R1: a writer's last sequence, in this chunk or carried into it.
fn last(chunk: &Chunk, writer: usize) -> u8 {
    let carried = if chunk.arrived { chunk.carried[writer] } else { 0 };
    carried.max(Chunk::last_in(chunk.log, writer))
}

/// R10, R11: first the generation, then the sequence. What is refused changes nothing. The one
/// sequence that can be taken is the next; an answered repeat changes nothing either, unless
/// the answer comes before the commit, which is the bug.
fn receive(model: &File, state: &State, writer: usize, at: usize, out: &mut Steps) {
    let chunk = &state.chunks[at];
    let old = state.writers[writer].generation < generation(chunk);
    if old && !model.has(Mutation::GenerationUnchecked) {
        return;
    }
    let room = !chunk.closing && chunk.log.len() < model.chunk_records;
    let expected = last(chunk, writer) + 1;
    let gap = if model.has(Mutation::GapTaken) { model.sequences } else { expected };
    for sequence in expected..=gap.min(model.sequences) {
        if !room {
            break;
        }
        let mut next = *state;
        let record = Record { value: sequence, header: writer as u8 };
        next.chunks[at].log = chunk.log.with(record);
        out.push((Step::Take { writer, sequence, chunk: at }, next));
    }
    if model.has(Mutation::RepeatAnsweredEarly) {
        for position in chunk.committed..chunk.log.len() {
            let own = |record: &Record| usize::from(record.header) == writer;
            if let Some(record) = chunk.log.get(position).filter(own) {
                let mut next = *state;
                acknowledge(&mut next, record, at, position);
                let sequence = record.value;
                out.push((Step::AnswerEarly { writer, sequence, chunk: at }, next));
            }
        }
    }
}

/// R3, R4: the next record is on every replica and acknowledged, unless one is fenced.
fn commit(state: &State, at: usize, out: &mut Steps) {
    let chunk = &state.chunks[at];
    if chunk.fenced {
        return;
    }
    if let Some(record) = chunk.log.get(chunk.committed) {
        let mut next = *state;
        next.chunks[at].committed += 1;
        acknowledge(&mut next, record, at, chunk.committed);
        out.push((Step::Commit(at), next));
    }
}

fn acknowledge(state: &mut State, record: Record, chunk: usize, position: u8) {
    let writer = usize::from(record.header);
    let told = &mut state.acknowledged[writer][usize::from(record.value) - 1];
    let first = *told == 0;
    *told = chunk as u8 * 4 + position + 1;
    let newest = state.chunks.iter().map(|chunk| chunk.due).max().unwrap_or(0);
    state.acknowledged_late |= first && state.writers[writer].generation < newest;
}
