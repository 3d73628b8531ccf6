//! Imports from stores of any order, with names of any kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::understore::memory::{Fault, MemoryStore};
use crate::understore::suite::{object, random_bytes};
use crate::understore::test_endpoint::s3_for_tests;
use crate::understore::{
    Capabilities, Fetched, ListPage, ListRequest, NewObject, ObjectHead, PutOutcome, UnderStore,
    UnderStoreError,
};

pub(super) async fn run(
    store: &dyn UnderStore,
    prefix: &str,
    start_after: &str,
) -> Result<(ImportSummary, Vec<v1::ImportedBatch>), ImportError> {
    let work = v1::Import {
        mount: 3,
        directory: 9,
        prefix: Bytes::from(prefix.to_owned()),
        start_after: Bytes::from(start_after.to_owned()),
        ..v1::Import::default()
    };
    run_work(store, work).await
}

pub(super) async fn run_work(
    store: &dyn UnderStore,
    work: v1::Import,
) -> Result<(ImportSummary, Vec<v1::ImportedBatch>), ImportError> {
    let (send, mut receive) = mpsc::channel(1);
    let gather = async {
        let mut batches = Vec::new();
        while let Some(batch) = receive.recv().await {
            batches.push(batch);
        }
        batches
    };
    let import = async {
        let outcome = Imports::default().import(store, &work, &send).await;
        drop(send);
        outcome
    };
    let (outcome, batches) = tokio::join!(import, gather);
    outcome.map(|summary| (summary, batches))
}

/// The ranges join without gap or overlap from `start_after` to the end, and hold their entries.
pub(super) fn check_ranges(start_after: &str, batches: &[v1::ImportedBatch]) {
    let mut at = Bytes::from(start_after.to_owned());
    for (n, batch) in batches.iter().enumerate() {
        assert_eq!((batch.mount, batch.directory), (3, 9));
        assert_eq!(batch.start_after, at);
        assert_eq!(batch.end.is_empty(), n + 1 == batches.len(), "only the last is open");
        assert!(batch.entries.len() <= BATCH_ENTRIES_MAX);
        for entry in &batch.entries {
            assert!(entry.name > at, "{:?} after {at:?}", entry.name);
            at = entry.name.clone();
        }
        assert!(batch.end.is_empty() || batch.end == at);
    }
}

pub(super) fn listed(batches: &[v1::ImportedBatch]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    batches
        .iter()
        .flat_map(|batch| &batch.entries)
        .map(|entry| {
            let kind = if entry.directory { "d" } else { "f" };
            format!("{kind} {} <- {}", text(&entry.name), text(&entry.key))
        })
        .collect()
}

#[tokio::test]
async fn keys_become_names_in_name_order() {
    let store = MemoryStore::default();
    let keys =
        ["p/", "p/b", "p/a/x", "p/a/y/z", "p/a-b", "p/a.c", "p/c/", "p//odd", "p/./x", "p/../x", "q", "pp"];
    for key in keys {
        store.replace(key, "12345");
    }
    store.replace(&format!("p/{}", "n".repeat(255)), "x");
    store.replace(&format!("p/{}", "n".repeat(256)), "x");
    for prefix in ["p/", "p"] {
        let (summary, batches) = run(&store, prefix, "").await.unwrap();
        check_ranges("", &batches);
        let long = format!("f {0} <- p/{0}", "n".repeat(255));
        let expected =
            ["d a <- p/a/", "f a-b <- p/a-b", "f a.c <- p/a.c", "f b <- p/b", "d c <- p/c/", &long];
        assert_eq!(listed(&batches), expected);
        // Also the marker: it holds bytes.
        assert_eq!(summary, ImportSummary { entries: 6, skipped: 5, shadowed: 0 });
        let file = &batches[0].entries[1];
        assert!(file.size == 5 && file.etag.starts_with("etag-"), "{file:?}");
    }
}

#[tokio::test]
async fn a_directory_wins_over_an_object_of_its_name() {
    let store = MemoryStore::default();
    for key in ["a", "a/x", "b", "b/x", "b.cairn-object"] {
        store.replace(key, key.to_owned());
    }
    let (summary, batches) = run(&store, "", "").await.unwrap();
    check_ranges("", &batches);
    let expected = ["d a <- a/", "f a.cairn-object <- a", "d b <- b/", "f b.cairn-object <- b.cairn-object"];
    assert_eq!(listed(&batches), expected);
    assert_eq!(summary, ImportSummary { entries: 4, skipped: 1, shadowed: 1 });
    assert_eq!(batches[0].entries[1].size, 1);
}

