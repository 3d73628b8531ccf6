//! Space: chunks that share one bound, and the grants out of which they are written (R13).
//!
//! One bound stands for quota, lag budget and disk: what each of them counts is charged by the
//! same entries and given back by the same ones. Bytes are whole numbers, the first grant is one
//! byte. Of the append protocol nothing is left but what bounds a chunk's end: what was
//! acknowledged and what was ordered. The network is the worst one, as in [`crate::one_chunk`]: a
//! renewal that was asked for once is applied at any later time, again, or never, and its answer
//! reaches the primary late or never.

mod check;
mod describe;
mod metadata;
mod primary;
mod setup;
mod state;
mod step;

use crate::explore::Model;
use crate::invariant::Invariant;

pub use setup::Grants;
pub use state::{Extent, State, Tail};
pub use step::Step;

/// The successors of one state under construction.
type Steps = Vec<(Step, State)>;

impl Model for Grants {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::default()
    }

    fn steps(&self, state: &State, out: &mut Steps) {
        for at in 0..self.chunks {
            primary::steps(self, state, at, out);
            metadata::steps(self, state, at, out);
        }
    }

    fn canonical(&self, state: &State) -> State {
        state.canonical()
    }

    fn broken(&self, state: &State) -> Option<Invariant> {
        check::broken(self, state)
    }

    fn landmark(&self, from: &State, step: &Step, to: &State) -> Option<&'static str> {
        describe::landmark(self, from, step, to)
    }

    fn describe(&self, state: &State) -> String {
        describe::line(self, state)
    }
}
