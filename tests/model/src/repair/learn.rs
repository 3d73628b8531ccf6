//! What a node does with its replica once it hears of the seal (R8).

use super::Steps;
use super::setup::Repair;
use super::state::{Node, State};
use super::step::Step;
use crate::log::Log;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Repair, state: &State, out: &mut Steps) {
    for at in 0..model.nodes() {
        let node = &state.nodes[at];
        if !node.present {
            continue;
        }
        let mut next = *state;
        if node.doomed {
            next.nodes[at] = Node { lossy: false, ..node.emptied() };
            out.push((Step::Delete(at), next));
            continue;
        }
        if is_void(model, node) {
            next.nodes[at].doomed = true;
            out.push((Step::Doom(at), next));
        } else if node.holder && !node.settled {
            let learned = settled(model, node);
            if let Some(learned) = learned.filter(|learned| learned != node) {
                next.nodes[at] = learned;
                out.push((Step::Learn(at), next));
            }
        }
    }
}

/// R8, R12: what the tombstone names is deleted. It names the order that made the replica, so one
/// that comes late takes no later copy.
fn is_void(model: &Repair, node: &Node) -> bool {
    if model.has(Mutation::DeleteTakesLaterCopy) { node.void > 0 } else { node.order <= node.void }
}

/// R8: kept if it reaches the length and its chain matches there, what is longer is cut; `None`
/// when it falls short and first has to pull what it lacks. With another chain it starts anew.
pub(super) fn settled(model: &Repair, node: &Node) -> Option<Node> {
    let content = Repair::content();
    if node.log.len() < content.len() && !model.has(Mutation::KeepsShorter) {
        return None;
    }
    if !content.begins(node.log) && !model.has(Mutation::ChainUnchecked) && !model.has(Mutation::KeepsShorter)
    {
        return Some(Node { log: Log::default(), safe: 0, rot: 0, ..*node });
    }
    if node.safe < content.len().min(node.log.len()) && !model.has(Mutation::CopyNotSafe) {
        return None;
    }
    let mut kept = *node;
    if !model.has(Mutation::KeepsLonger) {
        kept.log = node.log.prefix(content.len());
    }
    kept.safe = kept.safe.min(kept.log.len());
    kept.settled = true;
    kept.lossy = node.lossy && node.rot != 0;
    Some(kept)
}
