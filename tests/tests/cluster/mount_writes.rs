//! Files of a mount are written, appended to, cut and removed; their objects follow.

use std::time::Duration;

use cairn_sdk::types::FsError;
use cairn_sdk::{AttrChange, Client, MountRules};
use cairn_tests::cluster::eventually;
use cairn_tests::fault_proxy::{Fault, Link, When};
use serde_json::Value;

use crate::mount_bed::{Bed, MOUNT, PREFIX, SETTLED_WITHIN, pattern, small};

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);

async fn append(client: &Client, path: &str, bytes: &[u8]) {
    let file = client.open_append(format!("{MOUNT}/{path}")).await.unwrap();
    file.append(bytes.to_vec()).await.unwrap();
    file.close().await.unwrap();
}

async fn written_files_become_objects(bed: Bed) {
    bed.put("there", b"was there before".to_vec()).await;
    bed.put("large", pattern("large", 7_000_000)).await;
    bed.mount().await;
    let large = pattern("large", 7_000_000);
    // New: small, of several parts, without bytes; in a directory that is new.
    let parts = pattern("parts", 12_000_000);
    bed.write("small", b"a few bytes").await;
    bed.write("parts", &parts).await;
    bed.write("empty", b"").await;
    bed.client.mkdir(format!("{MOUNT}/new"), 0o755).await.unwrap();
    bed.write("new/inside", b"inside").await;
    // Changed: replaced, appended to, written to in the middle, cut, made longer.
    bed.write("there", b"is something else now").await;
    append(&bed.client, "large", b"and more").await;
    let longer = [large.as_slice(), b"and more"].concat();
    bed.holds(&[
        ("small", b"a few bytes"),
        ("parts", &parts),
        ("empty", b""),
        ("new/inside", b"inside"),
        ("there", b"is something else now"),
        ("large", &longer),
    ])
    .await;

    let mut file = bed.client.open(format!("{MOUNT}/large")).await.unwrap();
    file.write_at(3_000_000, b"in the middle").await.unwrap();
    file.close().await.unwrap();
    let mut written = longer.clone();
    written[3_000_000..3_000_013].copy_from_slice(b"in the middle");
    let size = |size| AttrChange { size: Some(size), ..AttrChange::default() };
    bed.client.set_attr(format!("{MOUNT}/parts"), size(5_500_000)).await.unwrap();
    bed.client.set_attr(format!("{MOUNT}/small"), size(20)).await.unwrap();
    bed.client.unlink(format!("{MOUNT}/new/inside")).await.unwrap();
    bed.holds(&[
        ("small", b"a few bytes\0\0\0\0\0\0\0\0\0"),
        ("parts", &parts[..5_500_000]),
        ("empty", b""),
        ("there", b"is something else now"),
        ("large", &written),
    ])
    .await;
    assert_eq!(bed.figures().await.conflicts, 0);
    // Read again from the bucket, the namespace is what it was: what is there is known to be ours.
    let options = cairn_sdk::SyncOptions { recursive: true, ..cairn_sdk::SyncOptions::default() };
    bed.client.mount_sync(MOUNT, options, |_| ()).await.unwrap();
    assert_eq!(bed.equal().await.len(), 5);
    assert_eq!(bed.figures().await.conflicts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn written_files_become_objects_in_seaweedfs() {
    written_files_become_objects(Bed::seaweed(small()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_files_become_objects_in_moto() {
    written_files_become_objects(Bed::moto(small()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_appended_to_all_the_time_gets_its_object_within_the_object_lag() {
    let bed = Bed::seaweed(small()).await;
    bed.mount_with(|options| options.rules.object_lag = Duration::from_secs(2)).await;
    let log = bed.client.open_append(format!("{MOUNT}/log")).await.unwrap();
    let mut records = Vec::new();
    let mut appended = 0_u32;
    // The object grows while the writer never closes: three versions of it at least are seen.
    let mut versions: Vec<usize> = Vec::new();
    let deadline = tokio::time::Instant::now() + SETTLED_WITHIN;
    while versions.len() < 3 {
        let record = format!("record {appended:06}\n");
        log.append(record.clone().into_bytes()).await.unwrap();
        records.extend_from_slice(record.as_bytes());
        appended += 1;
        if let Some(object) = bed.get("log").await {
            assert!(records.starts_with(&object), "the object is no beginning of the log");
            if versions.last() != Some(&object.len()) {
                versions.push(object.len());
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "only {versions:?} after {appended} records");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.close().await.unwrap();
    bed.holds(&[("log", &records)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_bucket_is_copied_there_and_only_what_is_new_is_sent() {
    let bed = Bed::seaweed(small()).await;
    let body = pattern("body", 24_000_000);
    bed.put("big", body.clone()).await;
    let mount = bed.mount().await;
    assert!(mount.abilities.unwrap().part_copy, "SeaweedFS copies parts");
    let traffic = async || {
        let nodes = bed.client.status().await.unwrap().nodes;
        let status = bed.client.node_status(&nodes[0]).await.unwrap();
        (status.bytes_up, status.bytes_down)
    };
    let (up, down) = traffic().await;
    append(&bed.client, "big", &pattern("tail", 1024)).await;
    bed.settled().await;
    let (up, down) = (traffic().await.0 - up, traffic().await.1 - down);
    // A part has 5 MiB at least, unless it is the last: what lies before the end may be sent with it.
    assert!(up < 6_000_000 && down < 6_000_000, "{up} bytes were sent and {down} read");
    bed.holds(&[("big", &[body.as_slice(), &pattern("tail", 1024)].concat())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_kept_in_the_object_and_read_back() {
    let bed = Bed::seaweed(small()).await;
    bed.mount().await;
    bed.write("file", b"bytes").await;
    let change = AttrChange { mode: Some(0o640), uid: Some(1234), gid: Some(4321), ..AttrChange::default() };
    let written = bed.client.set_attr(format!("{MOUNT}/file"), change).await.unwrap();
    bed.settled().await;
    let head =
        bed.s3.head_object().bucket(bed.bucket.name()).key(format!("{PREFIX}file")).send().await.unwrap();
    let metadata = head.metadata().cloned().unwrap_or_default();
    println!("{metadata:?}");
    assert_eq!(metadata.get("uid").map(String::as_str), Some("1234"), "{metadata:?}");
    assert_eq!(metadata.get("gid").map(String::as_str), Some("4321"), "{metadata:?}");
    assert!(metadata.contains_key("mode") && metadata.contains_key("mtime"), "{metadata:?}");
    assert_eq!(bed.client.stat(format!("{MOUNT}/file")).await.unwrap().mtime, written.mtime);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_goes_only_when_the_bucket_has_everything_or_it_is_given_up() {
    let bed = Bed::seaweed(small()).await;
    bed.put("old", b"old".to_vec()).await;
    bed.mount().await;
    assert_eq!(bed.files().await.unwrap().len(), 1);
    bed.proxy.set_link(Link::Refused);
    bed.write("new", b"not in the bucket").await;
    let refused = bed.client.mount_remove(MOUNT).await.unwrap_err();
    println!("{refused}");
    assert_eq!(bed.read("new").await.unwrap(), b"not in the bucket", "it is still mounted");
    let shown = bed.cluster.cairn(&format!("mount show {MOUNT} --json"), COMMAND).await.unwrap().expected();
    let shown: Value = serde_json::from_str(shown.trim()).unwrap();
    assert!(shown["figures"]["pending"].as_u64().unwrap() >= 1, "{shown}");
    let rm = bed.cluster.cairn(&format!("mount rm {MOUNT}"), COMMAND).await.unwrap();
    assert_eq!(rm.code, 1, "{}", rm.stderr);
    bed.proxy.heal();
    let waited = format!("mount rm {MOUNT} --wait");
    let _ = bed.cluster.cairn(&waited, SETTLED_WITHIN).await.unwrap().expected();
    assert_eq!(bed.get("new").await.unwrap(), b"not in the bucket");
    assert_eq!(bed.get("old").await.unwrap(), b"old");
    assert!(bed.client.mounts().await.unwrap().is_empty());
    // Given up: the mount goes, and the bucket stays as it is.
    bed.mount().await;
    assert_eq!(bed.files().await.unwrap().len(), 2);
    bed.proxy.set_link(Link::Refused);
    bed.write("lost", b"nobody wants it").await;
    let _ = bed.cluster.cairn(&format!("mount rm {MOUNT} --abandon"), COMMAND).await.unwrap().expected();
    bed.proxy.heal();
    let keys = bed.keys().await;
    assert_eq!(keys, ["new", "old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_is_never_written_to_until_it_is_set() {
    let bed = Bed::seaweed(small()).await;
    bed.put("file", b"theirs".to_vec()).await;
    bed.mount_with(|options| options.rules = MountRules::default()).await;
    let refused = bed.client.put(format!("{MOUNT}/file"), 0o644, b"ours").await.unwrap_err();
    assert!(matches!(refused.fs(), Some(FsError::ReadOnlyMount { .. })), "{refused}");
    let writes =
        bed.proxy.requests().iter().filter(|seen| seen.method == "PUT" || seen.method == "POST").count();
    assert_eq!(writes, 0, "nothing is even tried");
    let set = format!("mount set {MOUNT} --read-only=false --sole-writer --refresh never");
    let _ = bed.cluster.cairn(&set, COMMAND).await.unwrap().expected();
    bed.write("file", b"ours").await;
    bed.holds(&[("file", b"ours")]).await;
    let _ = bed.cluster.cairn(&format!("mount set {MOUNT} --read-only"), COMMAND).await.unwrap().expected();
    let refused = bed.client.unlink(format!("{MOUNT}/file")).await.unwrap_err();
    assert!(matches!(refused.fs(), Some(FsError::ReadOnlyMount { .. })), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_what_is_pending_foreign_and_missing_and_repairs() {
    let bed = Bed::moto(small()).await;
    bed.put("same", b"same".to_vec()).await;
    bed.put("changes", b"before".to_vec()).await;
    bed.put("goes", b"goes".to_vec()).await;
    bed.put("bad//key", b"has no name".to_vec()).await;
    bed.mount().await;
    bed.client.mount_sync(MOUNT, recursive(), |_| ()).await.unwrap();
    let run = async |flags: &str| {
        let line = format!("mount check {MOUNT} {flags} --json");
        let outcome = bed.cluster.cairn(&line, COMMAND).await.unwrap();
        let lines: Vec<Value> = outcome.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        (outcome.code, lines)
    };
    let why_of = |lines: &[Value], path: &str| {
        let found = lines.iter().find(|line| line["path"] == format!("{MOUNT}/{path}"));
        found.map(|line| line["why"].as_str().unwrap().to_owned())
    };
    let (code, lines) = run("").await;
    assert_eq!(code, 0, "{lines:?}");
    assert!(
        lines.iter().any(|l| l["key"] == format!("{PREFIX}bad//") && l["why"] == "left-out"),
        "{lines:?}"
    );
    // Somebody else changes, makes and removes objects; we write a file that cannot get to the bucket.
    bed.put("changes", b"after, and longer".to_vec()).await;
    bed.put("comes", b"comes".to_vec()).await;
    bed.delete("goes").await;
    let rule = bed.proxy.inject(When::any().path_contains("/ours"), Fault::SlowDown);
    bed.write("ours", b"on its way").await;
    let (code, lines) = run("").await;
    assert_eq!(code, 1, "{lines:?}");
    assert_eq!(why_of(&lines, "ours").as_deref(), Some("pending"), "{lines:?}");
    let (code, lines) = run("--repair").await;
    assert_eq!(code, 0, "{lines:?}");
    assert_eq!(why_of(&lines, "ours").as_deref(), Some("pending"), "{lines:?}");
    bed.proxy.remove(rule);
    bed.settled().await;
    let (code, lines) = run("").await;
    assert_eq!((code, lines.last().unwrap()["differences"]["pending"].as_u64()), (0, Some(0)), "{lines:?}");
    assert_eq!(bed.read("changes").await.unwrap(), b"after, and longer");
    assert_eq!(bed.read("comes").await.unwrap(), b"comes");
    assert_eq!(bed.client.stat(format!("{MOUNT}/goes")).await.unwrap_err().fs(), Some(&FsError::NotFound));
}

fn recursive() -> cairn_sdk::SyncOptions {
    cairn_sdk::SyncOptions { recursive: true, ..cairn_sdk::SyncOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_reads_all_of_a_tree_now_and_warming_reads_its_bytes() {
    let bed = Bed::seaweed(small()).await;
    for directory in 0..6 {
        for file in 0..20 {
            bed.put(&format!("d{directory}/e/f{file}"), pattern("x", 1000 + file)).await;
        }
    }
    bed.mount().await;
    let out = bed.cluster.cairn(&format!("mount sync {MOUNT} --json"), COMMAND).await.unwrap().expected();
    let read: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((read["directories"].as_u64(), read["files"].as_u64()), (Some(13), Some(120)), "{read}");
    // Never read again by itself: another client's object comes with the next sync.
    bed.put("d3/e/new", b"new".to_vec()).await;
    assert_eq!(bed.paths().await.unwrap().len(), 120);
    let _ = bed.cluster.cairn(&format!("mount sync {MOUNT}/d3"), COMMAND).await.unwrap().expected();
    assert_eq!(bed.paths().await.unwrap().len(), 121);
    let warm = format!("fs warm {MOUNT} --bandwidth 100MiB --json");
    let out = bed.cluster.cairn(&warm, COMMAND).await.unwrap().expected();
    let warmed: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(warmed["files"].as_u64(), Some(121), "{warmed}");
    // From here on nobody asks the bucket.
    bed.proxy.set_link(Link::Refused);
    let whole = || async { Some(bed.files().await.ok()?.len()) };
    assert_eq!(eventually("all bytes from the caches", COMMAND, whole).await.unwrap(), 121);
}
