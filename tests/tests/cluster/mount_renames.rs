//! Names below a mount change in one entry; the bucket follows, and nothing is lost on the way.

use std::time::Duration;

use cairn_sdk::types::FsError;
use cairn_sdk::{ConflictRule, RenameMode, SyncOptions};
use cairn_tests::cluster::eventually;
use cairn_tests::fault_proxy::{Link, When};
use futures::{StreamExt, stream};

use crate::mount_bed::{Bed, Contents, MOUNT, SETTLED_WITHIN, differ, pattern, small};

/// Objects in the large directory.
const MANY: usize = 3_000;

async fn rename(bed: &Bed, from: &str, to: &str) {
    rename_as(bed, from, to, RenameMode::Replace).await;
}

async fn rename_as(bed: &Bed, from: &str, to: &str, mode: RenameMode) {
    bed.client.rename(format!("{MOUNT}/{from}"), format!("{MOUNT}/{to}"), mode).await.unwrap();
}

async fn sync(bed: &Bed) {
    let options = SyncOptions { recursive: true, ..SyncOptions::default() };
    bed.client.mount_sync(MOUNT, options, |_| ()).await.unwrap();
}

async fn files_change_their_names(bed: Bed) {
    for name in ["a", "b", "c", "d", "gone"] {
        bed.put(name, pattern(name, 1_000)).await;
    }
    let large = pattern("large", 9_000_000);
    bed.put("large", large.clone()).await;
    bed.mount().await;
    sync(&bed).await;
    rename(&bed, "a", "a1").await;
    rename(&bed, "large", "larger").await;
    // Readable at once, under the new name alone, while the object is still at the old key.
    assert_eq!(bed.read("a1").await.unwrap(), pattern("a", 1_000));
    assert_eq!(bed.client.stat(format!("{MOUNT}/a")).await.unwrap_err().fs(), Some(&FsError::NotFound));
    // A chain, one that comes back, a swap, one over another, and a new file at an old name.
    rename(&bed, "b", "b1").await;
    rename(&bed, "b1", "b2").await;
    rename(&bed, "b2", "b3").await;
    rename_as(&bed, "c", "d", RenameMode::Exchange).await;
    bed.write("back", b"there and back").await;
    rename(&bed, "back", "away").await;
    rename(&bed, "away", "back").await;
    rename(&bed, "b3", "gone").await;
    bed.write("a", b"new at an old name").await;
    bed.holds(&[
        ("a1", &pattern("a", 1_000)),
        ("a", b"new at an old name"),
        ("larger", &large),
        ("c", &pattern("d", 1_000)),
        ("d", &pattern("c", 1_000)),
        ("gone", &pattern("b", 1_000)),
        ("back", b"there and back"),
    ])
    .await;
    assert_eq!(bed.figures().await.conflicts, 0);
    sync(&bed).await;
    assert_eq!(bed.equal().await.len(), 7, "what is read back is what was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_change_their_names_in_seaweedfs() {
    files_change_their_names(Bed::seaweed(small()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_change_their_names_in_moto() {
    files_change_their_names(Bed::moto(small()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_names_is_opened() {
    let bed = Bed::seaweed(small()).await;
    for name in ["x", "y", "z"] {
        bed.put(name, pattern(name, 500)).await;
    }
    bed.mount().await;
    sync(&bed).await;
    // Nothing reaches the bucket until all names have changed.
    bed.proxy.set_link(Link::Refused);
    rename(&bed, "x", "t").await;
    rename(&bed, "z", "x").await;
    rename(&bed, "y", "z").await;
    rename(&bed, "t", "y").await;
    bed.proxy.heal();
    bed.holds(&[("y", &pattern("x", 500)), ("z", &pattern("y", 500)), ("x", &pattern("z", 500))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_thousands_is_renamed_in_one_entry_and_its_objects_follow() {
    let mut bed = Bed::seaweed(small()).await;
    let name = |n: usize| format!("d{}/f{n:05}", n % 7);
    let puts = (0..MANY).map(|n| {
        let (bed, key) = (&bed, format!("from/{}", name(n)));
        async move { bed.put(&key, format!("content {n}").into_bytes()).await }
    });
    stream::iter(puts).buffer_unordered(64).collect::<()>().await;
    bed.mount().await;
    // Never read: the directories' keys are found below the old prefix.
    rename(&bed, "from", "to").await;
    assert_eq!(bed.client.stat(format!("{MOUNT}/from")).await.unwrap_err().fs(), Some(&FsError::NotFound));
    assert_eq!(bed.read(&format!("to/{}", name(4711 % MANY))).await.unwrap(), b"content 1711");
    // All servers die once some objects are at their new keys, and again.
    for wanted in [200, 1_500] {
        let moved = || async {
            let keys = bed.keys().await;
            (keys.iter().filter(|key| key.starts_with("to/")).count() >= wanted).then_some(())
        };
        eventually("some objects at their new keys", SETTLED_WITHIN, moved).await.unwrap();
        bed.cluster.kill_all();
        bed.cluster.start_all().await.unwrap();
    }
    let found = bed.equal().await;
    let wanted: Contents =
        (0..MANY).map(|n| (format!("to/{}", name(n)), format!("content {n}").into_bytes())).collect();
    assert!(found == wanted, "{}", differ(&wanted, &found));
    assert_eq!(bed.figures().await.conflicts, 0);
    // The old name is free, and stays so when the mount is read again.
    sync(&bed).await;
    assert_eq!(bed.paths().await.unwrap().len(), MANY);
    // All of it goes.
    bed.client.remove_all(format!("{MOUNT}/to")).await.unwrap();
    bed.holds(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_there_and_back_and_others_take_its_name() {
    let bed = Bed::seaweed(small()).await;
    for n in 0..40 {
        bed.put(&format!("p/f{n:02}"), pattern("p", 100 + n)).await;
        bed.put(&format!("q/f{n:02}"), pattern("q", 200 + n)).await;
    }
    bed.mount().await;
    sync(&bed).await;
    rename(&bed, "p", "elsewhere").await;
    rename(&bed, "elsewhere", "p").await;
    rename_as(&bed, "p", "q", RenameMode::Exchange).await;
    rename(&bed, "p/f07", "f07").await;
    rename(&bed, "q", "q2").await;
    bed.client.mkdir(format!("{MOUNT}/q"), 0o755).await.unwrap();
    bed.write("q/f00", b"new below an old name").await;
    // While uploads of files in it are pending.
    bed.write("q2/fresh", &pattern("fresh", 300_000)).await;
    rename(&bed, "q2", "deep").await;
    bed.client.mkdir_all(format!("{MOUNT}/x/y"), 0o755).await.unwrap();
    rename(&bed, "deep", "x/y/deep").await;
    let found = bed.equal().await;
    let mut wanted: Contents =
        (0..40).filter(|n| *n != 7).map(|n| (format!("p/f{n:02}"), pattern("q", 200 + n))).collect();
    wanted.extend((0..40).map(|n| (format!("x/y/deep/f{n:02}"), pattern("p", 100 + n))));
    wanted.insert("f07".into(), pattern("q", 207));
    wanted.insert("q/f00".into(), b"new below an old name".to_vec());
    wanted.insert("x/y/deep/fresh".into(), pattern("fresh", 300_000));
    assert!(found == wanted, "{}", differ(&wanted, &found));
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_end_at_the_edge_of_a_mount_and_a_move_copies() {
    let bed = Bed::seaweed(small()).await;
    bed.put("d/one", b"one".to_vec()).await;
    bed.put("d/two", b"two".to_vec()).await;
    bed.mount().await;
    let refused = bed.client.rename(format!("{MOUNT}/d"), "/d", RenameMode::Replace).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::CrossMount));
    let within = Duration::from_secs(60);
    let _ = bed.cluster.cairn(&format!("fs mv {MOUNT}/d /d"), within).await.unwrap().expected();
    bed.holds(&[]).await;
    let native = bed.client.open("/d/two").await.unwrap();
    assert_eq!(native.read_at(0, 10).await.unwrap(), b"two"[..]);
    let _ = bed.cluster.cairn(&format!("fs mv /d/one {MOUNT}/back"), within).await.unwrap().expected();
    bed.holds(&[("back", b"one")]).await;
}

/// The bytes are in an object or a file, wherever.
async fn kept(bed: &Bed, contents: &[&[u8]]) {
    let found = bed.equal().await;
    for bytes in contents {
        let text = String::from_utf8_lossy(bytes);
        assert!(found.values().any(|kept| kept == bytes), "{text} is lost: {:?}", found.keys());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outside_write_at_either_name_of_a_rename_is_a_conflict_and_nothing_is_lost() {
    let bed = Bed::seaweed(small()).await;
    let mount = bed.mount().await;
    if mount.options.rules.sole_writer {
        println!("the endpoint lacks a condition: with others' writes it is read-only");
        return;
    }
    for name in ["old-name", "new-name"] {
        bed.put(name, b"the file".to_vec()).await;
        sync(&bed).await;
        // Nothing of ours gets to the bucket until the other client has written.
        bed.proxy.set_link(Link::Refused);
        rename(&bed, name, &format!("{name}-to")).await;
        let theirs = format!("theirs at {name}").into_bytes();
        let at = if name == "old-name" { name.to_owned() } else { format!("{name}-to") };
        bed.put(&at, theirs.clone()).await;
        bed.proxy.heal();
        // At the old key it is what the file became; at the new one it is in the way.
        if name == "old-name" {
            kept(&bed, &[&theirs]).await
        } else {
            kept(&bed, &[&theirs, b"the file"]).await
        }
        sync(&bed).await;
        bed.equal().await;
    }
    let conflicts = bed.client.mount_conflicts(mount.id, None, 10).await.unwrap();
    assert!(conflicts.iter().any(|conflict| conflict.key.ends_with(b"new-name-to")), "{conflicts:?}");
    let asked = bed.proxy.requests_matching(&When::method("PUT"));
    assert!(asked > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_conflicts_keeps_both_sides() {
    let bed = Bed::seaweed(small()).await;
    for (rule, name) in [
        (ConflictRule::KeepBoth, "both"),
        (ConflictRule::Bucket, "bucket"),
        (ConflictRule::Namespace, "namespace"),
    ] {
        bed.put("file", b"first".to_vec()).await;
        let mount = bed.mount_with(|options| options.rules.on_conflict = rule).await;
        if mount.options.rules.sole_writer {
            println!("the endpoint lacks a condition: with others' writes it is read-only");
            return;
        }
        assert_eq!(bed.read("file").await.unwrap(), b"first");
        bed.proxy.set_link(Link::Refused);
        let (ours, theirs) = (format!("ours {name}").into_bytes(), format!("theirs {name}").into_bytes());
        bed.write("file", &ours).await;
        bed.put("file", theirs.clone()).await;
        bed.proxy.heal();
        kept(&bed, &[&ours, &theirs]).await;
        let wins = if rule == ConflictRule::Namespace { &ours } else { &theirs };
        assert_eq!(bed.read("file").await.unwrap(), *wins, "{name}");
        let conflicts = bed.client.mount_conflicts(mount.id, None, 10).await.unwrap();
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        let (_, path) = conflicts[0].kept.clone().unwrap();
        let path = String::from_utf8(path).unwrap();
        let beside = path.strip_prefix(MOUNT).unwrap().trim_start_matches('/').to_owned();
        let loses = if rule == ConflictRule::Namespace { &theirs } else { &ours };
        assert_eq!(bed.read(&beside).await.unwrap(), *loses, "{path}");
        assert_eq!(path.contains("/.cairn-conflicts/"), rule != ConflictRule::KeepBoth, "{path}");
        bed.client.conflict_dismiss(mount.id, conflicts[0].id).await.unwrap();
        assert_eq!(bed.figures().await.conflicts, 0);
        assert_eq!(bed.read(&beside).await.unwrap(), *loses, "a dismissed conflict's file stays");
        bed.client.mount_remove(MOUNT).await.unwrap();
        for key in bed.keys().await {
            bed.delete(&key).await;
        }
    }
}
