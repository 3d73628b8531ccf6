//! `cairn fs df`.

use cairn_sdk::Client;
use serde_json::json;

use crate::exit::CliError;
use crate::output::{human_bytes, line, object};

pub async fn run(client: &Client, json: bool) -> Result<(), CliError> {
    let room = client.statfs().await?;
    if json {
        return object(&json!({
            "capacity_bytes": room.capacity_bytes,
            "used_bytes": room.used_bytes,
            "free_bytes": room.free_bytes,
            "inodes": room.inodes,
            "replicas": room.replicas,
            "data_nodes": room.data_nodes,
        }));
    }
    line(format!("capacity: {}", human_bytes(room.capacity_bytes)))?;
    line(format!("    used: {} not in S3", human_bytes(room.used_bytes)))?;
    line(format!("    free: {}", human_bytes(room.free_bytes)))?;
    line(format!("  inodes: {}", room.inodes))?;
    line(format!("of {} data nodes, {} replicas of each byte", room.data_nodes, room.replicas))
}
