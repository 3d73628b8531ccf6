//! One chunk: from the first create to the last replica that learns of the seal.
//!
//! Replica 0 is the primary. The network is the worst one: whatever was once sent can arrive at
//! any later time, again, or never, so a message that was sent needs no state of its own beyond
//! the fact. A crash and the restart after it are one step, since a process that is down differs
//! from one that is up and does nothing only in what the restart does.

mod append;
mod check;
mod crash;
mod decide;
mod describe;
mod fence;
mod learn;
mod read;
mod setup;
mod state;
mod step;

use crate::explore::Model;
use crate::invariant::Invariant;

pub use setup::{OneChunk, Policy};
pub use state::{Answer, Chunk, Health, Replica, Round, State};
pub use step::Step;

/// The successors of one state under construction.
type Steps = Vec<(Step, State)>;

impl Model for OneChunk {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::default()
    }

    fn steps(&self, state: &State, out: &mut Steps) {
        append::steps(self, state, out);
        crash::steps(self, state, out);
        fence::steps(self, state, out);
        decide::steps(self, state, out);
        learn::steps(self, state, out);
        read::steps(self, state, out);
    }

    fn canonical(&self, state: &State) -> State {
        state.canonical(self)
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
