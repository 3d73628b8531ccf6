//! A sealed chunk: who keeps it, who deletes, who gets a copy, and its way to S3 (R8, R12).
//!
//! It begins where [`crate::one_chunk`] ends: the end is decided, its holders have at least the
//! content, and whoever else has a replica may have more, less, the same or, where a disk lied,
//! other bytes. Nobody has learned of the seal yet. Which of these it is, is the first step.
//!
//! Orders and verdicts are messages that come late, again or never. What makes that harmless: the
//! log numbers the orders by which a node's replica was made (1 is the replica of the set), and
//! its tombstone for a node names the order up to which replicas are to go. So a late tombstone
//! takes no later copy, and a late report of a copy that is to go counts for nothing.

mod check;
mod copy;
mod describe;
mod fault;
mod learn;
mod record;
mod setup;
mod state;
mod step;
mod store;

use crate::explore::Model;
use crate::invariant::Invariant;

pub use setup::Repair;
pub use state::{Life, Node, Object, State};
pub use step::{Found, Step};

/// The successors of one state under construction.
type Steps = Vec<(Step, State)>;

impl Model for Repair {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::default()
    }

    fn steps(&self, state: &State, out: &mut Steps) {
        match state.life {
            Life::Unsealed => setup::begin(self, out),
            // Nothing is promised any more.
            Life::Dead => {}
            Life::Linked | Life::Retained => {
                record::steps(self, state, out);
                copy::steps(self, state, out);
                learn::steps(self, state, out);
                store::steps(self, state, out);
                fault::steps(self, state, out);
            }
        }
    }

    fn canonical(&self, state: &State) -> State {
        state.canonical()
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
