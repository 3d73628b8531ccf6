//! Ending a chunk: by a fenced seal or by a planned roll (R4, R5).

use super::Steps;
use super::activate::apply;
use super::setup::File;
use super::spare::given_up;
use super::state::{Extent, State};
use super::step::Step;

pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    for at in 0..model.chunks {
        let chunk = &state.chunks[at];
        if chunk.extent == Extent::Open {
            // The entry gives the spare up that was to follow (R1).
            let mut next = given_up(state, at + 1);
            next.chunks[at].extent = Extent::Sealing;
            out.push((Step::AskSeal(at), next));
        }
        if chunk.extent == Extent::Sealing {
            fence_and_decide(state, at, out);
        }
        if model.planned {
            planned(model, state, at, out);
        }
    }
}

/// R4, R5: once one replica is fenced nothing more is acknowledged; the end is decided anywhere
/// between what was and what was ordered, which is what the one-chunk model explores.
fn fence_and_decide(state: &State, at: usize, out: &mut Steps) {
    let chunk = &state.chunks[at];
    if !chunk.fenced {
        let mut next = *state;
        next.chunks[at].fenced = true;
        out.push((Step::Fence(at), next));
        return;
    }
    for length in chunk.committed..=chunk.log.len() {
        let mut next = *state;
        seal(&mut next, at, length);
        out.push((Step::Decide(at, length), next));
    }
}

fn seal(state: &mut State, at: usize, length: u8) {
    let chunk = &mut state.chunks[at];
    chunk.extent = Extent::Sealed;
    chunk.length = length;
    chunk.log = chunk.log.prefix(length);
    chunk.committed = length;
    chunk.fenced = true;
}

/// R5: the close record is the last; when it is on all replicas, Open → Sealed and the next
/// activation go in as one entry, unless somebody asked for a seal meanwhile.
fn planned(model: &File, state: &State, at: usize, out: &mut Steps) {
    let chunk = &state.chunks[at];
    let tail = matches!(chunk.extent, Extent::Open | Extent::Sealing);
    if tail && chunk.arrived && !chunk.closing && !chunk.fenced {
        let mut next = *state;
        next.chunks[at].closing = true;
        out.push((Step::Close(at), next));
    }
    let closed = chunk.closing && chunk.committed == chunk.log.len();
    if closed && chunk.extent == Extent::Open {
        let mut sealed = *state;
        seal(&mut sealed, at, chunk.log.len());
        let follows = state.chunks.get(at + 1).is_some_and(|next| next.extent == Extent::Spare);
        if at + 1 == model.chunks || (model.spares && !follows) {
            out.push((Step::PlannedRoll(at), sealed));
        } else {
            if model.spares {
                // It may not follow: another policy by now, a node that was removed.
                out.push((Step::PlannedRoll(at), given_up(&sealed, at + 1)));
            }
            let rolled = apply(model, &sealed, at + 1);
            out.extend(rolled.into_iter().map(|next| (Step::PlannedRoll(at), next)));
        }
    }
}
