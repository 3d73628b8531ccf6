//! [`Healthy`]: the nodes that new chunks are placed on, as the leader named them last.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_types::NodeId;

/// What the last heartbeat's answer said. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Healthy {
    // Guards: one answer, replaced whole; `None` before the first.
    nodes: Arc<Mutex<Option<Vec<NodeId>>>>,
}

impl Healthy {
    /// Takes an answer over.
    pub fn learn(&self, nodes: &[u64]) {
        let nodes = nodes.iter().copied().map(NodeId).collect();
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = Some(nodes);
    }

    /// True when a chunk could be placed on `needed` of them without `node`. Not while nothing is known: rule R3 asks
    /// for a seal only where there is a healthier placement, and in a cluster that has no more nodes than a chunk
    /// needs the next one would lie on the slow node again. That lasts until the first heartbeat is answered, a
    /// second after the node's start; a replica that stays silent is sealed without then, or when the primary's
    /// patience is over, and the client that waits may ask for the seal before.
    #[must_use]
    pub fn suffice_without(&self, node: NodeId, needed: usize) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.as_ref().is_some_and(|nodes| nodes.iter().filter(|other| **other != node).count() >= needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_node_is_left_out_only_where_the_others_suffice() {
        let healthy = Healthy::default();
        assert!(!healthy.suffice_without(NodeId(3), 0), "nobody knows yet");
        healthy.learn(&[1, 2, 3]);
        assert!(healthy.suffice_without(NodeId(3), 2));
        assert!(!healthy.suffice_without(NodeId(3), 3));
        // It was blamed already, and is none of them.
        healthy.learn(&[1, 2]);
        assert!(healthy.suffice_without(NodeId(3), 2));
        healthy.learn(&[2, 3]);
        assert!(!healthy.suffice_without(NodeId(3), 2));
    }
}
