//! Readers and committed lengths that travel outside of records (R3, R9).

use super::Steps;
use super::setup::OneChunk;
use super::state::State;
use super::step::Step;
use crate::log::{Log, Record};
use crate::mutation::Mutation;

pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    for at in 0..model.replicas {
        if model.hears && at > 0 {
            hear(state, at, out);
        }
        if model.reads {
            read(model, state, at, out);
        }
    }
}

/// A later forward tells a secondary the committed length of now. An older value that arrives
/// late is one that could have arrived earlier.
fn hear(state: &State, at: usize, out: &mut Steps) {
    let replica = &state.replicas[at];
    if replica.heard < state.committed && !replica.fenced && !state.replicas[0].restarted {
        let mut next = *state;
        next.replicas[at].heard = state.committed;
        out.push((Step::Hear(at), next));
    }
}

/// R9: what a replica serves, bounded by what passes its checksums.
pub(super) fn served(model: &OneChunk, state: &State, at: usize) -> Log {
    let replica = &state.replicas[at];
    let bound = if model.has(Mutation::ReadUncommitted) {
        replica.log.len()
    } else if replica.learned {
        state.sealed.len()
    } else if at == 0 && !replica.restarted {
        state.committed
    } else {
        replica.heard
    };
    match replica.log.get(replica.rot.wrapping_sub(1)) {
        Some(_) if model.has(Mutation::ReadUnverified) && replica.rot <= bound => {
            replica.valid().with(Record { value: OneChunk::ROTTEN, header: 0 })
        }
        _ => replica.valid().prefix(bound),
    }
}

fn read(model: &OneChunk, state: &State, at: usize, out: &mut Steps) {
    let given = served(model, state, at);
    if given.len() > state.seen.len() || !given.begins(state.seen) {
        let mut next = *state;
        next.seen = given;
        out.push((Step::Read(at), next));
    }
}
