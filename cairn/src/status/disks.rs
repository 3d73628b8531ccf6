//! The disks of data nodes, as `cairn status` and `cairn admin node ls` tell of them. Each disk is a data node of its
//! own; those of one process have its address.

use cairn_sdk::DataNode;
use serde_json::{Value, json};

use crate::exit::CliError;
use crate::output::{human_bytes, line};

/// The nodes so that disks of one process stand together, the processes in the order of their first disks.
#[must_use]
pub fn by_process(nodes: &[DataNode]) -> Vec<&DataNode> {
    let first = |n: &DataNode| nodes.iter().position(|other| other.address == n.address);
    let mut sorted: Vec<&DataNode> = nodes.iter().collect();
    sorted.sort_by_key(|n| (first(n), n.node));
    sorted
}

/// What is wrong with disks: those that failed, and directories that are not in use.
pub fn show_troubles(nodes: &[DataNode]) -> Result<(), CliError> {
    troubles(nodes).into_iter().try_for_each(line)
}

fn troubles(nodes: &[DataNode]) -> Vec<String> {
    let mut lines = Vec::new();
    for n in by_process(nodes) {
        let at = &n.address;
        if n.retired && !n.removed {
            let dir = if n.dir.is_empty() { "its disk" } else { n.dir.as_str() };
            let why =
                if n.failure.is_empty() { "a write or an fsync failed there" } else { n.failure.as_str() };
            let left = match n.drain_chunks {
                0 => String::new(),
                chunks => format!("; {chunks} chunks there, {} to be copied", human_bytes(n.drain_bytes)),
            };
            lines.push(format!("disk failed: node-{} ({dir} at {at}): {why}{left}", n.node));
        }
        lines.extend(n.refused.iter().map(|r| format!("disk not in use: {} at {at}: {}", r.dir, r.reason)));
    }
    lines
}

/// The directories that the process of a node does not use, as JSON.
#[must_use]
pub fn refused_json(n: &DataNode) -> Value {
    n.refused.iter().map(|r| json!({"dir": r.dir, "reason": r.reason})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u64, address: &str, dir: &str) -> DataNode {
        DataNode { node, address: address.into(), dir: dir.into(), alive: true, ..DataNode::default() }
    }

    #[test]
    fn disks_of_one_process_stand_together_and_what_is_wrong_with_them_is_told() {
        let refused = cairn_sdk::RefusedDisk { dir: "/d3".into(), reason: "no such directory".into() };
        let speaker = DataNode { refused: vec![refused], ..node(101, "h:1", "/d1") };
        let failure = "the disk is retired for writing: fdatasync failed with errno 5".to_owned();
        let failed = DataNode { retired: true, failure, ..node(103, "h:1", "/d2") };
        let nodes = [speaker.clone(), node(102, "h:2", "/d"), failed];
        assert_eq!(by_process(&nodes).iter().map(|n| n.node).collect::<Vec<_>>(), [101, 103, 102]);
        let told = troubles(&nodes);
        assert_eq!(told[0], "disk not in use: /d3 at h:1: no such directory");
        assert!(
            told[1].starts_with("disk failed: node-103 (/d2 at h:1): ") && told[1].contains("errno 5"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
        assert_eq!(refused_json(&speaker), json!([{"dir": "/d3", "reason": "no such directory"}]));
    }

    #[test]
    fn a_failed_disk_says_what_is_still_to_be_copied() {
        let failed = DataNode { retired: true, drain_chunks: 3, drain_bytes: 2 << 20, ..node(7, "h:1", "") };
        let told = troubles(&[failed]);
        assert_eq!(
            told,
            [
                "disk failed: node-7 (its disk at h:1): a write or an fsync failed there; 3 chunks there, 2.0 MiB to be copied"
            ]
        );
    }
}
