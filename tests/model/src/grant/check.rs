//! The invariants of space.

use super::metadata::can_be_fenced;
use super::setup::Grants;
use super::state::{Extent, State, Tail};
use crate::invariant::Invariant;

/// The first invariant that this state breaks.
pub(super) fn broken(model: &Grants, state: &State) -> Option<Invariant> {
    let tails = &state.tails[..model.chunks];
    let due: u8 = tails.iter().map(Tail::due).sum();
    let stuck = |tail: &Tail| tail.extent == Extent::Sealing && !tail.fenced && !can_be_fenced(model, state);
    let checks = [
        (state.charged > model.bound || state.held() > model.bound, Invariant::WithinBound),
        (tails.iter().any(|tail| tail.held() > tail.due()), Invariant::WithinGrant),
        (state.charged != due, Invariant::ChargedExactly),
        (tails.iter().any(stuck), Invariant::StaysDecidable),
    ];
    checks.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, invariant)| invariant)
}
