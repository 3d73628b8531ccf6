//! Learning of the seal: holders cut, others delete (R5, R8).

use super::Steps;
use super::setup::OneChunk;
use super::state::{Chunk, State};
use super::step::Step;
use crate::log::Log;
use crate::mutation::Mutation;

/// R5, R8: a holder cuts what is longer; who is not a holder deletes, but keeps its fence, so
/// that no late create or forward finds it empty and willing.
pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    if state.chunk != Chunk::Sealed {
        return;
    }
    for at in 0..model.replicas {
        if state.replicas[at].learned {
            continue;
        }
        let mut next = *state;
        let replica = &mut next.replicas[at];
        let holder = state.holders >> at & 1 == 1;
        let matches = state.sealed.begins(replica.valid());
        replica.log = if holder && matches { state.sealed } else { Log::default() };
        replica.safe = replica.log.len();
        replica.rot = 0;
        replica.learned = true;
        replica.fenced = true;
        replica.created = true;
        if !holder && model.has(Mutation::DeleteForgetsFence) {
            replica.fenced = false;
            replica.created = false;
            replica.learned = false;
        }
        out.push((Step::Learn(at), next));
    }
}
