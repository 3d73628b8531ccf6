//! `cairn admin dump` and `load` in whole clusters: a tree of every kind comes back, byte for byte, in a
//! second cluster on the same bucket; a dump beside renames is one point in time; exit codes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_sdk::types::{DeviceNumber, FileKind, FsError, Policy};
use cairn_sdk::{Client, ListingOptions, LoadId, RenameMode, XattrMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, UnderStore, run};
use cairn_tests::s3_server::Bucket;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

async fn cairn(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let mut command = cluster.cli();
    command.args(arguments);
    run(command, b"", SOON).await.unwrap()
}

async fn done(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let outcome = cairn(cluster, arguments).await;
    assert_eq!(outcome.code, 0, "{arguments:?}: {}{}", outcome.text(), outcome.stderr);
    outcome
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 13 + seed * 7) ^ (n >> 9)) as u8).collect()
}

async fn content(client: &Client, path: &str) -> Result<Vec<u8>, cairn_sdk::Error> {
    let file = client.open(path).await?;
    let length = usize::try_from(file.length()).unwrap();
    Ok(file.read_at(0, length).await?.to_vec())
}

/// The facts of a dump, without those of chunks: data nodes have other numbers elsewhere.
fn facts(dump: &str) -> Vec<&str> {
    let lines: Vec<&str> = dump.lines().collect();
    let facts = lines[1..lines.len() - 1].iter().copied();
    facts.filter(|line| !line.starts_with("{\"fact\":\"chunk\"")).collect()
}

/// Every kind of thing; answers the content of the files.
async fn grow(client: &Client) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    client.mkdir("/d", 0o750).await.unwrap();
    client.mkdir("/d/deep", 0o755).await.unwrap();
    for n in 0..20 {
        files.insert(format!("/d/small-{n}"), pattern(n, 3_000 + n));
    }
    files.insert("/d/deep/large".to_owned(), pattern(99, 9 << 20));
    files.insert("/d/leer".to_owned(), Vec::new());
    for (path, bytes) in &files {
        client.put(path.as_str(), 0o640, bytes).await.unwrap();
    }
    let log = client.open_append("/d/log").await.unwrap();
    log.append(&b"records"[..]).await.unwrap();
    log.close().await.unwrap();
    files.insert("/d/log".to_owned(), b"records".to_vec());
    client.link("/d/small-1", "/d/deep/linked").await.unwrap();
    files.insert("/d/deep/linked".to_owned(), files["/d/small-1"].clone());
    client.symlink("deep/large", "/d/to").await.unwrap();
    client.mknod("/d/pipe", FileKind::Fifo, 0o600).await.unwrap();
    let device = DeviceNumber { major: 8, minor: 3 };
    client.mknod("/d/disk", FileKind::BlockDevice(device), 0o600).await.unwrap();
    client.set_xattr("/d/small-2", false, "user.note", [0, 1, 255], XattrMode::Any).await.unwrap();
    client.set_policy("/d/deep", Some(Policy { max_lag_ms: 5_000, ..Policy::single() })).await.unwrap();
    files
}

fn on(bucket: &Bucket) -> ClusterOptions {
    let policy = Policy { max_lag_ms: 1_000, ..Policy::single() };
    ClusterOptions { policy, understore: UnderStore::bucket(bucket, "cluster"), ..ClusterOptions::single() }
}

async fn dumped_to(cluster: &Cluster, file: &Path) -> String {
    done(cluster, &["admin", "dump", "--output", file.to_str().unwrap()]).await;
    std::fs::read_to_string(file).unwrap()
}