#[tokio::test]
async fn large_directories_go_out_in_batches_and_resume() {
    let store = MemoryStore::default();
    for n in 0..2_500 {
        store.replace(&format!("d/{n:04}"), "x");
    }
    let (summary, batches) = run(&store, "d/", "").await.unwrap();
    check_ranges("", &batches);
    assert_eq!(batches.iter().map(|batch| batch.entries.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
    assert_eq!(summary.entries, 2_500);
    let (summary, batches) = run(&store, "d/", "1999").await.unwrap();
    check_ranges("1999", &batches);
    assert_eq!(summary.entries, 500);
    // Nothing left, and nothing at all, are one empty batch: the range is known to be empty.
    for (prefix, after) in [("d/", "9"), ("e/", "")] {
        let (_, batches) = run(&store, prefix, after).await.unwrap();
        check_ranges(after, &batches);
        assert_eq!((batches.len(), batches[0].entries.len()), (1, 0));
    }
    // Exactly full batches end with the last full one.
    for n in 0..1_000 {
        store.replace(&format!("full/{n:04}"), "x");
    }
    let (_, batches) = run(&store, "full/", "").await.unwrap();
    check_ranges("", &batches);
    assert_eq!(batches.len(), 1);
}

#[tokio::test]
async fn a_failed_listing_sends_nothing() {
    let store = MemoryStore::default();
    store.replace("a", "x");
    store.fail_next(Fault::Unreachable);
    let error = run(&store, "", "").await.unwrap_err();
    assert_eq!(error, ImportError::Store(UnderStoreError::Unreachable));
    assert!(!error.permanent());
    assert!(ImportError::Store(UnderStoreError::NoSuchBucket { bucket: "b".into() }).permanent());
    // And one whose reader is gone stops.
    let (send, receive) = mpsc::channel(1);
    drop(receive);
    let stopped = Imports::default().import(&store, &v1::Import::default(), &send).await;
    assert_eq!(stopped, Err(ImportError::Stopped));
}

#[tokio::test]
async fn a_directory_larger_than_the_memory_for_it_is_refused() {
    let store = MemoryStore::default();
    for n in 0..200 {
        store.replace(&format!("{n:04}"), "x");
    }
    let (send, mut receive) = mpsc::channel(8);
    // 160 names of 32 bytes.
    let imports = Imports::new(200 * 160);
    let error = imports.import(&store, &v1::Import::default(), &send).await.unwrap_err();
    assert_eq!(error, ImportError::TooManyNames { names_max: 160, text_mib: 0 });
    assert!(error.permanent());
    assert!(receive.try_recv().is_err(), "nothing was sent");
    // Larger than two may be at once, one after the other: each gives its turn back.
    let imports = Imports::new(200 * 201);
    for _ in 0..3 {
        let summary = imports.import(&store, &v1::Import::default(), &send).await.unwrap();
        assert_eq!(summary.entries, 200);
        assert_eq!(receive.recv().await.unwrap().entries.len(), 200);
    }
}

/// Pages in an order of its own.
struct Shuffled {
    pages: Vec<ListPage>,
}

#[async_trait]
impl UnderStore for Shuffled {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError> {
        let at: usize = request.continuation.as_deref().map_or(0, |text| text.parse().unwrap());
        let continuation = (at + 1 < self.pages.len()).then(|| (at + 1).to_string());
        Ok(ListPage { continuation, ..self.pages[at].clone() })
    }

    async fn put_new(&self, _: &str, _: NewObject) -> Result<PutOutcome, UnderStoreError> {
        Err(UnderStoreError::Unreachable)
    }

    async fn head(&self, _: &str) -> Result<ObjectHead, UnderStoreError> {
        Err(UnderStoreError::Unreachable)
    }

    async fn get_range(
        &self,
        _: &str,
        _: std::ops::Range<u64>,
        _: Option<&str>,
    ) -> Result<Fetched, UnderStoreError> {
        Err(UnderStoreError::Unreachable)
    }

    async fn delete(&self, _: &str, _: Option<&str>) -> Result<(), UnderStoreError> {
        Err(UnderStoreError::Unreachable)
    }

    async fn probe(&self, _: &str) -> Result<Capabilities, UnderStoreError> {
        Err(UnderStoreError::Unreachable)
    }

    fn describe(&self) -> String {
        "shuffled".to_owned()
    }
}

#[tokio::test]
async fn a_directory_of_over_a_million_names_is_refused_with_the_bounds() {
    const PAGE: usize = 1_000;
    let page = |page: usize| ListPage {
        prefixes: (0..PAGE).map(|n| format!("{page}-{n}/")).collect(),
        ..ListPage::default()
    };
    let mut pages: Vec<ListPage> = (0..NAMES_MAX / PAGE).map(page).collect();
    pages.push(ListPage { prefixes: vec!["one more/".to_owned()], ..ListPage::default() });
    let error = run(&Shuffled { pages }, "", "").await.unwrap_err();
    let message = "the directory has over 1000000 names or 128 MiB of them: mount a longer prefix";
    assert_eq!(error.to_string(), message);
    assert!(error.permanent(), "asking again cannot help");
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_refused() {
    struct Circle(Shuffled);
    let circle = Circle(Shuffled { pages: Vec::new() });
    #[async_trait]
    impl UnderStore for Circle {
        async fn list(&self, _: &ListRequest) -> Result<ListPage, UnderStoreError> {
            Ok(ListPage { continuation: Some("again".to_owned()), ..ListPage::default() })
        }
        async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
            self.0.put_new(key, object).await
        }
        async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError> {
            self.0.head(key).await
        }
        async fn get_range(
            &self,
            key: &str,
            range: std::ops::Range<u64>,
            if_match: Option<&str>,
        ) -> Result<Fetched, UnderStoreError> {
            self.0.get_range(key, range, if_match).await
        }
        async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError> {
            self.0.delete(key, if_match).await
        }
        async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError> {
            self.0.probe(scratch).await
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }
    assert_eq!(run(&circle, "", "").await.unwrap_err(), ImportError::Endless);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order and the cut of the pages, with repeats: each name once, in order.
    #[test]
    fn any_order_of_pages_gives_the_same_names(
        names in prop::collection::vec(("[a-c./-]{1,4}", any::<bool>()), 0..60),
        cut in 1usize..9,
    ) {
        let mut pages = vec![ListPage::default()];
        let (mut directories, mut files) = (BTreeSet::new(), BTreeSet::new());
        for (n, (name, directory)) in names.iter().enumerate() {
            let page = pages.last_mut().unwrap();
            let name = name.replace('/', "-");
            if *directory {
                page.prefixes.push(format!("{name}/"));
            } else {
                let etag = "e".to_owned();
                let listed = crate::understore::ListedObject {
                    key: name.clone(), size: 1, etag, mtime: cairn_types::Timestamp(0),
                };
                page.objects.push(listed);
            }
            if name != "." && name != ".." {
                if *directory { directories.insert(name) } else { files.insert(name) };
            }
            if n % cut == 0 {
                pages.push(ListPage::default());
            }
        }
        let mut expected: BTreeSet<String> = directories.iter().map(|name| format!("{name} d")).collect();
        expected.extend(files.difference(&directories).map(|name| format!("{name} f")));
        expected.extend(files.intersection(&directories).map(|name| format!("{name}{SHADOWED_SUFFIX} f")));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, batches) = runtime.block_on(run(&Shuffled { pages }, "", "")).unwrap();
        check_ranges("", &batches);
        let found: BTreeSet<String> = batches.iter().flat_map(|batch| &batch.entries).map(|entry| {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            format!("{name} {}", if entry.directory { "d" } else { "f" })
        }).collect();
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn s3() {
    let store = s3_for_tests().await;
    let store = Arc::new(store);
    let keys = ["d/a-b", "d/a/x", "d/b c", "d/ä", "d/z/1", "d/z/2", "e"];
    for key in keys {
        store.put_new(key, object(&random_bytes(7))).await.unwrap();
    }
    let (summary, batches) = run(store.as_ref(), "d/", "").await.unwrap();
    check_ranges("", &batches);
    let expected = ["d a <- d/a/", "f a-b <- d/a-b", "f b c <- d/b c", "d z <- d/z/", "f ä <- d/ä"];
    assert_eq!(listed(&batches), expected);
    assert_eq!(summary, ImportSummary { entries: 5, skipped: 0, shadowed: 0 });
    assert!(batches[0].entries[1].mtime_ns > 1_500_000_000_000_000_000);
    for key in keys {
        store.delete(key, None).await.unwrap();
    }
}
