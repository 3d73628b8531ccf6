//! `cairn admin node`: data nodes come and go on an operator's word.

use cairn_sdk::types::NodeId;
use cairn_sdk::{Client, DataNode, Drained, Removal};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::{DrainNodeArgs, NodeCommand, RemoveNodeArgs};
use crate::exit::CliError;
use crate::output::{hex, human_bytes, line, object};
use crate::status::disks::{by_process, refused_json, show_troubles};
use crate::status::node_state;

pub async fn run(client: &Client, command: NodeCommand, json: bool) -> Result<(), CliError> {
    match command {
        NodeCommand::Remove(args) => remove(client, &args, json).await,
        NodeCommand::Drain(args) => drain(client, &args, json).await,
        NodeCommand::Undrain(args) => show_drain(&client.undrain_node(NodeId(args.node)).await?.node, json),
        NodeCommand::Ls => list(client, json).await,
    }
}

/// Has a node drained; with `--wait` tells how far it is until that is done.
async fn drain(client: &Client, args: &DrainNodeArgs, json: bool) -> Result<(), CliError> {
    let node = NodeId(args.node);
    let mut known: Drained = client.drain_node(node).await?;
    let mut shown = None;
    while args.wait && known.node.draining {
        let left = (known.node.drain_chunks, known.node.drain_bytes);
        if shown != Some(left) {
            show_drain(&known.node, json)?;
            shown = Some(left);
        }
        known = client.drain_progress(node).await?;
    }
    show_drain(&known.node, json)?;
    if args.wait && !known.node.drained {
        return Err(CliError::NotDrained { node });
    }
    Ok(())
}

fn show_drain(node: &DataNode, json: bool) -> Result<(), CliError> {
    if json { object(&node_json(node)) } else { line(drain_text(node)) }
}

fn drain_text(node: &DataNode) -> String {
    let (id, address) = (NodeId(node.node), &node.address);
    if node.drained {
        return format!(
            "{id} at {address} is drained: it may be shut down, and removed (cairn admin node remove)"
        );
    }
    if !node.draining {
        return format!("{id} at {address} takes chunks");
    }
    let (chunks, bytes) = (node.drain_chunks, human_bytes(node.drain_bytes));
    format!("{id} at {address} is draining: {chunks} chunks are left, {bytes} of them to be copied first")
}

/// Shows a data node that can be removed; with `--yes` removes it.
async fn remove(client: &Client, args: &RemoveNodeArgs, json: bool) -> Result<(), CliError> {
    let node = NodeId(args.node);
    if args.yes {
        return show_removal(&client.remove_node(node).await?, json);
    }
    let shown = client.removal(node).await?;
    show_removal(&shown, json)?;
    // One that is removed needs no more words.
    if shown.already { Ok(()) } else { Err(CliError::Unconfirmed { flags: "--yes".to_owned() }) }
}

fn show_removal(removal: &Removal, json: bool) -> Result<(), CliError> {
    let node = &removal.node;
    if json {
        return object(&json!({
            "node": node.node, "address": node.address, "disk": hex(&node.disk), "removed": node.removed,
            "already": removal.already, "silent_ms": node.heartbeat_age_ms,
        }));
    }
    let (id, disk) = (NodeId(node.node), hex(node.disk.get(..4).unwrap_or_default()));
    match (node.removed, removal.already) {
        (false, _) => {
            let silent = node.heartbeat_age_ms / 1000;
            line(format!("{id} at {}, disk {disk}…, silent for {silent} s", node.address))?;
            line("removed, its copies count no more and its disk is never taken back")
        }
        (true, true) => line(format!("{id}, disk {disk}…, was removed before")),
        (true, false) => {
            line(format!("{id}, disk {disk}…, is removed: `cairn status` shows it until no chunk names it"))
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let nodes = client.status().await?.nodes;
    if json {
        return nodes.iter().try_for_each(|node| object(&node_json(node)));
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "data node",
        "address",
        "zone",
        "host",
        "directory",
        "used",
        "capacity",
        "state",
        "chunks",
        "to leave",
    ]);
    for n in by_process(&nodes) {
        let left = if n.draining {
            format!("{} chunks, {} to copy", n.drain_chunks, human_bytes(n.drain_bytes))
        } else {
            String::new()
        };
        table.add_row([
            n.node.to_string(),
            n.address.clone(),
            n.zone.clone(),
            n.host.clone(),
            n.dir.clone(),
            human_bytes(n.used_bytes),
            human_bytes(n.capacity_bytes),
            node_state(n).to_owned(),
            n.chunks.to_string(),
            left,
        ]);
    }
    line(table.to_string())?;
    show_troubles(&nodes)
}

fn node_json(n: &DataNode) -> Value {
    json!({
        "node": n.node, "address": n.address, "zone": n.zone, "host": n.host, "disk": hex(&n.disk),
        "state": node_state(n), "chunks": n.chunks, "draining": n.draining, "drained": n.drained,
        "drain_chunks": n.drain_chunks, "drain_bytes": n.drain_bytes, "dir": n.dir, "failure": n.failure,
        "used_bytes": n.used_bytes, "capacity_bytes": n.capacity_bytes, "refused": refused_json(n),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_drain_is_how_far_it_is() {
        let node = DataNode { node: 101, address: "h:1".into(), alive: true, ..DataNode::default() };
        assert_eq!(drain_text(&node), "node-101 at h:1 takes chunks");
        let draining = DataNode { draining: true, drain_chunks: 3, drain_bytes: 2 << 20, ..node.clone() };
        let said = drain_text(&draining);
        assert!(said.contains("is draining: 3 chunks are left, 2.0 MiB of them"), "{said}");
        assert_eq!(node_json(&draining)["state"], json!("draining"));
        let drained = DataNode { drained: true, ..node };
        assert!(drain_text(&drained).contains("may be shut down, and removed"), "{}", drain_text(&drained));
        assert_eq!(node_json(&drained)["state"], json!("drained"));
    }
}
