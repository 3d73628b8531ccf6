//! How long the file is (R9).

use super::Steps;
use super::setup::File;
use super::state::{Chunk, Extent, State};
use super::step::Step;
use crate::mutation::Mutation;

/// A linearizable read of the metadata sees the tail open, then its primary is asked. The answer
/// may come late, from a primary that was fenced meanwhile.
pub(super) fn steps(model: &File, state: &State, out: &mut Steps) {
    if !model.asks_length {
        return;
    }
    let Some(asked) = usize::from(state.asked).checked_sub(1) else {
        for at in 0..model.chunks {
            let old = state.chunks[at].extent != Extent::Absent && model.has(Mutation::LengthOfOldTail);
            if state.chunks[at].extent == Extent::Open || old {
                let next = State { asked: at as u8 + 1, length_due: acknowledged_end(state), ..*state };
                out.push((Step::SeeTail(at), next));
            }
        }
        return;
    };
    let length = base(state, asked) + state.chunks[asked].committed;
    let length_stale = length < state.length_due;
    out.push((Step::Length(asked), State { asked: 0, length_due: 0, length_stale, ..*state }));
}

/// Where a chunk begins in the file: those before it are decided.
fn base(state: &State, at: usize) -> u8 {
    state.chunks[..at].iter().map(Chunk::content).map(|content| content.len()).sum()
}

/// The end of all that was ever acknowledged.
fn acknowledged_end(state: &State) -> u8 {
    let told = state.acknowledged.iter().flatten().filter(|told| **told > 0).map(|told| told - 1);
    told.map(|told| base(state, usize::from(told / 4)) + told % 4 + 1).max().unwrap_or(0)
}
