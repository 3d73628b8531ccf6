//! Appends while the network fails between some machines and not between others: rows of the append
//! protocol's failure table. Every server is reached through a door that is cut, or slow, for some.

use std::time::{Duration, Instant};

use cairn_proto::v1::{Chunk, ChunkState, ReadRecordsRequest};
use cairn_sdk::Client;
use cairn_tests::cluster::{Cluster, ClusterOptions, Server, Wire, eventually};

use crate::append_failures::{LOG, goes_on, pumping, tail_nodes, tail_when};

/// Longer than a replica may take, by far; shorter than a node may be silent.
const SLOW: Duration = Duration::from_millis(700);
const SOON: Duration = Duration::from_secs(60);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterOptions { doors: true, ..ClusterOptions::default() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

/// A client that leaves slow replicas to the primary: it waits for longer than any may take.
async fn patient(cluster: &Cluster) -> Client {
    let mut options = cluster.options();
    options.append_deadline = Duration::from_secs(20);
    Client::connect(options).await.unwrap()
}

fn pids(servers: &[Server]) -> Vec<u32> {
    servers.iter().filter_map(Server::pid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_cut_off_from_the_metadata_only() {
    // Nobody is to notice: not for a busy machine either.
    let options = ClusterOptions { doors: true, ..ClusterOptions::default() }.steady();
    let cluster = Cluster::start(options).await.unwrap();
    let client = patient(&cluster).await;
    let mut pump = pumping(&client).await;
    let (primary, _, tail) = tail_nodes(&cluster, &client, LOG).await;
    let pid = cluster.datas[primary].pid().unwrap();
    for meta in 0..cluster.metas.len() {
        cluster.meta_door(meta).cut(&[pid]);
    }
    cluster.data_door(primary).cut(&pids(&cluster.metas));
    // It goes on, and nobody notices.
    pump.advance(200).await;
    let wire = Wire::new(&cluster, &client);
    assert_eq!(wire.tail(LOG).await.unwrap().chunk, tail.chunk);
    // A seal, when it is wanted, goes through the others.
    let sealed = wire.seal(tail.chunk).await.unwrap();
    assert!(sealed.length > 0);
    pump.advance(200).await;
    for door in 0..cluster.metas.len() {
        cluster.meta_door(door).heal();
    }
    cluster.data_door(primary).heal();
    goes_on(pump, &client, "primary cut off from the metadata").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_cut_off_from_a_secondary_only() {
    let (cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (primary, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    cluster.data_door(secondary).cut(&[cluster.datas[primary].pid().unwrap()]);
    pump.advance(200).await;
    tail_when(&cluster, &client, "another tail", |next| next.chunk != tail.chunk).await;
    cluster.data_door(secondary).heal();
    goes_on(pump, &client, "primary cut off from a secondary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_cut_off_from_the_primary_only() {
    let (cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (primary, _, tail) = tail_nodes(&cluster, &client, LOG).await;
    // The client is this process; the other servers still reach that node.
    cluster.data_door(primary).cut(&[std::process::id()]);
    pump.advance(200).await;
    let what = "the next primary to be one that the client reaches";
    tail_when(&cluster, &client, what, |next| next.primary != tail.primary).await;
    cluster.data_door(primary).heal();
    goes_on(pump, &client, "client cut off from the primary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replica_is_sealed_without_and_shown_and_comes_back_by_itself() {
    let (cluster, _) = start().await;
    let client = patient(&cluster).await;
    let mut pump = pumping(&client).await;
    let (_, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    let address = cluster.datas[secondary].address().to_owned();
    let node = tail.replicas.iter().find(|r| r.address == address).unwrap().node;
    let others: Vec<u32> = pids(&cluster.datas);
    cluster.data_door(secondary).slow(&others, SLOW);
    pump.advance(200).await;
    // The tail went on without it, and new ones do while it is shown as slow.
    let without =
        |next: &Chunk| next.chunk != tail.chunk && next.replicas.iter().all(|replica| replica.node != node);
    tail_when(&cluster, &client, "a tail without the slow one", without).await;
    let slow = |wanted: bool| {
        let client = &client;
        move || async move {
            let status = client.status().await.ok()?;
            status.nodes.iter().any(|n| n.node == node && n.alive && n.slow == wanted).then_some(())
        }
    };
    // A tail is given up for slowness once in ten seconds; another leader than the one that was told hears of it then.
    eventually("the status to show it as slow", SOON, slow(true)).await.unwrap();
    cluster.data_door(secondary).heal();
    eventually("it is slow no longer", SOON, slow(false)).await.unwrap();
    goes_on(pump, &client, "slow replica").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replica_without_which_there_are_too_few_is_waited_for() {
    let options = ClusterOptions { datas: 2, doors: true, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = patient(&cluster).await;
    let mut pump = pumping(&client).await;
    let (_, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    // The primary knows from heartbeats who is healthy.
    let started = Instant::now();
    let beats = || async {
        let status = client.status().await.ok()?;
        let came = |age_ms: u64| Duration::from_millis(age_ms) < started.elapsed();
        status.nodes.iter().all(|node| came(node.heartbeat_age_ms)).then_some(())
    };
    eventually("a heartbeat of each data node", SOON, beats).await.unwrap();
    pump.advance(20).await;
    cluster.data_door(secondary).slow(&pids(&cluster.datas), SLOW);
    pump.advance(20).await;
    // Another placement would not be healthier: the chunk is gone on with.
    assert_eq!(Wire::new(&cluster, &client).tail(LOG).await.unwrap().chunk, tail.chunk);
    cluster.data_door(secondary).heal();
    goes_on(pump, &client, "slow replica that is needed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_replica_that_returns_after_the_seal_is_brought_up_or_goes() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (_, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[secondary].kill();
    pump.advance(200).await;
    let wire = Wire::new(&cluster, &client);
    let sealed = wire.chunk(tail.chunk).await.unwrap();
    assert_eq!(sealed.state(), ChunkState::Sealed);
    cluster.datas[secondary].start().unwrap();
    cluster.wait_ready(SOON).await.unwrap();
    // What it has of the old chunk is all of it, or nothing.
    let address = cluster.datas[secondary].address().to_owned();
    let settled = || async {
        let mut node = wire.data(&address).await.ok()?;
        let request = ReadRecordsRequest { chunk: tail.chunk, from: 0, until: sealed.length, node: 0 };
        let mut frames = match node.read_records(wire.request(request)).await {
            Ok(frames) => frames.into_inner(),
            Err(status) => return (status.code() == tonic::Code::NotFound).then_some("gone"),
        };
        let mut end = 0;
        while let Ok(Some(frame)) = frames.message().await {
            end = frame.records.iter().map(|r| r.offset + r.payload.len() as u64).max().unwrap_or(end);
        }
        let holders = wire.chunk(tail.chunk).await.ok()?.replicas;
        let mut named = holders.iter().map(|replica| replica.address.as_str());
        (end == sealed.length && named.any(|named| named == address)).then_some("kept")
    };
    let became =
        eventually("the stale replica to be settled", Duration::from_secs(60), settled).await.unwrap();
    println!("the stale replica is {became}");
    let again = wire.chunk(tail.chunk).await.unwrap();
    assert_eq!((again.length, again.chain), (sealed.length, sealed.chain));
    goes_on(pump, &client, "stale replica").await;
}
