//! Create, append, forward, sync, acknowledge, close (R1, R2, R3, R10).

use super::Steps;
use super::setup::OneChunk;
use super::state::{Chunk, Replica, State};
use super::step::Step;
use crate::log::{Log, Record};
use crate::mutation::Mutation;

pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    create(model, state, out);
    take(model, state, out);
    repeat(model, state, out);
    forward(model, state, out);
    sync(model, state, out);
    commit(model, state, out);
    planned_seal(model, state, out);
}

/// R1, R4, R6: a create is for the incarnation that the metadata chose; one that comes to a
/// restarted node, or after a fence made an empty replica, changes nothing.
fn create(model: &OneChunk, state: &State, out: &mut Steps) {
    for at in 0..model.replicas {
        let replica = &state.replicas[at];
        let anew = model.has(Mutation::CreateForgetsRestart) && replica.restarted;
        if replica.created || !model.late_creates || (replica.restarted && !anew) {
            continue;
        }
        let mut next = *state;
        let made = &mut next.replicas[at];
        made.created = true;
        if anew {
            made.restarted = false;
            made.limbo = false;
            made.fenced = false;
        }
        out.push((Step::Create(at), next));
    }
}

/// True while a replica accepts records of the first epoch (R4, R6).
fn accepts(model: &OneChunk, state: &State, at: usize) -> bool {
    let replica = &state.replicas[at];
    let created = replica.created || !model.late_creates;
    created && !replica.fenced && !replica.learned
}

/// R6: a restarted primary never acknowledges again.
fn acknowledges(model: &OneChunk, primary: &Replica) -> bool {
    !primary.restarted || model.has(Mutation::PrimaryGoesOn)
}

/// R2: the primary gives the offsets; a writer's sequences come without gaps.
fn take(model: &OneChunk, state: &State, out: &mut Steps) {
    let primary = &state.replicas[0];
    let closed = model.closes && primary.log.find(OneChunk::CLOSE).is_some();
    if closed || !accepts(model, state, 0) {
        return;
    }
    let lone = if model.two_writers { model.records } else { 0 };
    for value in 1..=model.records {
        let before = value - 1;
        let gap = value != lone && before > 0 && primary.log.find(before).is_none();
        let room = primary.log.len() < Log::RECORDS_MAX;
        let anew = model.has(Mutation::RepeatTakenAnew) && room;
        if (primary.log.find(value).is_none() || anew) && !gap {
            out.push((Step::Append(value), taken(model, state, value)));
        }
    }
    if model.closes {
        out.push((Step::Close, taken(model, state, OneChunk::CLOSE)));
    }
}

/// The state after the primary took a record and sent it to all (R3: with the committed length).
fn taken(model: &OneChunk, state: &State, value: u8) -> State {
    let mut next = *state;
    let known =
        if model.has(Mutation::ForwardCarriesLength) { state.replicas[0].log.len() } else { state.committed };
    let header = if model.hears { known } else { 0 };
    let primary = &mut next.replicas[0];
    let was_all_sent = state.ordered == primary.log;
    primary.log = primary.log.with(Record { value, header });
    confirm_early(model, primary);
    if was_all_sent || model.has(Mutation::PrimaryGoesOn) {
        next.ordered = primary.log;
    }
    next
}

/// R10: a repeat is answered once the first is committed; an earlier answer is the bug.
fn repeat(model: &OneChunk, state: &State, out: &mut Steps) {
    let primary = &state.replicas[0];
    if !model.has(Mutation::RepeatAnsweredEarly) || !acknowledges(model, primary) {
        return;
    }
    for value in 1..=model.records {
        if let Some(at) = primary.log.find(value) {
            let mut next = *state;
            next.acknowledged[usize::from(value) - 1] = at + 1;
            out.push((Step::Repeat(value), next));
        }
    }
}

