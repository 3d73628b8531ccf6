//! Files that are unlinked while they are open, in whole clusters: they stay for those who have them
//! open, whoever leads, and go with the last handle, or with its session's lease.

use std::process::Stdio;
use std::time::{Duration, Instant};

use cairn_sdk::types::{FsError, InodeId, LockMode, Persist, Policy};
use cairn_sdk::{At, Client, File, RenameMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually, run};

/// A short lease, so that a dead holder is soon none.
const LEASE: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);

fn short_lease(options: ClusterOptions) -> ClusterOptions {
    ClusterOptions { meta_toml: format!("session_lease_ms = {}\n", LEASE.as_millis()), ..options }
}

async fn single() -> (Cluster, Client) {
    // There is no S3: a chunk that waited for it would stay as long as its upload is under way.
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    let options = ClusterOptions { segment_mib: 16, capacity_mib: 512, policy, ..ClusterOptions::single() };
    let cluster = Cluster::start(short_lease(options)).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

async fn is_gone(client: &Client, ino: InodeId) -> bool {
    client.stat(At::Inode(ino)).await.is_err_and(|error| error.fs() == Some(&FsError::Stale))
}

async fn gone(client: &Client, ino: InodeId) {
    let look = || async { is_gone(client, ino).await.then_some(()) };
    eventually("the unlinked file is gone", LONG, look).await.unwrap();
}

/// An unlinked file of the bytes "content" is read, written, cut and locked by its handle.
async fn goes_on(file: &mut File) {
    assert_eq!(file.read_at(0, 100).await.unwrap(), &b"content"[..]);
    file.write_at(7, b" and more").await.unwrap();
    file.fsync().await.unwrap();
    file.set_len(11).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), &b"content and"[..]);
    file.flock(LockMode::Exclusive).await.unwrap().unlock().await.unwrap();
}

/// Nothing is left of any file's bytes.
async fn empty(client: &Client) {
    let look = || async {
        let status = client.status().await.ok()?;
        (status.chunks_open + status.chunks_sealing + status.chunks_sealed == 0).then_some(())
    };
    eventually("the space is free", LONG, look).await.unwrap();
}

async fn checked(cluster: &Cluster) {
    let mut fsck = cluster.cli();
    fsck.args(["admin", "fsck"]);
    let shown = run(fsck, b"", LONG).await.unwrap();
    assert!(shown.code == 0 && shown.text().contains("nothing is wrong"), "{}{}", shown.text(), shown.stderr);
}

