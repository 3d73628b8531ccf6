//! Files and handles: buffered writes, what others see and when, what a handle keeps.

use std::time::Duration;

use cairn_sdk::types::{ClusterId, FsError, Timestamp};
use cairn_sdk::{AttrChange, Cause, Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, cairn_binary, run};

async fn single() -> (Cluster, Client) {
    let options = ClusterOptions { segment_mib: 16, capacity_mib: 512, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    file.read_at(0, usize::try_from(file.length()).unwrap()).await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_seen_by_others_after_fsync_or_close_and_not_before() {
    let (cluster, client) = single().await;
    let other = cluster.client().await.unwrap();
    let mut file = client.create("/file", 0o644).await.unwrap();
    file.write_at(0, b"first").await.unwrap();
    assert_eq!(content(&other, "/file").await, b"");
    file.fsync().await.unwrap();
    assert_eq!(content(&other, "/file").await, b"first");
    // A gap reads as zeros; what was there stays.
    file.write_at(10, b"second").await.unwrap();
    file.close().await.unwrap();
    assert_eq!(content(&other, "/file").await, b"first\0\0\0\0\0second");
    // Dropped without a close: discarded.
    let mut file = client.open("/file").await.unwrap();
    file.write_at(0, b"XXXXX").await.unwrap();
    drop(file);
    assert_eq!(content(&other, "/file").await, b"first\0\0\0\0\0second");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_overlapping_writers_the_later_commit_wins_range_by_range() {
    let (_cluster, client) = single().await;
    client.put("/file", 0o644, vec![b'.'; 30]).await.unwrap();
    let mut first = client.open("/file").await.unwrap();
    let mut second = client.open("/file").await.unwrap();
    first.write_at(0, &[b'1'; 20]).await.unwrap();
    second.write_at(10, &[b'2'; 15]).await.unwrap();
    second.fsync().await.unwrap();
    first.fsync().await.unwrap();
    let wanted = [&[b'1'; 20][..], &[b'2'; 5], b"....."].concat();
    assert_eq!(content(&client, "/file").await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_handle_reads_by_what_it_knew_until_it_is_refreshed() {
    let (cluster, client) = single().await;
    client.put("/file", 0o644, b"old content").await.unwrap();
    let mut handle = client.open("/file").await.unwrap();
    let other = cluster.client().await.unwrap();
    let mut writer = other.open("/file").await.unwrap();
    writer.write_at(0, b"NEW").await.unwrap();
    writer.write_at(11, b" and more").await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(handle.read_at(0, 100).await.unwrap(), &b"old content"[..]);
    assert_eq!(handle.length(), 11);
    assert_eq!(handle.refresh().await.unwrap(), 20);
    assert_eq!(handle.read_at(0, 100).await.unwrap(), &b"NEW content and more"[..]);
    // Removed: the handle goes on, and nobody opens the file any more.
    other.unlink("/file").await.unwrap();
    assert_eq!(handle.refresh().await.unwrap(), 20);
    assert_eq!(handle.read_at(0, 100).await.unwrap(), &b"NEW content and more"[..]);
    let gone = client.open("/file").await.unwrap_err();
    assert_eq!(gone.fs(), Some(&FsError::NotFound), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_set_down_and_up_and_reading_moves_no_atime() {
    let (_cluster, client) = single().await;
    client.put("/file", 0o644, b"0123456789").await.unwrap();
    let mut file = client.open("/file").await.unwrap();
    file.set_len(4).await.unwrap();
    file.set_len(8).await.unwrap();
    assert_eq!(content(&client, "/file").await, b"0123\0\0\0\0");
    assert_eq!(file.read(3).await.unwrap(), &b"012"[..]);
    assert_eq!(file.read(100).await.unwrap(), &b"3\0\0\0\0"[..]);
    assert!(file.read(1).await.unwrap().is_empty());
    let set = AttrChange { atime: Some(Timestamp(1_000)), ..AttrChange::default() };
    client.set_attr("/file", set).await.unwrap();
    content(&client, "/file").await;
    assert_eq!(client.stat("/file").await.unwrap().atime, Timestamp(1_000));
    // A growing file is sealed when its size is set.
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"0123456789"[..]).await.unwrap();
    client.set_attr("/log", AttrChange { size: Some(3), ..AttrChange::default() }).await.unwrap();
    assert_eq!(content(&client, "/log").await, b"012");
    assert_eq!(log.append(&b"abc"[..]).await.unwrap(), 3);
    assert_eq!(content(&client, "/log").await, b"012abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_a_chunk_is_written_and_read() {
    let options = ClusterOptions { segment_mib: 64, capacity_mib: 1024, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body: Vec<u8> = (0..(70_usize << 20) + 11).map(|n| (n ^ (n >> 10) ^ (n >> 19)) as u8).collect();
    client.put("/large", 0o644, &body).await.unwrap();
    assert!(content(&client, "/large").await == body);
    let mut file = client.open("/large").await.unwrap();
    file.write_at(64 << 20, b"over the edge of two chunks").await.unwrap();
    file.close().await.unwrap();
    let file = client.open("/large").await.unwrap();
    let read = file.read_at((64 << 20) - 5, 40).await.unwrap();
    assert_eq!(read[5..32], b"over the edge of two chunks"[..]);
    assert_eq!(read[..5], body[(64 << 20) - 5..64 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_appender_after_an_exclusive_one_joins_it() {
    let (_cluster, client) = single().await;
    let owner = client.open_exclusive("/log").await.unwrap();
    assert_eq!(owner.end(), Some(0));
    assert_eq!(owner.append(&b"one"[..]).await.unwrap(), 0);
    let plain = client.open_append("/log").await.unwrap();
    assert_eq!(plain.append(&b"two"[..]).await.unwrap(), 3);
    assert_eq!(owner.append(&b"three"[..]).await.unwrap(), 6);
    assert_eq!(plain.generation(), owner.generation());
    // The next owner fences both.
    let next = client.open_exclusive("/log").await.unwrap();
    assert_eq!(next.end(), Some(11));
    for old in [&owner, &plain] {
        let refused = old.append(&b"late"[..]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    }
    assert_eq!(next.append(&b"four"[..]).await.unwrap(), 11);
    assert_eq!(content(&client, "/log").await, b"onetwothreefour");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_symlink_has_a_target() {
    let (_cluster, client) = single().await;
    client.put("/file", 0o644, b"x").await.unwrap();
    client.symlink("/file", "/link").await.unwrap();
    assert_eq!(client.read_link("/link").await.unwrap(), b"/file");
    let refused = client.read_link("/file").await.unwrap_err();
    assert_eq!((refused.fs(), refused.errno()), (Some(&FsError::NotSymlink), 22), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_says_so() {
    let (_cluster, client) = single().await;
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"one"[..]).await.unwrap();
    let copy = client.clone();
    client.close().await.unwrap();
    let refused = copy.mkdir("/dir", 0o755).await.unwrap_err();
    assert!(matches!(refused.cause(), Cause::Closed), "{refused}");
    let refused = log.append(&b"two"[..]).await.unwrap_err();
    assert!(matches!(refused.cause(), Cause::Closed), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_than_asked_for_is_refused() {
    let (cluster, _client) = single().await;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.cluster_id = Some(ClusterId([7; 16]));
    let refused = Client::connect(options).await.unwrap_err();
    assert!(matches!(refused.cause(), Cause::OtherCluster { .. }), "{refused}");
    let mut command = std::process::Command::new(cairn_binary().unwrap());
    command.args(["--connect", cluster.metas[0].address(), "--cluster-id", &"07".repeat(16), "fs", "ls"]);
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("0707"), "{}", outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_fails_leaves_a_handle_that_says_why() {
    let (mut cluster, _client) = single().await;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(2);
    let client = Client::connect(options).await.unwrap();
    let log = client.open_append("/log").await.unwrap();
    assert_eq!(log.append(&b"one"[..]).await.unwrap(), 0);
    cluster.kill_all();
    let first = log.append(&b"two"[..]).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Unknown, "{first}");
    let second = log.append(&b"three"[..]).await.unwrap_err();
    let Cause::Poisoned(why) = second.cause() else { panic!("{second}") };
    assert!(second.to_string().contains("the handle failed earlier") && why.contains("gave up"), "{second}");
    assert_eq!(second.kind(), ErrorKind::Unknown, "{second}");
    // What was acknowledged is there when the servers are.
    cluster.start_all().await.unwrap();
    let client = cluster.client().await.unwrap();
    assert!(content(&client, "/log").await.starts_with(b"one"));
}
