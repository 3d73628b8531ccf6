//! Endpoints that lose answers, keep wrong bytes or look at no conditions; what they can do; deletions.

use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::{ClusterId, SystemRandom};
use futures::FutureExt;

use super::bench::{Bench, CLUSTER, MIB, all_abilities, chunk, memory, no_uploads_left, object, version};
use super::*;
use crate::understore::memory::{Fault, MemoryStore};
use crate::understore::s3_fault_tests::{Answer, endpoint, error, part, says};
use crate::understore::suite::random_bytes;
use crate::understore::test_endpoint::{moto_for_tests, s3_for_tests};
use crate::understore::{
    Condition, Inspected, ListRequest, MountedStore, Properties, UnderStore, UnderStoreError,
};

#[tokio::test]
async fn what_seaweedfs_and_moto_can_do_is_found_and_nothing_is_left() {
    let seaweed = s3_for_tests().await;
    let found = probe(&seaweed, "p/", true, &SystemRandom).await.unwrap();
    let expected = v1::EndpointAbilities {
        byte_order: false,
        crc32c: found.crc32c,
        crc64nvme: found.crc64nvme,
        ..all_abilities()
    };
    assert_eq!(found, expected);
    let moto = moto_for_tests().await;
    let found = probe(&moto, "p/", true, &SystemRandom).await.unwrap();
    // It does not look at the conditions of copies and of completions over a version, nor at checksums.
    let expected = v1::EndpointAbilities {
        complete_if_match: false,
        copy_if_absent: false,
        copy_if_match: false,
        copy_source_if_match: false,
        part_copy: false,
        crc32c: false,
        ..all_abilities()
    };
    assert_eq!(found, expected);
    for store in [&seaweed, &moto] {
        let page = store.list(&ListRequest::default()).await.unwrap();
        assert!(page.objects.is_empty(), "{page:?}");
        no_uploads_left(store).await;
    }
    // Nothing is written when nothing may be.
    seaweed.put("p/x", &Condition::Absent, &Properties::default(), Bytes::from_static(b"x")).await.unwrap();
    let found = probe(&seaweed, "p/", false, &SystemRandom).await.unwrap();
    assert!(found.get_if_match && !found.writable && !found.put_if_absent, "{found:?}");
}

