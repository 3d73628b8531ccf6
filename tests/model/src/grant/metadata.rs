//! The log: it charges what it grants and takes the rest back (R13).

use super::Steps;
use super::setup::Grants;
use super::state::{Extent, State, Tail};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    match tail.extent {
        Extent::Unused => open(model, state, at, out),
        Extent::Open => {
            renew(model, state, at, out);
            roll(model, state, at, out);
            ask_seal(model, state, at, out);
        }
        Extent::Sealing => fence_and_decide(model, state, at, out),
        Extent::Sealed => {
            after_the_seal(model, state, at, out);
            persist(state, at, out);
        }
        Extent::Persisted => {}
    }
}

/// R13: activation grants and charges, or is refused.
fn open(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    if state.charged + Grants::FIRST > model.bound {
        return;
    }
    let mut next = *state;
    let tail = &mut next.tails[at];
    tail.extent = Extent::Open;
    tail.granted = Grants::FIRST;
    tail.known = Grants::FIRST;
    if !model.has(Mutation::ActivationUncharged) {
        next.charged += Grants::FIRST;
    }
    out.push((Step::Open(at), next));
}

/// R13: a renewal is looked at against the bound by the entry that charges it. A chunk that is no
/// longer open gets none, since nobody would give it back.
fn renew(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    let asked = (0..=model.chunk_bytes).filter(|bytes| tail.asked >> bytes & 1 == 1);
    for bytes in asked.filter(|bytes| *bytes > tail.granted) {
        let more = bytes - tail.granted;
        let fits = state.charged + more <= model.bound;
        if !fits && !model.has(Mutation::RenewalCheckedByProposer) {
            continue;
        }
        let mut next = *state;
        next.tails[at].granted = bytes;
        if !model.has(Mutation::RenewalUncharged) {
            next.charged += more;
        }
        out.push((Step::Renew(at, bytes), next));
    }
}

/// R5: what was taken is all acknowledged, then Open → Sealed without a fence.
fn roll(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    if tail.committed == tail.taken && !tail.fenced {
        out.push((Step::Roll(at), sealed(model, state, at, tail.taken)));
    }
}

fn ask_seal(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let mut next = *state;
    let tail = &mut next.tails[at];
    tail.extent = Extent::Sealing;
    if model.has(Mutation::ReturnBeforeDecided) {
        next.charged -= tail.granted - tail.committed;
        tail.granted = tail.committed;
    }
    out.push((Step::AskSeal(at), next));
}

/// R13: the fence's record has its place on the disk since the chunk was opened.
pub(super) fn can_be_fenced(model: &Grants, state: &State) -> bool {
    !model.has(Mutation::FenceNotPreallocated) || state.held() < model.bound
}

/// R4, R5: the end lies anywhere between what was acknowledged and what was taken.
fn fence_and_decide(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    if !tail.fenced {
        if can_be_fenced(model, state) {
            let mut next = *state;
            next.tails[at].fenced = true;
            out.push((Step::Fence(at), next));
        }
        return;
    }
    for length in tail.committed..=tail.taken {
        out.push((Step::Decide(at, length), sealed(model, state, at, length)));
    }
}

/// R13: the seal returns the rest of the grant.
fn sealed(model: &Grants, state: &State, at: usize, length: u8) -> State {
    let mut next = *state;
    let tail = &mut next.tails[at];
    let rest = tail.granted.saturating_sub(length);
    tail.extent = Extent::Sealed;
    tail.length = length;
    tail.committed = length;
    tail.fenced = true;
    if !model.has(Mutation::SealKeepsGrant) {
        next.charged = next.charged.saturating_sub(rest);
    }
    next
}

/// A renewal, or a second seal, that comes after the seal changes nothing: only bugs let it.
fn after_the_seal(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    if model.has(Mutation::RenewAfterSeal) {
        renew(model, state, at, out);
    }
    let tail = &state.tails[at];
    if model.has(Mutation::SealReturnsTwice) {
        let mut next = *state;
        next.charged = next.charged.saturating_sub(tail.granted - tail.length);
        out.push((Step::DecideAgain(at), next));
    }
}

/// What is in S3 no longer counts.
fn persist(state: &State, at: usize, out: &mut Steps) {
    let mut next = *state;
    next.tails[at] = Tail { extent: Extent::Persisted, ..Tail::default() };
    next.charged = next.charged.saturating_sub(state.tails[at].length);
    out.push((Step::Persist(at), next));
}
