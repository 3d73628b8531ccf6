//! Many appends in flight: on one stream, from many writers of one file, to many files at once; and appends
//! that name the offset they must land at, among them and over kills.

use std::collections::VecDeque;
use std::time::Duration;

use cairn_sdk::types::{FsError, NodeId};
use cairn_sdk::{Acknowledgement, Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Ledger, Pump, Wire, eventually, record, verify};
use futures::{StreamExt, TryStreamExt, stream};

const LOG: &str = "/log";
const LONG: Duration = Duration::from_secs(60);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    file.read_at(0, usize::try_from(file.length()).unwrap()).await.unwrap().to_vec()
}

async fn primary(cluster: &Cluster, client: &Client) -> usize {
    let wire = Wire::new(cluster, client);
    let look = || async { wire.tail(LOG).await.ok() };
    let tail = eventually("an open tail", LONG, look).await.unwrap();
    cluster.data_of(client, NodeId(tail.primary)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_in_flight_are_acknowledged_in_order_over_a_kill() {
    const COUNT: u64 = 4_000;
    let (mut cluster, client) = start().await;
    let log = client.open_append(LOG).await.unwrap();
    let mut under_way: VecDeque<Acknowledgement> = VecDeque::new();
    let mut offsets = Vec::new();
    for number in 0..COUNT {
        if number == COUNT / 2 {
            let at = primary(&cluster, &client).await;
            cluster.datas[at].kill();
        }
        under_way.push_back(log.submit(record(1, number, 200)).await.unwrap());
        if under_way.len() == 64 {
            offsets.push(under_way.pop_front().unwrap().offset().await.unwrap());
        }
    }
    for acknowledgement in under_way {
        offsets.push(acknowledgement.offset().await.unwrap());
    }
    // One writer: each lies behind the one before, none is missing, none is there twice.
    assert!(offsets.iter().enumerate().all(|(n, offset)| *offset == n as u64 * 200));
    let acknowledged = (0..COUNT).zip(offsets).collect();
    let ledger = Ledger { writer: 1, acknowledged, ..Ledger::default() };
    let found = verify(&read_all(&client, LOG).await, &[&ledger]).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(found.len() as u64, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_waits_while_too_many_bytes_are_under_way() {
    const PIECE: usize = 1 << 18;
    let (cluster, _client) = start().await;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.in_flight_bytes_max = 1 << 20;
    let client = Client::connect(options).await.unwrap();
    let log = client.open_append(LOG).await.unwrap();
    log.append(record(1, 0, PIECE)).await.unwrap();
    for data in &cluster.datas {
        data.pause();
    }
    let mut under_way = Vec::new();
    for number in 1..=4 {
        under_way.push(log.submit(record(1, number, PIECE)).await.unwrap());
    }
    // No room for one byte more, and no node that would make some.
    let fifth = log.submit(record(1, 5, 24));
    tokio::pin!(fifth);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut fifth).await;
    assert!(early.is_err(), "it was taken beyond the bound");
    // One that is given up while it waits was never handed over.
    let given_up = tokio::time::timeout(Duration::from_millis(50), log.submit(record(1, 9, 24))).await;
    assert!(given_up.is_err());
    for data in &cluster.datas {
        data.resume();
    }
    under_way.push(tokio::time::timeout(LONG, fifth).await.expect("room in time").unwrap());
    let mut ledger = Ledger { writer: 1, acknowledged: [(0, 0)].into(), ..Ledger::default() };
    for (number, acknowledgement) in (1..).zip(under_way) {
        ledger.acknowledged.insert(number, acknowledgement.offset().await.unwrap());
    }
    verify(&read_all(&client, LOG).await, &[&ledger]).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_of_one_file_keep_their_order_and_are_there_once_over_a_kill() {
    let (mut cluster, client) = start().await;
    let mut pumps = Vec::new();
    for writer in 1..=8 {
        // Two of each client: writers of one session, and of others.
        let own = if writer % 2 == 0 { client.clone() } else { cluster.client().await.unwrap() };
        pumps.push(Pump::start(own.open_append(LOG).await.unwrap(), writer, 16, 100 + writer as usize));
    }
    for pump in &mut pumps {
        pump.advance(50).await;
    }
    let at = primary(&cluster, &client).await;
    cluster.datas[at].kill();
    for pump in &mut pumps {
        pump.advance(100).await;
    }
    let mut ledgers = Vec::new();
    for pump in pumps {
        let ledger = pump.stop().await.1;
        assert!(ledger.errors.is_empty(), "writer {}: {:?}", ledger.writer, ledger.errors.first());
        ledgers.push(ledger);
    }
    let known: Vec<&Ledger> = ledgers.iter().collect();
    let found = verify(&read_all(&client, LOG).await, &known).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(found.len(), ledgers.iter().map(|ledger| ledger.acknowledged.len()).sum::<usize>());
    let turns = found.windows(2).filter(|pair| pair[0].writer != pair[1].writer).count();
    assert!(turns > 50, "they took turns {turns} times only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_are_appended_to_at_once_by_one_client() {
    const FILES: u32 = 1_000;
    let options = ClusterOptions { capacity_mib: 4096, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/many", 0o755).await.unwrap();
    let open = |n: u32| {
        let client = client.clone();
        async move { client.open_append(format!("/many/{n}")).await.map(|log| (n, log)) }
    };
    let logs: Vec<_> = stream::iter(0..FILES).map(open).buffer_unordered(64).try_collect().await.unwrap();
    // All are open at once, each with a stream of its own over the client's one connection to the node.
    for round in 0..3_u64 {
        let appends = logs.iter().map(|(n, log)| async move {
            let offset = log.append(record(*n, round, 100)).await.unwrap();
            assert_eq!(offset, round * 100, "file {n}");
        });
        futures::future::join_all(appends).await;
    }
    let check = |n: u32| {
        let client = client.clone();
        async move {
            let acknowledged = (0..3).map(|round| (round, round * 100)).collect();
            let ledger = Ledger { writer: n, acknowledged, ..Ledger::default() };
            verify(&read_all(&client, &format!("/many/{n}")).await, &[&ledger])
        }
    };
    let found: Vec<_> = stream::iter(0..FILES).map(check).buffer_unordered(64).try_collect().await.unwrap();
    assert!(found.iter().all(|records| records.len() == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_at_an_offset_takes_its_turn_and_is_made_once_over_a_kill() {
    let (mut cluster, client) = start().await;
    let log = client.open_append(LOG).await.unwrap();
    // Among others that are under way: each sees what was submitted before it.
    let plain = log.submit(record(1, 1, 100)).await.unwrap();
    let fits = log.submit_at(100, record(1, 2, 100)).await.unwrap();
    let late = log.submit_at(100, record(1, 3, 100)).await.unwrap();
    let beyond = log.submit_at(1 << 40, record(1, 4, 100)).await.unwrap();
    let after = log.submit(record(1, 5, 100)).await.unwrap();
    assert_eq!((plain.offset().await.unwrap(), fits.offset().await.unwrap()), (0, 100));
    for (refused, expected) in [(late, 100), (beyond, 1 << 40)] {
        let error = refused.offset().await.unwrap_err();
        assert_eq!(error.fs(), Some(&FsError::LengthMismatch { expected, actual: 200 }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(after.offset().await.unwrap(), 200);
    // Over the death of the primary each is made once, or refused: a repeat whose first answer was lost is no
    // mismatch. The end is counted from the file's beginning in the next chunk too.
    let at = primary(&cluster, &client).await;
    let mut end = 300;
    for number in 6..60 {
        if number == 30 {
            cluster.datas[at].kill();
        }
        assert_eq!(log.append_at(end, record(1, number, 100)).await.unwrap(), end, "record {number}");
        end += 100;
    }
    log.close().await.unwrap();
    // Closed, and by another: in a chunk that begins at the end.
    let other = cluster.client().await.unwrap().open_append(LOG).await.unwrap();
    for wrong in [0, end - 1, end + 1] {
        let error = other.append_at(wrong, record(2, 1, 100)).await.unwrap_err();
        assert_eq!(error.fs(), Some(&FsError::LengthMismatch { expected: wrong, actual: end }), "{error}");
    }
    assert_eq!(other.append_at(end, record(2, 2, 100)).await.unwrap(), end);
    let mut first = Ledger { writer: 1, ..Ledger::default() };
    first.acknowledged = [(1, 0), (2, 100), (5, 200)].into_iter().collect();
    first.acknowledged.extend((6..60).map(|number| (number, (number - 3) * 100)));
    let second = Ledger { writer: 2, acknowledged: [(2, end)].into(), ..Ledger::default() };
    let file = read_all(&client, LOG).await;
    verify(&file, &[&first, &second]).unwrap_or_else(|wrong| panic!("{wrong}"));
}
