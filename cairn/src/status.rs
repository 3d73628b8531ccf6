//! `cairn status`.

pub mod disks;
mod without_leader;

use cairn_sdk::StatusReply;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::{Connect, StatusArgs};
use crate::exit::CliError;
use crate::fs::connect;
use crate::output::{hex, human_bytes, line, object};

pub async fn run(at: &Connect, args: StatusArgs) -> Result<(), CliError> {
    let status = match ask(at).await {
        Ok(status) => status,
        // Exit code 3: nobody leads, or nobody answers. Each server can still say how it sees that.
        Err(error) if error.code() == 3 => {
            without_leader::show(at, args.json).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if args.json { object(&as_json(&status)) } else { show(&status) }
}

async fn ask(at: &Connect) -> Result<StatusReply, CliError> {
    let client = connect(at).await?;
    let status = client.status().await;
    let closed = client.close().await;
    let status = status?;
    closed?;
    Ok(status)
}

fn show(s: &StatusReply) -> Result<(), CliError> {
    line(format!("cluster {}", hex(&s.cluster_id)))?;
    line(format!(
        "raft    term {}, last log {}, applied {}, snapshot {}",
        s.term, s.last_log_index, s.applied_index, s.snapshot_index
    ))?;
    let mut servers = Table::new();
    servers.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "metadata server",
        "address",
        "role",
        "matched",
        "",
    ]);
    for m in &s.servers {
        let role = if m.leader {
            "leader"
        } else if m.voter {
            "follower"
        } else {
            "learner"
        };
        let reach = if m.reachable { "" } else { "not reachable" };
        servers.add_row([
            m.node.to_string(),
            m.address.clone(),
            role.into(),
            m.matched_index.to_string(),
            reach.into(),
        ]);
    }
    line(servers.to_string())?;
    let mut nodes = Table::new();
    nodes.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "data node",
        "address",
        "zone/host",
        "state",
        "disk",
        "directory",
        "used",
        "unpersisted",
        "capacity",
        "chunks",
    ]);
    for n in disks::by_process(&s.nodes) {
        nodes.add_row([
            n.node.to_string(),
            n.address.clone(),
            place_text(n),
            node_state(n).into(),
            hex(n.disk.get(..4).unwrap_or_default()),
            n.dir.clone(),
            human_bytes(n.used_bytes),
            human_bytes(n.pinned_bytes),
            human_bytes(n.capacity_bytes),
            n.chunks.to_string(),
        ]);
    }
    line(nodes.to_string())?;
    line(format!(
        "inodes  {}; chunks {} open, {} sealing, {} sealed, {} under-replicated; packs {}; sessions {}; intents {}",
        s.inodes,
        s.chunks_open,
        s.chunks_sealing,
        s.chunks_sealed,
        s.chunks_under_replicated,
        s.packs,
        s.sessions,
        s.intents
    ))?;
    if s.repair_chunks > 0 || s.copies_running > 0 {
        line(repair_text(s))?;
    }
    for n in s.nodes.iter().filter(|n| n.draining) {
        let (node, chunks, bytes) = (n.node, n.drain_chunks, human_bytes(n.drain_bytes));
        line(format!("drain   node-{node}: {chunks} chunks are left, {bytes} of them to be copied first"))?;
    }
    disks::show_troubles(&s.nodes)?;
    show_damaged(s)?;
    show_undecided(s)?;
    show_lost(s)?;
    if s.trees_pending > 0 {
        line(format!("trees   {} removed ones are being purged", s.trees_pending))?;
    }
    if s.unlinked_kept > 0 {
        line(unlinked_text(s))?;
    }
    line(format!("lag     {}, oldest {} ms", human_bytes(s.lag_bytes), s.lag_age_ms))?;
    if !s.under_store_error.is_empty() {
        line(format!("under-store: {}", s.under_store_error))?;
    }
    Ok(())
}

/// How a data node stands, in a word or two.
pub fn node_state(n: &cairn_sdk::DataNode) -> &'static str {
    match n {
        n if n.removed => "removed",
        n if !n.alive => "silent",
        n if n.retired => "disk retired",
        n if n.drained => "drained",
        n if n.draining => "draining",
        n if n.slow => "slow",
        _ => "alive",
    }
}

/// Where a data node is: its zone, and the beginning of its host's name.
fn place_text(n: &cairn_sdk::DataNode) -> String {
    // A boot id is told by less than all of it.
    let is_boot_id = n.host.len() == 32 && n.host.bytes().all(|b| b.is_ascii_hexdigit());
    let host = if is_boot_id { n.host.get(..8).unwrap_or_default() } else { &n.host };
    let zone = if n.zone.is_empty() { "-" } else { &n.zone };
    format!("{zone}/{host}")
}

