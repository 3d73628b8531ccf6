//! `cairn fs --json`: one object a line, from every verb that does not write bytes as they are.

use std::time::Duration;

use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, run};
use serde_json::{Value, json};

struct Setup {
    cluster: Cluster,
}

impl Setup {
    async fn start() -> Self {
        let options = ClusterOptions { understore: UnderStore::Directory, ..ClusterOptions::single() };
        Self { cluster: Cluster::start(options).await.unwrap() }
    }

    /// Runs `cairn fs … --json`, which must succeed, and answers its objects.
    async fn objects(&self, arguments: &str, input: &[u8]) -> Vec<Value> {
        let mut command = self.cluster.cli();
        command.arg("fs").args(arguments.split_whitespace()).arg("--json");
        let outcome = run(command, input, Duration::from_secs(60)).await.unwrap();
        assert_eq!(outcome.code, 0, "cairn fs {arguments}: {}", outcome.stderr);
        outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same, of a command that answers one object.
    async fn object(&self, arguments: &str, input: &[u8]) -> Value {
        let mut objects = self.objects(arguments, input).await;
        assert_eq!(objects.len(), 1, "cairn fs {arguments}: {objects:?}");
        objects.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_answers_in_json() {
    let setup = Setup::start().await;
    let made = setup.objects("mkdir -p /d /d/sub", b"").await;
    assert_eq!((&made[0]["path"], &made[1]["path"]), (&json!("/d"), &json!("/d/sub")));
    assert_eq!(made[0]["kind"], "directory");
    let put = setup.object("put - /d/file", b"12345").await;
    assert_eq!((&put["files"], &put["bytes"], &put["failed"]), (&json!(1), &json!(5), &json!(0)));
    assert_eq!(setup.object("append /d/log", b"one").await, json!({"path": "/d/log", "offset": 0}));
    let lines = setup.objects("append --lines /d/log", b"a\nb\n").await;
    assert_eq!(lines.iter().map(|l| l["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 5]);
    let link = setup.object("ln -s file /d/link", b"").await;
    assert_eq!((&link["path"], &link["target"]), (&json!("/d/link"), &json!("file")));
    let tree = setup.objects("tree /", b"").await;
    let shown: Vec<(&str, u64)> =
        tree.iter().map(|e| (e["path"].as_str().unwrap(), e["depth"].as_u64().unwrap())).collect();
    assert_eq!(shown, [("/d", 1), ("/d/file", 2), ("/d/link", 2), ("/d/log", 2), ("/d/sub", 2)]);
    assert_eq!(setup.objects("ls /d", b"").await.len(), 4);
    assert_eq!(setup.object("stat /d/file", b"").await["size"], 5);
    assert_eq!(setup.object("du -s /d", b"").await["files"], 3);
    let moved = setup.object("mv /d/file /d/sub", b"").await;
    assert_eq!(moved, json!({"from": "/d/file", "to": "/d/sub/file"}));
    assert_eq!(setup.object("sync /d/sub/file", b"").await, json!({"path": "/d/sub/file", "synced": true}));
    let explained = setup.object("explain /d/log", b"").await;
    assert_eq!(explained["file"]["path"], "/d/log");
    assert!(!explained["chunks"].as_array().unwrap().is_empty(), "{explained}");
    for (arguments, inherited) in [("get", true), ("set --max-lag-age 9s", false), ("unset", true)] {
        let mut command = setup.cluster.cli();
        command.arg("policy").args(arguments.split(' ')).args(["/d", "--json"]);
        let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
        assert_eq!(outcome.code, 0, "cairn policy {arguments}: {}", outcome.stderr);
        let policy: Value = serde_json::from_str(&outcome.text()).unwrap();
        let shown = (&policy["path"], &policy["replicas"], &policy["inherited"]);
        assert_eq!(shown, (&json!("/d"), &json!(1), &json!(inherited)));
    }
    let removed = setup.objects("rm -f /d/link /none", b"").await;
    assert_eq!(removed[0], json!({"path": "/d/link", "removed": true}));
    assert_eq!(removed[1], json!({"path": "/none", "removed": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_copied_many_files_at_once() {
    let setup = Setup::start().await;
    let client = setup.cluster.client().await.unwrap();
    client.mkdir_all("/from/sub/empty", 0o755).await.unwrap();
    for n in 0..50 {
        client.put(format!("/from/sub/file-{n}"), 0o640, format!("content {n}")).await.unwrap();
    }
    client.symlink("sub/file-1", "/from/link").await.unwrap();
    let copied = setup.object("cp -r -j 8 /from /to", b"").await;
    assert_eq!((&copied["files"], &copied["failed"]), (&json!(50), &json!(0)));
    for n in 0..50 {
        let file = client.open(format!("/to/sub/file-{n}")).await.unwrap();
        assert_eq!(file.inode().mode & 0o7777, 0o640);
        let length = usize::try_from(file.length()).unwrap();
        assert_eq!(file.read_at(0, length).await.unwrap(), format!("content {n}"));
    }
    assert!(client.stat("/to/sub/empty").await.unwrap().is_dir());
    assert_eq!(client.read_link("/to/link").await.unwrap(), b"sub/file-1");
}
