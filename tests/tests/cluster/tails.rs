//! Readers that follow a growing file: they see what is acknowledged, in order, each byte once, and nothing
//! else, over kills of data nodes and leaders, seals, closes, cuts and renames.

use std::process::Stdio;
use std::time::Duration;

use cairn_proto::v1::ChunkState;
use cairn_sdk::types::{FsError, NodeId};
use cairn_sdk::{AttrChange, Client, RenameMode, Tail, TailEvent};
use cairn_tests::cluster::{Cluster, ClusterOptions, Pump, Wire, eventually, record, verify};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LOG: &str = "/log";
const LONG: Duration = Duration::from_secs(60);

/// A reader in a task of its own, which ends when it has as many bytes as it is told there are.
struct Reader {
    end: watch::Sender<Option<u64>>,
    arrived: watch::Receiver<u64>,
    task: JoinHandle<Vec<u8>>,
}

impl Reader {
    /// With `afresh` the tail is made anew, by offset, after so many bytes: as another process would.
    fn start(client: Client, afresh: Option<u64>) -> Self {
        let (end, ends) = watch::channel(None);
        let (tell, arrived) = watch::channel(0);
        Self { end, arrived, task: tokio::spawn(follow(client, afresh, ends, tell)) }
    }

    /// Waits until so many bytes have arrived.
    async fn reach(&mut self, length: u64) {
        let reached = self.arrived.wait_for(|at| *at >= length);
        tokio::time::timeout(LONG, reached).await.expect("the reader stands still").unwrap();
    }

    async fn finish(self, length: u64) -> Vec<u8> {
        self.end.send(Some(length)).unwrap();
        tokio::time::timeout(LONG, self.task).await.expect("the reader stands still").unwrap()
    }
}

async fn follow(
    client: Client,
    afresh: Option<u64>,
    mut ends: watch::Receiver<Option<u64>>,
    tell: watch::Sender<u64>,
) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut tail = client.tail(LOG, 0).await.unwrap();
    let mut since = 0;
    loop {
        let end = *ends.borrow_and_update();
        if end.is_some_and(|end| bytes.len() as u64 >= end) {
            return bytes;
        }
        let event = tokio::select! {
            event = tail.next() => event.unwrap(),
            // It goes on where it was, whenever it is dropped.
            changed = ends.changed() => {
                changed.unwrap();
                continue;
            }
        };
        let TailEvent::Bytes { offset, data } = event else { panic!("{event:?}") };
        assert_eq!(offset, bytes.len() as u64, "a byte was left out, or told twice");
        bytes.extend_from_slice(&data);
        tell.send_replace(bytes.len() as u64);
        if afresh.is_some_and(|every| bytes.len() as u64 - since >= every) {
            since = bytes.len() as u64;
            assert_eq!(tail.offset(), since);
            tail = client.tail(LOG, since).await.unwrap();
        }
    }
}

async fn primary(cluster: &Cluster, client: &Client) -> usize {
    let wire = Wire::new(cluster, client);
    let look = || async { wire.tail(LOG).await.ok() };
    let tail = eventually("an open tail", LONG, look).await.unwrap();
    cluster.data_of(client, NodeId(tail.primary)).await.unwrap()
}

