//! Objects written, copied and put together, in memory and in a real S3.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_types::{ChunkId, SystemRandom};
use futures::future::join_all;

use super::bench::{
    BROKEN, Bench, CLUSTER, MIB, all_abilities, chunk, hole, memory, no_uploads_left, object, version,
};
use super::*;
use crate::understore::suite::random_bytes;
use crate::understore::test_endpoint::{moto_for_tests, s3_for_tests};
use crate::understore::{Inspected, MountedStore, UnderStoreError};
use crate::upload::ReadFailed;

/// What every store is put through.
async fn suite(store: Arc<dyn MountedStore>, abilities: v1::EndpointAbilities) {
    let chunks = [(1, random_bytes(20 * MIB)), (2, random_bytes(6 * MIB))];
    // Where an endpoint does not look, nobody else may write.
    let sole_writer = !abilities.complete_if_match;
    let bench = Bench { abilities: Some(abilities), sole_writer, ..Bench::new(store, &chunks) };
    a_new_file_a_change_and_a_rename(&bench).await;
    an_append_sends_what_is_new(&bench).await;
    what_others_changed_is_left_alone(&bench).await;
    if !sole_writer {
        of_many_writers_one_wins(&bench).await;
        nodes_with_the_same_work_make_one_object(&bench).await;
    }
    odd_objects(&bench).await;
    a_killed_put_leaves_nothing(&bench).await;
}

async fn a_new_file_a_change_and_a_rename(bench: &Bench) {
    let (one, two) = (&bench.chunks.chunks[&1], &bench.chunks.chunks[&2]);
    let work = bench.work(1, "files/new", "", vec![chunk(1, 7, 1000), hole(100), chunk(2, 0, 10)]);
    let (made, sent, copied) = bench.written(&work).await;
    let expected = [&one[7..1007], &[0; 100], &two[..10]].concat();
    assert_eq!((made.size, sent, copied), (1110, 1110, 0));
    assert!(bench.read("files/new").await == expected);
    // Offered again, it is found.
    let (again, ..) = bench.written(&work).await;
    assert_eq!(again, made);
    // Changed, in place of that version.
    let work = bench.work(2, "files/new", &made.etag, vec![chunk(2, 5, 2000)]);
    let (changed, ..) = bench.written(&work).await;
    assert_ne!(changed.etag, made.etag);
    assert!(bench.read("files/new").await == two[5..2005]);
    // Large enough for parts.
    let work = bench.work(3, "files/new", &changed.etag, vec![chunk(1, 0, 20 * MIB), chunk(2, 0, 3)]);
    let (large, sent, copied) = bench.written(&work).await;
    assert_eq!((large.size, sent, copied), ((20 * MIB + 3) as u64, (20 * MIB + 3) as u64, 0));
    assert!(bench.read("files/new").await == [&one[..], &two[..3]].concat());
    assert_eq!(bench.written(&work).await.0, large);
    // Renamed, and renamed over another object.
    let seen = bench.store.inspect("files/new").await.unwrap();
    let other = bench.outside("files/other", &two.slice(..9)).await;
    for (intent, key, replaces) in [(4, "files/renamed", ""), (5, "files/other", other.etag.as_str())] {
        let mut work = bench.work(intent, key, replaces, vec![object("files/new", &seen, 0, 20 * MIB + 3)]);
        (work.like_key, work.like_etag) = (Bytes::from_static(b"files/new"), seen.etag.clone());
        let (renamed, sent, copied) = bench.written(&work).await;
        assert_eq!((renamed.size, sent, copied), bench.divided(0, seen.size), "{key}");
        assert!(bench.read(key).await == [&one[..], &two[..3]].concat());
        assert_eq!(bench.written(&work).await.0, renamed, "found again");
    }
}

