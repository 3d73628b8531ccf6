//! POSIX metadata through real processes: special files, extended attributes, times, and the command line.

use cairn_sdk::types::{DeviceNumber, FileKind, FsError, Timestamp};
use cairn_sdk::{AttrChange, RenameMode, XattrMode};
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
