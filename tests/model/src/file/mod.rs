//! A file over two or three chunks: rolls, activation, retries, rival writers (R1, R5, R10, R11).
//!
//! A chunk is here what [`crate::one_chunk`] shows it to be: a sequence of which a prefix is
//! committed, whose end, once it is fenced, is decided anywhere between what was committed and
//! what was ordered. Nothing else of its replicas is left. Clients are the worst ones: a writer
//! sends any of its sequences to any chunk it can know of, at any time, again and again, so late
//! and repeated messages need no state, and no promise rests on a client that behaves.

mod activate;
mod check;
mod describe;
mod length;
mod open;
mod roll;
mod setup;
mod spare;
mod state;
mod step;
mod write;

use crate::explore::Model;
use crate::invariant::Invariant;

pub use setup::{File, Role};
pub use state::{Chunk, Extent, Phase, State, Writer};
pub use step::Step;

/// The successors of one state under construction.
type Steps = Vec<(Step, State)>;

impl Model for File {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::start(self)
    }

    fn steps(&self, state: &State, out: &mut Steps) {
        write::steps(self, state, out);
        roll::steps(self, state, out);
        activate::steps(self, state, out);
        spare::steps(self, state, out);
        open::steps(self, state, out);
        length::steps(self, state, out);
    }

    fn broken(&self, state: &State) -> Option<Invariant> {
        check::broken(self, state)
    }

    fn landmark(&self, from: &State, step: &Step, to: &State) -> Option<&'static str> {
        describe::landmark(from, step, to)
    }

    fn describe(&self, state: &State) -> String {
        describe::line(self, state)
    }
}
