//! What a client and its handles say after a failure, a cancelled call, or the end of a session: never
//! that something is there which is not.

use std::time::Duration;

use cairn_proto::v1::CloseSessionRequest;
use cairn_sdk::types::{FsError, Policy};
use cairn_sdk::{AttrChange, Cause, Client, ConnectOptions, Error, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Wire, eventually, target};
use tokio::task::JoinSet;

async fn single() -> (Cluster, Client) {
    let options = ClusterOptions { segment_mib: 16, capacity_mib: 512, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

async fn impatient(cluster: &Cluster) -> Client {
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(2);
    Client::connect(options).await.unwrap()
}

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    file.read_at(0, usize::try_from(file.length()).unwrap()).await.unwrap().to_vec()
}

/// Closes the client's shared chunks. It does so before it looks what is to be synced.
async fn roll(client: &Client) {
    client.sync("/").await.unwrap_err();
}

fn is_poisoned(error: &Error) -> bool {
    matches!(error.cause(), Cause::Poisoned(_)) && error.kind() == ErrorKind::Unknown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_bytes_never_says_that_it_is_synced() {
    let (mut cluster, _) = single().await;
    let client = impatient(&cluster).await;
    let mut file = client.create("/file", 0o644).await.unwrap();
    file.write_at(0, b"kept").await.unwrap();
    file.fsync().await.unwrap();
    let mut put = client.put_writer("/put", 0o644).await.unwrap();
    put.write(b"too little").await.unwrap();
    cluster.datas[0].kill();
    file.write_at(4, b"lost").await.unwrap();
    let first = file.fsync().await.unwrap_err();
    assert!(!is_poisoned(&first), "{first}");
    put.finish().await.unwrap_err();
    cluster.start_all().await.unwrap();
    let second = file.fsync().await.unwrap_err();
    assert!(is_poisoned(&second), "{second}");
    let third = file.write_at(8, b"more").await.unwrap_err();
    assert!(is_poisoned(&third), "{third}");
    let last = file.close().await.unwrap_err();
    assert!(is_poisoned(&last), "{last}");
    let client = cluster.client().await.unwrap();
    assert_eq!(content(&client, "/file").await, b"kept");
    assert_eq!(client.stat("/put").await.unwrap_err().fs(), Some(&FsError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_write_leaves_no_hole_behind_a_success() {
    let (_cluster, client) = single().await;
    let body = vec![7; 20 << 20];
    let mut file = client.create("/file", 0o644).await.unwrap();
    // More than may be under way: it waits, and goes away in the middle.
    tokio::select! {
        biased;
        written = file.write_at(0, &body) => panic!("written at once: {written:?}"),
        () = std::future::ready(()) => {}
    }
    let refused = file.fsync().await.unwrap_err();
    assert!(is_poisoned(&refused), "{refused}");
    let refused = file.close().await.unwrap_err();
    assert!(is_poisoned(&refused), "{refused}");
    assert_eq!(client.stat("/file").await.unwrap().size, 0);
    let mut put = client.put_writer("/put", 0o644).await.unwrap();
    tokio::select! {
        biased;
        written = put.write(&body) => panic!("written at once: {written:?}"),
        () = std::future::ready(()) => {}
    }
    let refused = put.finish().await.unwrap_err();
    assert!(is_poisoned(&refused), "{refused}");
    assert_eq!(client.stat("/put").await.unwrap_err().fs(), Some(&FsError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_change_costs_the_client_nothing() {
    let (_cluster, client) = single().await;
    tokio::select! {
        biased;
        made = client.mkdir("/cancelled", 0o755) => panic!("made at once: {made:?}"),
        () = std::future::ready(()) => {}
    }
    // More than the replies that the servers keep for a session.
    let mut making: JoinSet<Result<cairn_sdk::types::Inode, cairn_sdk::Error>> = JoinSet::new();
    for n in 0..2_000 {
        if making.len() >= 64 {
            making.join_next().await.unwrap().unwrap().unwrap();
        }
        let client = client.clone();
        making.spawn(async move { client.mkdir(format!("/made-{n}"), 0o755).await });
    }
    while let Some(made) = making.join_next().await {
        made.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_spoils_no_other_files_writes() {
    // A tree of this level goes with its files, open or not.
    let meta_toml = "feature_level_max = 2\n".to_owned();
    let options =
        ClusterOptions { segment_mib: 16, capacity_mib: 512, meta_toml, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/tree", 0o755).await.unwrap();
    let mut temporary = client.create("/tree/temporary", 0o644).await.unwrap();
    temporary.write_at(0, b"soon gone").await.unwrap();
    temporary.fsync().await.unwrap();
    client.remove_tree("/tree").await.unwrap();
    // The next chunk is opened for the file that is written then.
    roll(&client).await;
    client.put("/other", 0o644, b"other").await.unwrap();
    roll(&client).await;
    temporary.write_at(0, b"nowhere").await.unwrap();
    let refused = temporary.fsync().await.unwrap_err();
    assert!(matches!(refused.fs(), Some(FsError::Stale | FsError::NotFound)), "{refused}");
    let refused = temporary.close().await.unwrap_err();
    assert!(is_poisoned(&refused), "{refused}");
    client.put("/third", 0o644, b"third").await.unwrap();
    // A directory that was made anew under its old name.
    client.mkdir("/directory", 0o755).await.unwrap();
    client.put("/directory/file", 0o644, b"old").await.unwrap();
    client.remove("/directory/file").await.unwrap();
    client.remove("/directory").await.unwrap();
    client.mkdir("/directory", 0o755).await.unwrap();
    roll(&client).await;
    client.put("/directory/file", 0o644, b"new").await.unwrap();
    for (path, wanted) in [("/other", "other"), ("/third", "third"), ("/directory/file", "new")] {
        assert_eq!(content(&client, path).await, wanted.as_bytes(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_kept_by_the_policy_of_their_own_directory() {
    let (cluster, client) = single().await;
    let wire = Wire::new(&cluster, &client);
    let lag = async |path: &str| {
        let reply = wire.extents(target(path)).await.unwrap();
        reply.chunks[0].policy.unwrap().max_lag_ms
    };
    client.mkdir("/changed", 0o755).await.unwrap();
    client.mkdir("/as-before", 0o755).await.unwrap();
    client.put("/changed/first", 0o644, b"x").await.unwrap();
    client.put("/as-before/first", 0o644, b"x").await.unwrap();
    // This client does not hear of it for some seconds.
    let other = cluster.client().await.unwrap();
    let policy = Policy { max_lag_ms: 77_000, ..Policy::single() };
    other.set_policy("/changed", Some(policy)).await.unwrap();
    roll(&client).await;
    client.put("/changed/second", 0o644, b"x").await.unwrap();
    client.put("/as-before/second", 0o644, b"x").await.unwrap();
    assert_eq!(lag("/changed/first").await, Policy::single().max_lag_ms);
    assert_eq!(lag("/changed/second").await, 77_000);
    assert_eq!(lag("/as-before/second").await, Policy::single().max_lag_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appender_whose_session_ended_says_so_and_the_client_goes_on() {
    let (cluster, client) = single().await;
    let wire = Wire::new(&cluster, &client);
    let log = client.open_append("/log").await.unwrap();
    assert_eq!(log.append(&b"one"[..]).await.unwrap(), 0);
    let mut leader = wire.leader().await.unwrap();
    let request = CloseSessionRequest { session: client.session_id().0 };
    leader.close_session(wire.request(request)).await.unwrap();
    // Its tail ends with it, and the appender needs another.
    let sealed = || async { wire.tail("/log").await.is_err().then_some(()) };
    eventually("the tail to be sealed", Duration::from_secs(60), sealed).await.unwrap();
    let refused = log.append(&b"two"[..]).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::SessionExpired), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Unknown, "{refused}");
    let again = log.append(&b"two"[..]).await.unwrap_err();
    assert!(is_poisoned(&again), "{again}");
    let next = client.open_append("/log").await.unwrap();
    assert_eq!(next.append(&b"three"[..]).await.unwrap(), 3);
    client.put("/file", 0o644, b"content").await.unwrap();
    assert_eq!(content(&client, "/log").await, b"onethree");
    assert_eq!(content(&client, "/file").await, b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_client_leaves_its_session_to_its_lease() {
    let options =
        ClusterOptions { meta_toml: "session_lease_ms = 6000\n".into(), ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let other = cluster.client().await.unwrap();
    other.mkdir("/made", 0o755).await.unwrap();
    let before = client.status().await.unwrap().sessions;
    drop(other);
    let fewer = || async { (client.status().await.ok()?.sessions < before).then_some(()) };
    eventually("the session to end", Duration::from_secs(60), fewer).await.unwrap();
    client.mkdir("/kept", 0o755).await.unwrap();
    assert_eq!(client.status().await.unwrap().sessions, before - 1, "the client that lives kept its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_lies_before_the_tail_is_answered_with_the_real_one() {
    let (_cluster, client) = single().await;
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"0123456789"[..]).await.unwrap();
    // Sealed: the next tail begins at 8.
    client.set_attr("/log", AttrChange { size: Some(8), ..AttrChange::default() }).await.unwrap();
    assert_eq!(log.append(&b"abcde"[..]).await.unwrap(), 8);
    for expected in [3, 8, 12, 14] {
        let refused = log.append_at(expected, &b"x"[..]).await.unwrap_err();
        assert_eq!(refused.fs(), Some(&FsError::LengthMismatch { expected, actual: 13 }), "{refused}");
    }
    assert_eq!(log.append_at(13, &b"x"[..]).await.unwrap(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_that_no_text_tells_apart_have_their_own_policies() {
    let (cluster, client) = single().await;
    let (first, second) = (b"/\xff".to_vec(), b"/\xfe".to_vec());
    let inside = |directory: &[u8]| [directory, b"/file"].concat();
    client.mkdir(first.clone(), 0o755).await.unwrap();
    client.mkdir(second.clone(), 0o755).await.unwrap();
    let policy = Policy { max_lag_ms: 77_000, ..Policy::single() };
    client.set_policy(second.clone(), Some(policy)).await.unwrap();
    client.put(inside(&first), 0o644, b"x").await.unwrap();
    client.put(inside(&second), 0o644, b"x").await.unwrap();
    let wire = Wire::new(&cluster, &client);
    for (directory, wanted) in [(&first, Policy::single().max_lag_ms), (&second, 77_000)] {
        let target = cairn_proto::v1::Target { path: inside(directory).into(), ..Default::default() };
        let reply = wire.extents(target).await.unwrap();
        assert_eq!(reply.chunks[0].policy.unwrap().max_lag_ms, wanted);
    }
}
