//! What takes bytes away: restarts and disks (R6, R7).

use super::Steps;
use super::setup::Repair;
use super::state::State;
use super::step::Step;

pub(super) fn steps(model: &Repair, state: &State, out: &mut Steps) {
    for at in 0..model.nodes() {
        let node = &state.nodes[at];
        if !node.present {
            continue;
        }
        if state.crashes < model.crashes {
            crash(state, at, out);
        }
        if node.rot != 0 {
            out.push((Step::FindRot(at), rot_found(state, at)));
        } else if state.rots < model.rots {
            for record in 0..node.safe.min(Repair::LENGTH) {
                out.push((Step::Rot(at, record), rotten(state, at, record)));
            }
        }
        if state.losses < model.losses {
            for kept in 0..node.safe.min(Repair::LENGTH) {
                out.push((Step::Loss(at, kept), lost(state, at, Some(kept))));
            }
            out.push((Step::Wipe(at), lost(state, at, None)));
        }
    }
}

/// A restart keeps what is safe, and any part of the rest. What it had heard of its tombstone it
/// hears again.
fn crash(state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    if node.safe == node.log.len() && !node.doomed {
        return;
    }
    for kept in node.safe..=node.log.len() {
        let mut next = *state;
        next.crashes += 1;
        let restarted = &mut next.nodes[at];
        restarted.log = node.log.prefix(kept);
        restarted.safe = kept;
        restarted.doomed = false;
        out.push((Step::Crash(at, kept), next));
    }
}

/// A disk lost its tail, which the node finds when it reads it back, or is gone as a whole.
fn lost(state: &State, at: usize, kept: Option<u8>) -> State {
    let mut next = *state;
    next.losses += 1;
    let node = &mut next.nodes[at];
    match kept {
        Some(kept) => {
            node.log = node.log.prefix(kept);
            node.safe = kept;
            node.settled = false;
            if node.rot > kept {
                node.rot = 0;
            }
        }
        None => *node = node.emptied(),
    }
    node.lossy = true;
    note_promise(&mut next);
    next
}

fn rotten(state: &State, at: usize, record: u8) -> State {
    let mut next = *state;
    next.rots += 1;
    next.nodes[at].rot = record + 1;
    next.nodes[at].lossy = true;
    note_promise(&mut next);
    next
}

/// What is found rotten is gone, as when the disk had lost its tail.
fn rot_found(state: &State, at: usize) -> State {
    let mut next = *state;
    let node = &mut next.nodes[at];
    node.log = node.log.prefix(node.rot - 1);
    node.safe = node.safe.min(node.log.len());
    node.settled = false;
    node.rot = 0;
    next
}

/// After a fault: whether it took the last whole holder of what is not in S3.
fn note_promise(state: &mut State) {
    let spared = state.nodes.iter().any(|node| node.holder && node.is_whole(Repair::content()));
    state.beyond_promise |= !spared && !state.persisted;
}
