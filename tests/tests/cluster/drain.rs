//! A data node is drained while clients work, then killed and removed, and nothing is missed. Copies are
//! spread over zones, at first and when they are made again. What S3 has gets no further copies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_sdk::types::{NodeId, Persist, Policy};
use cairn_sdk::{Client, StatusReply};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, Pump, UnderStore, Wire, eventually, verify};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::members::cairn;
use crate::removed_nodes::{self, content, path, read_all, write};

const FILES: usize = 12;
const LOG: &str = "/log";
/// Silent nodes are found after 3 s, copies are made within seconds, unheld tails are sealed at their
/// session's end.
const SOON: Duration = Duration::from_secs(90);

/// The nodes that hold a file's bytes, by chunk.
async fn holders(wire: &Wire, path: &str) -> Vec<BTreeSet<u64>> {
    let chunks = removed_nodes::holders(wire, path).await;
    chunks.into_iter().map(|nodes| nodes.into_iter().collect()).collect()
}

async fn status_when(client: &Client, what: &str, fits: impl Fn(&StatusReply) -> bool) -> StatusReply {
    let look = || async { client.status().await.ok().filter(|status| fits(status)) };
    eventually(what, SOON, look).await.unwrap()
}

/// Drains a node, once the metadata servers have raised the level that this needs.
async fn drain(cluster: &Cluster, node: u64) -> Outcome {
    let asked = || async {
        let asked = cairn(cluster, &format!("admin node drain {node} --wait")).await;
        (!asked.stderr.contains("feature level")).then_some(asked)
    };
    eventually("the level to be raised", SOON, asked).await.unwrap()
}

/// Kills a node, and removes it as soon as it is silent for long enough.
async fn kill_and_remove(cluster: &mut Cluster, client: &Client, node: u64) {
    let dead = cluster.data_of(client, NodeId(node)).await.unwrap();
    cluster.datas[dead].kill();
    let cluster = &*cluster;
    let removed = eventually("the node to be silent", SOON, || async {
        let removed = cairn(cluster, &format!("admin node remove {node} --yes")).await;
        (!removed.stderr.contains("is alive")).then_some(removed)
    })
    .await
    .unwrap();
    assert_eq!(removed.code, 0, "{}", removed.stderr);
}

