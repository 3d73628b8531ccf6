//! Planned rolls: a tail that fills up, or grows old, goes on in a chunk that was made ahead.

use std::time::Duration;

use cairn_proto::v1::ChunkState;
use cairn_sdk::types::{Persist, Policy};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, Wire, eventually};

use crate::append_failures::{LOG, pumping, tail_nodes, verified};

const SOON: Duration = Duration::from_secs(60);
const RECORD_BYTES: usize = 1 << 19;

/// Writes two chunks' worth of records, so that the tail rolls as planned at least once.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_tail_rolls_into_the_chunk_made_ahead() {
    let policy = Policy { persist: Persist::Never, ..Policy::cluster() };
    // A busy disk of a test machine is not a slow replica.
    let options = ClusterOptions { policy, ..ClusterOptions::default() }.steady();
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.patient_client().await.unwrap();
    let appender = client.open_append(LOG).await.unwrap();
    // Fifty of the first chunk's sixty-four MiB: what is appended comes to a halt there.
    let records = |from: u8, count: u8| (from..from + count).map(|n| vec![n; RECORD_BYTES]);
    for record in records(0, 100) {
        appender.append(record).await.unwrap();
    }
    let wire = Wire::new(&cluster, &client);
    let first = wire.tail(LOG).await.unwrap();
    // Before it is full the next one is there, on the same nodes, and nobody's.
    let spare = eventually("a spare", SOON, || async {
        let found = wire.chunk(first.chunk + 1).await.ok()?;
        (found.state() == ChunkState::Spare).then_some(found)
    });
    let spare = spare.await.unwrap();
    assert_eq!(spare.activation, None);
    let nodes = |chunk: &cairn_proto::v1::Chunk| chunk.replicas.iter().map(|r| r.node).collect::<Vec<u64>>();
    assert_eq!((nodes(&spare), spare.primary), (nodes(&first), first.primary));
    for record in records(100, 60) {
        appender.append(record).await.unwrap();
    }
    let next = wire.tail(LOG).await.unwrap();
    assert_eq!(next.chunk, spare.chunk, "the tail rolled into it");
    let file = client.open(LOG).await.unwrap();
    assert_eq!(file.length(), 160 * RECORD_BYTES as u64);
    for (n, record) in records(0, 160).enumerate() {
        let found = file.read_at((n * RECORD_BYTES) as u64, RECORD_BYTES).await.unwrap();
        assert!(found == record, "record {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_with_a_spare_leaves_nothing_behind() {
    let policy = Policy { max_lag_ms: 3_000, ..Policy::cluster() };
    let understore = UnderStore::Directory;
    let options = ClusterOptions { policy, understore, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = pumping(&client).await;
    for _ in 0..3 {
        // Tails of this policy roll every second and a half, so some spare is under way.
        pump.advance(300).await;
        let (primary, _, _) = tail_nodes(&cluster, &client, LOG).await;
        cluster.datas[primary].kill();
        pump.advance(100).await;
        cluster.datas[primary].start().unwrap();
        cluster.wait_ready(SOON).await.unwrap();
    }
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors.first());
    appender.close().await.unwrap();
    verified(&client, LOG, &[&ledger]).await;
    // Spares that were not rolled into end with their tails: no chunk stays open.
    client.sync(LOG).await.unwrap();
    let none = || async {
        let status = client.status().await.ok()?;
        (status.chunks_open == 0 && status.chunks_sealing == 0).then_some(())
    };
    eventually("no chunk to be open", Duration::from_secs(60), none).await.unwrap();
}
