//! What the log says of the nodes: orders, holders, tombstones (R7, R8, R12).

use super::Steps;
use super::setup::Repair;
use super::state::{Life, Node, Object, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Repair, state: &State, out: &mut Steps) {
    for at in 0..model.nodes() {
        if !state.persisted {
            order(model, state, at, out);
            remove(model, state, at, out);
        }
        add_holder(model, state, at, out);
        give_up(state, at, out);
        strike(model, state, at, out);
    }
    life(model, state, out);
}

fn push(state: &State, at: usize, step: Step, node: Node, out: &mut Steps) {
    let mut next = *state;
    next.nodes[at] = node;
    out.push((step, next));
}

/// R8: who is no holder, and is not at a copy, gets an order. Whether its copy is needed for a
/// lost one or for a move does not matter here.
fn order(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    if state.orders == model.orders || node.holder || node.ordered != node.void {
        return;
    }
    let mut next = *state;
    next.orders += 1;
    next.nodes[at].ordered = node.ordered.max(Repair::ORIGINAL) + 1;
    out.push((Step::Order(at), next));
}

/// A report counts for the last order, unless that was given up.
fn add_holder(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    let counts = node.reported == node.ordered && node.reported > node.void;
    let late = model.has(Mutation::LateCopyCounted) && node.reported > 0;
    if !node.holder && (counts || late) {
        push(state, at, Step::AddHolder(at), Node { holder: true, ..*node }, out);
    }
}

/// A copy that does not come is given up by an entry, which is its tombstone.
fn give_up(state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    if !node.holder && node.ordered > node.void {
        push(state, at, Step::GiveUp(at), Node { void: node.ordered, ..*node }, out);
    }
}

/// The node as no holder: all its replicas are to go.
fn taken_off(node: &Node) -> Node {
    Node { holder: false, void: node.ordered, proposed: false, ..*node }
}

/// R12: the entry that takes a holder off is refused unless enough others are holders then.
fn remove(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    let enough = state.holders() > model.replicas;
    if !model.has(Mutation::RemovalCheckedByProposer) {
        if node.holder && enough {
            push(state, at, Step::Remove(at), taken_off(node), out);
        }
        return;
    }
    if node.holder && enough && !node.proposed {
        push(state, at, Step::Propose(at), Node { proposed: true, ..*node }, out);
    }
    if node.holder && node.proposed {
        push(state, at, Step::Remove(at), taken_off(node), out);
    }
}

/// R7: a holder is struck off when its disk is known to be gone, not when it is silent.
fn strike(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    let gone = node.lossy && !node.present;
    if !node.holder || !(gone || model.has(Mutation::SilentHolderStruck)) {
        return;
    }
    let mut next = *state;
    next.nodes[at] = Node { lossy: false, ..taken_off(node) };
    next.struck += u8::from(gone);
    out.push((Step::Strike(at), next));
}

/// R12: what a file or a restore point has stays.
fn life(model: &Repair, state: &State, out: &mut Steps) {
    if !model.unlinked {
        return;
    }
    let (step, life) = match state.life {
        Life::Linked => (Step::Unlink, Life::Retained),
        Life::Retained => (Step::Release, Life::Dead),
        Life::Unsealed | Life::Dead => return,
    };
    out.push((step, State { life, ..*state }));
    if state.life == Life::Retained {
        collect(model, state, out);
    }
}

/// The bugs that take no restore point into account.
fn collect(model: &Repair, state: &State, out: &mut Steps) {
    let present = (0..model.nodes()).filter(|at| state.nodes[*at].present);
    for at in present.filter(|_| model.has(Mutation::RetainedCollected)) {
        push(state, at, Step::Collect(at), state.nodes[at].emptied(), out);
    }
    if model.has(Mutation::RetainedObjectDeleted) && state.object != Object::Absent {
        out.push((Step::DeleteObject, State { object: Object::Absent, ..*state }));
    }
}
