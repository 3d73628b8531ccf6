//! `cairn status` while no metadata server leads: each one is asked how it sees the cluster.

use std::time::Duration;

use cairn_proto::handshake;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::{HelloReply, HelloRequest};
use cairn_sdk::types::ClusterId;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::cli::Connect;
use crate::exit::CliError;
use crate::output::{hex, line, object};

/// How long one server may take to connect, and then to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Members of a group, at most: what servers name beyond that is not followed.
const SERVERS_MAX: usize = 31;

/// A server, and what it says or why it says nothing.
struct Asked {
    address: String,
    answer: Result<HelloReply, String>,
}

/// Asks the servers named on the command line, and those that they name, and shows the answers.
pub async fn show(at: &Connect, as_json: bool) -> Result<(), CliError> {
    let cluster = at.cluster_id.as_deref().and_then(|id| id.parse::<ClusterId>().ok());
    let mut addresses = at.connect.clone();
    let mut asked = Vec::new();
    let mut next = 0;
    while let Some(address) = addresses.get(next).cloned() {
        next += 1;
        let answer = hello(&address, cluster).await;
        for member in answer.iter().flat_map(|reply| &reply.members) {
            if !addresses.contains(&member.address) && addresses.len() < SERVERS_MAX {
                addresses.push(member.address.clone());
            }
        }
        asked.push(Asked { address, answer });
    }
    if as_json {
        let servers: Vec<Value> = asked.iter().map(server_json).collect();
        return object(&json!({"leader": 0, "servers": servers}));
    }
    line("no leader answers; what each metadata server says:")?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "metadata server",
        "answers",
        "cluster",
        "leader",
        "",
    ]);
    for Asked { address, answer } in &asked {
        table.add_row(match answer {
            Ok(reply) => [
                address.clone(),
                format!("yes, it is server {}", reply.node),
                cluster_text(reply),
                leader_text(reply),
                format!("version {}", reply.version),
            ],
            Err(why) => [address.clone(), "no".into(), String::new(), String::new(), why.clone()],
        });
    }
    line(table.to_string())
}

async fn hello(address: &str, cluster: Option<ClusterId>) -> Result<HelloReply, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let connected = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await;
    let mut meta = MetaClient::new(connected.map_err(|_| "not reachable".to_owned())?);
    let mut request = Request::new(HelloRequest { client: "cairn-status".to_owned() });
    handshake::stamp(&mut request, cluster);
    Ok(meta.hello(request).await.map_err(|status| status.message().to_owned())?.into_inner())
}

fn cluster_text(reply: &HelloReply) -> String {
    if reply.cluster_id.is_empty() { "not formed yet".to_owned() } else { hex(&reply.cluster_id) }
}

fn leader_text(reply: &HelloReply) -> String {
    match (reply.leader, reply.leader_address.as_str()) {
        (0, _) => "knows none".to_owned(),
        (leader, "") => format!("believes in {leader}"),
        (leader, address) => format!("believes in {leader} at {address}"),
    }
}

fn server_json(asked: &Asked) -> Value {
    let address = &asked.address;
    match &asked.answer {
        Ok(reply) => json!({
            "address": address, "reachable": true, "node": reply.node, "leader": reply.leader,
            "leader_address": reply.leader_address, "cluster_id": hex(&reply.cluster_id), "version": reply.version,
        }),
        Err(why) => json!({"address": address, "reachable": false, "error": why}),
    }
}
