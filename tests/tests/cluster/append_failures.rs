//! Appends under faults. Each test is a row of the append protocol's failure table, or a race that
//! the protocol decides; after each, the file is read back and compared with what was acknowledged.

use std::time::Duration;

use cairn_proto::v1;
use cairn_sdk::types::{FsError, NodeId};
use cairn_sdk::{Appender, Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Found, Ledger, Pump, Wire, eventually, record, verify};

/// The file that is appended to.
pub(crate) const LOG: &str = "/log";

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

pub(crate) async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    let bytes = file.read_at(0, length).await.unwrap();
    assert_eq!(bytes.len(), length);
    bytes.to_vec()
}

pub(crate) async fn verified(client: &Client, path: &str, ledgers: &[&Ledger]) -> Vec<Found> {
    let file = read_all(client, path).await;
    let found = verify(&file, ledgers).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(client.stat(path).await.unwrap().size, file.len() as u64);
    found
}

/// Positions among the data nodes: the primary of the open tail, and another of its replicas.
pub(crate) async fn tail_nodes(cluster: &Cluster, client: &Client, path: &str) -> (usize, usize, v1::Chunk) {
    let wire = Wire::new(cluster, client);
    let look = || async { wire.tail(path).await.ok() };
    let tail = eventually("an open tail", Duration::from_secs(60), look).await.unwrap();
    let secondary = tail.replicas.iter().find(|r| r.node != tail.primary).unwrap().node;
    let primary = cluster.data_of(client, NodeId(tail.primary)).await.unwrap();
    (primary, cluster.data_of(client, NodeId(secondary)).await.unwrap(), tail)
}

/// Waits for an open tail that fits: between two chunks there is none for a moment.
pub(crate) async fn tail_when(
    cluster: &Cluster,
    client: &Client,
    what: &str,
    fits: impl Fn(&v1::Chunk) -> bool,
) -> v1::Chunk {
    let wire = Wire::new(cluster, client);
    let look = || async { wire.tail(LOG).await.ok().filter(|tail| fits(tail)) };
    eventually(what, Duration::from_secs(60), look).await.unwrap()
}

/// Appends go on after the fault, in the same writer, without an error: within the time for which the SDK tries. Then
/// everything is read back.
pub(crate) async fn goes_on(mut pump: Pump, client: &Client, what: &str) -> Appender {
    pump.advance(200).await;
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{what}: {:?}", ledger.errors.first());
    println!("{what}: {} appends, longest pause {} ms", ledger.acknowledged.len(), ledger.longest_pause_ms);
    verified(client, LOG, &[&ledger]).await;
    appender
}

