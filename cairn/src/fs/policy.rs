//! `cairn fs policy`.

use cairn_sdk::Client;
use cairn_sdk::types::{Ack, Persist};
use serde_json::json;

use super::remote;
use crate::cli::PolicyArgs;
use crate::exit::CliError;
use crate::output::{line, object};

pub async fn run(client: &Client, args: PolicyArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    if args.inherit {
        client.set_policy(&path, None).await?;
        return if json { object(&json!({"path": path.to_string(), "inherited": true})) } else { Ok(()) };
    }
    let now = client.policy(&path).await?;
    let mut policy = now;
    policy.replicas = args.replicas.unwrap_or(now.replicas);
    policy.min_replicas = args.min_replicas.unwrap_or(now.min_replicas.min(policy.replicas));
    policy.max_lag_ms = args.max_lag_ms.unwrap_or(now.max_lag_ms);
    match args.ack.as_deref() {
        Some("memory") => policy.ack = Ack::Memory,
        Some(_) => policy.ack = Ack::Fsync,
        None => {}
    }
    match args.persist.as_deref() {
        Some("sync") => policy.persist = Persist::Sync,
        Some("never") => policy.persist = Persist::Never,
        Some(_) => policy.persist = Persist::Async,
        None => {}
    }
    if policy != now {
        client.set_policy(&path, Some(policy)).await?;
    }
    let text = if json { serde_json::to_string(&policy) } else { serde_json::to_string_pretty(&policy) };
    line(text.unwrap_or_default())
}
