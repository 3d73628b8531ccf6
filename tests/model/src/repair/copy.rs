//! Making a copy, or bringing a holder up again that lost a tail (R8).

use super::Steps;
use super::learn::settled;
use super::setup::Repair;
use super::state::{Node, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Repair, state: &State, out: &mut Steps) {
    for at in 0..model.nodes() {
        let node = &state.nodes[at];
        if !node.present {
            // R7: a new disk is a new node, and no order for the one that is gone is for it.
            if !node.lossy {
                start(state, at, out);
            }
            continue;
        }
        if node.doomed || node.settled || node.order == Repair::ORIGINAL && !node.holder {
            continue;
        }
        pull(model, state, at, out);
        if node.safe < node.log.len() {
            let mut next = *state;
            next.nodes[at].safe = node.log.len();
            out.push((Step::Sync(at), next));
        }
        complete(model, state, at, out);
    }
}

/// Any order that was ever given may arrive now. An old one makes a replica that will go.
fn start(state: &State, at: usize, out: &mut Steps) {
    for order in Repair::ORIGINAL + 1..=state.nodes[at].ordered {
        let mut next = *state;
        next.nodes[at] = Node { present: true, order, ..state.nodes[at] };
        out.push((Step::Start(at, order), next));
    }
}

/// The next record, from whoever has one that follows what is here. Its checksum is verified when
/// it comes and the chain at the end, so that it may be anybody.
fn pull(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let log = state.nodes[at].log;
    if log.len() >= Repair::LENGTH {
        return;
    }
    for (from, source) in state.nodes[..model.nodes()].iter().enumerate() {
        let follows = from != at && source.present && log.begins(source.log);
        let rotten = source.rot == log.len() + 1;
        let refused = !follows || (rotten && !model.has(Mutation::CopyUnverified));
        if let Some(record) = source.log.get(log.len()).filter(|_| !refused) {
            let mut next = *state;
            next.nodes[at].log = log.with(record);
            if rotten {
                next.nodes[at].rot = log.len() + 1;
            }
            out.push((Step::Pull(at, from), next));
        }
    }
}

/// R8: a copy is reported when it is all there, safe and with the right chain.
fn complete(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    if node.order == Repair::ORIGINAL || node.log.len() < Repair::LENGTH {
        return;
    }
    let Some(mut checked) = settled(model, node) else { return };
    if checked.settled {
        checked.reported = checked.reported.max(node.order);
    }
    let mut next = *state;
    next.nodes[at] = checked;
    out.push((Step::Complete(at), next));
}
