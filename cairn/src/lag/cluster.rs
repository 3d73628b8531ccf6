//! The lag of the whole cluster, and what its data nodes have asked of S3.

use std::collections::BTreeSet;

use cairn_sdk::{Client, ClusterLag, DataNode, NodeStatusReply};
use comfy_table::{Table, presets};
use futures::future::join_all;
use serde_json::{Value, json};

use super::part_text;
use crate::exit::CliError;
use crate::output::{human_bytes, line, object};
use crate::status::node_state;
use crate::units::about_time;

/// What S3 asks for a thousand PUTs, POSTs or LISTs, in dollars (list price, us-east-1, standard;
/// <https://aws.amazon.com/s3/pricing/>).
const DOLLARS_PER_1000_WRITES: f64 = 0.005;
/// What it asks for a thousand GETs or HEADs.
const DOLLARS_PER_1000_READS: f64 = 0.0004;

/// A data node, and what it says of itself, when it does.
struct Asked {
    node: DataNode,
    told: Option<NodeStatusReply>,
}

pub async fn run(client: &Client, json: bool) -> Result<(), CliError> {
    let mut lag = client.cluster_lag().await?;
    let nodes = std::mem::take(&mut lag.nodes);
    let asked = ask_all(client, nodes).await;
    if json { object(&as_json(&lag, &asked)) } else { show(&lag, &asked) }
}

async fn ask(client: &Client, node: DataNode) -> Asked {
    let told = if node.alive { client.node_status(&node).await.ok() } else { None };
    Asked { node, told }
}

/// What the data nodes that answer have asked of S3, all together.
pub async fn requests(client: &Client) -> Result<NodeStatusReply, CliError> {
    let nodes = client.status().await?.nodes;
    Ok(sum(&ask_all(client, nodes).await))
}

async fn ask_all(client: &Client, nodes: Vec<DataNode>) -> Vec<Asked> {
    join_all(nodes.into_iter().map(|node| ask(client, node))).await
}

/// All requests together, of the nodes that answered. Each disk of a process tells those of all.
fn sum(asked: &[Asked]) -> NodeStatusReply {
    let mut all = NodeStatusReply::default();
    let mut seen = BTreeSet::new();
    for Asked { node, told } in asked {
        let Some(told) = told.as_ref().filter(|_| seen.insert(node.address.as_str())) else { continue };
        all.puts += told.puts;
        all.parts += told.parts;
        all.gets += told.gets;
        all.heads += told.heads;
        all.lists += told.lists;
        all.deletes += told.deletes;
        all.bytes_up += told.bytes_up;
        all.bytes_down += told.bytes_down;
    }
    all
}

/// What the requests cost at S3's list prices. DELETEs cost nothing.
pub fn dollars(told: &NodeStatusReply) -> f64 {
    let (writes, reads) = (told.puts + told.parts + told.lists, told.gets + told.heads);
    writes as f64 / 1000.0 * DOLLARS_PER_1000_WRITES + reads as f64 / 1000.0 * DOLLARS_PER_1000_READS
}

fn show(lag: &ClusterLag, asked: &[Asked]) -> Result<(), CliError> {
    line(format!(
        "not in S3  {} of {} ({}), oldest {}",
        human_bytes(lag.bytes),
        human_bytes(lag.bound_bytes),
        part_text(lag.bytes, lag.bound_bytes),
        about_time(lag.age_ms)
    ))?;
    line(format!(
        "open       {} chunks, with up to {} more",
        lag.chunks_open,
        human_bytes(lag.granted_bytes)
    ))?;
    line(format!(
        "writers    slowed {} times, refused {} times, since this leader leads",
        lag.slowed, lag.refused
    ))?;
    let failing =
        if lag.under_store_error.is_empty() { "takes what comes" } else { lag.under_store_error.as_str() };
    line(format!("S3         {failing}"))?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "data node",
        "state",
        "not in S3",
        "PUT",
        "part",
        "GET",
        "HEAD",
        "LIST",
        "DELETE",
        "sent",
        "received",
    ]);
    for Asked { node, told } in asked {
        table.add_row(cells(node, told.as_ref()));
    }
    line(table.to_string())?;
    let all = sum(asked);
    let writes = all.puts + all.parts;
    let per_gib =
        if all.bytes_up == 0 { 0.0 } else { writes as f64 * (1_u64 << 30) as f64 / all.bytes_up as f64 };
    line(format!(
        "requests since these processes began: {writes} PUTs and parts for {} ({per_gib:.1} a GiB); all of them cost about ${:.4} at S3's list prices",
        human_bytes(all.bytes_up),
        dollars(&all)
    ))
}