/// How far the further copies are.
fn repair_text(s: &StatusReply) -> String {
    format!(
        "repair  {} chunks get copies ({}), {} of them have one copy or none; {} copies under way ({})",
        s.repair_chunks,
        human_bytes(s.repair_bytes),
        s.repair_single,
        s.copies_running,
        human_bytes(s.copies_running_bytes)
    )
}

/// The unlinked files that stay for those who have them open.
fn unlinked_text(s: &StatusReply) -> String {
    let at_least = if s.unlinked_more { "at least " } else { "" };
    format!(
        "unlinked {at_least}{} files are kept, {} of them open somewhere",
        s.unlinked_kept, s.unlinked_held
    )
}

/// The nodes that hold bytes which do not read and could not be repaired.
fn show_damaged(s: &StatusReply) -> Result<(), CliError> {
    s.nodes.iter().filter(|n| n.damaged_replicas > 0).try_for_each(|n| line(damaged_text(n)))
}

fn damaged_text(n: &cairn_sdk::DataNode) -> String {
    let mut chunks: Vec<String> = n.damaged_chunks.iter().map(|chunk| format!("chunk-{chunk}")).collect();
    if (chunks.len() as u64) < n.damaged_replicas {
        chunks.push("...".to_owned());
    }
    format!(
        "damaged: node-{} has {} replicas with bad bytes that no other copy could repair: {}",
        n.node,
        n.damaged_replicas,
        chunks.join(", ")
    )
}

/// The chunks whose end no replica decides, as many as the leader lists.
fn show_undecided(s: &StatusReply) -> Result<(), CliError> {
    for undecided in &s.undecided {
        line(undecided_text(undecided))?;
    }
    let unlisted = s.chunks_undecided.saturating_sub(s.undecided.len() as u64);
    if unlisted > 0 {
        line(format!("undecided: {unlisted} more"))?;
    }
    Ok(())
}

/// The chunks of which nothing is left, as many as the leader lists.
fn show_lost(s: &StatusReply) -> Result<(), CliError> {
    for lost in &s.lost {
        let path = String::from_utf8_lossy(&lost.path);
        let of = if lost.path.is_empty() { String::new() } else { format!(" (of {path})") };
        let (chunk, bytes, node) = (lost.chunk, lost.length, lost.node);
        line(format!("lost: chunk-{chunk}{of}: {bytes} bytes, whose only copy was on node-{node}"))?;
    }
    let unlisted = s.chunks_lost.saturating_sub(s.lost.len() as u64);
    if unlisted > 0 {
        line(format!("lost: {unlisted} more"))?;
    }
    Ok(())
}

/// A chunk that waits for a replica, or for `cairn admin chunk accept-loss`.
fn undecided_text(u: &cairn_sdk::UndecidedChunk) -> String {
    let path = String::from_utf8_lossy(&u.path);
    let of = if u.path.is_empty() { String::new() } else { format!(" (tail of {path})") };
    let (answered, replicas) = (u.answered, u.replicas);
    format!(
        "undecided: chunk-{}{of}: {answered} of {replicas} replicas answer, {} bytes at most, {} heard committed, for {} s: {}",
        u.chunk,
        u.length,
        u.heard,
        u.age_ms / 1000,
        u.reason
    )
}