/// What the status says of unlinked files: how many are kept, how many of them are open, whether there
/// are more.
async fn kept(cluster: &Cluster) -> (u64, u64, bool) {
    let mut status = cluster.cli();
    status.args(["status", "--json"]);
    let shown = run(status, b"", LONG).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&shown.text()).unwrap();
    let number = |name: &str| told[name].as_u64().unwrap();
    (number("unlinked_kept"), number("unlinked_held"), told["unlinked_more"].as_bool().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_have_it_open_go_on_reading_writing_and_appending() {
    let (cluster, client) = single().await;
    let other = cluster.client().await.unwrap();
    client.put("/file", 0o644, b"content").await.unwrap();
    let mut file = client.open("/file").await.unwrap();
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"one "[..]).await.unwrap();
    other.unlink("/file").await.unwrap();
    // Replaced by a rename: as unlinked.
    other.put("/new", 0o644, b"new").await.unwrap();
    other.rename("/new", "/log", RenameMode::Replace).await.unwrap();

    // Longer than it takes to ask everybody.
    tokio::time::sleep(LEASE).await;
    checked(&cluster).await;
    assert_eq!(file.refresh().await.unwrap(), 7);
    assert_eq!(file.inode().nlink, 0);
    goes_on(&mut file).await;
    assert_eq!(log.append(&b"two"[..]).await.unwrap(), 4);
    let mut seen = client.open(At::Inode(log.ino())).await.unwrap();
    assert_eq!(seen.read(100).await.unwrap(), &b"one two"[..]);
    // By its name it is gone, and it gets none again. Who has not got it open does not open it.
    assert_eq!(client.open("/file").await.unwrap_err().fs(), Some(&FsError::NotFound));
    let refused = client.link(At::Inode(file.ino()), "/again").await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::NotFound), "{refused}");
    assert_eq!(other.open(At::Inode(file.ino())).await.unwrap_err().fs(), Some(&FsError::Stale));
    other.unlink("/log").await.unwrap();

    let (ino, log_ino) = (file.ino(), log.ino());
    assert!(!is_gone(&other, ino).await && !is_gone(&other, log_ino).await);
    file.close().await.unwrap();
    log.close().await.unwrap();
    gone(&other, ino).await;
    assert!(!is_gone(&other, log_ino).await, "one more handle has it");
    drop(seen);
    gone(&other, log_ino).await;
    other.close().await.unwrap();
    client.close().await.unwrap();
    let last = cluster.client().await.unwrap();
    empty(&last).await;
    checked(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_holds_is_gone_within_a_keep_alive_or_two() {
    let (cluster, client) = single().await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(cluster.client().await.unwrap());
    }
    client.put("/kept", 0o644, b"open elsewhere").await.unwrap();
    let elsewhere = others[0].open("/kept").await.unwrap();
    let mut inos = Vec::new();
    for n in 0..50 {
        let path = format!("/{n}");
        inos.push(client.put(path.as_str(), 0o644, vec![7; 10_000]).await.unwrap().ino);
        client.unlink(path).await.unwrap();
    }
    let (unlinked, sessions) = (Instant::now(), client.status().await.unwrap().sessions);
    for ino in inos {
        gone(&client, ino).await;
    }
    println!("gone in {:?} with a keep-alive in {:?}", unlinked.elapsed(), LEASE / 3);
    // Nobody's lease had to end for it: all have said that they do not hold them.
    assert_eq!(client.status().await.unwrap().sessions, sessions);
    assert_eq!(elsewhere.read_at(0, 100).await.unwrap(), &b"open elsewhere"[..]);
    // Alone, and holding nothing, one removes at once.
    drop(elsewhere);
    for other in others {
        other.close().await.unwrap();
    }
    let ino = client.stat("/kept").await.unwrap().ino;
    client.unlink("/kept").await.unwrap();
    assert!(is_gone(&client, ino).await);
    checked(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_s_file_goes_after_its_lease_and_not_before() {
    let (cluster, client) = single().await;
    // One that is abandoned, and one that is killed.
    let abandoned = cluster.client().await.unwrap();
    let first = abandoned.create("/first", 0o644).await.unwrap().ino();
    let held = abandoned.open("/first").await.unwrap();
    let mut appending = cluster.cli();
    appending.args(["fs", "append", "/second"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut killed = appending.spawn().unwrap();
    let look = || async { client.stat("/second").await.ok() };
    let second = eventually("the file to be appended to", LONG, look).await.unwrap().ino;
    // It was made by an entry before the one that its process hears of.
    let sessions = client.status().await.unwrap().sessions;
    client.unlink("/first").await.unwrap();
    client.unlink("/second").await.unwrap();
    abandoned.abandon();
    killed.kill().unwrap();
    let dead = Instant::now();
    killed.wait().unwrap();
    while dead.elapsed() < LEASE / 2 {
        let gone = is_gone(&client, first).await || is_gone(&client, second).await;
        // An answer that took longer tells of a later time.
        assert!(!gone || dead.elapsed() >= LEASE / 2, "{:?}", dead.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gone(&client, first).await;
    gone(&client, second).await;
    // Their last signs of life were at most a third of a lease, and a call, before they were gone.
    assert!(dead.elapsed() >= LEASE / 2);
    let fewer = || async { (client.status().await.ok()?.sessions < sessions).then_some(()) };
    eventually("their sessions to be over", LONG, fewer).await.unwrap();
    drop(held);
    checked(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_keeps_what_is_held_and_hears_what_is_closed() {
    let mut cluster = Cluster::start(short_lease(ClusterOptions::default())).await.unwrap();
    let (client, other) = (cluster.client().await.unwrap(), cluster.client().await.unwrap());
    client.put("/f", 0o644, b"content").await.unwrap();
    client.put("/g", 0o644, b"content").await.unwrap();
    let mut file = client.open("/f").await.unwrap();
    let unheld = other.stat("/g").await.unwrap().ino;
    other.unlink("/f").await.unwrap();
    other.unlink("/g").await.unwrap();
    let leader = cluster.leader(&other).await.unwrap();
    cluster.metas[leader].kill();
    gone(&other, unheld).await;
    assert_eq!(file.refresh().await.unwrap(), 7);
    file.write_at(7, b", more").await.unwrap();
    file.fsync().await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), &b"content, more"[..]);
    let ino = file.ino();
    file.close().await.unwrap();
    gone(&other, ino).await;
    cluster.start_all().await.unwrap();
    cluster.wait_ready(LONG).await.unwrap();
    checked(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_of_a_removed_tree_goes_on_until_it_is_closed() {
    let (cluster, client) = single().await;
    let other = cluster.client().await.unwrap();
    client.mkdir_all("/tree/deep", 0o755).await.unwrap();
    client.put("/tree/deep/file", 0o644, b"content").await.unwrap();
    // More than go in the entry that removes the tree.
    for n in 0..300 {
        client.put(format!("/tree/{n}").as_str(), 0o644, b"").await.unwrap();
    }
    let unheld = client.put("/tree/unheld", 0o644, vec![7; 10_000]).await.unwrap().ino;
    let mut file = client.open("/tree/deep/file").await.unwrap();
    let log = client.open_append("/tree/deep/log").await.unwrap();
    log.append(&b"one "[..]).await.unwrap();

    let mut remove = cluster.cli();
    remove.args(["fs", "rm", "-r", "--wait", "/tree"]);
    let shown = run(remove, b"", LONG).await.unwrap();
    assert_eq!(shown.code, 0, "{}{}", shown.text(), shown.stderr);
    assert_eq!(other.stat("/tree").await.unwrap_err().fs(), Some(&FsError::NotFound));
    assert_eq!(log.append(&b"two"[..]).await.unwrap(), 4);
    assert_eq!(file.refresh().await.unwrap(), 7);
    assert_eq!(file.inode().nlink, 0);
    assert_eq!(other.open(At::Inode(file.ino())).await.unwrap_err().fs(), Some(&FsError::Stale));
    gone(&other, unheld).await;
    // Longer than it takes to ask everybody.
    tokio::time::sleep(LEASE).await;
    checked(&cluster).await;
    eventually("two to be kept", LONG, || async { (kept(&cluster).await == (2, 2, false)).then_some(()) })
        .await
        .unwrap();
    goes_on(&mut file).await;
    assert_eq!(log.append(&b" three"[..]).await.unwrap(), 7);
    let mut seen = client.open(At::Inode(log.ino())).await.unwrap();
    assert_eq!(seen.read(100).await.unwrap(), &b"one two three"[..]);
    drop(seen);
    let refused = client.link(At::Inode(file.ino()), "/again").await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::NotFound), "{refused}");

    let (ino, log_ino) = (file.ino(), log.ino());
    file.close().await.unwrap();
    log.close().await.unwrap();
    gone(&other, ino).await;
    gone(&other, log_ino).await;
    eventually("none to be kept", LONG, || async { (kept(&cluster).await == (0, 0, false)).then_some(()) })
        .await
        .unwrap();
    other.close().await.unwrap();
    client.close().await.unwrap();
    let last = cluster.client().await.unwrap();
    empty(&last).await;
    checked(&cluster).await;
}