/// Writes small files and reads each back until it is stopped. Answers how many, and what failed.
async fn churn(client: Client, stop: CancellationToken) -> (usize, Vec<String>) {
    let mut failed = Vec::new();
    let mut n = 0;
    while !stop.is_cancelled() {
        n += 1;
        let (path, bytes) = (format!("/churn-{n}"), vec![n as u8; 3000]);
        if let Err(error) = client.put(path.clone(), 0o644, bytes.clone()).await {
            failed.push(format!("put {path}: {error}"));
            continue;
        }
        let read = match client.open(path.clone()).await {
            Ok(file) => file.read_at(0, bytes.len()).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(read) if read == bytes => {}
            Ok(_) => failed.push(format!("{path} differs")),
            Err(error) => failed.push(format!("read {path}: {error}")),
        }
    }
    (n, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_under_appends_killed_and_removed() {
    let policy = Policy { persist: Persist::Never, ..Policy::cluster() };
    let options = ClusterOptions { datas: 4, policy, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    // Opened before all of it, read after.
    let reader = cluster.client().await.unwrap();
    let mut opened = Vec::new();
    for n in 0..FILES {
        opened.push(reader.open(path(n)).await.unwrap());
    }
    let mut pump = Pump::start(client.open_append(LOG).await.unwrap(), 1, 8, 300);
    pump.advance(200).await;
    let stop = CancellationToken::new();
    let churning = tokio::spawn(churn(cluster.client().await.unwrap(), stop.clone()));
    let wire = Wire::new(&cluster, &client);
    let look = || async { wire.tail(LOG).await.ok() };
    let leaves = eventually("an open tail", SOON, look).await.unwrap().primary;

    let drained = drain(&cluster, leaves).await;
    assert_eq!(drained.code, 0, "{}", drained.stderr);
    assert!(drained.text().contains("is drained: it may be shut down"), "{}", drained.text());
    let again = cairn(&cluster, &format!("admin node drain node-{leaves} --wait")).await;
    assert_eq!(again.code, 0, "a repeat: {}", again.stderr);
    let listed = cairn(&cluster, "admin node ls --json").await;
    let state = |listed: &Outcome| {
        let lines =
            listed.text().lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>();
        lines.into_iter().find(|n| n["node"] == leaves).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&listed), "drained");
    pump.advance(200).await;
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors.first());
    println!("{} appends, longest pause {} ms", ledger.acknowledged.len(), ledger.longest_pause_ms);
    stop.cancel();
    let (written, failed) = churning.await.unwrap();
    assert!(failed.is_empty() && written > 0, "{failed:?}");

    // Two of the three that are left hold min_replicas: no further one can go.
    let other = client.status().await.unwrap().nodes.iter().map(|n| n.node).find(|n| *n != leaves).unwrap();
    // One that was silent for a moment does not count: it is asked again.
    let two_left = || async {
        let drained = cairn(&cluster, &format!("admin node drain {other}")).await;
        assert!(drained.code == 0 || drained.stderr.contains("cannot be drained"), "{}", drained.stderr);
        (drained.code == 0).then_some(())
    };
    eventually("a drain that leaves two", SOON, two_left).await.unwrap();
    let third =
        client.status().await.unwrap().nodes.iter().map(|n| n.node).find(|n| *n != leaves && *n != other);
    let refused = cairn(&cluster, &format!("admin node drain {}", third.unwrap())).await;
    assert_eq!(refused.code, 1, "{}", refused.text());
    assert!(
        refused.stderr.contains("cannot be drained") && refused.stderr.contains("need 2"),
        "{}",
        refused.stderr
    );
    let kept = cairn(&cluster, &format!("admin node undrain {other}")).await;
    assert_eq!(kept.code, 0, "{}", kept.stderr);

    kill_and_remove(&mut cluster, &client, leaves).await;
    appender.close().await.unwrap();
    let whole = |s: &StatusReply| {
        s.chunks_under_replicated == 0 && s.chunks_lost == 0 && s.nodes.iter().all(|n| n.node != leaves)
    };
    status_when(&client, "three copies of everything, and no word of the node", whole).await;
    for n in 0..FILES {
        for nodes in holders(&wire, &path(n)).await {
            assert!(nodes.len() == 3 && !nodes.contains(&leaves), "{}: {nodes:?}", path(n));
        }
    }
    let fresh = cluster.client().await.unwrap();
    for (n, opened) in opened.iter().enumerate() {
        assert!(read_all(&fresh, &path(n)).await == content(n), "{} differs", path(n));
        assert!(
            opened.read_at(0, content(n).len()).await.unwrap() == content(n),
            "{} differs for who had it open",
            path(n)
        );
    }
    verify(&read_all(&fresh, LOG).await, &[&ledger]).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_under_another_leader() {
    let policy = Policy { replicas: 2, min_replicas: 2, persist: Persist::Never, ..Policy::cluster() };
    let options = ClusterOptions { policy, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    let wire = Wire::new(&cluster, &client);
    let leaves = *holders(&wire, &path(0)).await.remove(0).first().unwrap();
    let asked = || async {
        let asked = cairn(&cluster, &format!("admin node drain {leaves}")).await;
        (!asked.stderr.contains("feature level")).then_some(asked)
    };
    let asked = eventually("the level to be raised", SOON, asked).await.unwrap();
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    let done = drain(&cluster, leaves).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    kill_and_remove(&mut cluster, &client, leaves).await;
    let fresh = cluster.client().await.unwrap();
    for n in 0..FILES {
        assert!(read_all(&fresh, &path(n)).await == content(n), "{} differs", path(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_in_as_many_zones_as_there_are_at_first_and_again() {
    let policy = Policy { persist: Persist::Never, ..Policy::cluster() };
    let zones = vec!["a", "a", "a", "b", "c"];
    // A node that is slow for a moment is not left out.
    let options = ClusterOptions { datas: 5, policy, zones, ..ClusterOptions::default() }.steady();
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    let status = client.status().await.unwrap();
    let zones: BTreeMap<u64, String> = status.nodes.iter().map(|n| (n.node, n.zone.clone())).collect();
    let shown = cairn(&cluster, "status").await;
    assert!(shown.text().contains("b/"), "{}", shown.text());
    let wire = Wire::new(&cluster, &client);
    let spread = |nodes: &BTreeSet<u64>| nodes.iter().map(|n| zones[n].as_str()).collect::<BTreeSet<_>>();
    for n in 0..FILES {
        for nodes in holders(&wire, &path(n)).await {
            assert_eq!(spread(&nodes), ["a", "b", "c"].into(), "{}: {nodes:?}", path(n));
        }
    }
    // The only node of its zone goes: the copies that it had are made again, and c is not left.
    let gone = *zones.iter().find(|(_, zone)| *zone == "b").unwrap().0;
    kill_and_remove(&mut cluster, &client, gone).await;
    let whole = |s: &StatusReply| s.chunks_under_replicated == 0 && s.nodes.iter().all(|n| n.node != gone);
    status_when(&client, "three copies of everything", whole).await;
    for n in 0..FILES {
        for nodes in holders(&wire, &path(n)).await {
            assert_eq!((nodes.len(), spread(&nodes)), (3, ["a", "c"].into()), "{}: {nodes:?}", path(n));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_has_gets_no_further_copies_and_what_it_has_not_does() {
    let policy = Policy { replicas: 2, min_replicas: 2, ..Policy::cluster() };
    let options = ClusterOptions { policy, understore: UnderStore::Directory, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/kept", 0o755).await.unwrap();
    client.set_policy("/kept", Some(Policy { persist: Persist::Never, ..policy })).await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
        let writer = cluster.client().await.unwrap();
        writer.put(format!("/kept/{n}"), 0o644, content(n)).await.unwrap();
        writer.close().await.unwrap();
    }
    let persisted = |s: &StatusReply| s.lag_bytes == 0 && s.chunks_open == 0 && s.chunks_sealing == 0;
    status_when(&client, "all that goes to S3 to be there", persisted).await;
    let wire = Wire::new(&cluster, &client);
    let gone = *holders(&wire, "/kept/0").await.remove(0).first().unwrap();
    kill_and_remove(&mut cluster, &client, gone).await;
    let whole = |s: &StatusReply| s.chunks_under_replicated == 0 && s.nodes.iter().all(|n| n.node != gone);
    status_when(&client, "two copies of what is not in S3", whole).await;
    let mut fewer = 0;
    for n in 0..FILES {
        for nodes in holders(&wire, &format!("/kept/{n}")).await {
            assert_eq!(nodes.len(), 2, "/kept/{n}: {nodes:?}");
        }
        fewer += holders(&wire, &path(n)).await.iter().filter(|nodes| nodes.len() < 2).count();
        assert!(read_all(&client, &path(n)).await == content(n), "{} differs", path(n));
        assert!(read_all(&client, &format!("/kept/{n}")).await == content(n), "/kept/{n} differs");
    }
    assert!(fewer > 0, "the node that is gone had some of what is in S3, and nobody copied it");
}
