//! The primary: it writes what it was granted and asks for more (R13).

use super::Steps;
use super::setup::Grants;
use super::state::{Extent, State, Tail};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    let known = matches!(tail.extent, Extent::Open | Extent::Sealing);
    if !known || tail.fenced {
        return;
    }
    if tail.taken < room(model, tail) {
        push(state, at, Step::Take(at), |tail| tail.taken += 1, out);
    }
    if tail.committed < tail.taken {
        push(state, at, Step::Commit(at), |tail| tail.committed += 1, out);
    }
    if tail.known != tail.granted {
        push(state, at, Step::Hear(at), |tail| tail.known = tail.granted, out);
    }
    ask(model, state, at, out);
}

fn push(state: &State, at: usize, step: Step, change: impl Fn(&mut Tail), out: &mut Steps) {
    let mut next = *state;
    change(&mut next.tails[at]);
    out.push((step, next));
}

/// R13: the primary refuses beyond the grant it knows of, until it hears of a larger one.
fn room(model: &Grants, tail: &Tail) -> u8 {
    if model.has(Mutation::GrantIgnored) {
        model.chunk_bytes
    } else if model.has(Mutation::TakeBeforeGranted) {
        tail.known.max((7 - tail.asked.leading_zeros().min(7)) as u8)
    } else {
        tail.known
    }
}

/// It may ask for the double at any time. The request names the whole grant, so that a repeated
/// one changes nothing. The bug lets whoever sends it on look at the bound, instead of the log.
fn ask(model: &Grants, state: &State, at: usize, out: &mut Steps) {
    let tail = &state.tails[at];
    let bytes = (tail.known * 2).min(model.chunk_bytes);
    let fits = state.charged + bytes.saturating_sub(tail.granted) <= model.bound;
    let sent = fits || !model.has(Mutation::RenewalCheckedByProposer);
    if bytes > tail.known && tail.asked >> bytes & 1 == 0 && sent {
        push(state, at, Step::Ask(at, bytes), |tail| tail.asked |= 1 << bytes, out);
    }
}
