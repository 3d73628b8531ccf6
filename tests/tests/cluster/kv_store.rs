//! The key-value store of the SDK's examples on real clusters: its table is that of a model whatever dies; two
//! instances fight for its log, and the loser changes nothing any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use cairn_sdk::{Client, ConnectOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use store::record::{Batch, Change, encode};
use store::{Store, StoreError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../../../client/sdk/examples/kv/store/mod.rs"]
mod store;

const LONG: Duration = Duration::from_secs(60);
const DIRECTORY: &str = "/kv";
/// Small, so that a test sees many checkpoints.
const LOG_BYTES: u64 = 20_000;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(random: &mut StdRng) -> Vec<u8> {
    format!("key-{:02}", random.random_range(0..40)).into_bytes()
}

fn changes(random: &mut StdRng) -> Vec<Change> {
    let count = if random.random_bool(0.2) { random.random_range(2..6) } else { 1 };
    let change = |random: &mut StdRng| match random.random_bool(0.7) {
        true => {
            let value = vec![random.random_range(0..=255); random.random_range(0..900)];
            Change::Put { key: key(random), value }
        }
        false => Change::Delete { key: key(random) },
    };
    (0..count).map(|_| change(random)).collect()
}

fn apply(model: &mut Model, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put { key, value } => model.insert(key.clone(), value.clone()),
            Change::Delete { key } => model.remove(key),
        };
    }
}

fn listed(store: &Store) -> Model {
    store.list(b"").into_iter().collect()
}

