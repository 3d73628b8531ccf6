//! Keys that make odd names: each has its stated answer.

use bytes::Bytes;
use cairn_proto::v1;

use super::import_tests::{check_ranges, listed, run, run_work};
use super::*;
use crate::understore::memory::MemoryStore;

/// What a directory with these keys shows, and how many it counts as left out and as shadowed.
async fn shown(prefix: &str, keys: &[(&str, &'static str)]) -> (Vec<String>, u64, u64) {
    let store = MemoryStore::default();
    for (key, body) in keys {
        store.replace(key, *body);
    }
    let (summary, batches) = run(&store, prefix, "").await.unwrap();
    check_ranges("", &batches);
    (listed(&batches), summary.skipped, summary.shadowed)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn an_object_beside_a_directory_of_its_name_has_a_longer_one() {
    let found = shown("", &[("a", "x"), ("a/b", "y")]).await;
    assert_eq!(found, (names(&["d a <- a/", "f a.cairn-object <- a"]), 0, 1));
    // Until another object has that name.
    let found = shown("", &[("a", "x"), ("a/b", "y"), ("a.cairn-object", "z")]).await;
    assert_eq!(found, (names(&["d a <- a/", "f a.cairn-object <- a.cairn-object"]), 1, 0));
}

#[tokio::test]
async fn a_key_with_a_slash_at_its_end_is_a_directory() {
    let keys = [("d/", ""), ("e/", "bytes"), ("e/f", "x")];
    assert_eq!(shown("", &keys).await, (names(&["d d <- d/", "d e <- e/"]), 0, 0));
    // Its own marker is nothing in it; one with bytes is counted there.
    assert_eq!(shown("d/", &keys).await, (vec![], 0, 0));
    assert_eq!(shown("e/", &keys).await, (names(&["f f <- e/f"]), 1, 0));
}

#[tokio::test]
async fn empty_names_dots_and_nul_are_counted() {
    let keys = [("a//b", "x"), ("a/./b", "x"), ("a/../b", "x"), ("a/n\0l", "x"), ("a/...", "x"), ("//", "x")];
    assert_eq!(shown("a/", &keys).await, (names(&["f ... <- a/..."]), 4, 0));
    assert_eq!(shown("", &keys).await, (names(&["d a <- a/"]), 1, 0));
}

#[tokio::test]
async fn names_of_255_bytes_are_shown_and_longer_ones_counted() {
    let (fits, over) = ("n".repeat(255), "ü".repeat(128));
    let keys = [(fits.as_str(), "x"), (over.as_str(), "x")];
    assert_eq!(shown("", &keys).await, (vec![format!("f {fits} <- {fits}")], 1, 0));
    // One with a directory of its name has no room for the longer one.
    let below = format!("{fits}/b");
    let keys = [(fits.as_str(), "x"), (below.as_str(), "x")];
    assert_eq!(shown("", &keys).await, (vec![format!("d {fits} <- {fits}/")], 1, 0));
}

#[tokio::test]
async fn the_longest_keys_are_files() {
    // 1,024 bytes, S3's limit: three names of 255 and one of 256 with the slashes between.
    let part = "k".repeat(255);
    let directory = format!("{part}/{part}/{part}/");
    let key = format!("{directory}{}", "l".repeat(1024 - directory.len()));
    assert_eq!(key.len(), 1024);
    let over = shown(&directory, &[(key.as_str(), "x")]).await;
    assert_eq!(over, (vec![], 1, 0), "a name of 256 bytes");
    let key = format!("{directory}d/{}", "l".repeat(1022 - directory.len()));
    assert_eq!(key.len(), 1024);
    let found = shown(&format!("{directory}d/"), &[(key.as_str(), "x")]).await;
    assert_eq!(found, (vec![format!("f {} <- {key}", "l".repeat(254))], 0, 0));
}

#[tokio::test]
async fn objects_without_bytes_are_files() {
    let store = MemoryStore::default();
    store.replace("empty", "");
    let (_, batches) = run(&store, "", "").await.unwrap();
    let entry = &batches[0].entries[0];
    assert!(!entry.directory && entry.size == 0 && !entry.etag.is_empty(), "{entry:?}");
}

#[tokio::test]
async fn what_is_on_its_way_is_hidden_in_the_root_and_nowhere_else() {
    let store = MemoryStore::default();
    const TEMPORARY: &str = ".cairn-temporary";
    let below = format!("p/{TEMPORARY}/7");
    let deeper = format!("p/d/{TEMPORARY}/7");
    for key in [below.as_str(), deeper.as_str(), "p/a"] {
        store.replace(key, "x");
    }
    let import = |prefix: &str, root| v1::Import {
        mount: 3,
        directory: 9,
        prefix: Bytes::from(prefix.to_owned()),
        root,
        ..v1::Import::default()
    };
    let (summary, batches) = run_work(&store, import("p/", true)).await.unwrap();
    assert_eq!(listed(&batches), names(&["f a <- p/a", "d d <- p/d/"]));
    assert_eq!((summary.skipped, summary.shadowed), (0, 0), "it is not left out, it is ours");
    let (_, batches) = run_work(&store, import("p/d/", false)).await.unwrap();
    assert_eq!(listed(&batches), [format!("d {TEMPORARY} <- p/d/{TEMPORARY}/")]);
}
