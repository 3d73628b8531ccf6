//! One suite for all under-stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::SystemClock;
use cairn_types::random::{Random, SystemRandom};
use futures::{StreamExt, TryStreamExt};

use super::memory::MemoryStore;
use super::test_endpoint::s3_for_tests;
use super::*;

pub(crate) fn object(bytes: &Bytes) -> NewObject {
    // Odd pieces, so that no part's edge is a piece's edge.
    let pieces: Vec<_> = bytes.chunks(777_777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    NewObject {
        length: bytes.len() as u64,
        crc32c: crc32c::crc32c(bytes),
        metadata: BTreeMap::from([("cairn-test".to_owned(), "1".to_owned())]),
        body: futures::stream::iter(pieces).boxed(),
    }
}

pub(crate) fn random_bytes(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    SystemRandom.fill(&mut bytes);
    bytes.into()
}

async fn read_all(store: &dyn UnderStore, key: &str) -> Bytes {
    let head = store.head(key).await.unwrap();
    let mut read = Vec::new();
    while (read.len() as u64) < head.size {
        let at = read.len() as u64;
        let end = head.size.min(at + GET_BYTES_MAX);
        read.extend_from_slice(&store.get_range(key, at..end, Some(&head.etag)).await.unwrap().bytes);
    }
    read.into()
}

async fn suite(store: &dyn UnderStore) {
    what_is_written_is_read_back(store, "a/small", 1_000).await;
    what_is_written_is_read_back(store, "a/empty", 0).await;
    what_is_written_is_read_back(store, "a/parts", (20 << 20) + 7).await;
    a_key_is_written_once(store, 10).await;
    a_key_is_written_once(store, 17 << 20).await;
    of_many_racers_one_wins(store).await;
    a_body_that_is_not_as_announced_leaves_nothing(store).await;
    ranges_are_exact_and_conditional(store).await;
    what_is_missing_is_said(store).await;
    a_delete_is_conditional_and_repeatable(store).await;
    listings_are_complete_and_paged(store).await;
    a_probe_leaves_nothing(store).await;
}

async fn what_is_written_is_read_back(store: &dyn UnderStore, key: &str, length: usize) {
    let bytes = random_bytes(length);
    let PutOutcome::Created { etag } = store.put_new(key, object(&bytes)).await.unwrap() else {
        panic!("{key} existed");
    };
    let head = store.head(key).await.unwrap();
    assert_eq!((head.size, &head.etag), (length as u64, &etag), "{key}");
    assert!(!etag.is_empty() && !etag.contains('"'), "{etag}");
    assert!(has_checksum(store, key, &head, crc32c::crc32c(&bytes)).await.unwrap(), "{key}");
    assert!(!has_checksum(store, key, &head, crc32c::crc32c(&bytes) ^ 1).await.unwrap(), "{key}");
    assert!(read_all(store, key).await == bytes, "{key}");
}

async fn a_key_is_written_once(store: &dyn UnderStore, length: usize) {
    let key = format!("once/{length}");
    let first = random_bytes(length);
    assert!(matches!(store.put_new(&key, object(&first)).await.unwrap(), PutOutcome::Created { .. }));
    let second = random_bytes(length);
    assert_eq!(store.put_new(&key, object(&second)).await.unwrap(), PutOutcome::Exists);
    assert!(read_all(store, &key).await == first);
}

async fn of_many_racers_one_wins(store: &dyn UnderStore) {
    let bodies: Vec<Bytes> = (0..8).map(|_| random_bytes(5_000)).collect();
    let racers = bodies.iter().map(|bytes| store.put_new("race", object(bytes)));
    let outcomes = futures::future::try_join_all(racers).await.unwrap();
    let winners: Vec<usize> = (0..8).filter(|n| matches!(outcomes[*n], PutOutcome::Created { .. })).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert!(read_all(store, "race").await == bodies[winners[0]]);
}

async fn a_body_that_is_not_as_announced_leaves_nothing(store: &dyn UnderStore) {
    for length in [1_000, 17 << 20] {
        let bytes = random_bytes(length);
        let failing = futures::stream::iter([Ok(bytes.slice(..length / 2)), Err(BodyFailed)]).boxed();
        let bad = [
            NewObject { body: failing, ..object(&bytes) },
            NewObject { length: length as u64 + 1, ..object(&bytes) },
            NewObject { length: length as u64 - 1, ..object(&bytes) },
            NewObject { crc32c: 1, ..object(&bytes) },
        ];
        for (n, object) in bad.into_iter().enumerate() {
            let key = format!("bad/{length}-{n}");
            let error = store.put_new(&key, object).await.unwrap_err();
            assert_eq!(error, UnderStoreError::Body(BodyFailed), "{key}");
            let error = store.head(&key).await.unwrap_err();
            assert_eq!(error, UnderStoreError::NoSuchKey { key: key.clone() });
        }
    }
}

async fn ranges_are_exact_and_conditional(store: &dyn UnderStore) {
    let bytes = random_bytes(10_000);
    store.put_new("ranges", object(&bytes)).await.unwrap();
    let etag = store.head("ranges").await.unwrap().etag;
    for range in [0..1, 0..10_000, 9_999..10_000, 123..4_567] {
        let part = bytes.slice(range.start as usize..range.end as usize);
        let fetched = store.get_range("ranges", range, Some(&etag)).await.unwrap();
        assert_eq!(fetched, Fetched { bytes: part, etag: etag.clone(), size: 10_000 });
    }
    let past_the_end = store.get_range("ranges", 9_000..11_000, None).await.unwrap();
    assert_eq!(past_the_end.bytes, bytes.slice(9_000..));
    let changed = store.get_range("ranges", 0..1, Some("0123")).await.unwrap_err();
    assert_eq!(changed, UnderStoreError::PreconditionFailed { key: "ranges".to_owned() });
    assert!(store.get_range("ranges", 0..GET_BYTES_MAX + 1, None).await.is_err());
    assert!(store.get_range("ranges", 5..5, None).await.is_err());
}

async fn what_is_missing_is_said(store: &dyn UnderStore) {
    let missing = UnderStoreError::NoSuchKey { key: "nowhere".to_owned() };
    assert_eq!(store.head("nowhere").await.unwrap_err(), missing);
    assert_eq!(store.get_range("nowhere", 0..1, None).await.unwrap_err(), missing);
    let page = store.list(&ListRequest { prefix: "nowhere/".to_owned(), ..ListRequest::default() }).await;
    assert_eq!(page.unwrap(), ListPage::default());
}

async fn a_delete_is_conditional_and_repeatable(store: &dyn UnderStore) {
    store.put_new("gone", object(&random_bytes(10))).await.unwrap();
    let etag = store.head("gone").await.unwrap().etag;
    if store.probe("probe-delete/").await.unwrap().delete_if_match {
        let kept = store.delete("gone", Some("0123")).await.unwrap_err();
        assert_eq!(kept, UnderStoreError::PreconditionFailed { key: "gone".to_owned() });
        assert!(store.head("gone").await.is_ok());
    }
    store.delete("gone", Some(&etag)).await.unwrap();
    assert!(store.head("gone").await.is_err());
    store.delete("gone", None).await.unwrap();
}

async fn listings_are_complete_and_paged(store: &dyn UnderStore) {
    let names = ["a", "a-b", "b/1", "b/2", "b c+d%e", "c/d/e", "ä", "z"];
    for name in names {
        store.put_new(&format!("list/{name}"), object(&random_bytes(3))).await.unwrap();
    }
    for max in [1, 2, 3, 1000] {
        let mut request =
            ListRequest { prefix: "list/".to_owned(), delimiter: true, max, ..Default::default() };
        let (mut objects, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let page = store.list(&request).await.unwrap();
            assert!(page.objects.len() + page.prefixes.len() <= usize::from(max));
            for object in page.objects {
                assert!(object.size == 3 && !object.etag.is_empty() && !object.etag.contains('"'));
                assert!(objects.insert(object.key.clone()), "{} twice", object.key);
            }
            for prefix in page.prefixes {
                assert!(prefixes.insert(prefix.clone()), "{prefix} twice");
            }
            request.continuation = page.continuation;
            if request.continuation.is_none() {
                break;
            }
        }
        let expected = ["a", "a-b", "b c+d%e", "z", "ä"].map(|name| format!("list/{name}"));
        assert!(objects.iter().eq(expected.iter()), "{objects:?}");
        assert!(prefixes.iter().eq(["list/b/", "list/c/"]), "{prefixes:?}");
    }
    let after = ListRequest {
        prefix: "list/".to_owned(),
        start_after: Some("list/b c+d%e".to_owned()),
        ..ListRequest::default()
    };
    let keys: BTreeSet<String> =
        store.list(&after).await.unwrap().objects.into_iter().map(|o| o.key).collect();
    assert!(keys.contains("list/z") && !keys.contains("list/a"), "{keys:?}");
}

async fn a_probe_leaves_nothing(store: &dyn UnderStore) {
    let found = store.probe("probe/").await.unwrap();
    assert!(found.put_if_absent && found.complete_if_absent && found.get_if_match, "{found:?}");
    let left = store.list(&ListRequest { prefix: "probe/".to_owned(), ..ListRequest::default() }).await;
    assert_eq!(left.unwrap(), ListPage::default());
}

#[tokio::test]
async fn memory() {
    suite(&MemoryStore::default()).await;
    suite(&MemoryStore::with_checksums()).await;
}

#[tokio::test]
async fn directory() {
    let home = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(home.path(), &SystemClock, &SystemRandom).await.unwrap();
    suite(&MeteredStore::new(store, Arc::new(SystemClock))).await;
    let staged: Vec<_> = std::fs::read_dir(home.path().join(".cairn-staging")).unwrap().collect();
    assert!(staged.is_empty(), "{staged:?}");
    // Opened again, what was written is still there, and nothing else.
    let again = DirectoryStore::open(home.path(), &SystemClock, &SystemRandom).await.unwrap();
    assert_eq!(again.head("a/small").await.unwrap().size, 1_000);
    assert!(matches!(again.head("../x").await, Err(UnderStoreError::InvalidKey { .. })));
}

#[tokio::test]
async fn a_directory_forgets_what_a_crash_left() {
    let home = tempfile::tempdir().unwrap();
    let staging = home.path().join(".cairn-staging");
    std::fs::create_dir(&staging).unwrap();
    let (old, new) = (staging.join("old-0"), staging.join("new-0"));
    for path in [&old, &new] {
        std::fs::write(path, b"half").unwrap();
    }
    let yesterday = std::fs::metadata(&old).unwrap().modified().unwrap() - Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    let store = DirectoryStore::open(home.path(), &SystemClock, &SystemRandom).await.unwrap();
    assert!(!old.exists() && new.exists());
    assert_eq!(store.list(&ListRequest::default()).await.unwrap(), ListPage::default());
}

#[tokio::test]
async fn s3() {
    let store = s3_for_tests().await;
    suite(&MeteredStore::new(store.clone(), Arc::new(SystemClock))).await;
    // Failed uploads leave no parts behind.
    let uploads = store.client.list_multipart_uploads().bucket(&store.bucket).send().await.unwrap();
    let left: Vec<_> = uploads
        .uploads()
        .iter()
        .filter_map(|upload| upload.key())
        .filter(|key| key.starts_with(&store.full_key("")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    remove_all(&store).await;
}

#[tokio::test]
async fn an_upload_that_was_left_behind_is_aborted() {
    let store = s3_for_tests().await;
    let key = store.full_key("packs/left");
    let begun = store.client.create_multipart_upload().bucket(&store.bucket).key(&key).send().await.unwrap();
    let metered = MeteredStore::new(store.clone(), Arc::new(SystemClock));
    assert_eq!(metered.abort_abandoned("packs/", Timestamp(0)).await, Ok(0), "it is not old");
    assert_eq!(metered.abort_abandoned("other/", Timestamp(i64::MAX)).await, Ok(0), "it is not there");
    assert_eq!(metered.count_abandoned("packs/", Timestamp(i64::MAX)).await, Ok(1));
    assert_eq!(metered.abort_abandoned("packs/", Timestamp(i64::MAX)).await, Ok(1));
    assert_eq!(metered.count_abandoned("packs/", Timestamp(i64::MAX)).await, Ok(0));
    let parts = store.client.list_parts().bucket(&store.bucket).key(&key);
    assert!(parts.set_upload_id(begun.upload_id().map(ToOwned::to_owned)).send().await.is_err());
}

#[tokio::test]
async fn an_s3_that_cannot_be_used_says_why() {
    let store = s3_for_tests().await;
    let mut nowhere = store.clone();
    nowhere.bucket = "cairn-no-such-bucket".to_owned();
    let missing = UnderStoreError::NoSuchBucket { bucket: nowhere.bucket.clone() };
    // Not by a PUT: SeaweedFS makes a bucket that is missing.
    assert_eq!(nowhere.list(&ListRequest::default()).await.unwrap_err(), missing);
    let wrong = aws_credential_types::Credentials::new("AKIAWRONG", "wrong", None, None, "test");
    let mut stranger = store.clone();
    let config = store.client.config().to_builder().credentials_provider(wrong).build();
    stranger.client = aws_sdk_s3::Client::from_conf(config);
    let denied = stranger.put_new("x", object(&random_bytes(10))).await.unwrap_err();
    assert!(matches!(denied, UnderStoreError::Denied { .. }), "{denied:?}");
    let denied = stranger.head("x").await.unwrap_err();
    assert!(matches!(denied, UnderStoreError::Denied { .. }), "{denied:?}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_unreachable() {
    // A port that was free a moment ago: refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let bucket =
        MountBucket { bucket: "b".to_owned(), endpoint, force_path_style: true, ..Default::default() };
    let mut store = S3Clients::load(Duration::from_millis(500)).await.store(&bucket, "");
    let keys = aws_credential_types::Credentials::new("a", "b", None, None, "test");
    let config = store.client.config().to_builder().credentials_provider(keys).build();
    store.client = aws_sdk_s3::Client::from_conf(config);
    assert_eq!(store.head("x").await.unwrap_err(), UnderStoreError::Unreachable);
    // A port that accepts and says nothing: a timeout.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let config = store.client.config().to_builder().endpoint_url(endpoint).build();
    store.client = aws_sdk_s3::Client::from_conf(config);
    assert_eq!(store.head("x").await.unwrap_err(), UnderStoreError::Unreachable);
}

async fn remove_all(store: &S3Store) {
    let mut request = ListRequest::default();
    loop {
        let page = store.list(&request).await.unwrap();
        futures::stream::iter(page.objects.into_iter().map(Ok))
            .try_for_each_concurrent(8, |object| async move { store.delete(&object.key, None).await })
            .await
            .unwrap();
        request.continuation = page.continuation;
        if request.continuation.is_none() {
            return;
        }
    }
}