/// A store under test and the client that it is opened by.
async fn open(cluster: &Cluster) -> (Client, Store) {
    let client = cluster.client().await.unwrap();
    let store = Store::open(client.clone(), DIRECTORY, LOG_BYTES).await.unwrap();
    (client, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_the_model_over_crashes_in_the_middle_of_writes() {
    const SEED: u64 = 20;
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let mut model = Model::new();
    let (mut client, mut store) = open(&cluster).await;
    for step in 0..600 {
        match random.random_range(0..100) {
            0..80 => {
                let changes = changes(&mut random);
                apply(&mut model, &changes);
                store.write(changes).await.unwrap();
            }
            80..90 => {
                let key = key(&mut random);
                assert_eq!(store.get(&key), model.get(&key).cloned(), "step {step}");
            }
            90..95 => assert_eq!(listed(&store), model, "step {step}"),
            95..97 => store.checkpoint().await.unwrap(),
            97..99 => {
                // A crash with some writes under way, or a checkpoint: each is there, or not, in their order.
                let under_way: Vec<Vec<Change>> = (0..3).map(|_| changes(&mut random)).collect();
                for changes in under_way.clone() {
                    let store = store.clone();
                    tokio::spawn(async move { store.write(changes).await });
                    tokio::task::yield_now().await;
                }
                if random.random_bool(0.5) {
                    let store = store.clone();
                    tokio::spawn(async move { store.checkpoint().await });
                }
                // It dies at any time, not at an event.
                tokio::time::sleep(Duration::from_micros(random.random_range(0..3000))).await;
                client.abandon();
                drop(store);
                (client, store) = open(&cluster).await;
                model = one_of(model, &under_way, &listed(&store), step);
            }
            _ => {
                store.close().await.unwrap();
                client.close().await.unwrap();
                (client, store) = open(&cluster).await;
                assert_eq!(listed(&store), model, "step {step}");
            }
        }
    }
    assert_eq!(listed(&store), model);
    drop(client);
}

/// The model after those of `under_way` that were made: any of them, each wholly, in any order, since each was
/// written by a task of its own.
fn one_of(model: Model, under_way: &[Vec<Change>], found: &Model, step: usize) -> Model {
    let orders: [&[usize]; 16] = [
        &[],
        &[0],
        &[1],
        &[2],
        &[0, 1],
        &[1, 0],
        &[0, 2],
        &[2, 0],
        &[1, 2],
        &[2, 1],
        &[0, 1, 2],
        &[0, 2, 1],
        &[1, 0, 2],
        &[1, 2, 0],
        &[2, 0, 1],
        &[2, 1, 0],
    ];
    for order in orders {
        let mut made = model.clone();
        for n in order {
            apply(&mut made, &under_way[*n]);
        }
        if made == *found {
            return made;
        }
    }
    panic!("step {step}: what was found is not what any of the writes under way could have left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_left_out_and_damage_is_told() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let (client, store) = open(&cluster).await;
    store.put("a", "1").await.unwrap();
    store.put("b", "2").await.unwrap();
    let log = |epoch: u64, made: u64| format!("{DIRECTORY}/log-{epoch}-{made}");
    store.close().await.unwrap();
    // Half a frame, as no owner of this store leaves it.
    let frame = encode(&Batch { number: 3, changes: vec![Change::Delete { key: b"a".to_vec() }] });
    let half = client.open_append(log(1, 0)).await.unwrap();
    half.append(frame[..frame.len() - 1].to_vec()).await.unwrap();
    half.close().await.unwrap();
    // What comes next is read by the one after: it does not stand behind the half frame.
    for n in 0..3_u8 {
        let (_client, store) = open(&cluster).await;
        assert_eq!(store.get(b"a"), Some(b"1".to_vec()));
        assert_eq!(store.list(b"").len(), 2 + usize::from(n));
        store.put(vec![b'c', n], "new").await.unwrap();
        store.close().await.unwrap();
    }
    // Whatever is wrong before the end is no torn write.
    let name = log(2, 1);
    let mut file = client.open(name.as_str()).await.unwrap();
    assert!(file.length() > 30, "the three wrote to the log that the first of them began");
    let was = file.read_at(25, 1).await.unwrap()[0];
    file.write_at(25, &[was ^ 1]).await.unwrap();
    file.close().await.unwrap();
    let refused = Store::open(client.clone(), DIRECTORY, LOG_BYTES).await.err();
    assert!(
        matches!(&refused, Some(StoreError::Damaged { file, at: 0 }) if name.ends_with(file.as_str())),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_store_changes_nothing_any_more_and_leaves_nothing_behind() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let (_, first) = open(&cluster).await;
    first.put("owner", "first").await.unwrap();
    let (client, second) = open(&cluster).await;
    assert!(second.epoch() > first.epoch());
    second.put("owner", "second").await.unwrap();
    // The loser does not know yet. Neither a checkpoint of what it believes nor a write gets through.
    let refused = first.checkpoint().await.unwrap_err();
    assert!(matches!(refused, StoreError::Lost(_)), "{refused}");
    for _ in 0..2 {
        let refused = first.put("owner", "first again").await.unwrap_err();
        assert!(matches!(refused, StoreError::Lost(_)), "{refused}");
    }
    second.checkpoint().await.unwrap();
    second.put("after", "the checkpoint").await.unwrap();
    second.close().await.unwrap();
    let (_, third) = open(&cluster).await;
    assert_eq!(third.get(b"owner"), Some(b"second".to_vec()));
    assert_eq!(third.get(b"after"), Some(b"the checkpoint".to_vec()));
    // What the loser had begun is swept: there are the log, the checkpoint, and what names them.
    let mut listing = client.list(DIRECTORY, cairn_sdk::ListingOptions::default());
    let mut names = Vec::new();
    while let Some(entry) = listing.next().await.unwrap() {
        names.push(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap());
    }
    assert_eq!(names, ["checkpoint-2-1", "current", "log-2-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_open_the_store_at_once_leave_one_owner_and_lose_nothing() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut rivals = Vec::new();
    for rival in 0..4 {
        let client = cluster.client().await.unwrap();
        rivals.push(tokio::spawn(async move {
            let mut stored = Vec::new();
            // Some of the time it owns the store; each time it loses it, it takes it again.
            for round in 0..5 {
                let Ok(store) = Store::open(client.clone(), DIRECTORY, 2_000).await else { continue };
                for n in 0..20 {
                    let key = format!("{rival}-{round}-{n}");
                    match store.put(key.as_str(), vec![b'x'; 100]).await {
                        Ok(()) => stored.push(key.into_bytes()),
                        Err(StoreError::Lost(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            stored
        }));
    }
    let mut stored = Vec::new();
    for rival in rivals {
        stored.extend(rival.await.unwrap());
    }
    let (_client, store) = open(&cluster).await;
    let lost: Vec<_> = stored.iter().filter(|key| store.get(key).is_none()).collect();
    assert!(lost.is_empty(), "{} of {} were acknowledged and are gone: {lost:?}", lost.len(), stored.len());
    assert!(!stored.is_empty(), "nobody had the store for as long as a write takes");
}

/// The example itself, in a process of its own.
struct Example {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Example {
    async fn start(cluster: &Cluster) -> Self {
        let own = std::env::current_exe().unwrap();
        let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join("examples/kv"));
        let program: PathBuf = beside.into_iter().find(|path| path.is_file()).expect("the example is built");
        let mut command = tokio::process::Command::new(program);
        command.arg(cluster.meta_addresses().join(",")).arg(DIRECTORY);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut example = Self { child, input, output };
        assert!(example.line().await.starts_with("open: "));
        example
    }

    async fn ask(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LONG, self.output.next_line()).await.expect("a line in time");
        line.unwrap().expect("the process goes on")
    }

    /// The next lines up to the last one, of a process that was killed or ends.
    async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) =
            tokio::time::timeout(LONG, self.output.next_line()).await.expect("an end in time").unwrap()
        {
            lines.push(line);
        }
        lines
    }
}

fn stored(lines: &[String]) -> Vec<String> {
    lines.iter().filter_map(|line| line.strip_prefix("stored ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_fight_for_the_store_and_one_is_killed_in_the_middle_of_its_writes() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut first = Example::start(&cluster).await;
    first.ask("put greeting hello").await;
    assert_eq!(first.line().await, "ok");
    first.ask("fill a 1000000").await;
    let mut lines = Vec::new();
    for _ in 0..500 {
        lines.push(first.line().await);
    }
    // Another one takes the store in the middle of it.
    let mut second = Example::start(&cluster).await;
    second.ask("get greeting").await;
    assert_eq!(second.line().await, "hello");
    lines.extend(first.rest().await);
    assert!(lines.last().unwrap().starts_with("lost: "), "{:?}", lines.last());
    let ended = tokio::time::timeout(LONG, first.child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(3));
    let by_first = stored(&lines);
    // All that the loser had told is there, with the winner, which is killed now.
    second.ask("fill b 1000000").await;
    let mut lines = Vec::new();
    for _ in 0..500 {
        lines.push(second.line().await);
    }
    second.child.start_kill().unwrap();
    lines.extend(second.rest().await);
    let by_second = stored(&lines);
    let mut third = Example::start(&cluster).await;
    third.ask("list").await;
    let mut found = BTreeMap::new();
    loop {
        let line = third.line().await;
        let Some((key, value)) = line.split_once(' ') else { panic!("{line}") };
        if value == "keys" {
            assert_eq!(key.parse::<usize>().unwrap(), found.len());
            break;
        }
        found.insert(key.to_owned(), value.to_owned());
    }
    for key in by_first.iter().chain(&by_second) {
        assert_eq!(found.get(key).map(String::as_str), Some(&key[1..]), "{key} was durable");
    }
    // What each had under way may be there: no more than that.
    for (prefix, told) in [("a", by_first.len()), ("b", by_second.len())] {
        let there = found.keys().filter(|key| key.starts_with(prefix)).count();
        assert!((told..=told + 64).contains(&there), "{there} of {prefix}, {told} told");
    }
    drop(third.input);
    let ended = tokio::time::timeout(LONG, third.child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_goes_on_over_the_death_of_data_nodes_and_leaders() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let options = ConnectOptions::new(cluster.meta_addresses());
    let client = Client::connect(options).await.unwrap();
    let store = Store::open(client.clone(), DIRECTORY, LOG_BYTES).await.unwrap();
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..600_u32 {
                store.put(n.to_be_bytes(), vec![n as u8; 300]).await.unwrap();
            }
        })
    };
    let written = || async { (store.list(b"").len() >= 200).then_some(()) };
    eventually("200 keys", LONG, written).await.unwrap();
    let leader = cluster.leader(&cluster.client().await.unwrap()).await.unwrap();
    cluster.datas[0].kill();
    cluster.metas[leader].kill();
    tokio::time::timeout(3 * LONG, writing).await.expect("it stands still").unwrap();
    store.close().await.unwrap();
    cluster.start_all().await.unwrap();
    let (_client, store) = open(&cluster).await;
    let found = store.list(b"");
    assert_eq!(found.len(), 600);
    assert!((0..600_u32).zip(found).all(|(n, row)| row == (n.to_be_bytes().to_vec(), vec![n as u8; 300])));
}
