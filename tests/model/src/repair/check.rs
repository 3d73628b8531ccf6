//! The invariants of a sealed chunk.

use super::setup::Repair;
use super::state::{Life, Node, Object, State};
use crate::invariant::Invariant;
use crate::log::Log;
use crate::mutation::Mutation;

/// The first invariant that this state breaks.
pub(super) fn broken(model: &Repair, state: &State) -> Option<Invariant> {
    if matches!(state.life, Life::Unsealed | Life::Dead) {
        return None;
    }
    let content = Repair::content();
    let nodes = &state.nodes[..model.nodes()];
    let holders = || nodes.iter().filter(|node| node.holder);
    let lone = |node: &Node| !node.lossy && !node.is_whole(content);
    let kept = state.persisted || state.beyond_promise || holders().any(|node| node.is_whole(content));
    let copied_first = state.persisted || holders().count() as u8 + state.struck >= state.sealed_with;
    let checks = [
        (!nodes.iter().all(|node| served(model, node).begins(content)), Invariant::ReaderSeesOnlySealed),
        (nodes.iter().any(|node| node.settled && node.log != content), Invariant::SealedExactly),
        (state.persisted && state.object != Object::Good, Invariant::PersistedIsStored),
        (!copied_first, Invariant::CopyFirst),
        (!state.persisted && holders().any(lone), Invariant::HoldersHold),
        (!kept, Invariant::AcknowledgedRecoverable),
    ];
    checks.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, invariant)| invariant)
}

/// R8, R9: what readers are given by a node: the records of a replica that was checked and is not
/// to go. That each is verified once more, [`crate::one_chunk`] explores.
fn served(model: &Repair, node: &Node) -> Log {
    let serves = node.settled && !node.doomed || model.has(Mutation::ServesUnchecked);
    if serves { node.log.prefix(Repair::LENGTH) } else { Log::default() }
}
