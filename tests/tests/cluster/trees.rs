//! Whole trees: removed at once while the leader dies, listed in S3's order, by the command line too.

use std::time::Duration;

use cairn_sdk::types::FsError;
use cairn_sdk::{Client, ListingOptions, TreeOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, eventually, run};

/// Directories, and files in each of them.
const WIDE: (usize, usize) = (40, 100);

async fn plant(client: &Client, top: &str) {
    let (directories, files) = WIDE;
    for d in 0..directories {
        client.mkdir_all(format!("{top}/d{d:02}"), 0o755).await.unwrap();
        let made = (0..files).map(|f| client.put(format!("{top}/d{d:02}/f{f:03}"), 0o644, "x"));
        for made in futures::future::join_all(made).await {
            made.unwrap();
        }
    }
}

async fn keys(client: &Client, at: &str, options: TreeOptions) -> Vec<String> {
    let mut listing = client.list_tree(at, options);
    let mut keys = Vec::new();
    while let Some(entry) = listing.next().await.unwrap() {
        keys.push(String::from_utf8(entry.key()).unwrap());
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tree_stays_gone_and_is_purged_when_the_leader_dies() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    plant(&client, "/t").await;
    client.mkdir("/out", 0o755).await.unwrap();
    client.put("/t/d00/kept", 0o644, "outlives the tree").await.unwrap();
    client.link("/t/d00/kept", "/out/kept").await.unwrap();
    let leader = cluster.leader(&client).await.unwrap();
    let tree = client.remove_all("/t").await.unwrap().unwrap();
    cluster.metas[leader].kill();
    assert_eq!(client.stat("/t/d00/f000").await.unwrap_err().fs(), Some(&FsError::NotFound));
    assert_eq!(client.stat(tree).await.unwrap_err().fs(), Some(&FsError::Stale));
    client.wait_purged(tree).await.unwrap();
    // The root, /out and the file in it.
    let three = || async {
        let status = client.status().await.ok()?;
        ((status.inodes, status.trees_pending) == (3, 0)).then_some(())
    };
    eventually("three inodes", Duration::from_secs(60), three).await.unwrap();
    let kept = client.stat("/out/kept").await.unwrap();
    assert_eq!((kept.size, kept.nlink), (17, 1));
    cluster.metas[leader].start().unwrap();
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    let client = cluster.client().await.unwrap();
    assert_eq!(client.status().await.unwrap().inodes, 3);
    assert_eq!(keys(&client, "/", TreeOptions::default()).await, ["out/", "out/kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_listed_in_order_whole_in_pieces_and_side_by_side() {
    let cluster = Cluster::start(ClusterOptions::single()).await.unwrap();
    let client = cluster.client().await.unwrap();
    plant(&client, "/t").await;
    client.mkdir("/t/d00-", 0o755).await.unwrap();
    let whole = keys(&client, "/t", TreeOptions::default()).await;
    assert!(whole.is_sorted());
    assert_eq!(whole.len(), WIDE.0 * (WIDE.1 + 1) + 1);
    assert_eq!(whole[..3], ["d00-/", "d00/", "d00/f000"]);
    let mut pieces: Vec<String> = Vec::new();
    loop {
        let start_after = pieces.last().cloned().unwrap_or_default().into_bytes();
        let piece =
            keys(&client, "/t", TreeOptions { start_after, limit: 700, ..TreeOptions::default() }).await;
        if piece.is_empty() {
            break;
        }
        pieces.extend(piece);
    }
    assert_eq!(pieces, whole);
    let level = TreeOptions { delimiter: b"/".to_vec(), ..TreeOptions::default() };
    assert_eq!(keys(&client, "/t", level).await.len(), WIDE.0 + 1);
    let mut names = Vec::new();
    for mut range in client.list_ranges("/t", 4).await.unwrap() {
        while let Some(entry) = range.next().await.unwrap() {
            names.push(entry.name.to_string());
        }
    }
    let mut listing =
        client.list("/t", ListingOptions { prefix: b"d".to_vec(), ..ListingOptions::default() });
    let mut expected = Vec::new();
    while let Some(entry) = listing.next().await.unwrap() {
        expected.push(entry.name.to_string());
    }
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn find_ls_du_and_rm_work_on_whole_trees() {
    let options = ClusterOptions { understore: UnderStore::Directory, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let fs = async |line: &str, input: &[u8]| {
        let mut command = cluster.cli();
        command.arg("fs").args(line.split_whitespace());
        let outcome = run(command, input, Duration::from_secs(60)).await.unwrap();
        assert_eq!(outcome.code, 0, "cairn fs {line}: {}", outcome.stderr);
        outcome.text()
    };
    fs("mkdir -p /t/a/b /t/a-b", b"").await;
    fs("put - /t/a/x.log", b"12345").await;
    fs("put - /t/a/b/y.log", b"123").await;
    fs("put - /t/a.txt", b"1").await;
    fs("ln -s x.log /t/a/link", b"").await;
    assert_eq!(fs("ls -R /t", b"").await, "a-b\na.txt\na\na/b\na/b/y.log\na/link\na/x.log\n");
    assert_eq!(fs("ls -R --prefix a/b --limit 1 /t", b"").await, "a/b\n");
    assert_eq!(fs("ls --prefix a- /t", b"").await, "a-b\n");
    assert_eq!(fs("find /t --name *.log", b"").await, "/t/a/b/y.log\n/t/a/x.log\n");
    assert_eq!(fs("find /t --type d", b"").await, "/t\n/t/a-b\n/t/a\n/t/a/b\n");
    assert_eq!(fs("find /t/a --type l", b"").await, "/t/a/link\n");
    let du = fs("du /t", b"").await;
    assert!(du.ends_with("\t/t\n") && du.contains("3\t/t/a/b\n") && du.contains("0\t/t/a-b\n"), "{du}");
    fs("rm -r --wait /t", b"").await;
    assert_eq!(fs("ls /", b"").await, "");
    let client = cluster.client().await.unwrap();
    let counted_off = || async {
        let status = client.status().await.ok()?;
        (status.inodes == 1 && status.trees_pending == 0).then_some(())
    };
    eventually("nothing but the root", Duration::from_secs(60), counted_off).await.unwrap();
}
