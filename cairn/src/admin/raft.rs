//! `cairn admin raft`: the group of metadata servers, changed while it runs.

use std::io::IsTerminal;
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_sdk::types::NodeId;
use cairn_sdk::{Cause, Client, GroupMember, GroupStatusReply, ServerStatusReply};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{AddArgs, PromoteArgs, RaftCommand};
use crate::exit::CliError;
use crate::output::{human_bytes, line, object};

/// How often a learner that catches up is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A learner that lacks no more entries than this is made a voter: the servers' own bound.
const CAUGHT_UP: u64 = 1000;

pub async fn run(client: &Client, command: RaftCommand, json: bool) -> Result<(), CliError> {
    match command {
        RaftCommand::Status => status(client, json).await,
        RaftCommand::Add(args) => add(client, &args, json).await,
        RaftCommand::Promote(args) => {
            let PromoteArgs { node, wait_seconds } = args;
            let already = promote(client, NodeId(node), Duration::from_secs(wait_seconds)).await?;
            told(json, "promoted", NodeId(node), already, "votes")
        }
        RaftCommand::Remove(args) => {
            let node = NodeId(args.node);
            let already = client.remove_member(node).await?;
            told(json, "removed", node, already, "is no member any more: stop it, and use its id never again")
        }
        RaftCommand::Transfer(args) => {
            let leader = client.transfer_leader(args.node.map(NodeId)).await?;
            if json { object(&json!({"leader": leader.0})) } else { line(format!("{leader} leads")) }
        }
        RaftCommand::Probe => {
            let made = client.probe().await?;
            if json {
                return object(&json!({"node": made.node, "index": made.index, "took_us": made.took_us}));
            }
            let took_ms = made.took_us as f64 / 1000.0;
            line(format!("entry {} is on the disks of a majority, after {took_ms:.1} ms", made.index))
        }
        RaftCommand::Snapshot => {
            let made = client.take_snapshot().await?;
            if json {
                return object(&json!({"node": made.node, "index": made.index, "bytes": made.bytes}));
            }
            let (node, index, bytes) = (NodeId(made.node), made.index, human_bytes(made.bytes));
            line(format!("a snapshot on {node} covers entry {index}: {bytes}"))
        }
    }
}

fn told(json: bool, done: &str, node: NodeId, already: bool, says: &str) -> Result<(), CliError> {
    if json {
        return object(&json!({"node": node.0, "done": done, "already": already}));
    }
    let before = if already { " (it was so before)" } else { "" };
    line(format!("{node} {says}{before}"))
}

async fn add(client: &Client, args: &AddArgs, json: bool) -> Result<(), CliError> {
    let (node, limit) = (NodeId(args.node), Duration::from_secs(args.wait_seconds));
    let added_before = client.add_member(node, &args.address).await?;
    if args.learner {
        let says = match wait_caught_up(client, node, Instant::now() + limit).await? {
            Some(member) if member.voter => "votes already",
            Some(_) => "has caught up, and does not vote",
            None => "is no member any more",
        };
        return told(json, "added", node, added_before, says);
    }
    let already = promote(client, node, limit).await? && added_before;
    told(json, "added", node, already, "is a member, and votes")
}

/// Makes a learner a voter as soon as it has caught up. True when it was one before.
async fn promote(client: &Client, node: NodeId, limit: Duration) -> Result<bool, CliError> {
    let deadline = Instant::now() + limit;
    loop {
        wait_caught_up(client, node, deadline).await?;
        match client.promote_member(node).await {
            // It fell back between the two questions, or a new leader has not heard of it yet.
            Err(error) if is_passing(error.cause()) && Instant::now() < deadline => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            promoted => return Ok(promoted?),
        }
    }
}

fn is_passing(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Service(ServiceError::MemberBehind { .. } | ServiceError::MemberUnreachable { .. })
    )
}

/// Waits until a member lacks little of the log, or votes already, and shows on a terminal how far it
/// is. Answers it; `None` when it is no member.
async fn wait_caught_up(
    client: &Client,
    node: NodeId,
    deadline: Instant,
) -> Result<Option<GroupMember>, CliError> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{bar:30} entry {pos} of {len} {msg}") {
            bar.set_style(style);
        }
        bar
    });
    loop {
        let group = client.group_status().await?;
        let member = group.members.iter().find(|member| member.node == node.0);
        let near = |m: &GroupMember| m.matched_index > 0 && m.reachable && m.lag_entries <= CAUGHT_UP;
        let caught_up = member.is_some_and(|m| m.voter || near(m));
        if let (Some(bar), Some(member)) = (&bar, member) {
            bar.set_length(group.last_log_index);
            bar.set_position(member.matched_index);
            // Until a snapshot is installed nothing of the log is on it.
            bar.set_message(if member.matched_index == 0 {
                "(receives a snapshot, or is not reached)"
            } else {
                ""
            });
        }
        if caught_up || member.is_none() {
            // Of one that is no member the promotion tells.
            clear(bar.as_ref());
            return Ok(member.cloned());
        }
        if Instant::now() >= deadline {
            clear(bar.as_ref());
            let lag = member.map_or(group.last_log_index, |member| member.lag_entries);
            return Err(CliError::CatchUp { node, lag });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn clear(bar: Option<&ProgressBar>) {
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// A member, and what it says of itself when it answers.
type Seen = (GroupMember, Option<ServerStatusReply>);

async fn status(client: &Client, json: bool) -> Result<(), CliError> {
    let group = client.group_status().await?;
    let asked = group.members.iter().map(|member| client.server_status(&member.address));
    let answers = futures::future::join_all(asked).await;
    let mut seen = Vec::new();
    for (member, answer) in group.members.iter().zip(answers) {
        // Another server at that address says nothing of this one.
        seen.push((member.clone(), answer.filter(|server| server.node == member.node)));
    }
    if json { object(&as_json(&group, &seen)) } else { show(&group, &seen) }
}

fn role(group: &GroupStatusReply, member: &GroupMember) -> &'static str {
    match (member.node == group.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    }
}

fn show(group: &GroupStatusReply, seen: &[Seen]) -> Result<(), CliError> {
    let (term, last, applied) = (group.term, group.last_log_index, group.applied_index);
    let level = group.feature_level;
    line(format!("term {term}, last log {last}, applied {applied}, feature level {level}"))?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "server", "address", "role", "matched", "lag", "heard", "applied", "snapshot", "log", "version",
        "levels", "",
    ]);
    for (member, server) in seen {
        let of = |text: fn(&ServerStatusReply) -> String| server.as_ref().map(text).unwrap_or_default();
        let heard = member.silent_ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        let reach = if member.reachable { "" } else { "not reachable" };
        table.add_row([
            member.node.to_string(),
            member.address.clone(),
            role(group, member).to_owned(),
            member.matched_index.to_string(),
            member.lag_entries.to_string(),
            heard,
            of(|s| s.applied_index.to_string()),
            of(|s| format!("{} ({})", s.snapshot_index, human_bytes(s.snapshot_bytes))),
            of(|s| human_bytes(s.log_bytes)),
            of(|s| s.version.clone()),
            levels(member),
            reach.to_owned(),
        ]);
    }
    line(table.to_string())?;
    if let Some(held) = holds_back(group) {
        line(held)?;
    }
    if group.changing {
        line("a change of the members is not finished")?;
    }
    Ok(())
}

