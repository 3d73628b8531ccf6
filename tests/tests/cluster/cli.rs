//! The command line, as a person or a script uses it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, UnderStore, run};

struct Setup {
    cluster: Cluster,
    local: tempfile::TempDir,
}

impl Setup {
    async fn start() -> Self {
        let options = ClusterOptions { understore: UnderStore::Directory, ..ClusterOptions::single() };
        Self { cluster: Cluster::start(options).await.unwrap(), local: tempfile::tempdir().unwrap() }
    }

    async fn cairn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Outcome {
        let mut command = self.cluster.cli();
        command.args(arguments);
        run(command, input, Duration::from_secs(120)).await.unwrap()
    }

    /// Runs `cairn fs …`, which must succeed, and answers what it printed.
    async fn fs(&self, line: &str) -> String {
        let outcome = self.cairn(["fs"].into_iter().chain(line.split_whitespace()), b"").await;
        assert_eq!(outcome.code, 0, "cairn fs {line}: {}", outcome.stderr);
        outcome.text()
    }

    /// Runs `cairn fs …`, which must end with this code, and answers what it complained of.
    async fn fails(&self, line: &str, code: i32) -> String {
        let outcome = self.cairn(["fs"].into_iter().chain(line.split_whitespace()), b"").await;
        assert_eq!(outcome.code, code, "cairn fs {line}: {}{}", outcome.text(), outcome.stderr);
        assert!(outcome.stderr.starts_with("cairn: ") || code == 2, "{}", outcome.stderr);
        outcome.stderr
    }

    fn path(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }
}