fn cells(node: &DataNode, told: Option<&NodeStatusReply>) -> Vec<String> {
    let answers = told.is_some() || node.removed || !node.alive;
    let state = if answers { node_state(node) } else { "does not answer" };
    let mut cells = vec![node.node.to_string(), state.to_owned()];
    match told {
        Some(told) => {
            cells.push(human_bytes(told.pinned_bytes));
            let counts = [told.puts, told.parts, told.gets, told.heads, told.lists, told.deletes];
            cells.extend(counts.map(|count| count.to_string()));
            cells.extend([told.bytes_up, told.bytes_down].map(human_bytes));
        }
        None => cells.push(human_bytes(node.pinned_bytes)),
    }
    cells
}

fn as_json(lag: &ClusterLag, asked: &[Asked]) -> Value {
    let requests = |told: &NodeStatusReply| {
        json!({
            "puts": told.puts, "parts": told.parts, "gets": told.gets, "heads": told.heads, "lists": told.lists,
            "deletes": told.deletes, "bytes_up": told.bytes_up, "bytes_down": told.bytes_down,
        })
    };
    let node = |Asked { node, told }: &Asked| {
        let pinned = told.as_ref().map_or(node.pinned_bytes, |told| told.pinned_bytes);
        json!({
            "node": node.node, "address": node.address, "alive": node.alive, "removed": node.removed,
            "pinned_bytes": pinned, "requests": told.as_ref().map(requests),
            "under_store": told.as_ref().map(|told| told.under_store.as_str()),
        })
    };
    let all = sum(asked);
    json!({
        "bytes": lag.bytes, "age_ms": lag.age_ms, "bound_bytes": lag.bound_bytes,
        "granted_bytes": lag.granted_bytes, "chunks_open": lag.chunks_open, "slowed": lag.slowed,
        "refused": lag.refused, "under_store_error": lag.under_store_error,
        "nodes": asked.iter().map(node).collect::<Vec<_>>(), "requests": requests(&all),
        "list_price_dollars": dollars(&all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_added_up_and_priced() {
        let one = NodeStatusReply {
            puts: 900,
            parts: 50,
            lists: 50,
            gets: 1_000,
            deletes: 7,
            bytes_up: 5,
            ..Default::default()
        };
        let node = |address: &str, told| Asked {
            node: DataNode { address: address.into(), ..DataNode::default() },
            told,
        };
        let (same, again) = (node("a", Some(one.clone())), node("a", Some(one.clone())));
        let all = sum(&[same, node("b", None), node("c", Some(one)), again]);
        assert_eq!((all.puts, all.deletes, all.bytes_up), (1_800, 14, 10));
        assert!((dollars(&all) - (2.0 * 0.005 + 2.0 * 0.0004)).abs() < 1e-9, "{}", dollars(&all));
    }

    #[test]
    fn a_node_that_does_not_answer_has_no_counts() {
        let node = DataNode { node: 101, alive: true, pinned_bytes: 2048, ..Default::default() };
        assert_eq!(cells(&node, None), ["101", "does not answer", "2.0 KiB"]);
        let json = as_json(&ClusterLag::default(), &[Asked { node, told: None }]);
        assert_eq!(json["nodes"][0]["pinned_bytes"], 2048);
        assert!(json["nodes"][0]["requests"].is_null());
    }
}