/// The feature levels that a member told the leader.
fn levels(member: &GroupMember) -> String {
    match (member.level_lowest, member.level_highest) {
        (Some(lowest), Some(highest)) => format!("{lowest} to {highest}"),
        _ => "not told".to_owned(),
    }
}

/// Who keeps the feature level where it is, while another member could go on.
fn holds_back(group: &GroupStatusReply) -> Option<String> {
    let level = group.feature_level;
    let above = |m: &&GroupMember| m.level_highest.is_some_and(|highest| highest > level);
    let (able, held): (Vec<_>, Vec<_>) = group.members.iter().partition(above);
    if able.is_empty() || held.is_empty() {
        return None;
    }
    let names: Vec<String> = held.iter().map(|m| NodeId(m.node).to_string()).collect();
    Some(format!("the feature level stays at {level} until {} apply a higher one", names.join(", ")))
}

fn as_json(group: &GroupStatusReply, seen: &[Seen]) -> Value {
    let member = |(m, server): &Seen| {
        let server = server.as_ref();
        json!({
            "node": m.node, "address": m.address, "role": role(group, m), "voter": m.voter,
            "matched_index": m.matched_index, "lag_entries": m.lag_entries, "silent_ms": m.silent_ms,
            "reachable": m.reachable, "answers": server.is_some(),
            "version": server.map(|s| s.version.as_str()), "applied_index": server.map(|s| s.applied_index),
            "snapshot_index": server.map(|s| s.snapshot_index),
            "snapshot_bytes": server.map(|s| s.snapshot_bytes), "log_bytes": server.map(|s| s.log_bytes),
            "level_lowest": m.level_lowest, "level_highest": m.level_highest,
        })
    };
    json!({
        "leader": group.leader, "term": group.term, "last_log_index": group.last_log_index,
        "applied_index": group.applied_index, "changing": group.changing, "feature_level": group.feature_level,
        "members": seen.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, voter: bool) -> GroupMember {
        GroupMember { node, voter, address: format!("h:{node}"), matched_index: 7, ..GroupMember::default() }
    }

    #[test]
    fn a_status_says_who_holds_the_feature_level_back() {
        let of = |node, highest: Option<u32>| GroupMember {
            level_lowest: highest.map(|_| 1),
            level_highest: highest,
            ..member(node, true)
        };
        let group = |members| GroupStatusReply { feature_level: 1, members, ..GroupStatusReply::default() };
        let held = holds_back(&group(vec![of(1, Some(2)), of(2, Some(1)), of(3, None)])).unwrap();
        assert_eq!(held, "the feature level stays at 1 until node-2, node-3 apply a higher one");
        assert_eq!(holds_back(&group(vec![of(1, Some(1)), of(2, Some(1))])), None);
        assert_eq!(
            holds_back(&group(vec![of(1, Some(2)), of(2, Some(2))])),
            None,
            "it is about to be raised"
        );
    }

    #[test]
    fn a_status_says_who_leads_who_votes_and_who_does_not_answer() {
        let group = GroupStatusReply { leader: 1, term: 3, ..GroupStatusReply::default() };
        let answer = ServerStatusReply { node: 1, log_bytes: 9, ..ServerStatusReply::default() };
        let seen = [(member(1, true), Some(answer)), (member(2, true), None), (member(4, false), None)];
        let shown = as_json(&group, &seen);
        let roles: Vec<&Value> = shown["members"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
        assert_eq!(roles, ["leader", "voter", "learner"]);
        assert_eq!(
            (&shown["members"][0]["log_bytes"], &shown["members"][0]["answers"]),
            (&json!(9), &json!(true))
        );
        assert_eq!(
            (&shown["members"][1]["log_bytes"], &shown["members"][1]["answers"]),
            (&Value::Null, &json!(false))
        );
        assert_eq!(shown["members"][1]["silent_ms"], Value::Null);
    }
}