pub(crate) async fn pumping(client: &Client) -> Pump {
    let appender = client.open_append(LOG).await.unwrap();
    let mut pump = Pump::start(appender, 1, 8, 300);
    pump.advance(200).await;
    pump
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_killed() {
    let (mut cluster, client) = start().await;
    let pump = pumping(&client).await;
    let (primary, _, _) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[primary].kill();
    goes_on(pump, &client, "primary killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_hangs_and_wakes_later() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (primary, _, _) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[primary].pause();
    pump.advance(200).await;
    // What it still had on its way must not reach anybody.
    cluster.datas[primary].resume();
    goes_on(pump, &client, "primary paused").await;
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secondary_killed() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (_, secondary, _) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[secondary].kill();
    pump.advance(200).await;
    cluster.datas[secondary].start().unwrap();
    goes_on(pump, &client, "secondary killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secondary_hangs() {
    let (cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let (_, secondary, _) = tail_nodes(&cluster, &client, LOG).await;
    cluster.datas[secondary].pause();
    pump.advance(200).await;
    cluster.datas[secondary].resume();
    goes_on(pump, &client, "secondary paused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_data_node_killed_in_turn() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    for n in 0..3 {
        cluster.datas[n].kill();
        pump.advance(100).await;
        cluster.datas[n].start().unwrap();
        cluster.wait_ready(Duration::from_secs(30)).await.unwrap();
    }
    goes_on(pump, &client, "each data node killed in turn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_dies_between_appends() {
    let (cluster, client) = start().await;
    let dying = cluster.client().await.unwrap();
    let mut pump = pumping(&dying).await;
    pump.advance(50).await;
    let (appender, first) = pump.stop().await;
    dying.abandon();
    drop(appender);
    // The next writer continues at the end, without waiting for anybody's lease.
    let next = client.open_append(LOG).await.unwrap();
    let mut pump = Pump::start(next, 2, 4, 300);
    pump.advance(50).await;
    let (_, second) = pump.stop().await;
    assert!(second.errors.is_empty(), "{:?}", second.errors);
    let found = verified(&client, LOG, &[&first, &second]).await;
    let border = found.iter().position(|f| f.writer == 2).unwrap();
    assert!(found[border..].iter().all(|f| f.writer == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_changes_in_mid_seal() {
    let (mut cluster, client) = start().await;
    let pump = pumping(&client).await;
    let wire = Wire::new(&cluster, &client);
    let tail = tail_when(&cluster, &client, "an open tail", |_| true).await;
    // Nobody answers the fence: the chunk stays in `Sealing`, and so it does under the next leader.
    for data in &cluster.datas {
        data.pause();
    }
    let sealing = || async { (client.status().await.ok()?.chunks_sealing > 0).then_some(()) };
    eventually("the tail to be sealing", Duration::from_secs(60), sealing).await.unwrap();
    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    for data in &cluster.datas {
        data.resume();
    }
    goes_on(pump, &client, "leader killed in mid-seal").await;
    let sealed = wire.chunk(tail.chunk).await.unwrap();
    assert_eq!(sealed.state, v1::ChunkState::Sealed as i32);
    // The length was decided once: the server that comes back agrees.
    cluster.start_all().await.unwrap();
    let again = wire.chunk(tail.chunk).await.unwrap();
    assert_eq!((again.length, again.chain), (sealed.length, sealed.chain));
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_killed_while_appends_go_on() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    pump.advance(500).await;
    goes_on(pump, &client, "leader killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_than_min_replicas_left() {
    let (mut cluster, client) = start().await;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(4);
    let writer = Client::connect(options).await.unwrap();
    let pump = pumping(&writer).await;
    cluster.datas[0].kill();
    cluster.datas[1].kill();
    let (appender, first) = pump.stop().await;
    // What was under way when they died is answered, or unknown; what comes now is refused in the end.
    let fresh = writer.open_append("/other").await.unwrap();
    let silent = || async {
        let status = client.status().await.ok()?;
        (status.nodes.iter().filter(|node| node.alive).count() == 1).then_some(())
    };
    eventually("two data nodes to be silent", Duration::from_secs(60), silent).await.unwrap();
    // Who leads only now, or has not heard of the third for a moment, says so, and is asked again.
    let refused = || async {
        let refused = fresh.append(record(9, 1, 100)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        (refused.fs() == Some(&FsError::TooFewNodes { available: 1, needed: 2 })).then_some(())
    };
    eventually("what is missing to be told", Duration::from_secs(60), refused).await.unwrap();
    drop(appender);
    // One returns: two are enough.
    cluster.datas[0].start().unwrap();
    cluster.wait_ready(Duration::from_secs(30)).await.unwrap();
    let next = client.open_append(LOG).await.unwrap();
    let mut pump = Pump::start(next, 2, 4, 300);
    pump.advance(50).await;
    let (_, second) = pump.stop().await;
    assert!(second.errors.is_empty(), "{:?}", second.errors);
    verified(&client, LOG, &[&first, &second]).await;
    // The refused record never shows.
    assert_eq!(client.stat("/other").await.unwrap().size, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_unreachable() {
    let (mut cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    for data in &mut cluster.datas {
        data.kill();
    }
    // The end of the tail is unknown while all are away.
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(2);
    let impatient = Client::connect(options).await.unwrap();
    let refused = impatient.open_append(LOG).await.unwrap().append(record(9, 1, 100)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    cluster.start_all().await.unwrap();
    pump.advance(100).await;
    goes_on(pump, &client, "all data nodes killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_writer_new_owner() {
    let (cluster, client) = start().await;
    let first = client.open_exclusive(LOG).await.unwrap();
    assert_eq!(first.end(), Some(0));
    let mut pump = Pump::start(first, 1, 8, 300);
    pump.advance(200).await;
    let owner = cluster.client().await.unwrap();
    let second = owner.open_exclusive(LOG).await.unwrap();
    let end = second.end().unwrap();
    // However late it sends its next record: it is told, and not one more is acknowledged.
    pump.ended().await;
    let (old, ledger) = pump.stop().await;
    let fenced = ledger.errors.first().map(|(_, e)| e.kind());
    assert_eq!(fenced, Some(ErrorKind::Fenced), "{:?}", ledger.errors.first());
    // The end that the new owner was told holds all that the old one had acknowledged, whole.
    let (_, offset) = ledger.last().unwrap();
    assert!(offset + 300 <= end, "acknowledged up to {}, the new owner starts at {end}", offset + 300);
    assert_eq!(second.append(record(2, 1, 300)).await.unwrap(), end);
    // For ever.
    let refused = old.append(record(1, 1_000_000, 300)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    assert_eq!(second.append(record(2, 2, 300)).await.unwrap(), end + 300);
    let known = Ledger { writer: 2, acknowledged: [(1, end), (2, end + 300)].into(), ..Ledger::default() };
    verified(&client, LOG, &[&ledger, &known]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rival_exclusive_writers_leave_one_owner() {
    let (cluster, client) = start().await;
    let mut rivals = Vec::new();
    for writer in 0..4_u32 {
        let client = cluster.client().await.unwrap();
        rivals.push(tokio::spawn(async move {
            let mut ledger = Ledger { writer, ..Ledger::default() };
            match client.open_exclusive(LOG).await {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                    (None, ledger)
                }
                Ok(appender) => {
                    for number in 1..=20 {
                        match appender.append(record(writer, number, 200)).await {
                            Ok(offset) => ledger.acknowledged.insert(number, offset),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                                return (None, ledger);
                            }
                        };
                    }
                    (Some(appender), ledger)
                }
            }
        }));
    }
    let mut ledgers = Vec::new();
    let mut handles = Vec::new();
    for rival in rivals {
        let (handle, ledger) = rival.await.unwrap();
        ledgers.push(ledger);
        handles.extend(handle);
    }
    let newest = handles.iter().map(Appender::generation).max().unwrap();
    for handle in handles {
        let generation = handle.generation();
        let outcome = handle.append(record(100, generation.0, 100)).await;
        assert_eq!(outcome.is_ok(), generation == newest, "{generation:?} of {newest:?}: {outcome:?}");
        if let Ok(offset) = outcome {
            let acknowledged = [(generation.0, offset)].into();
            ledgers.push(Ledger { writer: 100, acknowledged, ..Ledger::default() });
        }
    }
    // An unacknowledged append of a fenced rival may be there: each sent one after another, at most one.
    for ledger in &mut ledgers {
        ledger.unknown.insert(ledger.acknowledged.len() as u64 + 1);
    }
    verified(&client, LOG, &ledgers.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shared_appenders_interleave_whole_records() {
    let (cluster, client) = start().await;
    let mut pumps = Vec::new();
    for writer in 1..=2 {
        let own = cluster.client().await.unwrap();
        pumps.push(Pump::start(own.open_append(LOG).await.unwrap(), writer, 8, 1000 * writer as usize + 7));
    }
    let (primary, _, _) = tail_nodes(&cluster, &client, LOG).await;
    for pump in &mut pumps {
        pump.advance(200).await;
    }
    // Over a change of chunk, too.
    cluster.datas[primary].pause();
    for pump in &mut pumps {
        pump.advance(200).await;
    }
    cluster.datas[primary].resume();
    let mut ledgers = Vec::new();
    for pump in pumps {
        let ledger = pump.stop().await.1;
        assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
        ledgers.push(ledger);
    }
    let found = verified(&client, LOG, &[&ledgers[0], &ledgers[1]]).await;
    let changes = found.windows(2).filter(|pair| pair[0].writer != pair[1].writer).count();
    assert!(changes > 10, "they took turns {changes} times only");
}

#[tokio::test(flavor = "multi_thread")]
async fn append_at_races_have_one_winner() {
    let (cluster, client) = start().await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let own = cluster.client().await.unwrap();
        writers.push(own.open_append(LOG).await.unwrap());
    }
    let mut end = 0;
    let mut known: Vec<Ledger> = (0..4).map(|writer| Ledger { writer, ..Ledger::default() }).collect();
    for round in 1..=30_u64 {
        let length = 100 + round as usize;
        let tries =
            writers.iter().enumerate().map(|(n, w)| w.append_at(end, record(n as u32, round, length)));
        let outcomes = futures::future::join_all(tries).await;
        let winners = outcomes.iter().filter(|o| o.is_ok()).count();
        assert_eq!(winners, 1, "round {round}: {outcomes:?}");
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(offset) => {
                    assert_eq!(offset, end);
                    known[n].acknowledged.insert(round, offset);
                }
                Err(error) => {
                    let wanted = FsError::LengthMismatch { expected: end, actual: end + length as u64 };
                    assert_eq!(error.fs(), Some(&wanted), "round {round}");
                }
            }
        }
        end += length as u64;
    }
    verified(&client, LOG, &known.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_races_a_seal() {
    let (cluster, client) = start().await;
    let mut pump = pumping(&client).await;
    let wire = Wire::new(&cluster, &client);
    let mut sealed = 0;
    while sealed < 10 {
        // Between two chunks there is no tail for a moment.
        let Ok(tail) = wire.tail(LOG).await else { continue };
        // Two seals at once decide one length.
        let (one, two) = tokio::join!(wire.seal(tail.chunk), wire.seal(tail.chunk));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.length, one.chain, one.marks), (two.length, two.chain, two.marks));
        sealed += 1;
        pump.advance(30).await;
    }
    goes_on(pump, &client, "sealed under the writer ten times").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_tail_on_one_node_loses_nothing() {
    let (mut cluster, client) = start().await;
    let pump = pumping(&client).await;
    for data in &mut cluster.datas {
        data.kill();
    }
    // On one node the last record is torn: its last bytes never reached the disk, garbage did.
    let torn = tear_last_record(&cluster.datas[1].directory().join("segments"));
    println!("tore {torn}");
    cluster.start_all().await.unwrap();
    goes_on(pump, &client, "torn tail").await;
}

/// Overwrites the last bytes that hold anything in the newest segment, and some after them. Answers
/// what it did.
fn tear_last_record(segments: &std::path::Path) -> String {
    use std::os::unix::fs::FileExt;
    // The newest write in the directory is the active segment's.
    let newest = std::fs::read_dir(segments)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.metadata().unwrap().is_file())
        .max_by_key(|e| e.metadata().unwrap().modified().unwrap())
        .unwrap();
    let bytes = std::fs::read(newest.path()).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    let from = end - 5;
    let file = std::fs::OpenOptions::new().write(true).open(newest.path()).unwrap();
    let garbage: Vec<u8> = (0..100).map(|n| bytes.get(from + n).copied().unwrap_or(0) ^ 0x5a).collect();
    let room = (bytes.len() - from).min(garbage.len());
    file.write_all_at(&garbage[..room], from as u64).unwrap();
    file.sync_all().unwrap();
    format!("{} from {from}, {} bytes long", newest.path().display(), bytes.len())
}
