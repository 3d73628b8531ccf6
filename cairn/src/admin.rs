//! `cairn admin`: what only an operator may decide.

mod dump;
mod fsck;
mod gc;
mod load;
mod node;
mod raft;

use cairn_sdk::types::{ChunkId, ReplicaHealth};
use cairn_sdk::{Cause, Client, Loss, ReplicaAnswer};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::{AcceptLossArgs, AdminArgs, AdminCommand, ChunkCommand, Connect};
use crate::exit::CliError;
use crate::fs::connect;
use crate::output::{line, object};

pub async fn run(at: &Connect, args: AdminArgs) -> Result<(), CliError> {
    let AdminArgs { json, command } = args;
    let client = connect(at).await?;
    let outcome = match command {
        AdminCommand::Chunk(ChunkCommand::AcceptLoss(args)) => accept_loss(&client, &args, json).await,
        AdminCommand::Node(command) => node::run(&client, command, json).await,
        AdminCommand::Fsck(args) => fsck::run(&client, &args, json).await,
        AdminCommand::Gc(args) => gc::run(&client, &args, json).await,
        AdminCommand::Dump(args) => dump::run(&client, &args, json).await,
        AdminCommand::Load(args) => load::run(&client, &args, json).await,
        AdminCommand::Raft(command) => raft::run(&client, command, json).await,
    };
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

/// Shows what would be lost; with `--yes` accepts it.
async fn accept_loss(client: &Client, args: &AcceptLossArgs, json: bool) -> Result<(), CliError> {
    let chunk = ChunkId(args.chunk);
    let shown = match client.loss(chunk).await {
        // A repeated command whose first answer was lost: the cluster knows whether this is its end.
        Err(error) if args.yes && is_past(error.cause()) && args.length.is_some() => None,
        shown => Some(shown?),
    };
    let length = args.length.or(shown.as_ref().map(|loss| loss.length)).unwrap_or(0);
    if !args.yes {
        let left = shown.as_ref().map_or(length, |loss| loss.length);
        if let Some(loss) = &shown {
            show(loss, false, json)?;
        }
        return Err(CliError::Unconfirmed { flags: flags(left) });
    }
    let mut accepted = client.accept_loss(chunk, length, args.nothing_left).await?;
    if let (true, Some(shown)) = (accepted.already, shown) {
        // It was done by an attempt whose answer was lost: what it had found was shown before.
        accepted = shown;
    }
    show(&accepted, true, json)
}

/// True when the chunk's end is decided already.
fn is_past(cause: &Cause) -> bool {
    matches!(cause, Cause::Service(cairn_proto::ServiceError::NotUndecided { .. }))
}

/// What to say to accept what was shown.
fn flags(length: u64) -> String {
    let nothing = if length == 0 { " --nothing-left" } else { "" };
    format!("--length {length}{nothing} --yes")
}

fn show(loss: &Loss, accepted: bool, json: bool) -> Result<(), CliError> {
    if json {
        return object(&as_json(loss, accepted));
    }
    let path = String::from_utf8_lossy(&loss.path);
    let of = if loss.path.is_empty() { String::new() } else { format!(", the tail of {path}") };
    line(format!("{}{of}", loss.chunk))?;
    if !loss.replicas.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
            "data node",
            "address",
            "replica",
            "bytes",
            "heard committed",
        ]);
        for replica in &loss.replicas {
            table.add_row(cells(replica));
        }
        line(table.to_string())?;
    }
    let ends = if accepted { "ends" } else { "would end" };
    line(format!("it {ends} at {} bytes", loss.length))?;
    if loss.already {
        return line("it was sealed there before: what was lost is not known any more");
    }
    match loss.lost_min() {
        0 => line("no acknowledged byte is known to be lost; what nobody that answers had heard of may be")?,
        lost => {
            let end = loss.length + lost;
            line(format!("acknowledged and lost: {lost} bytes at least, up to byte {end}"))?;
        }
    }
    if loss.referenced > loss.length {
        line(format!(
            "files point at its bytes up to {}: what lies beyond its end cannot be read any more",
            loss.referenced
        ))?;
    }
    Ok(())
}

fn cells(replica: &ReplicaAnswer) -> [String; 5] {
    let (node, address) = (replica.node.0.to_string(), replica.address.clone());
    match &replica.answer {
        None => [node, address, "does not answer".to_owned(), String::new(), String::new()],
        Some(has) => {
            let health = health_text(has.health).to_owned();
            [node, address, health, has.length.to_string(), has.heard.to_string()]
        }
    }
}

fn health_text(health: ReplicaHealth) -> &'static str {
    match health {
        ReplicaHealth::Clean => "clean",
        ReplicaHealth::Limbo => "restarted",
        ReplicaHealth::Damaged => "damaged",
    }
}

fn as_json(loss: &Loss, accepted: bool) -> Value {
    let replica = |r: &ReplicaAnswer| {
        json!({"node": r.node.0, "address": r.address, "answered": r.answer.is_some(),
               "health": r.answer.map(|a| health_text(a.health)), "length": r.answer.map(|a| a.length),
               "heard": r.answer.map(|a| a.heard)})
    };
    json!({
        "chunk": loss.chunk.0, "path": String::from_utf8_lossy(&loss.path), "accepted": accepted,
        "length": loss.length, "heard": loss.heard, "referenced": loss.referenced, "lost_bytes_min": loss.lost_min(),
        "already": loss.already, "replicas": loss.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_say_names_the_bytes() {
        assert_eq!(flags(40), "--length 40 --yes");
        assert_eq!(flags(0), "--length 0 --nothing-left --yes");
        let unconfirmed = CliError::Unconfirmed { flags: flags(40) };
        assert_eq!(unconfirmed.code(), 1);
        assert!(unconfirmed.to_string().contains("nothing is changed"), "{unconfirmed}");
    }
}
