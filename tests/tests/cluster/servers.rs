//! What every server has besides gRPC: metrics, health, its configuration, a status of the whole.

use std::process::Command;
use std::time::Duration;

use cairn_tests::cluster::{Cluster, ClusterOptions, cairn_binary, eventually, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(60);

/// One GET over HTTP/1.1: the status and the body.
pub async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_tell_their_health_and_metrics() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.open_append("/log").await.unwrap().append(&b"one"[..]).await.unwrap();
    for server in cluster.metas.iter().chain(&cluster.datas) {
        assert_eq!(get(server.http(), "/healthz").await.unwrap().0, 200, "{}", server.name());
        // During an election nobody is ready.
        let ready = || async { (get(server.http(), "/readyz").await.ok()?.0 == 200).then_some(()) };
        eventually("the server to be ready", SOON, ready).await.unwrap();
        let (status, metrics) = get(server.http(), "/metrics").await.unwrap();
        assert_eq!(status, 200);
        let role = server.name().trim_end_matches(char::is_numeric);
        let own = metrics.lines().filter(|l| l.starts_with(&format!("cairn_{role}"))).count();
        assert!(own > 3, "{}:\n{metrics}", server.name());
        assert_eq!(get(server.http(), "/nothing").await.unwrap().0, 404);
    }
    // Alive is not ready: a metadata server without a majority says so.
    cluster.metas[1].kill();
    cluster.metas[2].kill();
    let http = cluster.metas[0].http().to_owned();
    let unready = || async {
        let (status, _) = get(&http, "/readyz").await.ok()?;
        (status == 503).then_some(())
    };
    eventually("the lone server to be unready", SOON, unready).await.unwrap();
    assert_eq!(get(&http, "/healthz").await.unwrap().0, 200);
    cluster.start_all().await.unwrap();
    let ready = || async { (get(&http, "/readyz").await.ok()?.0 == 200).then_some(()) };
    eventually("it to be ready again", SOON, ready).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_in_force_is_shown_and_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meta.toml");
    std::fs::write(&file, "id = 7\ndir = \"/somewhere\"\npeers = [\"7@127.0.0.1:9000\", \"8@127.0.0.1:9002\", \"9@127.0.0.1:9004\"]\n").unwrap();
    let print = async |role: &str, arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(cairn_binary().unwrap());
        command.arg(role).args(arguments).arg("--print-config").envs(environment.iter().copied());
        let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.text()
    };
    let path = file.to_str().unwrap();
    let shown = print(
        "meta",
        &["--config", path, "--listen", "127.0.0.1:9000"],
        &[("CAIRN_META_HTTP", "127.0.0.1:9001")],
    )
    .await;
    for line in
        ["id = 7", "listen = \"127.0.0.1:9000\"", "http = \"127.0.0.1:9001\"", "[policy]", "replicas = 3"]
    {
        assert!(shown.contains(line), "no '{line}' in:\n{shown}");
    }
    // What is shown is a configuration.
    std::fs::write(&file, &shown).unwrap();
    assert_eq!(print("meta", &["--config", path], &[]).await, shown);
    // A flag wins over the environment, that over the file.
    let shown = print("meta", &["--config", path, "--id", "9"], &[("CAIRN_META_ID", "8")]).await;
    assert!(shown.contains("id = 9"), "{shown}");
    let shown = print("meta", &["--config", path], &[("CAIRN_META_ID", "8")]).await;
    assert!(shown.contains("id = 8"), "{shown}");
    let shown = print("data", &["--understore", "s3://b/p"], &[]).await;
    assert!(shown.contains("url = \"s3://b/p\"") && shown.contains("segment_mib = 256"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_who_is_missing() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let whole = || async {
        let status = client.status().await.ok()?;
        let servers = status.servers.iter().all(|s| s.reachable && s.voter);
        (servers && status.nodes.iter().all(|n| n.alive && n.capacity_bytes > 0)).then_some(status)
    };
    let status = eventually("all to be there", SOON, whole).await.unwrap();
    assert_eq!((status.servers.len(), status.nodes.len()), (3, 3));
    assert_eq!(status.servers.iter().filter(|s| s.leader).count(), 1);
    assert!(status.nodes.iter().all(|n| n.disk.len() == 16));
    assert_eq!(status.cluster_id.len(), 16);
    let log = client.open_append("/log").await.unwrap();
    log.append(vec![1; 100_000]).await.unwrap();
    cluster.datas[2].kill();
    log.append(vec![2; 100_000]).await.unwrap();
    let leader = cluster.leader(&client).await.unwrap();
    let follower = (leader + 1) % 3;
    cluster.metas[follower].kill();
    let address = cluster.datas[2].address().to_owned();
    let seen = || async {
        let status = client.status().await.ok()?;
        let node = status.nodes.iter().find(|n| n.address == address)?;
        let server = status.servers.iter().find(|s| s.node == follower as u64 + 1)?;
        (!node.alive && !server.reachable && status.chunks_under_replicated > 0).then_some(())
    };
    eventually("the status to show both", SOON, seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn help_teaches() {
    for (arguments, words) in [
        (&["--help"][..], &["cairn up", "Exit codes", "status", "mount"][..]),
        (&["meta", "--help"], &["--config", "CAIRN_META_", "--print-config", "--insecure"]),
        (&["data", "--help"], &["--understore", "AWS", "CAIRN_DATA_"]),
        (&["fs", "--help"], &["put", "append", "tail"]),
        (&["fs", "append", "--help"], &["--lines", "--exclusive", "durable"]),
    ] {
        let mut command = Command::new(cairn_binary().unwrap());
        command.args(arguments);
        let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
        assert_eq!(outcome.code, 0);
        for word in words {
            assert!(outcome.text().contains(word), "{arguments:?}: no '{word}' in:\n{}", outcome.text());
        }
    }
}