/// A tree with all that makes copying hard.
fn plant(root: &Path) {
    for n in 0..8 {
        let directory = root.join(format!("dir{n}/sub"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..25_usize {
            let body: Vec<u8> = (0..file * 331).map(|b| (b * 7 + n) as u8).collect();
            fs::write(directory.join(format!("file{file}")), body).unwrap();
        }
    }
    fs::create_dir_all(root.join("empty dir")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("ümläut 日本"), b"unicode").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
    fs::write(root.join("-dash"), b"dash").unwrap();
    fs::write(root.join("x".repeat(255)), b"the longest name").unwrap();
    let large: Vec<u8> = (0..(5_usize << 20) + 17).map(|b| (b ^ (b >> 11)) as u8).collect();
    fs::write(root.join("large"), large).unwrap();
    fs::write(root.join("script"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("dir1/sub/file3", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
}

#[derive(Debug, PartialEq)]
enum Seen {
    Directory,
    File(u32, Vec<u8>),
    Link(PathBuf),
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let seen = if meta.is_symlink() {
                Seen::Link(fs::read_link(&path).unwrap())
            } else if meta.is_dir() {
                waiting.push(path.clone());
                Seen::Directory
            } else {
                Seen::File(meta.permissions().mode() & 0o7777, fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), seen);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_goes_in_and_comes_back_the_same() {
    let setup = Setup::start().await;
    let (planted, back) = (setup.path("planted"), setup.path("back"));
    plant(&planted);
    let arguments =
        [OsStr::new("fs"), OsStr::new("put"), OsStr::new("-r"), planted.as_os_str(), OsStr::new("/tree")];
    let put = setup.cairn(arguments, b"").await;
    assert_eq!(put.code, 0, "{}", put.stderr);
    let arguments =
        [OsStr::new("fs"), OsStr::new("get"), OsStr::new("-r"), OsStr::new("/tree"), back.as_os_str()];
    let got = setup.cairn(arguments, b"").await;
    assert_eq!(got.code, 0, "{}", got.stderr);
    let (wanted, found) = (look(&planted), look(&back));
    for (path, seen) in &wanted {
        assert!(found.get(path) == Some(seen), "{} differs or is missing", path.display());
    }
    assert_eq!(found.len(), wanted.len());

    // The listing has every name, in order, with sizes.
    let listed = setup.cairn(["fs", "ls", "-lR", "/tree"], b"").await;
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    for (path, seen) in &wanted {
        let name = path.file_name().unwrap().as_bytes();
        let there = listed.stdout.split(|b| *b == b'\n').any(|line| match seen {
            Seen::Directory => line.starts_with(b"d") && line.ends_with(name),
            Seen::File(_, body) => {
                let text = String::from_utf8_lossy(line).into_owned();
                line.starts_with(b"-") && line.ends_with(name) && text.contains(&format!(" {} ", body.len()))
            }
            Seen::Link(to) => line.starts_with(b"l") && line.ends_with(to.as_os_str().as_bytes()),
        });
        assert!(there, "{} is not in the listing", path.display());
    }
    assert!(listed.text().contains("-rwxr-x---"), "the script's mode is not shown");
    let names = setup.fs("ls /tree/dir0/sub").await;
    let mut sorted: Vec<&str> = names.lines().collect();
    sorted.sort_unstable();
    assert_eq!(names.lines().collect::<Vec<_>>(), sorted);
    assert_eq!(sorted.len(), 25);
    // Put again: the same, replaced.
    let dir0 = planted.join("dir0");
    let arguments = ["fs", "put", "-r", "--json"].map(OsStr::new);
    let arguments = arguments.into_iter().chain([dir0.as_os_str(), OsStr::new("/tree")]);
    let again = setup.cairn(arguments, b"").await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    let summary: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(summary["files"], 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_moved_copied_linked_and_removed() {
    let setup = Setup::start().await;
    setup.fs("mkdir -p /a/b/c").await;
    setup.fs("mkdir -p /a/b/c").await;
    setup.fails("mkdir /a", 1).await;
    let body = b"the content\n".repeat(1000);
    assert_eq!(setup.cairn(["fs", "put", "-", "/a/file"], &body).await.code, 0);
    let cat = setup.cairn(["fs", "cat", "/a/file"], b"").await;
    assert!(cat.stdout == body);
    let part = setup.cairn(["fs", "cat", "--offset", "4", "--length", "7", "/a/file"], b"").await;
    assert_eq!(part.stdout, b"content");

    setup.fs("cp /a/file /a/b").await;
    assert!(setup.cairn(["fs", "cat", "/a/b/file"], b"").await.stdout == body);
    setup.fails("cp /a /copy", 2).await;
    setup.fs("cp -r /a /copy").await;
    assert!(setup.cairn(["fs", "cat", "/copy/b/file"], b"").await.stdout == body);
    setup.fails("cp -r /a /a/b/c", 2).await;

    setup.fs("mv /copy /moved").await;
    setup.fails("stat /copy", 1).await;
    setup.fails("mv -n /a/file /moved/file", 1).await;
    setup.fs("mv --exchange /a /moved").await;
    setup.fs("mv /moved/file /a").await;
    setup.fails("mv /a /a/b/inside", 1).await;

    setup.fs("ln -s /a/file /link").await;
    assert!(setup.cairn(["fs", "cat", "/link"], b"").await.stdout == body);
    assert!(setup.fs("stat -P /link").await.contains("to: /a/file"));
    setup.fs("ln /a/file /hard").await;
    assert!(setup.fs("stat /hard").await.contains("links: 2"));
    setup.fs("rm /a/file").await;
    assert!(setup.cairn(["fs", "cat", "/hard"], b"").await.stdout == body);
    setup.fails("cat /link", 1).await;

    setup.fails("rm /a", 1).await;
    setup.fs("rm -r /a /moved").await;
    setup.fails("rm /a", 1).await;
    setup.fs("rm -f /a").await;
    assert_eq!(setup.fs("ls /").await, "hard\nlink\n");
    // `..` is resolved by its text.
    setup.fs("stat /x/../hard").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_trees_and_json_are_shown() {
    let setup = Setup::start().await;
    setup.fs("mkdir -p /t/one /t/two").await;
    for (path, size) in [("/t/top", 10), ("/t/one/a", 100), ("/t/two/b", 1000)] {
        assert_eq!(setup.cairn(["fs", "put", "-", path], &vec![b'x'; size]).await.code, 0);
    }
    setup.fs("ln /t/top /t/one/again").await;
    assert_eq!(setup.fs("du -s /t").await.trim(), "1110\t/t");
    let du = setup.fs("du --json /t").await;
    let sums: Vec<serde_json::Value> = du.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(sums.last().unwrap()["bytes"], 1110);
    assert_eq!(sums.len(), 3);
    let tree = setup.fs("tree /t").await;
    assert_eq!(
        tree,
        "/t\n├── one\n│   ├── a\n│   └── again\n├── top\n└── two\n    └── b\n\n2 directories, 4 files\n"
    );
    let listed = setup.fs("ls --json /t").await;
    let entries: Vec<serde_json::Value> = listed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1]["path"], "/t/top");
    assert_eq!(entries[1]["size"], 10);
    assert_eq!(entries[1]["nlink"], 2);
    assert_eq!(entries[0]["kind"], "directory");
    let stat: serde_json::Value = serde_json::from_str(&setup.fs("stat --json /t/two/b").await).unwrap();
    assert_eq!(stat["size"], 1000);
    let status = setup.cairn(["status", "--json"], b"").await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(status["leader"], 1);
    let shown = setup.cairn(["status"], b"").await.text();
    for word in ["cluster", "leader", "alive", "lag", "term"] {
        assert!(shown.contains(word), "no '{word}' in:\n{shown}");
    }
    assert_eq!(setup.fs("ls --limit 1 --start-after one /t").await, "top\n");
    let set = setup.cairn(["policy", "set", "/t", "--max-lag-age", "5s", "--json"], b"").await;
    let policy: serde_json::Value = serde_json::from_slice(&set.stdout).unwrap();
    assert_eq!(policy["max_lag_ms"], 5000);
    let stat: serde_json::Value = serde_json::from_str(&setup.fs("stat --json /t/two/b").await).unwrap();
    assert_eq!(
        (&stat["policy"]["max_lag_ms"], &stat["policy"]["from"]),
        (&serde_json::json!(5000), &serde_json::json!("/t"))
    );
    let completions = setup.cairn(["completions", "bash"], b"").await;
    assert!(completions.code == 0 && completions.text().contains("_cairn"));
    for verb in ["explain", "policy", "lag", "--max-lag-bytes"] {
        assert!(completions.text().contains(verb), "no completion of {verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_appended_and_followed() {
    let setup = Setup::start().await;
    let first = setup.cairn(["fs", "append", "/log"], b"hello\n").await;
    assert_eq!((first.code, first.text().as_str()), (0, "0\n"), "{}", first.stderr);
    assert_eq!(setup.fs("append /log word").await, "6\n");
    let lines: String = (0..500).map(|n| format!("line {n}\n")).collect();
    let appended = setup.cairn(["fs", "append", "--lines", "/log"], lines.as_bytes()).await;
    assert_eq!(appended.code, 0, "{}", appended.stderr);
    let offsets: Vec<u64> = appended.text().lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(offsets.len(), 500);
    assert_eq!(offsets[0], 10);
    assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]));
    let whole = setup.cairn(["fs", "cat", "/log"], b"").await.text();
    assert_eq!(whole, format!("hello\nword{lines}"));
    assert_eq!(setup.fs("tail -n 2 /log").await, "line 498\nline 499\n");
    assert_eq!(setup.fs("tail -c 9 /log").await, "line 499\n");
    // Only if nobody else has: the compare-and-set of logs.
    let end = whole.len();
    setup.fs(&format!("append --expect {end} /log x")).await;
    let refused = setup.fails(&format!("append --at {end} /log y"), 1).await;
    assert!(refused.contains(&format!("{}", end + 1)), "{refused}");
    setup.fs("append --exclusive /log z").await;
    assert!(setup.fs("tail -c 2 /log").await.ends_with("xz"));
    setup.fs("sync /log").await;
    let empty = setup.cairn(["fs", "append", "/log"], b"").await;
    assert_eq!(empty.code, 1, "{}", empty.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_happened() {
    let mut setup = Setup::start().await;
    setup.fs("ls /").await;
    for (line, code, says) in [
        ("stat /none", 1, "no such file"),
        ("cat /", 1, "directory"),
        ("mkdir /x/y", 1, "no such file"),
        ("ls relative", 2, "relative"),
        ("frobnicate", 2, "frobnicate"),
        ("put -r /nonexistent/local /x", 1, "/nonexistent/local"),
        ("get /none /tmp/x", 1, "/none"),
    ] {
        let told = setup.fails(line, code).await;
        assert!(told.contains(says), "cairn fs {line}: {told}");
    }
    setup.cluster.kill_all();
    let mut command = setup.cluster.cli();
    command.args(["--retry-seconds", "2", "fs", "ls", "/"]);
    let unreachable = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(unreachable.code, 3, "{}", unreachable.stderr);
    assert!(unreachable.stderr.contains(setup.cluster.metas[0].address()), "{}", unreachable.stderr);
}