async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    file.read_at(0, usize::try_from(file.length()).unwrap()).await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn tailing_readers_see_what_is_acknowledged_and_nothing_else_over_kills() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"").await.unwrap();
    let mut readers = Vec::new();
    for afresh in [None, Some(20_000), Some(1)] {
        readers.push(Reader::start(cluster.client().await.unwrap(), afresh));
    }
    let writer = cluster.client().await.unwrap();
    let mut pump = Pump::start(writer.open_append(LOG).await.unwrap(), 1, 8, 300);
    pump.advance(200).await;
    for round in 0..3 {
        let at = primary(&cluster, &client).await;
        match round {
            0 => {
                cluster.datas[at].kill();
                pump.advance(200).await;
                cluster.datas[at].start().unwrap();
            }
            1 => {
                cluster.datas[at].pause();
                pump.advance(200).await;
                cluster.datas[at].resume();
            }
            _ => {
                // The leader and the primary at once.
                let leader = cluster.leader(&client).await.unwrap();
                cluster.metas[leader].kill();
                cluster.datas[at].kill();
                pump.advance(200).await;
            }
        }
        cluster.start_all().await.unwrap();
        // While the writer goes on each reader comes to all that is acknowledged by now.
        let acknowledged = pump.count() * 300;
        for reader in &mut readers {
            reader.reach(acknowledged).await;
        }
    }
    readers.push(Reader::start(cluster.client().await.unwrap(), None));
    pump.advance(100).await;
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors.first());
    appender.close().await.unwrap();
    let file = read_all(&client, LOG).await;
    verify(&file, &[&ledger]).unwrap_or_else(|wrong| panic!("{wrong}"));
    for reader in readers {
        // Whatever it was shown is part of the file for good, at the same place.
        assert!(reader.finish(file.len() as u64).await == file, "a reader saw something else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_of_a_record_while_its_writer_is_idle_and_not_before_it_is_acknowledged() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let log = client.open_append(LOG).await.unwrap();
    assert_eq!(log.append(record(1, 1, 100)).await.unwrap(), 0);
    let other = cluster.client().await.unwrap();
    let mut tail = other.tail(LOG, 0).await.unwrap();
    assert_eq!(bytes(&mut tail).await, (0, record(1, 1, 100)));
    // A secondary that hangs holds up the acknowledgement; the reader sees nothing of the record, which
    // lies on two disks, until it counts. Then it is in the file for good.
    let wire = Wire::new(&cluster, &client);
    let open = wire.tail(LOG).await.unwrap();
    let secondary = open.replicas.iter().find(|r| r.node != open.primary).unwrap().node;
    let secondary = cluster.data_of(&client, NodeId(secondary)).await.unwrap();
    cluster.datas[secondary].pause();
    let under_way = log.submit(record(1, 2, 100)).await.unwrap();
    let (told, acknowledged) = tokio::join!(bytes(&mut tail), under_way.offset());
    cluster.datas[secondary].resume();
    assert_eq!(told, (100, record(1, 2, 100)));
    assert_eq!(acknowledged.unwrap(), 100);
    let sealed = wire.chunk(open.chunk).await.unwrap();
    assert_eq!(sealed.state, ChunkState::Sealed as i32, "it was told beside the slow one");
}

/// The next bytes, as one piece.
async fn bytes(tail: &mut Tail) -> (u64, Vec<u8>) {
    match event(tail).await {
        TailEvent::Bytes { offset, data } => (offset, data.to_vec()),
        other => panic!("{other:?}"),
    }
}

async fn event(tail: &mut Tail) -> TailEvent {
    tokio::time::timeout(LONG, tail.next()).await.expect("an event in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_what_becomes_of_the_file() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"").await.unwrap();
    let other = cluster.client().await.unwrap();
    let mut tail = other.tail(LOG, 0).await.unwrap();
    // Nobody has it open; then one appends, and closes; then another.
    for (n, text) in [b"one", b"two"].into_iter().enumerate() {
        let wait = tokio::spawn(async move {
            let told = bytes(&mut tail).await;
            (tail, told)
        });
        let log = client.open_append(LOG).await.unwrap();
        log.append(&text[..]).await.unwrap();
        let told;
        (tail, told) = wait.await.unwrap();
        assert_eq!(told, (n as u64 * 3, text.to_vec()));
        log.close().await.unwrap();
    }
    // Renamed: it stays with the file.
    client.rename(LOG, "/renamed", RenameMode::Replace).await.unwrap();
    let log = client.open_append("/renamed").await.unwrap();
    log.append(&b"three"[..]).await.unwrap();
    assert_eq!(bytes(&mut tail).await, (6, b"three".to_vec()));
    // Cut below what was told, with its tail open.
    client.set_attr("/renamed", AttrChange { size: Some(4), ..AttrChange::default() }).await.unwrap();
    assert_eq!(event(&mut tail).await, TailEvent::Truncated { length: 4 });
    assert_eq!(tail.offset(), 4);
    log.append(&b"four"[..]).await.unwrap();
    assert_eq!(bytes(&mut tail).await, (4, b"four".to_vec()));
    // Sealed under the writer and the reader.
    let wire = Wire::new(&cluster, &client);
    let open = wire.tail("/renamed").await.unwrap();
    wire.seal(open.chunk).await.unwrap();
    log.append(&b"five"[..]).await.unwrap();
    assert_eq!(bytes(&mut tail).await, (8, b"five".to_vec()));
    // Removed, with a writer that has it open.
    client.unlink("/renamed").await.unwrap();
    assert_eq!(event(&mut tail).await, TailEvent::Unlinked);
    log.append(&b"six"[..]).await.unwrap();
    assert_eq!(bytes(&mut tail).await, (12, b"six".to_vec()));
    // From beyond the end, of what is no file, of what is not there.
    client.put("/short", 0o644, b"abc").await.unwrap();
    let mut beyond = other.tail("/short", 10).await.unwrap();
    assert_eq!(event(&mut beyond).await, TailEvent::Truncated { length: 3 });
    let refused = other.tail("/", 0).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::IsDirectory), "{refused}");
    assert_eq!(other.tail("/none", 0).await.unwrap_err().fs(), Some(&FsError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_over_planned_rolls() {
    const RECORDS: u64 = 140;
    let options = ClusterOptions { capacity_mib: 1024, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"").await.unwrap();
    let reader = Reader::start(cluster.client().await.unwrap(), None);
    let log = client.open_append(LOG).await.unwrap();
    let mut acknowledgements = Vec::new();
    for number in 0..RECORDS {
        acknowledgements.push(log.submit(record(1, number, 500_000)).await.unwrap());
    }
    for (number, acknowledgement) in acknowledgements.into_iter().enumerate() {
        assert_eq!(acknowledgement.offset().await.unwrap(), number as u64 * 500_000);
    }
    let seen = reader.finish(RECORDS * 500_000).await;
    for (number, found) in seen.chunks(500_000).enumerate() {
        assert!(found == record(1, number as u64, 500_000), "record {number}");
    }
}

/// `cairn fs tail` with its output line by line.
struct Command {
    child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Command {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(cluster.cli());
        command.args(["fs", "tail"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LONG, self.lines.next_line()).await.expect("a line in time");
        line.unwrap().expect("the command goes on")
    }

    /// Ctrl-C; answers the exit code.
    async fn interrupt(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
        tokio::time::timeout(LONG, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_f_shows_what_is_appended_and_tail_by_name_what_has_the_name() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"old\nolder\nlast\n").await.unwrap();
    let mut by_file = Command::start(&cluster, &["-f", "-n", "1", LOG]);
    let mut by_name = Command::start(&cluster, &["-F", "-n", "2", LOG]);
    assert_eq!(by_file.line().await, "last");
    assert_eq!((by_name.line().await, by_name.line().await), ("older".into(), "last".into()));
    let log = client.open_append(LOG).await.unwrap();
    log.append(&b"first\n"[..]).await.unwrap();
    assert_eq!((by_file.line().await, by_name.line().await), ("first".into(), "first".into()));
    // As logs are rotated.
    client.rename(LOG, "/log.1", RenameMode::NoReplace).await.unwrap();
    log.append(&b"to the old one\n"[..]).await.unwrap();
    client.put_new(LOG, 0o644, b"of the new one\n").await.unwrap();
    assert_eq!(by_file.line().await, "to the old one");
    assert_eq!(
        (by_name.line().await, by_name.line().await),
        ("to the old one".into(), "of the new one".into())
    );
    let log = client.open_append(LOG).await.unwrap();
    log.append(&b"and more\n"[..]).await.unwrap();
    assert_eq!(by_name.line().await, "and more");
    assert_eq!((by_file.interrupt().await, by_name.interrupt().await), (Some(0), Some(0)));
}
