//! What commands refuse, and what they say and answer when only some of it can be done.

use std::process::Command;
use std::time::Duration;

use cairn_proto::v1::HelloRequest;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_sdk::types::{FsError, Persist, Policy};
use cairn_sdk::{Cause, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, cairn_binary, run};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

async fn cairn(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(cairn_binary().unwrap());
    command.args(arguments);
    run(command, b"", Duration::from_secs(60)).await.unwrap()
}

async fn on(cluster: &Cluster, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut command = cluster.cli();
    command.args(arguments);
    run(command, input, Duration::from_secs(60)).await.unwrap()
}

async fn single() -> Cluster {
    Cluster::start(ClusterOptions::single()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_anything_else() {
    let secret = "http://AKID:SECRET@127.0.0.1:9";
    for (arguments, says) in [
        (&["--log", "cairn=nonsense", "fs", "ls"][..], "--log 'cairn=nonsense'"),
        (&["--connect", "no address", "fs", "ls"], "not a valid server address"),
        (&["fs", "--json", "cat", "/x"], "leave --json out"),
        (&["fs", "tail", "--json", "/x"], "leave --json out"),
        (&["mount", "add", "s3://bucket/x", "/x", "--endpoint", secret], "no credentials"),
        (&["mount", "add", "s3://AKID:SECRET@bucket/x", "/x"], "no credentials"),
        (&["meta", "--print-config", "--id", "0"], "starts at 1"),
        (&["meta", "--print-config", "--insecure", "--listen", "0.0.0.0:7100"], "advertise"),
        (&["data", "--print-config", "--insecure", "--listen", "0.0.0.0:7400"], "advertise"),
        (
            &["data", "--print-config", "--understore", "s3://bucket/x", "--understore-endpoint", secret],
            "no credentials",
        ),
    ] {
        let outcome = cairn(arguments).await;
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("SECRET"), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.text(), "", "{arguments:?} printed something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_and_the_rest_is_done() {
    let cluster = single().await;
    let client = cluster.client().await.unwrap();
    for path in ["/a", "/b", "/c"] {
        client.put(path, 0o644, path).await.unwrap();
    }
    let cat = on(&cluster, &["fs", "cat", "/a", "/none", "/b"], b"").await;
    assert_eq!((cat.code, cat.text().as_str()), (1, "/a/b"), "{}", cat.stderr);
    assert!(cat.stderr.contains("/none") && cat.stderr.contains("1 of 3 failed"), "{}", cat.stderr);
    let ls = on(&cluster, &["fs", "ls", "/none", "/a"], b"").await;
    assert_eq!((ls.code, ls.text().as_str()), (1, "a\n"), "{}", ls.stderr);

    // A relative path is wrong usage: nothing is begun.
    let usage = on(&cluster, &["fs", "rm", "/a", "relative"], b"").await;
    assert_eq!(usage.code, 2, "{}", usage.stderr);
    client.stat("/a").await.unwrap();
    // A name that nothing can have is refused as the namespace would, and the rest is done.
    let long = format!("/{}", "n".repeat(256));
    let rm = on(&cluster, &["fs", "rm", "/a", &long, "/none", "/b"], b"").await;
    assert_eq!(rm.code, 1, "{}", rm.stderr);
    assert!(rm.stderr.contains("2 of 4 failed") && rm.stderr.contains("255"), "{}", rm.stderr);
    for gone in ["/a", "/b"] {
        assert_eq!(client.stat(gone).await.unwrap_err().fs(), Some(&FsError::NotFound));
    }

    let local = tempfile::tempdir().unwrap();
    let path = |name: &str| local.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("one"), b"1").unwrap();
    client.mkdir("/into", 0o755).await.unwrap();
    let put = on(&cluster, &["fs", "put", &path("missing"), &path("one"), "/into"], b"").await;
    assert_eq!(put.code, 1, "{}", put.stderr);
    assert!(put.stderr.contains("missing") && put.stderr.contains("1 of 2 failed"), "{}", put.stderr);
    assert_eq!(client.stat("/into/one").await.unwrap().size, 1);
    // One thing alone keeps its own message and code.
    let alone = on(&cluster, &["fs", "rm", "/none"], b"").await;
    assert_eq!(alone.code, 1, "{}", alone.stderr);
    assert!(!alone.stderr.contains("failed"), "{}", alone.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_without_a_leader_shows_each_server() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    cluster.metas[0].kill();
    cluster.metas[1].kill();
    let down = cluster.metas[0].address().to_owned();
    let up = cluster.metas[2].address().to_owned();
    let shown = on(&cluster, &["--retry-seconds", "2", "status"], b"").await;
    assert_eq!(shown.code, 3, "{}", shown.stderr);
    let text = shown.text();
    let line =
        |address: &str| text.lines().find(|line| line.contains(address)).unwrap_or_default().to_owned();
    assert!(line(&up).contains("yes, it is server 3"), "{text}");
    assert!(line(&down).contains("not reachable"), "{text}");
    let shown = on(&cluster, &["--retry-seconds", "2", "status", "--json"], b"").await;
    assert_eq!(shown.code, 3, "{}", shown.stderr);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let servers = shown["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3, "{shown}");
    let reached: Vec<&serde_json::Value> = servers.iter().filter(|s| s["reachable"] == true).collect();
    assert_eq!(reached.len(), 1, "{shown}");
    assert_eq!(reached[0]["address"], up);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_of_what_is_never_persisted_is_not_supported() {
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    let cluster = Cluster::start(ClusterOptions { policy, ..ClusterOptions::single() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put("/file", 0o644, b"x").await.unwrap();
    let refused = client.sync("/file").await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::NotSupported), "{refused}");
    assert_eq!((refused.kind(), refused.errno()), (ErrorKind::Invalid, 95));
    let outcome = on(&cluster, &["fs", "sync", "/file"], b"").await;
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("not supported"), "{}", outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_leaves_the_outcome_unknown() {
    // Takes every connection and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hangs_up = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let status = MetaClient::new(channel).hello(HelloRequest { client: "test".into() }).await.unwrap_err();
    let cause = Cause::from(status);
    assert!(matches!(cause, Cause::Transport { .. }), "{cause:?}");
    assert_eq!(cause.kind(), ErrorKind::Unknown);
    let outcome = cairn(&["--connect", &address, "--retry-seconds", "1", "fs", "ls", "/"]).await;
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&address), "{}", outcome.stderr);
    hangs_up.abort();
}