async fn an_append_sends_what_is_new(bench: &Bench) {
    let bytes = random_bytes(64 * MIB);
    let seen = bench.outside("log", &bytes).await;
    let pieces = vec![object("log", &seen, 0, 64 * MIB), chunk(1, 0, 1024)];
    let mut work = bench.work(10, "log", &seen.etag, pieces);
    (work.like_key, work.like_etag) = (Bytes::from_static(b"log"), seen.etag.clone());
    let (made, sent, copied) = bench.written(&work).await;
    assert_eq!((made.size, sent, copied), bench.divided(1024, (64 * MIB) as u64));
    assert!(bench.read("log").await == [&bytes, &bench.chunks.chunks[&1][..1024]].concat());
    // A hole in the middle of what is there takes 5 MiB.
    let seen = bench.store.inspect("log").await.unwrap();
    let pieces =
        vec![object("log", &seen, 0, 20 * MIB), hole(10), object("log", &seen, 20 * MIB + 10, 40 * MIB)];
    let (made, sent, copied) = bench.written(&bench.work(11, "log", &seen.etag, pieces)).await;
    assert_eq!((made.size, sent, copied), bench.divided((5 * MIB) as u64, (55 * MIB + 10) as u64));
    let expected = [&bytes[..20 * MIB], &[0; 10], &bytes[20 * MIB + 10..60 * MIB + 10]].concat();
    assert!(bench.read("log").await == expected);
}

async fn what_others_changed_is_left_alone(bench: &Bench) {
    let theirs = bench.outside("theirs", &random_bytes(100)).await;
    for length in [50, 20 * MIB] {
        let found = bench.conflict(&bench.work(20, "theirs", "", vec![chunk(1, 0, length)])).await;
        assert_eq!(found, Found { key: "theirs".into(), object: version(theirs.clone()) });
        let found = bench.conflict(&bench.work(21, "theirs", "0123", vec![chunk(1, 0, length)])).await;
        assert_eq!(found.object, version(theirs.clone()));
        let found = bench.conflict(&bench.work(22, "nothing", "0123", vec![chunk(1, 0, length)])).await;
        assert_eq!(found, Found { key: "nothing".into(), object: None });
    }
    // A source that is another version, or gone; read, copied in parts, or copied whole.
    let large = bench.outside("large", &random_bytes(6 * MIB)).await;
    for (length, seen, key) in [(100, &theirs, "theirs"), (6 * MIB, &large, "large")] {
        let stale = Inspected { etag: "0123".to_owned(), ..seen.clone() };
        for pieces in
            [vec![object(key, &stale, 0, length)], vec![object(key, &stale, 0, length), chunk(1, 0, 9)]]
        {
            let found = bench.conflict(&bench.work(23, "target", "", pieces)).await;
            assert_eq!(found, Found { key: key.into(), object: version(seen.clone()) }, "{length}");
        }
        for pieces in [vec![object("gone", seen, 0, length)], vec![object("gone", seen, 0, length), hole(9)]]
        {
            let found = bench.conflict(&bench.work(24, "target", "", pieces)).await;
            assert_eq!(found, Found { key: "gone".into(), object: None }, "{length}");
        }
    }
    let mut work = bench.work(25, "target", "", vec![chunk(1, 0, 9)]);
    (work.like_key, work.like_etag) = (Bytes::from_static(b"theirs"), "0123".to_owned());
    assert_eq!(bench.conflict(&work).await.key, "theirs");
    let missing = bench.store.inspect("target").await.unwrap_err();
    assert_eq!(missing, UnderStoreError::NoSuchKey { key: "target".to_owned() });
}

async fn of_many_writers_one_wins(bench: &Bench) {
    let there = bench.outside("contested", &random_bytes(100)).await;
    for (length, replaces) in [(100, ""), (17 * MIB, ""), (100, &there.etag), (17 * MIB, &there.etag)] {
        let key = if replaces.is_empty() { format!("free-{length}") } else { "contested".to_owned() };
        let replaces =
            if replaces.is_empty() { String::new() } else { bench.store.inspect(&key).await.unwrap().etag };
        let works: Vec<_> =
            (0..4).map(|n| bench.work(100 + n, &key, &replaces, vec![chunk(1, n, length)])).collect();
        let done = join_all(works.iter().map(|work| bench.put(work))).await;
        let wrote = |done: &&Result<PutDone, ObjectError>| matches!(done, Ok(PutDone::Written { .. }));
        assert_eq!(done.iter().filter(wrote).count(), 1, "{length} {done:?}");
        let winner = done.iter().position(|done| wrote(&done)).unwrap();
        assert!(bench.read(&key).await == bench.chunks.chunks[&1][winner..winner + length], "{length}");
    }
}

