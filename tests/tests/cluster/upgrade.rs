//! Metadata servers are upgraded one after the other while clients work: no operation of theirs fails,
//! what an older server cannot apply is refused until the last one is upgraded, and works from then on
//! by itself. An older build is one that says it applies the first feature level alone.

use cairn_sdk::types::{FEATURE_LEVEL, Policy};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};
use serde_json::Value;

use crate::members::{Load, SOON, cairn, done, group, grow, names, refused};

const OLD: &str = "feature_level_max = 1\n";

fn three_of_the_old_build() -> ClusterOptions {
    let meta_toml = OLD.to_owned();
    ClusterOptions { datas: 1, policy: Policy::single(), meta_toml, ..ClusterOptions::default() }
}

/// Writes a server's configuration without, or with, the line that makes it an old one.
fn configure(cluster: &Cluster, place: usize, old: bool) {
    let path = cluster.metas[place].config_path();
    let text = std::fs::read_to_string(&path).unwrap().replace(OLD, "");
    std::fs::write(&path, if old { format!("{OLD}{text}") } else { text }).unwrap();
}

/// Stops a server, replaces its build, starts it, and waits until it has caught up.
async fn upgrade(cluster: &mut Cluster, place: usize) {
    cluster.metas[place].stop();
    configure(cluster, place, false);
    cluster.metas[place].start().unwrap();
    let node = place as u64 + 1;
    eventually("the upgraded server to have caught up", SOON, || async {
        let group = group(cluster).await;
        let member = group["members"].as_array().unwrap().iter().find(|m| m["node"] == node)?.clone();
        let told = member["level_highest"] == FEATURE_LEVEL.0;
        (told && member["reachable"] == true && member["lag_entries"].as_u64()? < 100).then_some(())
    })
    .await
    .unwrap();
}

async fn level(cluster: &Cluster) -> Value {
    group(cluster).await["feature_level"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_upgraded_one_by_one_and_no_operation_fails() {
    let mut cluster = Cluster::start(three_of_the_old_build()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/work", 0o755).await.unwrap();
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    let why = "the cluster's feature level is 1, and this needs 2";
    for place in 0..3 {
        assert_eq!(level(&cluster).await, 1, "before server {place} is upgraded");
        refused(&cluster, "admin raft probe", why).await;
        upgrade(&mut cluster, place).await;
        load.goes_on().await;
    }
    eventually("the level to be raised by itself", SOON, || async {
        (level(&cluster).await == FEATURE_LEVEL.0).then_some(())
    })
    .await
    .unwrap();
    assert!(done(&cluster, "admin raft probe").await.contains("on the disks of a majority"));
    load.goes_on().await;
    let wanted = load.end().await;
    assert_eq!(names(&client, "/work").await, wanted);

    // All at once they start on what is there, and the level stays.
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    assert_eq!(level(&cluster).await, FEATURE_LEVEL.0);
    assert_eq!(names(&cluster.client().await.unwrap(), "/work").await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_refused_by_a_cluster_that_has_gone_on() {
    let options =
        ClusterOptions { metas: 1, datas: 0, policy: Policy::single(), ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    assert_eq!(grow(&mut cluster).await, 2);
    assert_eq!(grow(&mut cluster).await, 3);
    eventually("the level to be raised by itself", SOON, || async {
        (level(&cluster).await == FEATURE_LEVEL.0).then_some(())
    })
    .await
    .unwrap();
    // One goes back to the build before: it does not start, and says why.
    cluster.metas[2].stop();
    configure(&cluster, 2, true);
    cluster.metas[2].start().unwrap();
    eventually("the older server to end", SOON, || {
        let ended = !cluster.metas[2].is_running();
        async move { ended.then_some(()) }
    })
    .await
    .unwrap();
    let log = cluster.metas[2].log_tail();
    let why = format!("feature level is {}, and this server applies 1 to 1", FEATURE_LEVEL.0);
    assert!(log.contains(&why), "{log}");
    // Nothing of it was changed: the right build goes on.
    upgrade(&mut cluster, 2).await;
    let members = group(&cluster).await["members"].as_array().unwrap().clone();
    assert_eq!(members.iter().filter(|m| m["voter"] == true).count(), 3);
    // Nor is one added.
    let place = cluster.join_meta().unwrap();
    cluster.metas[place].stop();
    configure(&cluster, place, true);
    cluster.metas[place].start().unwrap();
    let line = format!("admin raft add 4 {}", cluster.metas[place].address());
    let outcome = cairn(&cluster, &line).await;
    assert_ne!(outcome.code, 0, "{}", outcome.text());
    assert_eq!(group(&cluster).await["members"].as_array().unwrap().len(), 3);
}
