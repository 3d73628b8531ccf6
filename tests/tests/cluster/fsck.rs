//! `cairn admin fsck` in whole clusters: nothing is wrong after a life with failures, on any server
//! and beside writers; exit codes.

use std::time::Duration;

use cairn_sdk::RenameMode;
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, Pump, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

async fn cairn(cluster: &Cluster, line: &str) -> Outcome {
    cluster.cairn(line, SOON).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_after_failures_on_any_server_and_beside_writers() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/d", 0o755).await.unwrap();
    for n in 0..50 {
        client.put(format!("/d/{n}"), 0o644, vec![n as u8; 5_000]).await.unwrap();
    }
    client.link("/d/1", "/d/link").await.unwrap();
    client.rename("/d/2", "/moved", RenameMode::default()).await.unwrap();
    client.unlink("/d/3").await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 200);
    pump.advance(200).await;

    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    pump.advance(200).await;
    cluster.metas[leader].start().unwrap();
    cluster.wait_ready(SOON).await.unwrap();

    let beside = cairn(&cluster, "admin fsck").await;
    assert_eq!(beside.code, 0, "{}{}", beside.text(), beside.stderr);
    assert!(beside.text().contains("nothing is wrong"), "{}", beside.text());
    for server in 1..=3 {
        // The one that was killed may not listen yet.
        let line = format!("admin fsck --json --server {server}");
        let reached = || async { Some(cairn(&cluster, &line).await).filter(|shown| shown.code != 3) };
        let shown = eventually("the server to be reached", SOON, reached).await.unwrap();
        assert_eq!(shown.code, 0, "server {server}: {}{}", shown.text(), shown.stderr);
        let last: Value = serde_json::from_str(shown.text().lines().last().unwrap()).unwrap();
        assert_eq!((&last["node"], &last["findings"]), (&Value::from(server), &Value::from(0)), "{last}");
        assert!(last["rows"].as_u64().unwrap() > 100, "{last}");
    }
    let repaired = cairn(&cluster, "admin fsck --repair").await;
    assert_eq!(repaired.code, 0, "{}{}", repaired.text(), repaired.stderr);
    assert!(client.stat("/lost+found").await.is_err(), "nothing was lost");
    pump.stop().await;
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_finish_says_so() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let unknown = cairn(&cluster, "admin fsck --server 99").await;
    assert_eq!(unknown.code, 1, "{}", unknown.stderr);
    let leader = cluster.leader(&client).await.unwrap();
    let down = (leader + 1) % 3;
    cluster.metas[down].kill();
    let away = cairn(&cluster, &format!("admin fsck --server {}", down + 1)).await;
    assert_eq!(away.code, 3, "{}{}", away.text(), away.stderr);
    let both = cairn(&cluster, "admin fsck --repair --server 1").await;
    assert_eq!(both.code, 2, "only the leader repairs: {}", both.stderr);
    let sound = eventually("the others to check", SOON, || async {
        let shown = cairn(&cluster, "admin fsck").await;
        (shown.code == 0).then_some(shown)
    });
    sound.await.unwrap();
    client.close().await.unwrap();
}
