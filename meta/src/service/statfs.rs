//! `StatFs`: how much room there is, as this leader hears its data nodes.

use cairn_proto::{WireError, v1};

use super::Context;
use crate::leader::nodes::View;
use crate::namespace::{Target, read};

/// Capacity, use and inodes.
pub fn statfs(ctx: &Context) -> Result<v1::StatFsReply, WireError> {
    let tenure = ctx.tenure()?;
    let view = ctx.node.read_local()?;
    let state = read::cluster(&*view.store).map_err(super::fault)?;
    let root = read::stat(&*view.store, &Target::default()).map_err(super::refusal)?;
    let room = Room::of(&tenure.registry.all(), root.policy.replicas);
    Ok(v1::StatFsReply {
        capacity_bytes: room.capacity_bytes,
        used_bytes: room.capacity_bytes - room.free_bytes,
        free_bytes: room.free_bytes,
        inodes: state.counts.inodes,
        replicas: root.policy.replicas.into(),
        data_nodes: room.nodes,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Room {
    capacity_bytes: u64,
    free_bytes: u64,
    nodes: u32,
}

impl Room {
    /// What the nodes that live hold, each byte on `replicas` of them. Of a disk that takes no more
    /// writes what is pinned there counts, and nothing else.
    fn of(nodes: &[View], replicas: u8) -> Self {
        let (mut capacity, mut free, mut count) = (0u64, 0u64, 0);
        for node in nodes.iter().filter(|node| node.is_live()) {
            let (all, left) = (node.capacity_bytes(), node.free_bytes());
            let (all, left) = if !node.takes_chunks() { (all.saturating_sub(left), 0) } else { (all, left) };
            capacity = capacity.saturating_add(all);
            free = free.saturating_add(left.min(all));
            count += 1;
        }
        let copies = u64::from(replicas.max(1));
        let capacity_bytes = capacity / copies;
        Self { capacity_bytes, free_bytes: (free / copies).min(capacity_bytes), nodes: count }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_types::{DiskId, Incarnation, NodeId};

    use super::*;
    use crate::leader::leaving::Leaving;
    use crate::leader::nodes::{Heartbeat, Liveness, Registered};

    fn node(live: bool, retired: bool, pinned_bytes: u64) -> View {
        let registered = Registered {
            node: NodeId(101),
            disk: DiskId([1; 16]),
            address: String::new(),
            incarnation: Incarnation(1),
            capacity_bytes: 1000,
            retired,
            version: String::new(),
            removed: false,
            zone: String::new(),
            host: String::new(),
            leaving: Leaving::No,
        };
        let heartbeat = Heartbeat { capacity_bytes: 1000, pinned_bytes, ..Heartbeat::default() };
        let liveness = if live { Liveness::Alive } else { Liveness::Silent(Duration::from_secs(9)) };
        View { registered, heartbeat: Some(heartbeat), age: Duration::ZERO, liveness, slow: false }
    }

    #[test]
    fn room_is_what_living_nodes_have_divided_by_the_replicas() {
        let nodes = [node(true, false, 100), node(true, false, 300), node(false, false, 0)];
        assert_eq!(Room::of(&nodes, 2), Room { capacity_bytes: 1000, free_bytes: 800, nodes: 2 });
        assert_eq!(Room::of(&nodes, 1), Room { capacity_bytes: 2000, free_bytes: 1600, nodes: 2 });
        let retired = [node(true, true, 400)];
        assert_eq!(Room::of(&retired, 1), Room { capacity_bytes: 400, free_bytes: 0, nodes: 1 });
        let over = [node(true, false, 2000)];
        assert_eq!(Room::of(&over, 3), Room { capacity_bytes: 333, free_bytes: 0, nodes: 1 });
        assert_eq!(Room::of(&[], 0), Room { capacity_bytes: 0, free_bytes: 0, nodes: 0 });
    }
}
