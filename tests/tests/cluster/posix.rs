//! POSIX metadata through real processes: special files, extended attributes, times, and the command line.

use cairn_sdk::types::{Credentials, DeviceNumber, FileKind, FsError, Timestamp};
use cairn_sdk::{AttrChange, Client, ConnectOptions, RenameMode, XattrMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, run};
use std::time::Duration;

/// Runs `cairn fs …`, which must end with this code, and answers what it printed.
async fn fs(cluster: &Cluster, line: &str, code: i32) -> String {
    let mut command = cluster.cli();
    command.args(["fs"].into_iter().chain(line.split_whitespace()));
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, code, "cairn fs {line}: {}", outcome.stderr);
    outcome.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_and_extended_attributes_survive_a_restart_of_everything() {
    let mut cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let device = FileKind::CharacterDevice(DeviceNumber { major: 1, minor: 3 });
    client.mknod("/null", device, 0o666).await.unwrap();
    client.mknod("/pipe", FileKind::Fifo, 0o600).await.unwrap();
    client.put("/f", 0o644, b"x").await.unwrap();
    client.link("/f", "/g").await.unwrap();
    client.set_xattr("/f", false, "user.a", b"one", XattrMode::Create).await.unwrap();
    let refused = client.set_xattr("/g", false, "user.a", b"two", XattrMode::Create).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::Exists));
    client.rename("/g", "/h", RenameMode::Replace).await.unwrap();
    let now = AttrChange { mtime: Some(Timestamp(5)), atime_now: true, ..AttrChange::default() };
    let set = client.set_attr("/h", now).await.unwrap();
    assert_eq!((set.mtime, set.atime), (Timestamp(5), set.ctime));
    client.close().await.unwrap();
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    let client = cluster.client().await.unwrap();
    assert_eq!(client.stat("/null").await.unwrap().kind, device);
    assert_eq!(client.stat("/pipe").await.unwrap().kind, FileKind::Fifo);
    assert_eq!(client.get_xattr("/h", false, "user.a").await.unwrap(), b"one");
    assert_eq!(client.list_xattrs("/h", false).await.unwrap(), [b"user.a".to_vec()]);
    client.remove_xattr("/f", false, "user.a").await.unwrap();
    let gone = client.get_xattr("/h", false, "user.a").await.unwrap_err();
    assert_eq!(gone.fs(), Some(&FsError::NoSuchAttribute));
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_special_files_and_keeps_extended_attributes() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    fs(&cluster, "mknod -m 600 /pipe p", 0).await;
    fs(&cluster, "mknod /sda1 b 8 1", 0).await;
    fs(&cluster, "mknod /bad c", 2).await;
    fs(&cluster, "mknod /bad p 1 2", 2).await;
    let listed = fs(&cluster, "ls -l /", 0).await;
    assert!(listed.lines().any(|l| l.starts_with("prw-------") && l.ends_with("pipe")), "{listed}");
    assert!(listed.lines().any(|l| l.starts_with("brw-r--r--") && l.contains(" 8, 1 ")), "{listed}");
    let shown = fs(&cluster, "stat /sda1", 0).await;
    assert!(shown.contains("block-device") && shown.contains("8, 1"), "{shown}");
    fs(&cluster, "mkdir /d", 0).await;
    fs(&cluster, "xattr set /d user.colour blue", 0).await;
    fs(&cluster, "xattr set --create /d user.colour red", 1).await;
    assert_eq!(fs(&cluster, "xattr get /d user.colour", 0).await, "blue");
    assert_eq!(fs(&cluster, "xattr ls /d", 0).await, "user.colour\n");
    let json = fs(&cluster, "--json xattr get /d user.colour", 0).await;
    assert!(json.contains("\"626c7565\""), "{json}");
    fs(&cluster, "xattr rm /d user.colour", 0).await;
    fs(&cluster, "xattr get /d user.colour", 1).await;
    fs(&cluster, "xattr set /pipe user.a x", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_kept_out_of_what_is_not_its_own() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let free = cluster.client().await.unwrap();
    free.mkdir("/home", 0o755).await.unwrap();
    let connect = async |uid| {
        let mut options = ConnectOptions::new(cluster.meta_addresses());
        options.credentials = Some(Credentials { uid, gid: uid, groups: vec![50] });
        Client::connect(options).await.unwrap()
    };
    let (alice, bob) = (connect(5).await, connect(6).await);
    free.with_owner(5, 5).mkdir("/home/alice", 0o700).await.unwrap();
    alice.put("/home/alice/f", 0o600, b"hers").await.unwrap();
    let log = alice.open_append("/home/alice/log").await.unwrap();
    log.append(&b"one"[..]).await.unwrap();
    log.close().await.unwrap();
    let made = free.stat("/home/alice/f").await.unwrap();
    assert_eq!((made.uid, made.gid), (5, 5));
    let denied = Some(FsError::PermissionDenied);
    let said = |error: cairn_sdk::Error| error.fs().cloned();
    assert_eq!(said(bob.stat("/home/alice/f").await.unwrap_err()), denied);
    assert_eq!(said(bob.put("/home/alice/g", 0o600, b"his").await.unwrap_err()), denied);
    assert_eq!(said(bob.open("/home/alice/f").await.map(drop).unwrap_err()), denied);
    assert_eq!(said(bob.unlink("/home/alice/f").await.unwrap_err()), denied);
    let listing = bob.list("/home/alice", cairn_sdk::ListingOptions::default()).next().await;
    assert_eq!(said(listing.map(drop).unwrap_err()), denied);
    let chmod = AttrChange { mode: Some(0o777), ..AttrChange::default() };
    let refused = bob.set_attr("/home/alice", chmod.clone()).await.unwrap_err();
    assert_eq!(said(refused), Some(FsError::NotPermitted));
    alice.set_attr("/home/alice", chmod).await.unwrap();
    bob.put("/home/alice/g", 0o600, b"his").await.unwrap();
    assert_eq!(said(alice.open("/home/alice/g").await.map(drop).unwrap_err()), denied);
    fs(&cluster, "--as 6:6 cat /home/alice/g", 0).await;
    fs(&cluster, "--as 5:5 cat /home/alice/g", 1).await;
    fs(&cluster, "--as five ls /", 2).await;
    for client in [free, alice, bob] {
        client.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_shown() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let before = client.statfs().await.unwrap();
    assert!(before.capacity_bytes > 0 && before.data_nodes == 1, "{before:?}");
    assert_eq!(before.capacity_bytes, before.used_bytes + before.free_bytes);
    client.put("/f", 0o644, b"x").await.unwrap();
    assert_eq!(client.statfs().await.unwrap().inodes, before.inodes + 1);
    let shown = fs(&cluster, "df", 0).await;
    assert!(shown.contains("capacity:") && shown.contains("of 1 data nodes"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&fs(&cluster, "--json df", 0).await).unwrap();
    assert_eq!(json["inodes"], before.inodes + 1);
    client.close().await.unwrap();
}
