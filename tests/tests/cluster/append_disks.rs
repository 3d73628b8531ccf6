//! Appends while disks and machines fail: rows of the append protocol's failure table. What this
//! machine cannot do (strace, loop devices, namespaces) is left out, and says so.

use std::path::Path;
use std::time::Duration;

use cairn_proto::v1::Chunk;
use cairn_sdk::types::{Ack, Persist, Policy};
use cairn_sdk::{Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Ledger, Pump, Wire, eventually, record, run, verify};
use cairn_tests::power::{PowerError, Volume};
use cairn_tests::syscall_fault::{FaultError, SyscallFault};

use crate::append_failures::{LOG, goes_on, pumping, read_all, tail_nodes, tail_when};

const SOON: Duration = Duration::from_secs(60);

fn small() -> ClusterOptions {
    ClusterOptions { segment_mib: 4, capacity_mib: 64, ..ClusterOptions::default() }
}

/// A volume, where this machine can make one.
fn volume() -> Option<Volume> {
    match Volume::new(1024) {
        Ok(volume) => Some(volume),
        Err(error @ PowerError::Unable { .. }) => {
            println!("left out: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn impatient(cluster: &Cluster) -> Client {
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    Client::connect(options).await.unwrap()
}

/// The file as it is, against what the writers know.
async fn holds(client: &Client, ledgers: &[&Ledger]) {
    let file = read_all(client, LOG).await;
    verify(&file, ledgers).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fsync_that_fails_retires_the_disk_for_good() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = pumping(&client).await;
    let (_, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    let address = cluster.datas[secondary].address().to_owned();
    let node = tail.replicas.iter().find(|r| r.address == address).unwrap().node;
    let pid = cluster.datas[secondary].pid().unwrap();
    let fault = match SyscallFault::fail(pid, "fdatasync", "EIO") {
        Ok(fault) => fault,
        Err(error @ FaultError::Unable { .. }) => {
            println!("left out: {error}");
            return;
        }
    };
    let retired = || async {
        let status = client.status().await.ok()?;
        status.nodes.iter().any(|n| n.node == node && n.retired).then_some(())
    };
    eventually("the disk to be retired", SOON, retired).await.unwrap();
    pump.advance(200).await;
    // The disk answers well again, and the process is another one: it stays retired, in the log too,
    // whoever leads.
    drop(fault);
    cluster.datas[secondary].kill();
    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    cluster.start_all().await.unwrap();
    eventually("it is retired still", SOON, retired).await.unwrap();
    for number in 0..20 {
        client.put(format!("/file-{number}"), 0o644, &b"x"[..]).await.unwrap();
    }
    let wire = Wire::new(&cluster, &client);
    let next = eventually("a tail", SOON, || async { wire.tail(LOG).await.ok() }).await.unwrap();
    assert!(next.replicas.iter().all(|r| r.node != node), "placed on a retired disk: {:?}", next.replicas);
    goes_on(pump, &client, "fsync failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_on_one_replica_is_gone_on_without() {
    let policy = Policy { persist: Persist::Never, ..Policy::cluster() };
    let options = ClusterOptions { capacity_mib: 512, policy, ..small() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    // One of the three has a much smaller disk.
    cluster.datas[1].kill();
    cluster.datas[1].reconfigure("capacity_mib = 512", "capacity_mib = 32").unwrap();
    cluster.start_all().await.unwrap();
    let node = {
        let status = client.status().await.unwrap();
        status.nodes.iter().find(|n| n.address == cluster.datas[1].address()).unwrap().node
    };
    let appender = client.open_append(LOG).await.unwrap();
    let mut pump = Pump::start(appender, 1, 8, 100_000);
    pump.advance(500).await;
    let without = |tail: &Chunk| tail.replicas.iter().all(|replica| replica.node != node);
    tail_when(&cluster, &client, "a tail without the full node", without).await;
    let no_broken_one = || async {
        let status = client.status().await.ok()?;
        let full = status.nodes.iter().find(|n| n.node == node)?;
        assert!(!full.retired, "a full disk is no broken one: {full:?}");
        full.alive.then_some(())
    };
    eventually("the full node to be alive", SOON, no_broken_one).await.unwrap();
    goes_on(pump, &client, "disk full on one replica").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_loses_its_power_loses_nothing_acknowledged() {
    let Some(volume) = volume() else { return };
    let root = tempfile::tempdir().unwrap();
    // Of all servers, the first data node alone has its directory on the volume.
    let own = volume.path().join("data1");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::symlink(&own, root.path().join("data1")).unwrap();
    volume.sync().unwrap();
    let mut cluster = Cluster::start_at(root.path(), ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = pumping(&client).await;
    pump.advance(200).await;
    volume.cut().unwrap();
    cluster.datas[0].kill();
    pump.advance(200).await;
    volume.restore().unwrap();
    cluster.start_all().await.unwrap();
    goes_on(pump, &client, "a machine lost its power").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_all_lose_their_power_lose_nothing_acknowledged() {
    let Some(volume) = volume() else { return };
    let mut cluster = Cluster::start_at(volume.path(), small()).await.unwrap();
    let client = cluster.client().await.unwrap();
    volume.sync().unwrap();
    let mut pump = pumping(&client).await;
    pump.advance(200).await;
    // An fsync that is under way may answer well after the cut: what comes then is not counted.
    let before = pump.count();
    volume.cut().unwrap();
    cluster.kill_all();
    volume.restore().unwrap();
    cluster.start_all().await.unwrap();
    let (_, mut ledger) = pump.stop().await;
    let late: Vec<u64> = ledger.acknowledged.keys().copied().filter(|number| *number > before).collect();
    for number in late {
        ledger.acknowledged.remove(&number);
        ledger.unknown.insert(number);
    }
    assert!(ledger.acknowledged.len() as u64 == before, "records are acknowledged in their order");
    holds(&client, &[&ledger]).await;
}

fn in_memory() -> ClusterOptions {
    ClusterOptions { policy: Policy { ack: Ack::Memory, ..Policy::cluster() }, ..ClusterOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_survives_every_process_on_machines_that_keep_their_power() {
    let mut cluster = Cluster::start(in_memory()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = pumping(&client).await;
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    pump.advance(50).await;
    goes_on(pump, &client, "all processes killed under memory").await;
}

/// Makes a server believe that its machine was started anew: its boot id is another one.
fn as_after_a_boot(server: &mut cairn_tests::cluster::Server, directory: &Path) -> bool {
    let id = directory.join("boot-id");
    std::fs::write(&id, "5eed5eed-0000-4000-8000-00000000b007\n").unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let id = id.to_str().unwrap();
    let able = std::process::Command::new("unshare").args(["-m", "sh", "-c", script, id, "true"]).status();
    server.start_within(&["unshare", "-m", "sh", "-c", script, id]);
    able.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_every_machine_lost_stays_undecided_until_an_operator_names_the_bytes() {
    // The tail that the test looks at is to be the last one.
    let mut cluster = Cluster::start(in_memory().steady()).await.unwrap();
    let client = cluster.patient_client().await.unwrap();
    let pump = pumping(&client).await;
    // Kept: a writer that goes has its tail closed.
    let (_writer, ledger) = pump.stop().await;
    let tail = Wire::new(&cluster, &client).tail(LOG).await.unwrap();
    let directory = cluster.directory().to_owned();
    for data in &mut cluster.datas {
        if !as_after_a_boot(data, &directory) {
            println!("left out: this machine has no namespaces for tests");
            return;
        }
    }
    // At once: two that are left of three would decide.
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    // All three answer and none is clean: what they have proves nothing about what they lack.
    let listed = eventually("the tail to be undecided", SOON, || async {
        let status = client.status().await.ok()?;
        status.undecided.into_iter().find(|u| u.chunk == tail.chunk && u.answered == 3)
    });
    let listed = listed.await.unwrap();
    let refused = impatient(&cluster).await.open_append(LOG).await.unwrap().append(record(9, 1, 100)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let mut command = cluster.cli();
    let length = listed.length.to_string();
    command.args(["admin", "chunk", "accept-loss", &tail.chunk.to_string(), "--length", &length, "--yes"]);
    let accepted = run(command, b"", SOON).await.unwrap();
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    // No machine really lost its memory: everything is there, and the next writer goes on behind it.
    let next = client.open_append(LOG).await.unwrap();
    let mut pump = Pump::start(next, 2, 4, 300);
    pump.advance(50).await;
    let (_, second) = pump.stop().await;
    assert!(second.errors.is_empty(), "{:?}", second.errors);
    holds(&client, &[&ledger, &second]).await;
}

/// Starts a command on a machine whose clocks since boot are eleven days ahead of the others'.
const AHEAD: [&str; 6] = ["unshare", "-T", "--boottime", "1000000", "--monotonic", "1000000"];

fn can_be_ahead() -> bool {
    let asked = std::process::Command::new(AHEAD[0]).args(&AHEAD[1..]).args(["cat", "/proc/uptime"]).output();
    let told = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    told.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()).is_some_and(|up| up > 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_other_machines_mean_nothing() {
    if !can_be_ahead() {
        println!("left out: this machine has no time namespaces");
        return;
    }
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = pumping(&client).await;
    let (primary, _, _) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[primary].kill();
    cluster.datas[primary].start_within(&AHEAD);
    cluster.datas[primary].start().unwrap();
    pump.advance(100).await;
    // Whoever leads after this one is, or is not, the one with the other clocks: both happen.
    for _ in 0..2 {
        let leader = cluster.leader(&client).await.unwrap();
        cluster.metas[leader].kill();
        cluster.metas[leader].start_within(&AHEAD);
        pump.advance(200).await;
        cluster.start_all().await.unwrap();
    }
    goes_on(pump, &client, "clocks far apart").await;
}
