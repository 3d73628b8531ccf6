//! `open_exclusive` (R11).

use super::Steps;
use super::setup::{File, Role};
use super::state::{Phase, State};
use super::step::Step;

/// It raises the inode's generation; the seal and the activation that it then asks for are
/// steps that anyone can cause, and the activation answers it.
pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    for (at, role) in model.writers.iter().enumerate() {
        if *role == Role::Exclusive && state.writers[at].phase == Phase::Idle {
            let mut next = *state;
            next.generation += 1;
            next.writers[at].phase = Phase::Raised;
            next.writers[at].generation = next.generation;
            out.push((Step::Raise(at), next));
        }
    }
}
