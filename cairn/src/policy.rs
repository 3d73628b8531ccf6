//! `cairn policy`.

use cairn_sdk::types::{Ack, FsPath, Persist, Policy};
use cairn_sdk::{Client, PolicyInForce};
use serde_json::{Value, json};

use crate::cli::{AckWord, Connect, PersistWord, PolicyArgs, PolicyChange, PolicyCommand};
use crate::exit::CliError;
use crate::fs::{connect, remote};
use crate::output::{line, object};
use crate::units::{exact_bytes, exact_time};

pub async fn run(at: &Connect, args: PolicyArgs) -> Result<(), CliError> {
    let PolicyArgs { json, command } = args;
    let (path, command) = match command {
        PolicyCommand::Get { path } => (remote(&path)?, None),
        PolicyCommand::Set(args) => (remote(&args.path)?, Some(Some(args.change))),
        PolicyCommand::Unset { path } => (remote(&path)?, Some(None)),
    };
    let client = connect(at).await?;
    let outcome = act(&client, &path, command).await;
    let closed = client.close().await;
    let in_force = outcome?;
    closed?;
    if json { object(&as_json(&path, &in_force)) } else { show(&path, &in_force) }
}

/// Does what is asked and answers what is in force then. `None`: nothing is changed.
async fn act(
    client: &Client,
    path: &FsPath,
    change: Option<Option<PolicyChange>>,
) -> Result<PolicyInForce, CliError> {
    let in_force = client.policy_in_force(path).await?;
    match change {
        None => return Ok(in_force),
        Some(None) => client.set_policy(path, None).await?,
        Some(Some(change)) => client.set_policy(path, Some(changed(in_force.policy, &change)?)).await?,
    }
    Ok(client.policy_in_force(path).await?)
}

/// What is in force, with the changes.
fn changed(now: Policy, change: &PolicyChange) -> Result<Policy, CliError> {
    let replicas = change.replicas.unwrap_or(now.replicas);
    let min_replicas = change.min_replicas.unwrap_or(now.min_replicas.min(replicas));
    if min_replicas > replicas {
        let wrong = format!("--min-replicas {min_replicas} is more than the {replicas} replicas there are");
        return Err(CliError::Usage(wrong));
    }
    Ok(Policy {
        replicas,
        min_replicas,
        ack: match change.ack {
            Some(AckWord::Fsync) => Ack::Fsync,
            Some(AckWord::Memory) => Ack::Memory,
            None => now.ack,
        },
        persist: match change.persist {
            Some(PersistWord::Async) => Persist::Async,
            Some(PersistWord::Sync) => Persist::Sync,
            Some(PersistWord::Never) => Persist::Never,
            None => now.persist,
        },
        max_lag_ms: change.max_lag_age.unwrap_or(now.max_lag_ms),
        max_lag_bytes: change.max_lag_bytes.unwrap_or(now.max_lag_bytes),
    })
}

/// `fsync` or `memory`.
fn ack_word(ack: Ack) -> &'static str {
    match ack {
        Ack::Fsync => "fsync",
        Ack::Memory => "memory",
    }
}

/// `async`, `sync` or `never`.
fn persist_word(persist: Persist) -> &'static str {
    match persist {
        Persist::Async => "async",
        Persist::Sync => "sync",
        Persist::Never => "never",
    }
}

/// A policy in one line.
#[must_use]
pub fn text(policy: &Policy) -> String {
    format!(
        "{} replicas ({} at least), ack {}, persist {}, lag up to {} and {}",
        policy.replicas,
        policy.min_replicas,
        ack_word(policy.ack),
        persist_word(policy.persist),
        exact_time(policy.max_lag_ms),
        exact_bytes(policy.max_lag_bytes),
    )
}

/// Where a policy is set.
#[must_use]
pub fn origin_text(in_force: &PolicyInForce) -> String {
    if !in_force.is_inherited() {
        return "set here".to_owned();
    }
    match in_force.origin_path.as_slice() {
        b"" => format!("inherited from {}, which has no path any more", in_force.origin),
        path => format!("inherited from {}", String::from_utf8_lossy(path)),
    }
}

/// A policy and where it is set, as fields.
#[must_use]
pub fn fields(in_force: &PolicyInForce) -> Value {
    let policy = &in_force.policy;
    json!({
        "replicas": policy.replicas, "min_replicas": policy.min_replicas, "ack": policy.ack,
        "persist": policy.persist, "max_lag_ms": policy.max_lag_ms, "max_lag_bytes": policy.max_lag_bytes,
        "inherited": in_force.is_inherited(), "from": String::from_utf8_lossy(&in_force.origin_path),
        "from_ino": in_force.origin.0,
    })
}

fn as_json(path: &FsPath, in_force: &PolicyInForce) -> Value {
    let mut fields = fields(in_force);
    if let Value::Object(fields) = &mut fields {
        fields.insert("path".to_owned(), json!(path.to_string()));
    }
    fields
}

fn show(path: &FsPath, in_force: &PolicyInForce) -> Result<(), CliError> {
    let policy = &in_force.policy;
    line(format!("{path}: {}", origin_text(in_force)))?;
    line(format!("  replicas       {}", policy.replicas))?;
    line(format!("  min replicas   {}", policy.min_replicas))?;
    line(format!("  ack            {}", ack_word(policy.ack)))?;
    line(format!("  persist        {}", persist_word(policy.persist)))?;
    line(format!("  max lag age    {}", exact_time(policy.max_lag_ms)))?;
    line(format!("  max lag bytes  {}", exact_bytes(policy.max_lag_bytes)))
}

#[cfg(test)]
mod tests {
    use cairn_sdk::types::InodeId;

    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let now = Policy { max_lag_ms: 7_000, ..Policy::cluster() };
        assert_eq!(changed(now, &PolicyChange::default()).unwrap(), now);
        let change = PolicyChange { persist: Some(PersistWord::Never), ..PolicyChange::default() };
        assert_eq!(changed(now, &change).unwrap(), Policy { persist: Persist::Never, ..now });
        let change = PolicyChange { max_lag_bytes: Some(1 << 20), ..PolicyChange::default() };
        assert_eq!(changed(now, &change).unwrap(), Policy { max_lag_bytes: 1 << 20, ..now });
    }

    #[test]
    fn fewer_replicas_take_the_least_number_along() {
        let fewer = PolicyChange { replicas: Some(1), ..PolicyChange::default() };
        let policy = changed(Policy::cluster(), &fewer).unwrap();
        assert_eq!((policy.replicas, policy.min_replicas), (1, 1));
        let wrong = PolicyChange { min_replicas: Some(4), ..PolicyChange::default() };
        assert_eq!(changed(Policy::cluster(), &wrong).unwrap_err().code(), 2);
    }

    #[test]
    fn a_policy_says_where_it_is_set() {
        let mut in_force = PolicyInForce {
            policy: Policy::cluster(),
            ino: InodeId(7),
            origin: InodeId(7),
            origin_path: b"/a".to_vec(),
        };
        assert_eq!(origin_text(&in_force), "set here");
        in_force.origin = InodeId(3);
        assert_eq!(origin_text(&in_force), "inherited from /a");
        let wanted = "3 replicas (2 at least), ack fsync, persist async, lag up to 30s and 1GiB";
        assert_eq!(text(&in_force.policy), wanted);
        let json = fields(&in_force);
        assert_eq!((&json["inherited"], &json["from"]), (&json!(true), &json!("/a")));
    }
}