/// The status as JSON.
pub fn as_json(s: &StatusReply) -> Value {
    let server = |m: &cairn_sdk::MetaServer| {
        json!({"node": m.node, "address": m.address, "leader": m.leader, "voter": m.voter,
               "matched_index": m.matched_index, "reachable": m.reachable})
    };
    let node = |n: &cairn_sdk::DataNode| {
        json!({"node": n.node, "address": n.address, "alive": n.alive, "retired": n.retired, "removed": n.removed, "slow": n.slow, "disk": hex(&n.disk),
               "capacity_bytes": n.capacity_bytes, "used_bytes": n.used_bytes, "pinned_bytes": n.pinned_bytes,
               "heartbeat_age_ms": n.heartbeat_age_ms, "chunks": n.chunks, "incarnation": n.incarnation,
               "zone": n.zone, "host": n.host, "draining": n.draining, "drained": n.drained,
               "drain_chunks": n.drain_chunks, "drain_bytes": n.drain_bytes,
               "damaged_replicas": n.damaged_replicas, "damaged_chunks": n.damaged_chunks,
               "repaired_records": n.repaired_records, "room_bytes": n.room_bytes,
               "dir": n.dir, "failure": n.failure, "refused": disks::refused_json(n)})
    };
    let undecided = |u: &cairn_sdk::UndecidedChunk| {
        json!({"chunk": u.chunk, "ino": u.ino, "path": String::from_utf8_lossy(&u.path), "length": u.length,
               "heard": u.heard, "answered": u.answered, "replicas": u.replicas, "age_ms": u.age_ms,
               "reason": u.reason})
    };
    let lost = |l: &cairn_sdk::LostChunk| {
        json!({"chunk": l.chunk, "ino": l.ino, "path": String::from_utf8_lossy(&l.path), "length": l.length,
               "node": l.node})
    };
    json!({
        "cluster_id": hex(&s.cluster_id), "leader": s.leader, "term": s.term, "last_log_index": s.last_log_index,
        "applied_index": s.applied_index, "snapshot_index": s.snapshot_index,
        "servers": s.servers.iter().map(server).collect::<Vec<_>>(),
        "nodes": s.nodes.iter().map(node).collect::<Vec<_>>(),
        "inodes": s.inodes, "chunks_open": s.chunks_open, "chunks_sealing": s.chunks_sealing,
        "chunks_sealed": s.chunks_sealed, "chunks_under_replicated": s.chunks_under_replicated,
        "repair_chunks": s.repair_chunks, "repair_single": s.repair_single, "repair_bytes": s.repair_bytes,
        "copies_running": s.copies_running, "copies_running_bytes": s.copies_running_bytes,
        "chunks_undecided": s.chunks_undecided, "undecided": s.undecided.iter().map(undecided).collect::<Vec<_>>(),
        "chunks_lost": s.chunks_lost, "lost": s.lost.iter().map(lost).collect::<Vec<_>>(),
        "lag_bytes": s.lag_bytes, "lag_age_ms": s.lag_age_ms, "packs": s.packs, "sessions": s.sessions,
        "intents": s.intents, "trees_pending": s.trees_pending, "trees_purged_names": s.trees_purged_names,
        "unlinked_kept": s.unlinked_kept, "unlinked_held": s.unlinked_held, "unlinked_more": s.unlinked_more,
        "under_store_error": s.under_store_error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_by_node_and_chunk() {
        let node = cairn_sdk::DataNode {
            node: 2,
            damaged_replicas: 3,
            damaged_chunks: vec![7, 9],
            ..cairn_sdk::DataNode::default()
        };
        assert_eq!(
            damaged_text(&node),
            "damaged: node-2 has 3 replicas with bad bytes that no other copy could repair: chunk-7, chunk-9, ..."
        );
        let json = as_json(&StatusReply { nodes: vec![node], ..StatusReply::default() });
        assert_eq!(json["nodes"][0]["damaged_replicas"].as_u64(), Some(3));
    }

    #[test]
    fn unlinked_files_are_told_and_when_there_are_more_that_too() {
        let some = StatusReply { unlinked_kept: 3, unlinked_held: 1, ..StatusReply::default() };
        assert_eq!(unlinked_text(&some), "unlinked 3 files are kept, 1 of them open somewhere");
        let many = StatusReply { unlinked_kept: 4096, unlinked_more: true, ..StatusReply::default() };
        assert_eq!(unlinked_text(&many), "unlinked at least 4096 files are kept, 0 of them open somewhere");
        let json = as_json(&many);
        assert_eq!(
            (json["unlinked_kept"].as_u64(), json["unlinked_more"].as_bool()),
            (Some(4096), Some(true))
        );
    }

    #[test]
    fn where_a_node_is_and_how_it_stands_is_told_in_few_words() {
        let node = cairn_sdk::DataNode { alive: true, host: "ab".repeat(16), ..Default::default() };
        assert_eq!((place_text(&node).as_str(), node_state(&node)), ("-/abababab", "alive"));
        let named = cairn_sdk::DataNode { zone: "z1".into(), host: "rack-7".into(), draining: true, ..node };
        assert_eq!((place_text(&named).as_str(), node_state(&named)), ("z1/rack-7", "draining"));
        let gone = cairn_sdk::DataNode { alive: false, ..named };
        assert_eq!(node_state(&gone), "silent");
    }

    #[test]
    fn repair_says_what_waits_and_what_is_under_way() {
        let some =
            StatusReply { repair_chunks: 5, repair_single: 2, copies_running: 3, ..StatusReply::default() };
        let said = repair_text(&some);
        assert!(said.contains("5 chunks get copies") && said.contains("2 of them have one copy"), "{said}");
        assert!(said.contains("3 copies under way"), "{said}");
        assert_eq!(as_json(&some)["repair_single"].as_u64(), Some(2));
    }
}
