//! A state in one line, and what a step has shown to be reachable.

use std::fmt::Write as _;

use super::setup::Grants;
use super::state::{Extent, State};
use super::step::Step;

/// `charged 3 of 4 | 0 Open 1.2 of 2, granted 4`: acknowledged, taken, known, granted.
pub(super) fn line(model: &Grants, state: &State) -> String {
    let mut line = format!("charged {} of {}", state.charged, model.bound);
    for (at, tail) in state.tails[..model.chunks].iter().enumerate() {
        let _ = match tail.extent {
            Extent::Unused => continue,
            Extent::Open | Extent::Sealing => write!(
                line,
                " | {at} {:?} {}.{} of {}, granted {}{}",
                tail.extent,
                tail.committed,
                tail.taken,
                tail.known,
                tail.granted,
                if tail.fenced { " fenced" } else { "" },
            ),
            Extent::Sealed => write!(line, " | {at} Sealed {}", tail.length),
            Extent::Persisted => write!(line, " | {at} Persisted"),
        };
    }
    line
}

/// What is worth knowing to be reachable.
pub(super) fn landmark(model: &Grants, from: &State, step: &Step, to: &State) -> Option<&'static str> {
    match *step {
        Step::Renew(at, bytes) if bytes == model.chunk_bytes && from.tails[at].granted < bytes => {
            Some("granted a whole chunk")
        }
        Step::Fence(_) if from.held() == model.bound => Some("fenced on a full disk"),
        Step::Decide(at, length) if length < from.tails[at].granted => Some("the seal returned the rest"),
        Step::Open(_) if to.charged == model.bound => Some("opened on the last byte"),
        Step::Take(_) if to.held() == model.bound => Some("all is written"),
        _ => None,
    }
}
