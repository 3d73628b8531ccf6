//! [`Healthy`]: the nodes that new chunks are placed on, as the leader named them last.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_types::NodeId;

/// A node, and a number of its process.
type Known = (NodeId, u64);

/// What the last heartbeat's answer said. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Healthy {
    // Guards: one answer, replaced whole; `None` before the first.
    nodes: Arc<Mutex<Option<Vec<Known>>>>,
}

impl Healthy {
    /// Takes an answer over: nodes, and a number of each one's process. Without those (a leader of an older
    /// build) each node counts as a process.
    pub fn learn(&self, nodes: &[u64], processes: &[u64]) {
        let processes = if processes.len() == nodes.len() { processes } else { nodes };
        let nodes = nodes.iter().copied().map(NodeId).zip(processes.iter().copied()).collect();
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = Some(nodes);
    }

    /// True when a chunk could be placed on `needed` of them without `node`, no two in one process. Not while nothing is
    /// known: rule R3 asks for a seal only where there is a healthier placement, and in a cluster that has no more nodes
    /// than a chunk needs the next one would lie on the slow node again. That lasts until the first heartbeat is
    /// answered, a second after the node's start; a replica that stays silent is sealed without then, or when the
    /// primary's patience is over, and the client that waits may ask for the seal before.
    #[must_use]
    pub fn suffice_without(&self, node: NodeId, needed: usize) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.as_ref().is_some_and(|nodes| {
            let others = nodes.iter().filter(|(other, _)| *other != node);
            others.map(|(_, process)| process).collect::<BTreeSet<&u64>>().len() >= needed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_node_is_left_out_only_where_the_others_suffice() {
        let healthy = Healthy::default();
        assert!(!healthy.suffice_without(NodeId(3), 0), "nobody knows yet");
        healthy.learn(&[1, 2, 3], &[]);
        assert!(healthy.suffice_without(NodeId(3), 2));
        assert!(!healthy.suffice_without(NodeId(3), 3));
        // It was blamed already, and is none of them.
        healthy.learn(&[1, 2], &[7, 8]);
        assert!(healthy.suffice_without(NodeId(3), 2));
        healthy.learn(&[2, 3], &[7, 8]);
        assert!(!healthy.suffice_without(NodeId(3), 2));
    }

    #[test]
    fn disks_of_one_process_count_once() {
        let healthy = Healthy::default();
        healthy.learn(&[1, 2, 3, 4], &[0, 0, 1, 1]);
        assert!(healthy.suffice_without(NodeId(1), 2), "its process has another disk");
        assert!(!healthy.suffice_without(NodeId(1), 3));
        healthy.learn(&[1, 2, 3], &[0, 0, 1]);
        assert!(!healthy.suffice_without(NodeId(3), 2));
    }
}
