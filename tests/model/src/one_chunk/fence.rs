//! Asking for a seal, fencing replicas, collecting their answers (R4, R5).

use super::Steps;
use super::setup::OneChunk;
use super::state::{Answer, Chunk, Health, Replica, Round, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    if state.chunk == Chunk::Open {
        let mut next = *state;
        next.chunk = Chunk::Sealing;
        out.push((Step::AskSeal, next));
    }
    if state.chunk == Chunk::Open {
        return;
    }
    let over = state.chunk == Chunk::Sealed && !late_rounds(model);
    for round in 0..model.rounds {
        if over {
            continue;
        }
        for at in 0..model.replicas {
            fence(model, state, at, round, out);
        }
        if state.rounds[round] != Round::default() {
            let mut next = *state;
            next.rounds[round] = Round::default();
            out.push((Step::Again(round), next));
        }
    }
}

/// After the seal a round can do no more than extend who has not learned of it, which only the
/// bugs that concern it need to explore.
fn late_rounds(model: &OneChunk) -> bool {
    model.has(Mutation::SealWithoutCompare)
}

/// R4: drain, make the new epoch durable, then answer. Draining is to finish or to fail.
fn fence(model: &OneChunk, state: &State, at: usize, round: usize, out: &mut Steps) {
    let replica = &state.replicas[at];
    if replica.learned {
        return;
    }
    if model.has(Mutation::LengthWithoutFence) {
        return record(model, state, at, round, *replica, Step::Fence(at, round), out);
    }
    let absent = model.late_creates && !replica.created;
    if absent && model.has(Mutation::LateCreate) {
        return record(model, state, at, round, *replica, Step::Fence(at, round), out);
    }
    let mut fenced = *replica;
    fenced.fenced = true;
    fenced.created = true;
    let undrained = model.has(Mutation::FenceWithoutDrain)
        || (model.has(Mutation::RecoveryNotSynced) && replica.restarted);
    if replica.safe == replica.log.len() || undrained {
        return record(model, state, at, round, fenced, Step::Fence(at, round), out);
    }
    let mut finished = fenced;
    finished.safe = finished.log.len();
    finished.told = finished.told.max(finished.safe);
    record(model, state, at, round, finished, Step::Fence(at, round), out);
    let mut failed = fenced;
    failed.log = failed.log.prefix(failed.safe);
    record(model, state, at, round, failed, Step::FenceDropping(at, round), out);
}

/// Puts the replica back and its answer into the round.
fn record(
    model: &OneChunk,
    state: &State,
    at: usize,
    round: usize,
    replica: Replica,
    step: Step,
    out: &mut Steps,
) {
    let mut next = *state;
    next.replicas[at] = replica;
    next.rounds[round].answers[at] = Some(answer(model, state, at, &replica));
    if next != *state {
        out.push((step, next));
    }
}

/// R4: {length, clean | limbo | damaged, highest committed length heard}. The length is that of
/// the longest prefix that was read back and verified.
pub(super) fn answer(model: &OneChunk, state: &State, at: usize, replica: &Replica) -> Answer {
    let verified = !model.has(Mutation::FenceUnverified);
    let valid = if verified { replica.valid() } else { replica.log };
    let unsynced = model.has(Mutation::RecoveryNotSynced) && replica.restarted;
    let length = if unsynced { valid.len() } else { valid.len().min(replica.safe) };
    let rot = if verified { replica.rot } else { 0 };
    let health = match (rot, replica.limbo) {
        (1.., _) => Health::Damaged,
        (0, true) => Health::Limbo,
        (0, false) => Health::Clean,
    };
    let own = at == 0 && !replica.restarted;
    let heard = if own { state.committed.max(replica.heard) } else { replica.heard };
    Answer { length, health, heard }
}