#[tokio::test]
async fn what_a_store_in_memory_can_do_is_found() {
    let store = memory();
    let found = probe(&store, "p/", true, &SystemRandom).await.unwrap();
    assert_eq!(found, all_abilities());
    assert!(store.keys().is_empty() && store.uploads() == 0, "{:?}", store.keys());
    assert!(store.requests().iter().all(|request| request.contains("p/.cairn-temporary/probe-")));
    let nothing = MemoryStore::unconditional();
    let found = probe(&nothing, "p/", true, &SystemRandom).await.unwrap();
    let expected = v1::EndpointAbilities {
        writable: true,
        get_if_match: true,
        byte_order: true,
        ..v1::EndpointAbilities::default()
    };
    assert_eq!(found, expected);
    assert!(nothing.keys().is_empty(), "{:?}", nothing.keys());
    store.fail_next(Fault::Unreachable);
    assert_eq!(probe(&store, "", true, &SystemRandom).await, Err(UnderStoreError::Unreachable));
    let before = store.requests().len();
    probe(&store, "", false, &SystemRandom).await.unwrap();
    assert!(store.requests()[before..].iter().all(|request| request.starts_with("list ")));
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_in_the_object() {
    let store = memory();
    let bench = Bench::memory(&store, &[(1, random_bytes(20 * MIB))]);
    let source = bench.outside("source", &random_bytes(100)).await;
    let works = [
        bench.work(1, "whole", "", vec![chunk(1, 0, 100)]),
        bench.work(2, "parts", "", vec![chunk(1, 0, 20 * MIB)]),
        bench.work(3, "copied", "", vec![object("source", &source, 0, 100)]),
    ];
    for work in &works {
        // At every request in turn, its answer lost, not arrived, or refused for a while.
        for fault in [Fault::AnswerLost, Fault::Unreachable, Fault::SlowDown] {
            for at in 0..8 {
                store.remove(std::str::from_utf8(&work.key).unwrap());
                let before = store.requests().len();
                store.fail_after(at, fault);
                let mut tries = 1;
                let done = loop {
                    match bench.put(work).await {
                        Ok(done) => break done,
                        Err(error) => assert!(!error.permanent() && tries < 3, "{fault:?} {at}: {error:?}"),
                    }
                    tries += 1;
                };
                assert!(matches!(done, PutDone::Written { .. }), "{fault:?} {at}: {done:?}");
                let made = |request: &&String| {
                    ["put ", "complete ", "copy "].iter().any(|made| request.starts_with(made))
                };
                let attempts = store.requests()[before..].iter().filter(made).count();
                assert!(attempts <= 2, "{fault:?} {at}");
                store.no_faults();
            }
        }
    }
    assert_eq!(store.uploads(), 0);
}

#[tokio::test]
async fn wrong_bytes_are_found_and_written_again_or_taken_back() {
    // An endpoint that keeps no checksums.
    let store = MemoryStore::default();
    let bench = Bench::memory(&store, &[(1, random_bytes(20 * MIB))]);
    let there = bench.outside("there", &random_bytes(10)).await;
    store.fail_next(Fault::WrongBytes);
    bench.written(&bench.work(1, "there", &there.etag, vec![chunk(1, 0, 100)])).await;
    assert!(store.object("there").unwrap() == bench.chunks.chunks[&1][..100]);
    // A part, which is the third request after the look and the beginning.
    store.fail_after(2, Fault::WrongBytes);
    bench.written(&bench.work(2, "parts", "", vec![chunk(1, 0, 20 * MIB)])).await;
    assert!(store.object("parts").unwrap() == bench.chunks.chunks[&1]);
    // And again (put, look, read back, put).
    store.fail_next(Fault::WrongBytes);
    store.fail_after(3, Fault::WrongBytes);
    let error = bench.put(&bench.work(3, "new", "", vec![chunk(1, 0, 100)])).await.unwrap_err();
    assert_eq!(error, ObjectError::NotVerified { key: "new".to_owned() });
    assert_eq!(store.object("new"), None, "nothing is better than wrong bytes");
    // What a copy was made of is told by its checksum.
    let store = memory();
    let bench = Bench::memory(&store, &[]);
    let source = bench.outside("source", &random_bytes(100)).await;
    store.fail_next(Fault::WrongBytes);
    bench.written(&bench.work(4, "copy", "", vec![object("source", &source, 0, 100)])).await;
    assert_eq!(store.object("copy"), store.object("source"));
}

#[tokio::test]
async fn an_endpoint_without_conditions_is_written_by_a_sole_writer_alone() {
    let store = MemoryStore::unconditional();
    let bench = Bench::memory(&store, &[(1, random_bytes(20 * MIB))]);
    let none = v1::EndpointAbilities { copy_source_if_match: true, ..v1::EndpointAbilities::default() };
    let bench = Bench { abilities: Some(none), ..bench };
    let there = bench.outside("there", &random_bytes(10)).await;
    for (replaces, length) in [("", 10), ("", 20 * MIB), (&*there.etag, 10), (&*there.etag, 20 * MIB)] {
        let error =
            bench.put(&bench.work(1, "there", replaces, vec![chunk(1, 0, length)])).await.unwrap_err();
        assert!(matches!(error, ObjectError::Unable { .. }) && error.permanent(), "{error:?}");
        assert!(error.to_string().contains("--sole-writer"), "{error}");
    }
    let terms = Terms { abilities: none, sole_writer: false };
    assert!(delete(&store, terms, "there", &there.etag).await.unwrap_err().permanent());
    let bench = Bench { sole_writer: true, ..bench };
    for length in [10, 20 * MIB] {
        let found = bench.conflict(&bench.work(2, "there", "", vec![chunk(1, 0, length)])).await;
        assert_eq!(found.object, version(there.clone()));
        assert_eq!(
            bench.conflict(&bench.work(2, "gone", "0123", vec![chunk(1, 0, length)])).await.object,
            None
        );
    }
    assert_eq!(bench.read("there").await.len(), 10);
    let copy = bench.work(3, "copy", "", vec![object("there", &there, 0, 10)]);
    assert_eq!(bench.written(&copy).await.2, 10);
    assert_eq!(bench.written(&copy).await.2, 10, "found again");
    let made = bench.written(&bench.work(4, "there", &there.etag, vec![chunk(1, 0, 20 * MIB)])).await.0;
    let terms = Terms { sole_writer: true, ..terms };
    let stale = delete(&store, terms, "there", &there.etag).await.unwrap();
    assert_eq!(stale, Deleted::Conflict(Found { key: "there".to_owned(), object: Some(made.clone()) }));
    assert_eq!(delete(&store, terms, "there", &made.etag).await, Ok(Deleted::Gone));
    assert_eq!(delete(&store, terms, "there", &made.etag).await, Ok(Deleted::Gone));
}

#[tokio::test]
async fn an_object_goes_while_it_is_the_one_that_is_known() {
    let weed = s3_for_tests().await;
    let abilities = probe(&weed, "", true, &SystemRandom).await.unwrap();
    let stores: [(Arc<dyn MountedStore>, _); 2] =
        [(Arc::new(memory()), all_abilities()), (Arc::new(weed), abilities)];
    for (store, abilities) in stores {
        let bench = Bench::new(store, &[]);
        let terms = Terms { abilities, sole_writer: false };
        let there = bench.outside("there", &random_bytes(10)).await;
        let stale = delete(bench.store.as_ref(), terms, "there", "0123").await.unwrap();
        assert_eq!(stale, Deleted::Conflict(Found { key: "there".into(), object: version(there.clone()) }));
        for _ in 0..2 {
            assert_eq!(delete(bench.store.as_ref(), terms, "there", &there.etag).await, Ok(Deleted::Gone));
        }
        assert!(bench.store.inspect("there").await.is_err());
        assert!(delete(bench.store.as_ref(), terms, "there", "").await.unwrap_err().permanent());
    }
}

#[tokio::test]
async fn work_that_does_not_add_up_is_refused() {
    let bench = Bench::memory(&memory(), &[]);
    let right = bench.work(1, "k", "", vec![chunk(1, 0, 10)]);
    let piece = |piece| v1::PutObject { pieces: vec![piece], ..right.clone() };
    let stranger = Inspected { size: 5, ..Inspected::default() };
    for wrong in [
        v1::PutObject { length: 11, ..right.clone() },
        v1::PutObject { key: Bytes::new(), ..right.clone() },
        v1::PutObject { key: Bytes::from_static(b"\xff"), ..right.clone() },
        v1::PutObject { bucket: None, ..right.clone() },
        v1::PutObject { like_key: Bytes::from_static(b"x"), ..right.clone() },
        piece(v1::ObjectPiece { source: None, ..right.pieces[0].clone() }),
        piece(v1::ObjectPiece { offset: u64::MAX, ..right.pieces[0].clone() }),
        piece(object("x", &stranger, 0, 10)),
        piece(object("x", &Inspected { etag: "e".to_owned(), ..stranger.clone() }, 0, 10)),
    ] {
        let error = Order::new(CLUSTER, &wrong).err().unwrap();
        assert!(matches!(error, ObjectError::Malformed { .. }) && error.permanent(), "{wrong:?}");
    }
    // A put that waits for its turn does nothing.
    let put = bench.prepare(&right).unwrap();
    assert!(put.run().now_or_never().is_none());
}

#[tokio::test]
async fn an_answer_of_s3_that_was_lost_is_found_by_the_intent_in_the_object() {
    let bytes = random_bytes(10);
    let ours = |mark: &str| {
        let headers = format!("Content-Length: 10\r\nETag: \"e\"\r\nx-amz-meta-cairn-intent: {mark}\r\n");
        says("200 OK", &headers, "")
    };
    let text = String::from_utf8(vec![b'x'; 10]).unwrap();
    let lost = || vec![Answer::Nothing, error("412 Precondition Failed", "PreconditionFailed")];
    // The client asked again, and met its own object: looked at, and read back.
    let (found, mark) = (part("0-9/10", "e", &text), format!("{CLUSTER}-7"));
    let (store, _requests) = endpoint([lost(), vec![ours(&mark), found]].concat()).await;
    let bench = Bench::new(Arc::new(store), &[(1, Bytes::from(text.clone()))]);
    let work = bench.work(7, "k", "", vec![chunk(1, 0, 10)]);
    let (made, sent, _) = bench.written(&work).await;
    assert_eq!((made.etag.as_str(), made.size, sent), ("e", 10, 10));
    // Another's object of the same size, an intent of another cluster's, and our own intent of another size.
    let other = format!("{}-7", ClusterId([1; 16]));
    let longer = says(
        "200 OK",
        &format!("Content-Length: 11\r\nETag: \"e\"\r\nx-amz-meta-cairn-intent: {mark}\r\n"),
        "",
    );
    for met in [ours("x"), ours(&other), longer] {
        let (store, _requests) = endpoint([lost(), vec![met]].concat()).await;
        let bench = Bench::new(Arc::new(store), &[(1, bytes.clone())]);
        let found = bench.conflict(&bench.work(7, "k", "", vec![chunk(1, 0, 10)])).await;
        assert_eq!(found.object.map(|object| object.etag).as_deref(), Some("e"));
    }
    // Nothing at all is known: it is tried again, later.
    let (store, _requests) = endpoint(vec![Answer::Nothing; 9]).await;
    let bench = Bench::new(Arc::new(store), &[(1, bytes)]);
    let error = bench.put(&bench.work(7, "k", "", vec![chunk(1, 0, 10)])).await.unwrap_err();
    assert_eq!(error, ObjectError::Store(UnderStoreError::Unreachable));
    assert!(!error.permanent());
}

#[tokio::test]
async fn where_nothing_may_be_written_it_is_found_what_can_be_read() {
    let page = || {
        let body = "<ListBucketResult><IsTruncated>false</IsTruncated>\
                    <Contents><Key>p/m/a</Key><Size>3</Size><ETag>\"e\"</ETag></Contents></ListBucketResult>";
        says("200 OK", "Content-Type: application/xml\r\n", body)
    };
    let empty = says(
        "200 OK",
        "Content-Type: application/xml\r\n",
        "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
    );
    let denied = || error("403 Forbidden", "AccessDenied");
    let stale = error("412 Precondition Failed", "PreconditionFailed");
    let answers = vec![denied(), empty, page(), part("0-0/3", "e", "x"), stale];
    let (store, _requests) = endpoint(answers).await;
    let found = probe(&store, "m/", true, &SystemRandom).await.unwrap();
    let expected =
        v1::EndpointAbilities { get_if_match: true, byte_order: true, ..v1::EndpointAbilities::default() };
    assert_eq!(found, expected);
    // Neither may it be listed.
    let (store, _requests) = endpoint(vec![denied(); 3]).await;
    let refused = probe(&store, "m/", true, &SystemRandom).await;
    assert!(matches!(refused, Err(UnderStoreError::Denied { .. })), "{refused:?}");
}