/// A node that was taken for dead is still at it when another one is given its work.
async fn nodes_with_the_same_work_make_one_object(bench: &Bench) {
    let source = bench.outside("source", &random_bytes(100)).await;
    let ways = [vec![chunk(1, 0, 100)], vec![chunk(1, 0, 17 * MIB)], vec![object("source", &source, 0, 100)]];
    for (n, pieces) in (200..).zip(ways) {
        let key = format!("twice-{n}");
        let there = bench.outside(&key, &random_bytes(9)).await;
        let work = bench.work(n, &key, &there.etag, pieces);
        let mut made = Vec::new();
        for done in join_all((0..3).map(|_| bench.put(&work))).await {
            match done {
                Ok(PutDone::Written { object, .. }) => made.push(object),
                // Told to come again.
                Err(error) if !error.permanent() => {}
                wrong => panic!("{wrong:?}"),
            }
        }
        assert!(!made.is_empty() && made.iter().all(|object| *object == made[0]), "{made:?}");
        assert_eq!(bench.store.inspect(&key).await.unwrap().etag, made[0].etag);
    }
}

async fn odd_objects(bench: &Bench) {
    for (intent, key) in [(30, "empty"), (31, "marker/"), (32, "odd/a b+c%ä=&?")] {
        let (made, sent, _) = bench.written(&bench.work(intent, key, "", Vec::new())).await;
        assert_eq!((made.size, sent), (0, 0), "{key}");
    }
    let key = "odd/a b+c%ä=&?";
    let seen = bench.outside("odd/source ä+%", &random_bytes(10)).await;
    let etag = bench.store.inspect(key).await.unwrap().etag;
    bench.written(&bench.work(33, key, &etag, vec![object("odd/source ä+%", &seen, 0, 10)])).await;
    assert_eq!(bench.read(key).await, bench.read("odd/source ä+%").await);
}

async fn a_killed_put_leaves_nothing(bench: &Bench) {
    let mut pieces = vec![chunk(1, 0, 20 * MIB)];
    pieces.push(chunk(77, 0, 20 * MIB));
    let work = bench.work(40, "killed", "", pieces.clone());
    let put = bench.prepare(&work).unwrap();
    // The second chunk never comes: when it is asked for, parts are on their way.
    tokio::select! {
        done = put.run() => panic!("{done:?}"),
        () = bench.chunks.waited_for.notified() => {}
    }
    let missing = bench.store.inspect("killed").await.unwrap_err();
    assert_eq!(missing, UnderStoreError::NoSuchKey { key: "killed".to_owned() });
    // One that fails, besides.
    let broken = bench.work(41, "failed", "", vec![chunk(1, 0, 20 * MIB), chunk(BROKEN, 0, 3)]);
    let chunks = [(1, bench.chunks.chunks[&1].clone()), (BROKEN, Bytes::new())];
    let failing = Bench::new(Arc::clone(&bench.store), &chunks);
    let failing = Bench { abilities: bench.abilities, sole_writer: bench.sole_writer, ..failing };
    let error = failing.put(&broken).await.unwrap_err();
    assert_eq!(error, ObjectError::Read(ReadFailed { chunk: ChunkId(BROKEN), offset: 0 }));
    assert!(!error.permanent());
}

#[tokio::test]
async fn memory_objects() {
    let store = memory();
    suite(Arc::new(store.clone()), all_abilities()).await;
    assert_eq!(store.uploads(), 0);
    // Without copies by the endpoint, all is sent.
    let store = memory();
    let bench = Bench::memory(&store, &[(1, random_bytes(100))]);
    let seen = bench.outside("source", &random_bytes(20 * MIB)).await;
    let abilities = v1::EndpointAbilities { part_copy: false, copy_if_absent: false, ..all_abilities() };
    let bench = Bench { abilities: Some(abilities), ..bench };
    let (_, sent, copied) =
        bench.written(&bench.work(1, "copy", "", vec![object("source", &seen, 0, 20 * MIB)])).await;
    assert_eq!((sent, copied), ((20 * MIB) as u64, 0));
    assert!(bench.read("copy").await == bench.read("source").await);
}

#[tokio::test]
async fn seaweedfs_objects() {
    let store = s3_for_tests().await;
    let abilities = probe(&store, "abilities/", true, &SystemRandom).await.unwrap();
    suite(Arc::new(store.clone()), abilities).await;
    no_uploads_left(&store).await;
}

#[tokio::test]
async fn moto_objects() {
    let store = moto_for_tests().await;
    let abilities = probe(&store, "abilities/", true, &SystemRandom).await.unwrap();
    suite(Arc::new(store.clone()), abilities).await;
    no_uploads_left(&store).await;
}

