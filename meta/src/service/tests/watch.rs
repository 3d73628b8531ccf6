//! Watches: what changes is told once and in order, from any index on, on any server; what cannot be
//! told any more is refused, and who takes too much or too slowly ended.

use std::time::Duration;

use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, LogIndex};
use tonic::Streaming;
use tonic::transport::Channel;

use super::group::{leader, three};
use super::{Cluster, LONG, Session, at, create, eventually, mkdir};
use crate::keys::Record;
use crate::keys::counters::{self, EventCounter};
use crate::store::Table;

/// A watch, event by event.
pub(super) struct Watch {
    stream: Streaming<v1::WatchBatch>,
    ready: Vec<v1::WatchEvent>,
    pub(super) index: u64,
    watched: u64,
    gone: bool,
}

pub(super) fn request(path: &str, recursive: bool, after: Option<u64>) -> v1::WatchRequest {
    v1::WatchRequest { target: at(path), recursive, after_index: after, ..Default::default() }
}

impl Watch {
    pub(super) async fn open(cluster: &Cluster, message: v1::WatchRequest) -> Result<Self, WireError> {
        let stream = cluster.meta.clone().watch(cluster.request(message)).await?.into_inner();
        let mut watch = Self { stream, ready: Vec::new(), index: 0, watched: 0, gone: false };
        watch.batch().await?;
        Ok(watch)
    }

    /// Takes a batch; false at the end of the stream.
    async fn batch(&mut self) -> Result<bool, WireError> {
        let batch = tokio::time::timeout(LONG, self.stream.message()).await.expect("a sign of life")?;
        let Some(batch) = batch else { return Ok(false) };
        assert!(batch.index >= self.index, "{} after {}", batch.index, self.index);
        assert!(batch.events.iter().all(|e| e.index > self.index && e.index <= batch.index), "{batch:?}");
        (self.index, self.watched, self.gone) = (batch.index, batch.watched, batch.gone);
        self.ready.extend(batch.events);
        Ok(true)
    }

    /// The next event in short: its kind and its names.
    async fn next(&mut self) -> String {
        while self.ready.is_empty() {
            assert!(self.batch().await.expect("a batch"), "the stream ended");
        }
        let event = self.ready.remove(0);
        let name = String::from_utf8_lossy(&event.name).into_owned();
        let to = String::from_utf8_lossy(&event.to_name).into_owned();
        let kind = event.kind().as_str_name().trim_start_matches("WATCH_KIND_").to_lowercase();
        let edge = match (to.is_empty(), event.inside, event.to_inside) {
            (false, false, true) => " (in)",
            (false, true, false) => " (out)",
            _ => "",
        };
        format!("{kind} {name}{}{to}{edge}", if to.is_empty() { "" } else { ">" })
    }

    /// The next events as they are told.
    pub(super) async fn events(&mut self, count: usize) -> Vec<v1::WatchEvent> {
        while self.ready.len() < count {
            assert!(self.batch().await.expect("a batch"), "the stream ended");
        }
        self.ready.drain(..count).collect()
    }

    pub(super) async fn all(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(self.next().await);
        }
        told
    }
}

pub(super) fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename(v1::Rename { from: at(from), to: at(to), no_replace: false, exchange: false })
}

pub(super) fn unlink(path: &str) -> Operation {
    Operation::Unlink(v1::Unlink { target: at(path) })
}

fn rmdir(path: &str) -> Operation {
    Operation::Rmdir(v1::Rmdir { target: at(path) })
}

fn chmod(path: &str) -> Operation {
    Operation::SetAttr(v1::SetAttr { target: at(path), mode: Some(0o600), ..Default::default() })
}

