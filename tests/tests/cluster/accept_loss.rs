//! An operator ends chunks that their replicas do not decide: found by the status, shown, accepted by
//! the command; writers go on from there, or are told what was lost.

use std::time::Duration;

use cairn_proto::v1::{self, SealChunkRequest};
use cairn_sdk::types::NodeId;
use cairn_sdk::{Cause, Client, ErrorKind, UndecidedChunk};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, Pump, Wire, eventually, record, verify};
use serde_json::{Value, json};

const LOG: &str = "/log";
const RECORD: u64 = 300;

async fn cairn(cluster: &Cluster, line: &str) -> Outcome {
    cluster.cairn(line, Duration::from_secs(60)).await.unwrap()
}

/// Waits until the status lists the chunk with so many answers.
async fn undecided(client: &Client, chunk: u64, answered: u32) -> UndecidedChunk {
    let look = || async {
        let status = client.status().await.ok()?;
        status.undecided.into_iter().find(|u| u.chunk == chunk && u.answered == answered)
    };
    eventually("the status to list the tail", Duration::from_secs(60), look).await.unwrap()
}

async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    file.read_at(0, length).await.unwrap().to_vec()
}

/// The positions among the data nodes of a chunk's replicas, the primary first.
async fn replicas(cluster: &Cluster, client: &Client, chunk: &v1::Chunk) -> Vec<usize> {
    let mut nodes: Vec<u64> = chunk.replicas.iter().map(|r| r.node).collect();
    nodes.sort_by_key(|node| *node != chunk.primary);
    let mut found = Vec::new();
    for node in nodes {
        found.push(cluster.data_of(client, NodeId(node)).await.unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_tail_that_a_lone_restarted_replica_does_not_decide() {
    // The tail is to be one chunk, and its end is told by one leader, who knows from its rounds.
    let options = ClusterOptions { datas: 4, ..ClusterOptions::default() }.steady();
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.patient_client().await.unwrap();
    let mut pump = Pump::start(client.open_append(LOG).await.unwrap(), 1, 4, RECORD as usize);
    pump.advance(100).await;
    let (appender, first) = pump.stop().await;
    assert!(first.errors.is_empty(), "{:?}", first.errors);
    let tail = Wire::new(&cluster, &client).tail(LOG).await.unwrap();
    let holders = replicas(&cluster, &client, &tail).await;
    assert_eq!(holders.len(), 3);
    for holder in &holders {
        cluster.datas[*holder].kill();
    }
    // One of three returns: what it has is true, what it lacks proves nothing.
    cluster.datas[holders[1]].start().unwrap();
    let listed = undecided(&client, tail.chunk, 1).await;
    let end = first.acknowledged.values().max().unwrap() + RECORD;
    assert_eq!((&listed.path[..], listed.length, listed.replicas), (LOG.as_bytes(), end, 3));

    let status = cairn(&cluster, "status").await;
    assert_eq!(status.code, 0, "{}", status.stderr);
    let says = format!("undecided: chunk-{} (tail of {LOG}): 1 of 3 replicas answer", tail.chunk);
    assert!(status.text().contains(&says), "{}", status.text());
    let status = cairn(&cluster, "status --json").await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["chunks_undecided"], &status["undecided"][0]["chunk"]),
        (&json!(1), &json!(tail.chunk))
    );

    let command = format!("admin chunk accept-loss chunk-{}", tail.chunk);
    let shown = cairn(&cluster, &command).await;
    assert_eq!(shown.code, 1, "{}", shown.stderr);
    assert!(shown.text().contains(&format!("it would end at {end} bytes")), "{}", shown.text());
    assert!(shown.text().contains("does not answer"), "{}", shown.text());
    let how = format!("nothing is changed: to accept this loss, say --length {end} --yes");
    assert!(shown.stderr.contains(&how), "{}", shown.stderr);
    let other = cairn(&cluster, &format!("{command} --length {} --yes", end - 1)).await;
    assert_eq!(other.code, 1, "{}", other.stderr);
    assert!(other.stderr.contains("look again"), "{}", other.stderr);
    undecided(&client, tail.chunk, 1).await;

    let accepted = cairn(&cluster, &format!("{command} --length {end} --yes --json")).await;
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let accepted: Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert_eq!((&accepted["accepted"], &accepted["length"]), (&json!(true), &json!(end)));
    // Repeated, as after a lost answer, it is done; without --yes there is nothing to show.
    let again = cairn(&cluster, &format!("{command} --length {end} --yes")).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    let past = cairn(&cluster, &command).await;
    assert_eq!(past.code, 1, "{}", past.stderr);
    assert!(past.stderr.contains("there is no loss to accept"), "{}", past.stderr);
    let decided = || async { (client.status().await.ok()?.chunks_undecided == 0).then_some(()) };
    eventually("nothing to be undecided", Duration::from_secs(60), decided).await.unwrap();

    // Nothing that was acknowledged was lost this time, and the same writer goes on.
    let mut pump = Pump::start(appender, 2, 4, RECORD as usize);
    pump.advance(50).await;
    let (_, second) = pump.stop().await;
    assert!(second.errors.is_empty(), "{:?}", second.errors);
    verify(&read_all(&client, LOG).await, &[&first, &second]).unwrap_or_else(|wrong| panic!("{wrong}"));
    cluster.start_all().await.unwrap();
    verify(&read_all(&client, LOG).await, &[&first, &second]).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_acknowledged_records_were_given_up_is_told() {
    let options = ClusterOptions { datas: 2, ..ClusterOptions::single() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let appender = client.open_append(LOG).await.unwrap();
    assert_eq!(appender.append(record(1, 1, RECORD as usize)).await.unwrap(), 0);
    let wire = Wire::new(&cluster, &client);
    let tail = wire.tail(LOG).await.unwrap();
    let gone = replicas(&cluster, &client, &tail).await[0];
    cluster.datas[gone].kill();
    let reason = "its only replica is gone".to_owned();
    let seal = SealChunkRequest { chunk: tail.chunk, epoch: 0, reason, blame_node: tail.primary };
    let mut seal = wire.request(seal);
    seal.set_timeout(Duration::from_secs(1));
    let mut leader = wire.leader().await.unwrap();
    assert!(leader.seal_chunk(seal).await.is_err(), "nobody answers for it");
    let listed = undecided(&client, tail.chunk, 0).await;
    assert_eq!((listed.length, listed.replicas), (0, 1));

    let command = format!("admin chunk accept-loss {}", tail.chunk);
    let refused = cairn(&cluster, &format!("{command} --yes")).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("accept that nothing is left"), "{}", refused.stderr);
    let accepted = cairn(&cluster, &format!("{command} --yes --nothing-left")).await;
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert!(accepted.text().contains("it ends at 0 bytes"), "{}", accepted.text());

    for number in 2..4 {
        let lost = appender.append(record(1, number, RECORD as usize)).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Corrupt, "{lost}");
        assert!(matches!(lost.cause(), Cause::Lost { .. }), "{lost}");
    }
    let next = client.open_append(LOG).await.unwrap();
    let kept = record(2, 1, RECORD as usize);
    assert_eq!(next.append(kept.clone()).await.unwrap(), 0);
    // The replica that was given up returns, and changes nothing.
    cluster.start_all().await.unwrap();
    assert_eq!(read_all(&client, LOG).await, kept);
}