/// R2: a secondary accepts a record only at its own length, with a matching chain. Every record
/// ever forwarded may arrive at any time and again; any other than the next one is refused.
fn forward(model: &OneChunk, state: &State, out: &mut Steps) {
    for at in 1..model.replicas {
        let replica = &state.replicas[at];
        if !accepts(model, state, at) {
            continue;
        }
        let next_record = state.ordered.get(replica.log.len());
        if let Some(record) = next_record.filter(|_| replica.log.begins(state.ordered)) {
            out.push((Step::Forward(at), forwarded(model, state, at, record)));
        }
        if model.has(Mutation::ForwardOutOfPlace) && replica.log.len() < model.records {
            let records = state.ordered.records();
            out.extend(records.map(|record| (Step::Forward(at), forwarded(model, state, at, record))));
        }
    }
}

fn forwarded(model: &OneChunk, state: &State, at: usize, record: Record) -> State {
    let mut next = *state;
    let replica = &mut next.replicas[at];
    replica.log = replica.log.with(record);
    replica.heard = replica.heard.max(record.header);
    confirm_early(model, replica);
    next
}

fn confirm_early(model: &OneChunk, replica: &mut Replica) {
    if model.has(Mutation::AckBeforeSync) {
        replica.told = replica.told.max(replica.log.len());
    }
}

/// R3: `fsync`: fdatasync completed; `memory`: write(2) completed. Then the primary is told.
fn sync(model: &OneChunk, state: &State, out: &mut Steps) {
    for at in 0..model.replicas {
        let replica = &state.replicas[at];
        if replica.safe < replica.log.len() && !replica.learned {
            let mut next = *state;
            let replica = &mut next.replicas[at];
            replica.safe += 1;
            replica.told = replica.told.max(replica.safe);
            out.push((Step::Sync(at), next));
        }
    }
}

/// Replicas that ever confirmed more than `position` records.
fn confirmed(model: &OneChunk, state: &State, position: u8) -> usize {
    state.replicas[..model.replicas].iter().filter(|replica| replica.told > position).count()
}

/// R3: acknowledged, in order, when every replica has it safe. The answer may come late: a
/// primary that was fenced meanwhile may still give it, one that restarted may not (R6).
fn commit(model: &OneChunk, state: &State, out: &mut Steps) {
    let primary = &state.replicas[0];
    let position = state.committed;
    let Some(record) = primary.log.get(position) else { return };
    let closing = model.closes && record.value == OneChunk::CLOSE;
    let few = model.has(Mutation::AckTwoOfThree) || (model.has(Mutation::CloseTwoOfThree) && closing);
    let exist = || state.replicas[..model.replicas].iter().filter(|replica| replica.created).count();
    let needed = match (few, model.has(Mutation::AckOfCreatedOnly)) {
        (true, _) => 2,
        (false, true) => exist(),
        (false, false) => model.replicas,
    };
    if acknowledges(model, primary) && confirmed(model, state, position) >= needed {
        let mut next = *state;
        next.committed += 1;
        next.acknowledged[usize::from(record.value) - 1] = position + 1;
        out.push((Step::Commit, next));
    }
}

/// R5, planned roll: the close record is written by R3, then the entry goes in if the chunk is
/// still open. Once proposed, the entry may come at any time.
fn planned_seal(model: &OneChunk, state: &State, out: &mut Steps) {
    let closed = state.acknowledged[usize::from(OneChunk::CLOSE) - 1];
    let compares = !model.has(Mutation::PlannedWithoutCompare);
    if !model.closes || closed == 0 || (state.chunk != Chunk::Open && compares) {
        return;
    }
    let mut next = *state;
    next.chunk = Chunk::Sealed;
    next.sealed = state.ordered.prefix(closed);
    next.decided_twice |= state.chunk == Chunk::Sealed && next.sealed != state.sealed;
    next.holders = (1 << model.replicas) - 1;
    if next != *state {
        out.push((Step::PlannedSeal, next));
    }
}