pub(super) async fn done(session: &Session<'_>, operations: Vec<Operation>) -> Vec<u64> {
    let mut indexes = Vec::new();
    for operation in operations {
        indexes.push(session.mutate(operation).await.expect("done").log_index);
    }
    indexes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_changes_in_order_and_again_from_any_index() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    done(&session, vec![mkdir("/d"), mkdir("/d/e"), mkdir("/o"), create("/o/x")]).await;
    let mut deep = Watch::open(&cluster, request("/d", true, None)).await.expect("a watch");
    let mut flat = Watch::open(&cluster, request("/d", false, None)).await.expect("another");
    assert_eq!(deep.watched, cluster.inode("/d").await.ino);
    let changes = vec![
        create("/d/f"),
        create("/d/e/g"),
        create("/o/y"),
        chmod("/d/e/g"),
        rename("/d/f", "/d/e/f"),
        rename("/o/x", "/d/x"),
        rename("/d/e/g", "/o/g"),
        rename("/d/e/f", "/d/x"),
        chmod("/d"),
        unlink("/d/x"),
    ];
    let indexes = done(&session, changes).await;
    let told = [
        "created f",
        "created g",
        "attributes g",
        "renamed f>f",
        "renamed x>x (in)",
        "renamed g>g (out)",
        "removed x",
        "renamed f>x",
        "attributes d",
        "removed x",
    ];
    assert_eq!(deep.all(told.len()).await, told);
    let flatly = [
        "created f",
        "renamed f>f (out)",
        "renamed x>x (in)",
        "removed x",
        "renamed f>x (in)",
        "attributes d",
    ];
    assert_eq!(flat.all(flatly.len()).await, flatly);
    assert_eq!(flat.next().await, "removed x");
    drop((deep, flat));
    // From after each of the changes on the rest is told, nothing twice and nothing left out. What
    // replaces a name is told with what it replaces.
    let before = [1, 2, 2, 3, 4, 5, 6, 8, 9, 10];
    for (index, skipped) in indexes.iter().zip(before) {
        let open = async || Watch::open(&cluster, request("/d", true, Some(*index))).await.ok();
        let mut again = eventually("the ended watches count no more", open).await;
        let rest = &told[skipped..];
        assert_eq!(again.all(rest.len()).await, rest, "after {index}");
        assert!(again.ready.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_what_it_watches() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let indexes = done(&session, vec![mkdir("/d"), mkdir("/d/e")]).await;
    let mut watch = Watch::open(&cluster, request("/d/e", true, None)).await.expect("a watch");
    let ino = watch.watched;
    // It stays with its inode.
    done(&session, vec![rename("/d/e", "/m"), create("/m/f"), unlink("/m/f"), rmdir("/m")]).await;
    let told = ["renamed e>m", "created f", "removed f", "removed m"];
    assert_eq!(watch.all(4).await, told);
    while !watch.gone {
        assert!(watch.batch().await.expect("a batch"));
    }
    assert_eq!(watch.batch().await, Ok(false));
    // Who was away is told the same.
    let target = Some(v1::Target { ino, ..Default::default() });
    let message = v1::WatchRequest { target, ..request("", true, Some(indexes[1])) };
    let again = v1::WatchRequest { local: true, ..message.clone() };
    let mut watch = Watch::open(&cluster, again).await.expect("told from the log");
    assert_eq!(watch.all(4).await, told);
    while !watch.gone {
        assert!(watch.batch().await.expect("a batch"));
    }
    let stale = Watch::open(&cluster, message).await.map(drop);
    assert_eq!(stale, Err(WireError::Fs(FsError::Stale)));
    let missing = Watch::open(&cluster, request("/m", true, None)).await.map(drop);
    assert_eq!(missing, Err(WireError::Fs(FsError::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_so_many_watches_and_no_more() {
    let cluster = Cluster::start().await;
    let first = Watch::open(&cluster, request("/", true, None)).await.expect("one");
    let _second = Watch::open(&cluster, request("/", true, None)).await.expect("two");
    let third = Watch::open(&cluster, request("/", true, None)).await.map(drop);
    assert_eq!(third, Err(WireError::Service(ServiceError::TooManyWatches { most: 2 })));
    drop(first);
    let open = async || Watch::open(&cluster, request("/", true, None)).await.ok();
    eventually("room for another", open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_any_more_is_refused_with_what_is() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let made = done(&session, vec![mkdir("/a"), mkdir("/b"), mkdir("/c")]).await;
    let whole =
        Watch::open(&cluster, request("/", true, Some(0))).await.expect("all from the start").all(3).await;
    assert_eq!(whole, ["created a", "created b", "created c"]);
    // As if the first two were removed since.
    let counter = EventCounter { first: LogIndex(made[1]), first_number: 1, kept: 1 };
    cluster.node.overwrite(Table::Counters, counters::EVENTS_KEY.to_vec(), counter.to_bytes());
    let oldest = LogIndex(made[1] + 1);
    for after in [0, made[0], made[1] - 1] {
        let refused = Watch::open(&cluster, request("/", true, Some(after))).await.map(drop);
        assert_eq!(refused, Err(WireError::Fs(FsError::Compacted { oldest })), "after {after}");
    }
    let batches = cluster.list("/", "", 0).await.expect("a listing");
    let listed = batches[0].snapshot_index;
    let mut kept = Watch::open(&cluster, request("/", true, Some(made[1]))).await.expect("kept");
    let mut now = Watch::open(&cluster, request("/", true, Some(listed))).await.expect("from the listing on");
    session.mutate(mkdir("/d")).await.expect("made");
    assert_eq!(kept.all(2).await, ["created c", "created d"]);
    assert_eq!(now.next().await, "created d");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_takes_nothing_is_ended_and_resumes_without_a_loss() {
    const ENTRIES: usize = 200;
    const LEVELS: usize = 60;
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    // A connection of its own, which takes little that is not asked for.
    let address = cluster.node.status().members[0].address.clone();
    let narrow = Channel::from_shared(format!("http://{address}")).expect("an address");
    let narrow = narrow.initial_stream_window_size(65_535).connect().await.expect("a connection");
    let begin = cluster.request(request("/", true, None));
    let stream = MetaClient::new(narrow).watch(begin).await.expect("a watch").into_inner();
    let mut slow = Watch { stream, ready: Vec::new(), index: 0, watched: 0, gone: false };
    assert!(slow.batch().await.expect("begun"));
    let below = format!("/{}", "d".repeat(60)).repeat(LEVELS - 1);
    for n in 0..ENTRIES {
        let path = format!("/{n:03}{below}");
        let all = v1::Mkdir { target: at(&path), mode: 0o755, parents: true, ..Default::default() };
        session.mutate(Operation::Mkdir(all)).await.expect("made");
    }
    // More than the stream and its queue hold: it is full until its time is over.
    eventually("its place is free", async || {
        let one = Watch::open(&cluster, request("/", true, None)).await.ok()?;
        let two = Watch::open(&cluster, request("/", true, None)).await.ok()?;
        drop((one, two));
        Some(())
    })
    .await;
    let ended = loop {
        match slow.batch().await {
            Ok(more) => assert!(more, "a reason comes first"),
            Err(error) => break error,
        }
    };
    assert_eq!(ended, WireError::Service(ServiceError::WatcherTooSlow));
    let told = slow.ready.len();
    assert!(told > 0 && told < ENTRIES * LEVELS, "{told}");
    let open = async || Watch::open(&cluster, request("/", true, Some(slow.index))).await.ok();
    let mut rest = eventually("a place", open).await;
    while slow.ready.len() + rest.ready.len() < ENTRIES * LEVELS {
        assert!(rest.batch().await.expect("a batch"));
    }
    let told: Vec<(u64, u32)> =
        slow.ready.iter().chain(&rest.ready).map(|event| (event.index, event.number)).collect();
    assert!(told.is_sorted_by(|a, b| a < b) && told.len() == ENTRIES * LEVELS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_tells_the_same_events() {
    let mut servers = three().await;
    let first = leader(&mut servers, None).await;
    let follower = &servers[(first + 1) % 3];
    let session = servers[first].session().await;
    let begun = done(&session, vec![mkdir("/d")]).await[0];
    let asked = Watch::open(follower, request("/d", true, Some(begun))).await.map(drop);
    assert!(matches!(asked, Err(WireError::Service(ServiceError::NotLeader { .. }))), "{asked:?}");
    let mut watches = Vec::new();
    for server in &servers {
        let message = v1::WatchRequest { local: true, ..request("/d", true, Some(begun)) };
        let open = async || Watch::open(server, message.clone()).await.ok();
        watches.push(eventually("a watch on each", open).await);
    }
    for n in 0..50 {
        let (made, moved) = (format!("/d/{n}-new"), format!("/d/{n}"));
        done(&session, vec![create(&made), rename(&made, &moved)]).await;
    }
    let mut all = Vec::new();
    for watch in &mut watches {
        while watch.ready.len() < 100 {
            assert!(watch.batch().await.expect("a batch"));
        }
        all.push(std::mem::take(&mut watch.ready));
    }
    assert!(all[0].len() == 100 && all[0] == all[1] && all[1] == all[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_ends_its_watches() {
    let mut servers = three().await;
    let first = leader(&mut servers, None).await;
    let message = v1::WatchRequest { local: true, ..request("/", true, None) };
    let left = (first + 1) % 3;
    let open = async || Watch::open(&servers[left], message.clone()).await.ok();
    let mut watch = eventually("a watch on a follower", open).await;
    for at in [first, (first + 2) % 3] {
        servers[at].started.take().expect("started once").stop().await;
    }
    let ended = loop {
        match watch.batch().await {
            Ok(more) => assert!(more, "a reason comes first"),
            Err(error) => break error,
        }
    };
    let no_leader = |error: &WireError| matches!(error, WireError::Service(ServiceError::NotLeader { .. }));
    assert!(no_leader(&ended), "{ended:?}");
    let another = Watch::open(&servers[left], message).await.map(drop);
    assert!(another.as_ref().is_err_and(no_leader), "{another:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_watch_moves_on_with_the_log() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    done(&session, vec![mkdir("/quiet"), mkdir("/loud")]).await;
    let mut watch = Watch::open(&cluster, request("/quiet", true, None)).await.expect("a watch");
    let last = done(&session, vec![create("/loud/a"), create("/loud/b")]).await[1];
    let told = async {
        while watch.index < last {
            assert!(watch.batch().await.expect("a sign of life"));
        }
    };
    tokio::time::timeout(Duration::from_secs(15), told).await.expect("within some seconds");
    assert!(watch.ready.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_takes_what_a_listing_takes_of_who_the_session_says_it_is() {
    let cluster = Cluster::start().await;
    let root = cluster.session().await;
    let made =
        |path: &str, mode| Operation::Mkdir(v1::Mkdir { target: at(path), mode, ..Default::default() });
    for (path, mode) in [("/open", 0o755), ("/blind", 0o711), ("/shut", 0o700), ("/shut/in", 0o777)] {
        root.mutate(made(path, mode)).await.expect("made");
    }
    let shut = cluster.inode("/shut").await.ino;
    let user = cluster.session_as(Some(v1::Credentials { uid: 7, gid: 7, groups: vec![] })).await;
    let open = async |message: v1::WatchRequest, session| {
        // There are two watches on a server of a test: one that is let go is seen a moment later.
        let message = v1::WatchRequest { session, ..message };
        eventually("room for a watch", async || {
            let opened = Watch::open(&cluster, message.clone()).await.map(drop);
            let full = matches!(opened, Err(WireError::Service(ServiceError::TooManyWatches { .. })));
            (!full).then_some(opened)
        })
        .await
    };
    let denied = Err(WireError::Fs(FsError::PermissionDenied));
    assert_eq!(open(request("/open", true, None), user.id).await, Ok(()));
    for path in ["/blind", "/shut", "/shut/in"] {
        assert_eq!(open(request(path, false, None), user.id).await, denied, "{path}");
        // Nobody in particular is asked for nothing, as everywhere.
        assert_eq!(open(request(path, false, None), 0).await, Ok(()), "{path}");
        assert_eq!(open(request(path, false, None), root.id).await, Ok(()), "{path}");
    }
    // Taken up again by its number it is looked at again, on any server.
    let index = cluster.stat("/open").await.expect("found").log_index;
    let target = Some(v1::Target { ino: shut, ..Default::default() });
    let again = v1::WatchRequest { target, local: true, ..request("", false, Some(index)) };
    assert_eq!(open(again, user.id).await, denied);
    let unknown = open(request("/open", false, None), user.id + 1000).await;
    assert_eq!(unknown, Err(WireError::Fs(FsError::SessionExpired)));
}