/// Waits until S3 has all of these files. The lag of a status is none as long as no data node has told of it.
async fn persisted(client: &Client, files: &BTreeMap<String, Vec<u8>>) {
    for path in files.keys() {
        client.sync(path.as_str()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_on_the_same_bucket_has_everything_byte_for_byte() {
    let bucket = Bucket::shared().await.unwrap();
    let mut first = Cluster::start(on(&bucket)).await.unwrap();
    let client = first.client().await.unwrap();
    let files = grow(&client).await;
    persisted(&client, &files).await;
    let place = tempfile::tempdir().unwrap();
    let file: PathBuf = place.path().join("dump");
    let name = file.to_str().unwrap();
    let dump = dumped_to(&first, &file).await;
    let printed = done(&first, &["admin", "dump"]).await.text().to_owned();
    assert_eq!(facts(&printed), facts(&dump), "to standard output as to a file");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nothing else is left beside it");
    let refused = cairn(&first, &["admin", "load", name]).await;
    assert_eq!(refused.code, 1, "it is not empty: {}", refused.stderr);
    assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);
    client.close().await.unwrap();
    first.kill_all();

    let second = Cluster::start(on(&bucket)).await.unwrap();
    let client = second.client().await.unwrap();
    let cut = place.path().join("cut");
    std::fs::write(&cut, &dump[..dump.len() - 40]).unwrap();
    let refused = cairn(&second, &["admin", "load", cut.to_str().unwrap()]).await;
    assert!(refused.code == 1 && refused.stderr.contains("cut"), "{}", refused.stderr);
    done(&second, &["admin", "load", "--dry-run", name]).await;
    assert!(client.stat("/d").await.is_err(), "nothing is changed so far");
    done(&second, &["admin", "load", name]).await;
    for (path, bytes) in &files {
        assert_eq!(&content(&client, path).await.unwrap(), bytes, "{path}");
    }
    let note = client.get_xattr("/d/small-2", false, "user.note").await.unwrap();
    assert_eq!(note, [0, 1, 255]);
    let checked = done(&second, &["admin", "fsck"]).await;
    assert!(checked.text().contains("nothing is wrong"), "{}", checked.text());
    let again = dumped_to(&second, &place.path().join("again")).await;
    assert_eq!(facts(&again), facts(&dump));

    // It is a namespace like any other.
    client.put("/d/new", 0o644, pattern(5, 10_000)).await.unwrap();
    client.unlink("/d/small-3").await.unwrap();
    client.sync("/d/new").await.unwrap();
    assert_eq!(content(&client, "/d/new").await.unwrap(), pattern(5, 10_000));
    assert_eq!(content(&client, "/d/small-4").await.unwrap(), files["/d/small-4"]);
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_persisted_is_told_and_refused_unless_its_loss_is_accepted() {
    let policy = Policy { persist: cairn_sdk::types::Persist::Never, ..Policy::single() };
    let options = || ClusterOptions { policy, ..ClusterOptions::single() };
    let first = Cluster::start(options()).await.unwrap();
    let client = first.client().await.unwrap();
    client.put("/kept-nowhere", 0o644, pattern(1, 5_000)).await.unwrap();
    client.put("/empty", 0o644, Vec::new()).await.unwrap();
    client.close().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("dump");
    let name = file.to_str().unwrap();
    dumped_to(&first, &file).await;

    let second = Cluster::start(options()).await.unwrap();
    let client = second.client().await.unwrap();
    let shown = cairn(&second, &["admin", "--json", "load", name]).await;
    assert_eq!(shown.code, 1, "{}{}", shown.text(), shown.stderr);
    let told: Value = serde_json::from_str(shown.text().lines().next().unwrap()).unwrap();
    assert_eq!((&told["lost"]["chunks"], &told["lost"]["bytes"]), (&Value::from(1), &Value::from(5_000)));
    assert!(shown.stderr.contains("--accept-loss"), "{}", shown.stderr);
    client.mkdir("/free", 0o755).await.unwrap();
    client.rmdir("/free").await.unwrap();
    done(&second, &["admin", "load", "--accept-loss", name]).await;
    assert_eq!(content(&client, "/empty").await.unwrap(), b"");
    assert_eq!(client.stat("/kept-nowhere").await.unwrap().size, 5_000);
    assert!(content(&client, "/kept-nowhere").await.is_err(), "no zeros in place of what is lost");
    let checked = cairn(&second, &["admin", "fsck"]).await;
    assert_eq!(checked.code, 0, "an accepted loss is no damage: {}", checked.text());
    client.close().await.unwrap();
}

/// Which dump it is, as its first and last line say.
fn id_of(dump: &str) -> LoadId {
    let line = |text: Option<&str>| serde_json::from_str::<Value>(text.unwrap()).unwrap();
    let (header, end) = (line(dump.lines().next()), line(dump.lines().last()));
    LoadId {
        cluster: header["cluster"].as_str().unwrap().parse().unwrap(),
        log_index: header["log_index"].as_u64().unwrap().into(),
        facts: end["facts"].as_u64().unwrap(),
        crc32c: u32::try_from(end["crc32c"].as_u64().unwrap()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_broke_off_keeps_clients_out_until_it_is_discarded_or_gone_on_with() {
    let first = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = first.client().await.unwrap();
    for n in 0..1_000 {
        client.mkdir(format!("/{n}"), 0o755).await.unwrap();
    }
    client.close().await.unwrap();
    let dump = done(&first, &["admin", "dump"]).await.text().to_owned();
    let (id, lines) = (id_of(&dump), dump.lines().collect::<Vec<_>>());

    let mut second = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = second.client().await.unwrap();
    let nothing = cairn(&second, &["admin", "load", "--discard"]).await;
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
    for discard in [true, false] {
        client.begin_load(id, lines[0].to_owned().into()).await.unwrap();
        let some = lines[1..=500].join("\n").into();
        assert_eq!(client.load_lines(id, 0, some, false).await.unwrap().loaded, 500);
        let refused = client.mkdir("/mine", 0o755).await.unwrap_err();
        assert_eq!(refused.fs(), Some(&FsError::Loading), "{refused}");
        if discard {
            done(&second, &["admin", "load", "--discard"]).await;
            client.mkdir("/mine", 0o755).await.unwrap();
            client.rmdir("/mine").await.unwrap();
        }
    }
    // Another server leads, and knows how far it came.
    let leader = second.leader(&client).await.unwrap();
    second.metas[leader].kill();
    let mut command = second.cli();
    command.args(["admin", "load", "-"]);
    let loaded = run(command, dump.as_bytes(), SOON).await.unwrap();
    assert_eq!(loaded.code, 0, "{}{}", loaded.text(), loaded.stderr);
    client.mkdir("/mine", 0o755).await.unwrap();
    client.rmdir("/mine").await.unwrap();
    assert_eq!(client.stat("/").await.unwrap().nlink, 1_002);
    done(&second, &["admin", "fsck"]).await;
    second.metas[leader].start().unwrap();
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_beside_renames_is_one_point_in_time() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/a", 0o755).await.unwrap();
    client.mkdir("/z", 0o755).await.unwrap();
    const FILES: usize = 2_000;
    for n in 0..FILES {
        client.put(format!("/a/{n}"), 0o644, Vec::new()).await.unwrap();
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mover = cluster.client().await.unwrap();
    let storm = tokio::spawn(async move {
        // The directories change their names, and files their directories, all the time.
        let exchange = RenameMode::Exchange;
        let moving = async {
            for n in (0..FILES).cycle() {
                mover.rename("/a", "/z", exchange).await.unwrap();
                let (from, to) = (format!("/a/{n}"), format!("/z/{n}"));
                match mover.rename(from.as_str(), to.as_str(), RenameMode::default()).await {
                    Ok(_) => {}
                    Err(error) if error.fs() == Some(&FsError::NotFound) => {
                        mover.rename(to.as_str(), from.as_str(), RenameMode::default()).await.unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::select! {
            () = moving => {}
            _ = stopped => {}
        }
        mover.close().await.unwrap();
    });
    for _ in 0..5 {
        let dump = done(&cluster, &["admin", "dump"]).await.text().to_owned();
        let mut names = BTreeMap::new();
        for line in dump.lines() {
            let fact: Value = serde_json::from_str(line).unwrap();
            if fact["fact"] == "name" && fact["inode"]["kind"] == "file" {
                *names.entry(fact["inode"]["ino"].as_u64().unwrap()).or_insert(0) += 1;
            }
        }
        assert_eq!((names.len(), names.values().max()), (FILES, Some(&1)), "each file once");
    }
    stop.send(()).unwrap();
    storm.await.unwrap();
    let mut seen = 0;
    for directory in ["/a", "/z"] {
        let mut listing = client.list(directory, ListingOptions::default());
        while listing.next().await.unwrap().is_some() {
            seen += 1;
        }
    }
    assert_eq!(seen, FILES);
    client.close().await.unwrap();
}
