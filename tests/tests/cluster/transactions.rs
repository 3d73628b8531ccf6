//! Transactions, and files that share their bytes.

use std::time::Duration;

use cairn_sdk::types::{FsError, Policy};
use cairn_sdk::{At, Client, ErrorKind, RenameMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, run};
use serde_json::{Value, json};

async fn single() -> (Cluster, Client) {
    let options = ClusterOptions { understore: UnderStore::Directory, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    file.read_at(0, usize::try_from(file.length()).unwrap()).await.unwrap().to_vec()
}

/// A writer of docs/TRANSACTIONS.md: reads the pointer, makes the next version and moves the pointer,
/// until it wins. Answers the versions that it made, and how often it lost.
async fn write_versions(client: Client, name: &str, wanted: usize) -> (Vec<u64>, usize) {
    let (mut made, mut lost) = (Vec::new(), 0);
    while made.len() < wanted {
        let pointer = client.stat("/table/current").await.unwrap();
        let now: u64 = String::from_utf8(content(&client, "/table/current").await).unwrap().parse().unwrap();
        let next = now + 1;
        let committed = client
            .transaction()
            .same("/table/current", &pointer)
            .absent(format!("/table/v{next}.json"))
            .create(format!("/table/v{next}.json"), 0o644, format!("{{\"writer\": \"{name}\"}}"))
            .put("/table/current", 0o644, next.to_string())
            .commit()
            .await;
        match committed {
            Ok(steps) => {
                assert!(steps.iter().all(Option::is_some));
                made.push(next);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                let Some(FsError::PreconditionFailed { found: Some(found), .. }) = error.fs() else {
                    panic!("{error}")
                };
                // What changed: the pointer has moved on.
                assert!(found.version > pointer.version && found.ino == pointer.ino, "{error}");
                lost += 1;
            }
        }
    }
    (made, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_commit_a_tables_versions_and_each_version_has_one_of_them() {
    const EACH: usize = 25;
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let (one, two) = (cluster.client().await.unwrap(), cluster.client().await.unwrap());
    let made = one.transaction().mkdir("/table", 0o755).create("/table/current", 0o644, "0");
    made.commit().await.unwrap();
    let first = tokio::spawn(write_versions(one.clone(), "one", EACH));
    let second = tokio::spawn(write_versions(two, "two", EACH));
    let ((mine, lost), (theirs, also_lost)) = (first.await.unwrap(), second.await.unwrap());
    let mut all = [mine.clone(), theirs].concat();
    all.sort_unstable();
    let wanted: Vec<u64> = (1..=2 * EACH as u64).collect();
    assert_eq!(all, wanted, "each version was made once, without a gap; lost {lost} and {also_lost} races");
    for version in wanted {
        let writer = if mine.contains(&version) { "one" } else { "two" };
        let told = content(&one, &format!("/table/v{version}.json")).await;
        assert_eq!(told, format!("{{\"writer\": \"{writer}\"}}").into_bytes());
    }
    assert_eq!(content(&one, "/table/current").await, (2 * EACH).to_string().into_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_a_race_is_told_which_demand_failed_and_what_is_there() {
    let (cluster, client) = single().await;
    let other = cluster.client().await.unwrap();
    client.put("/pointer", 0o644, b"v1").await.unwrap();
    let seen = client.stat("/pointer").await.unwrap();
    let ours = client.transaction().same("/pointer", &seen).put("/pointer", 0o644, "v2 ours");
    let theirs = other.transaction().same("/pointer", &seen).put("/pointer", 0o644, "v2 theirs!");
    theirs.commit().await.unwrap();
    let refused = ours.commit().await.unwrap_err();
    let now = client.stat("/pointer").await.unwrap();
    let Some(FsError::PreconditionFailed { index: 0, found: Some(found) }) = refused.fs() else {
        panic!("{refused}")
    };
    assert_eq!((found.ino, found.version, found.length), (now.ino, now.version, 10));
    assert!(refused.to_string().contains("(unchanged: /pointer)"), "{refused}");
    assert_eq!(refused.errno(), 125);
    // An operation's refusal keeps its own errno, and what was done before it is not seen.
    let refused = client
        .transaction()
        .mkdir("/made", 0o755)
        .rename("/pointer", "/made/pointer", RenameMode::NoReplace)
        .create("/made/pointer", 0o644, "x")
        .commit()
        .await
        .unwrap_err();
    assert!(matches!(refused.fs(), Some(FsError::OperationRefused { index: 2, .. })), "{refused}");
    assert_eq!(refused.errno(), 17);
    assert_eq!(client.stat("/made").await.unwrap_err().fs(), Some(&FsError::NotFound));
    assert_eq!(content(&client, "/pointer").await, b"v2 theirs!");
    assert_eq!(client.transaction().commit().await.unwrap_err().fs(), Some(&FsError::InvalidRequest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_is_sealed_for_what_depends_on_its_length() {
    let (_cluster, client) = single().await;
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"0123456789"[..]).await.unwrap();
    client.transaction().length("/log", 10).touch("/seen", 0o644).commit().await.unwrap();
    log.append(&b"abc"[..]).await.unwrap();
    client.clone_file("/log", "/copy", false).await.unwrap();
    log.append(&b"def"[..]).await.unwrap();
    assert_eq!(content(&client, "/copy").await, b"0123456789abc");
    assert_eq!(content(&client, "/log").await, b"0123456789abcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_bytes_are_read_by_all_and_outlive_the_file_they_came_from() {
    let (_cluster, client) = single().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    client.put("/a", 0o640, &body).await.unwrap();
    client.put("/b", 0o644, b"small").await.unwrap();
    let cloned = client.clone_file("/a", "/clone", false).await.unwrap();
    assert_eq!((cloned.size, cloned.mode & 0o7777), (3_000_000, 0o640));
    let refused = client.clone_file("/b", "/clone", false).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::Exists), "{refused}");
    client.copy_range("/a", 1_000_000, "/b", 5, Some(1_500_000)).await.unwrap();
    client.put("/joined", 0o644, b"head ").await.unwrap();
    client.concat("/joined", &[At::from("/b"), At::from("/a"), At::from("/b")]).await.unwrap();
    // Written over and removed: the others keep what they had.
    let mut file = client.open("/a").await.unwrap();
    file.write_at(0, &[0xff; 1000]).await.unwrap();
    file.close().await.unwrap();
    client.unlink("/a").await.unwrap();
    client.sync("/clone").await.unwrap();
    assert!(content(&client, "/clone").await == body);
    let b = [b"small", &body[1_000_000..2_500_000]].concat();
    assert!(content(&client, "/b").await == b);
    assert!(content(&client, "/joined").await == [&b"head "[..], &b, &body, &b].concat());
    let mut file = client.open("/b").await.unwrap();
    file.punch_hole(2, 100).await.unwrap();
    file.allocate(2_000_000, 10).await.unwrap();
    let mut wanted = b.clone();
    wanted[2..102].fill(0);
    wanted.resize(2_000_010, 0);
    assert!(content(&client, "/b").await == wanted);
    client.zero_range("/b", 2_000_000, 100).await.unwrap();
    assert_eq!(client.stat("/b").await.unwrap().size, 2_000_100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_cloned_at_one_point_in_time_and_files_go_by_the_policy_of_their_own_directory() {
    let (_cluster, client) = single().await;
    client.mkdir_all("/from/sub", 0o750).await.unwrap();
    client.set_policy("/from/sub", Some(Policy::single())).await.unwrap();
    for n in 0..40 {
        client.put(format!("/from/sub/{n}"), 0o644, format!("content {n}")).await.unwrap();
    }
    client.link("/from/sub/0", "/from/linked").await.unwrap();
    client.clone_tree("/from", "/to").await.unwrap();
    client.put("/from/sub/1", 0o644, b"changed since").await.unwrap();
    for n in 0..40 {
        assert_eq!(content(&client, &format!("/to/sub/{n}")).await, format!("content {n}").into_bytes());
    }
    assert_eq!(client.stat("/to/linked").await.unwrap().nlink, 2);
    assert_eq!(client.policy("/to/sub").await.unwrap(), Policy::single());
    // A file's directory may be made by the same transaction.
    let deep = client.transaction().mkdir("/x", 0o755).mkdir("/x/y", 0o755).create("/x/y/f", 0o644, "deep");
    deep.commit().await.unwrap();
    assert_eq!(content(&client, "/x/y/f").await, b"deep");
}

struct Cli {
    cluster: Cluster,
}

impl Cli {
    async fn fs(&self, arguments: &str, input: &[u8]) -> (i32, Vec<Value>, String) {
        let mut command = self.cluster.cli();
        command.arg("fs").args(arguments.split_whitespace());
        let outcome = run(command, input, Duration::from_secs(60)).await.unwrap();
        let objects = outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (outcome.code, objects, outcome.stderr)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_commits_documents_clones_and_concatenates() {
    let (cluster, client) = single().await;
    let cli = Cli { cluster };
    let document = json!({
        "preconditions": [{"path": "/t", "absent": true}],
        "operations": [
            {"op": "mkdir", "path": "/t"},
            {"op": "create", "path": "/t/v1", "text": "one"},
            {"op": "put", "path": "/t/current", "text": "v1"},
            {"op": "clone", "from": "/t/v1", "path": "/t/copy"},
            {"op": "unlink", "path": "/t/copy"},
        ],
    });
    let document = document.to_string().into_bytes();
    let (code, told, stderr) = cli.fs("txn - --json", &document).await;
    assert_eq!((code, &told[0]["committed"]), (0, &json!(true)), "{stderr}");
    assert_eq!(told[0]["operations"][1]["size"], 3);
    assert_eq!(told[0]["operations"][4], Value::Null);
    assert_eq!(content(&client, "/t/current").await, b"v1");
    // Again: refused, and what is there is told.
    let (code, told, stderr) = cli.fs("txn - --json", &document).await;
    let top = client.stat("/t").await.unwrap();
    assert_eq!((code, &told[0]["committed"], &told[0]["precondition"]), (1, &json!(false), &json!(0)));
    let found = json!({"ino": top.ino.0, "version": top.version, "length": 0});
    assert_eq!(told[0]["found"], found, "{stderr}");
    assert!(stderr.contains("precondition 0 does not hold"), "{stderr}");
    let (code, told, _) = cli.fs("txn -", br#"{"operations": [{"op": "chmod", "path": "/t"}]}"#).await;
    assert_eq!((code, told.len()), (2, 0));
    let refused = br#"{"operations": [{"op": "mkdir", "path": "/u"}, {"op": "rmdir", "path": "/t"}]}"#;
    let (code, told, _) = cli.fs("txn - --json", refused).await;
    assert_eq!((code, &told[0]["operation"]), (1, &json!(1)));
    assert!(client.stat("/u").await.is_err());
    let (code, told, stderr) = cli.fs("cp --reflink /t/v1 /t/v2 --json", b"").await;
    assert_eq!((code, &told[0]["size"]), (0, &json!(3)), "{stderr}");
    let (code, _, stderr) = cli.fs("cp --reflink -r /t /whole", b"").await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(content(&client, "/whole/v2").await, b"one");
    let (code, told, stderr) = cli.fs("concat /t/v1 /t/current /t/v2 /t/all --json", b"").await;
    assert_eq!((code, &told[0]["size"]), (0, &json!(8)), "{stderr}");
    assert_eq!(content(&client, "/t/all").await, b"onev1one");
}