#[tokio::test]
async fn all_kinds_of_pieces_in_any_order_make_the_object() {
    let store = memory();
    let bench = Bench::memory(&store, &[(1, random_bytes(7 * MIB))]);
    let (own, other) = (random_bytes(8 * MIB), random_bytes(7 * MIB));
    let (chunks, zeros) = (bench.chunks.chunks[&1].clone(), Bytes::from(vec![0; 7 * MIB]));
    let other_seen = bench.outside("other", &other).await;
    for n in 0..512_u64 {
        let own_seen = bench.outside("target", &own).await;
        let (mut pieces, mut expected) = (Vec::new(), BytesMut::new());
        for digit in [n % 8, n / 8 % 8, n / 64] {
            let (length, offset) = (if digit < 4 { 3 } else { 6 * MIB + 1 }, digit as usize);
            let (piece, bytes) = match digit % 4 {
                0 => (chunk(1, offset as u64, length), &chunks),
                1 => (object("target", &own_seen, offset, length), &own),
                2 => (object("other", &other_seen, offset, length), &other),
                _ => (hole(length), &zeros),
            };
            pieces.push(piece);
            expected.extend_from_slice(&bytes[offset..offset + length]);
        }
        // Every third one at an endpoint whose checksums are not believed.
        let crc32c = n % 3 > 0;
        let bench = Bench {
            abilities: Some(v1::EndpointAbilities { crc32c, ..all_abilities() }),
            chunks: Arc::clone(&bench.chunks),
            store: Arc::clone(&bench.store),
            ..bench
        };
        let work = bench.work(n, "target", &own_seen.etag, pieces);
        let (made, sent, copied) = bench.written(&work).await;
        assert_eq!(made.size, sent + copied, "{n}");
        assert!(store.object("target").unwrap() == expected, "{n}");
    }
    assert_eq!(store.uploads(), 0);
}

#[tokio::test]
async fn what_an_object_carries_is_kept() {
    let weed = s3_for_tests().await;
    let abilities = probe(&weed, "", true, &SystemRandom).await.unwrap();
    let stores: [(Arc<dyn MountedStore>, _); 2] =
        [(Arc::new(memory()), all_abilities()), (Arc::new(weed), abilities)];
    for (store, abilities) in stores {
        let bench = Bench { abilities: Some(abilities), ..Bench::new(store, &[(1, random_bytes(20 * MIB))]) };
        let source = bench.outside("source", &random_bytes(6 * MIB)).await;
        let ways = [
            vec![chunk(1, 0, 10)],
            vec![chunk(1, 0, 20 * MIB)],
            vec![object("source", &source, 0, 6 * MIB), chunk(1, 0, 10)],
            vec![object("source", &source, 0, 6 * MIB)],
        ];
        for (n, pieces) in (1..).zip(ways) {
            let key = format!("like-{n}");
            let mut work = bench.work(n, &key, "", pieces.clone());
            work.metadata.insert("color".to_owned(), "red".to_owned());
            (work.like_key, work.like_etag) = (Bytes::from_static(b"source"), source.etag.clone());
            bench.written(&work).await;
            let made = bench.store.inspect(&key).await.unwrap().properties;
            let carried = |name: &str| made.metadata.get(name).map(String::as_str);
            assert_eq!((carried("color"), carried("mtime")), (Some("red"), Some("1.5")), "{key}");
            assert_eq!(carried(INTENT), Some(format!("{CLUSTER}-{n}").as_str()));
            assert_eq!(made.content_type.as_deref(), Some("text/x-test"), "{key}");
            assert_eq!(made.cache_control.as_deref(), Some("no-cache"), "{key}");
            let mut tags: Vec<String> =
                bench.store.tags(&key).await.unwrap().split('&').map(ToOwned::to_owned).collect();
            tags.sort();
            assert_eq!(tags, ["t%2F1=a%20b", "team=red"], "{key}");
            // Without a model it carries what the order says, and nothing of what it is copied from.
            let key = format!("plain-{n}");
            bench.written(&bench.work(n, &key, "", pieces)).await;
            let made = bench.store.inspect(&key).await.unwrap().properties;
            assert_eq!(made.metadata.keys().collect::<Vec<_>>(), [INTENT, "mtime"], "{key}");
            assert_eq!(bench.store.tags(&key).await.unwrap(), "", "{key}");
        }
    }
}
