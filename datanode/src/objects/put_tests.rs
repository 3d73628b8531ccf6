//! Objects written, copied, put together and deleted, in memory and in a real S3.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_proto::v1::object_piece::Source as From;
use cairn_types::{ChunkId, ClusterId, SystemRandom};
use futures::FutureExt;
use futures::future::join_all;

use super::*;
use crate::understore::memory::{Fault, MemoryStore};
use crate::understore::s3_fault_tests::{Answer, endpoint, error, part, says};
use crate::understore::suite::random_bytes;
use crate::understore::test_endpoint::{moto_for_tests, s3_for_tests};
use crate::understore::{
    Condition, GET_BYTES_MAX, Inspected, ListRequest, MountedStore, Properties, S3Store, UnderStore,
    UnderStoreError,
};
use crate::upload::ReadFailed;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const MIB: usize = 1 << 20;

/// Chunks in memory; one that is not there is waited for in vain.
#[derive(Default)]
struct FixedChunks(HashMap<u64, Bytes>);

#[async_trait]
impl Chunks for FixedChunks {
    async fn read(&self, range: &v1::ChunkRange, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        assert!(length <= MIB, "a chunk is read by the mebibyte");
        match self.0.get(&range.chunk) {
            Some(bytes) if range.chunk != BROKEN => Ok(bytes.slice(offset as usize..offset as usize + length)),
            Some(_) => Err(ReadFailed { chunk: ChunkId(range.chunk), offset }),
            None => std::future::pending().await,
        }
    }
}

/// A chunk that does not read.
const BROKEN: u64 = 99;

/// A bucket, chunks, and what is made of them.
struct Bench {
    store: Arc<dyn MountedStore>,
    chunks: Arc<FixedChunks>,
    abilities: Option<v1::EndpointAbilities>,
    sole_writer: bool,
}

fn all_abilities() -> v1::EndpointAbilities {
    v1::EndpointAbilities {
        put_if_absent: true,
        put_if_match: true,
        complete_if_absent: true,
        complete_if_match: true,
        copy_if_absent: true,
        copy_if_match: true,
        copy_source_if_match: true,
        delete_if_match: true,
        part_copy: true,
        crc32c: true,
        crc64nvme: false,
        get_if_match: true,
        byte_order: true,
        writable: true,
    }
}

impl Bench {
    fn new(store: Arc<dyn MountedStore>, chunks: &[(u64, Bytes)]) -> Self {
        let chunks = Arc::new(FixedChunks(chunks.iter().cloned().collect()));
        Self { store, chunks, abilities: Some(all_abilities()), sole_writer: false }
    }

    fn memory(store: &MemoryStore, chunks: &[(u64, Bytes)]) -> Self {
        Self::new(Arc::new(store.clone()), chunks)
    }

    fn work(&self, intent: u64, key: &str, replaces: &str, pieces: Vec<v1::ObjectPiece>) -> v1::PutObject {
        let (abilities, sole_writer) = (self.abilities, self.sole_writer);
        let bucket = v1::MountedBucket { abilities, sole_writer, ..v1::MountedBucket::default() };
        v1::PutObject {
            intent,
            bucket: Some(bucket),
            key: Bytes::from(key.to_owned()),
            replaces: replaces.to_owned(),
            length: pieces.iter().map(|piece| piece.length).sum(),
            pieces,
            metadata: HashMap::from([("mtime".to_owned(), "1.5".to_owned())]),
            ..v1::PutObject::default()
        }
    }

    async fn put(&self, work: &v1::PutObject) -> Result<PutDone, ObjectError> {
        self.prepare(work)?.run().await
    }

    fn prepare(&self, work: &v1::PutObject) -> Result<Put, ObjectError> {
        let order = Order::new(CLUSTER, work)?;
        Put::new(order, Arc::clone(&self.store), Arc::clone(&self.chunks) as _, Buffers::default())
    }

    /// A size, and what of it is sent and copied, where the endpoint copies versions alone.
    fn divided(&self, sent: u64, copied: u64) -> (u64, u64, u64) {
        let copies = self.abilities.is_some_and(|can| can.copy_source_if_match && can.part_copy);
        if copies { (sent + copied, sent, copied) } else { (sent + copied, sent + copied, 0) }
    }

    async fn written(&self, work: &v1::PutObject) -> (ObjectVersion, u64, u64) {
        match self.put(work).await.unwrap() {
            PutDone::Written { object, sent_bytes, copied_bytes } => (object, sent_bytes, copied_bytes),
            conflict => panic!("{conflict:?}"),
        }
    }

    async fn conflict(&self, work: &v1::PutObject) -> Found {
        match self.put(work).await.unwrap() {
            PutDone::Conflict(found) => found,
            written => panic!("{written:?}"),
        }
    }

    /// An object that somebody else makes.
    async fn outside(&self, key: &str, bytes: &Bytes) -> Inspected {
        let properties = Properties {
            metadata: [("color".to_owned(), "blue".to_owned())].into(),
            content_type: Some("text/x-test".to_owned()),
            cache_control: Some("no-cache".to_owned()),
            tags: Some("team=red&t%2F1=a%20b".to_owned()),
            ..Properties::default()
        };
        if bytes.len() <= 16 * MIB {
            self.store.put(key, &Condition::Unchecked, &properties, bytes.clone()).await.unwrap();
        } else {
            let mut upload = self.store.begin(key, &properties).await.unwrap();
            let mut parts = Vec::new();
            for (number, part) in (1_u16..).zip(bytes.chunks(8 * MIB)) {
                parts.push(upload.send(number, Bytes::copy_from_slice(part)).await.unwrap());
            }
            upload.complete(&Condition::Unchecked, &parts, bytes.len() as u64, None).await.unwrap();
        }
        self.store.inspect(key).await.unwrap()
    }

    async fn read(&self, key: &str) -> Bytes {
        let object = self.store.inspect(key).await.unwrap();
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < object.size {
            let at = bytes.len() as u64;
            let end = object.size.min(at + GET_BYTES_MAX);
            bytes.extend_from_slice(
                &self.store.get_range(key, at..end, Some(&object.etag)).await.unwrap().bytes,
            );
        }
        bytes.freeze()
    }
}

fn chunk(chunk: u64, offset: u64, length: usize) -> v1::ObjectPiece {
    let range = v1::ChunkRange { chunk, sealed_length: offset + length as u64, ..v1::ChunkRange::default() };
    v1::ObjectPiece { offset, length: length as u64, source: Some(From::Chunk(range)) }
}

fn hole(length: usize) -> v1::ObjectPiece {
    v1::ObjectPiece { offset: 0, length: length as u64, source: Some(From::Hole(true)) }
}

fn object(key: &str, seen: &Inspected, offset: usize, length: usize) -> v1::ObjectPiece {
    let (key, etag, size) = (Bytes::from(key.to_owned()), seen.etag.clone(), seen.size);
    let source = Some(From::Object(v1::SourceObject { key, etag, size }));
    v1::ObjectPiece { offset: offset as u64, length: length as u64, source }
}

fn version(seen: Inspected) -> Option<ObjectVersion> {
    Some(seen.into())
}

/// A store that checks nothing may be believed in nothing.
fn memory() -> MemoryStore {
    MemoryStore::with_checksums()
}

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
    }
    odd_objects(&bench).await;
    a_killed_put_leaves_nothing(&bench).await;
}

async fn a_new_file_a_change_and_a_rename(bench: &Bench) {
    let (one, two) = (&bench.chunks.0[&1], &bench.chunks.0[&2]);
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
    assert!(bench.read("log").await == [&bytes, &bench.chunks.0[&1][..1024]].concat());
    // A hole in the middle of what is there takes 5 MiB.
    let seen = bench.store.inspect("log").await.unwrap();
    let pieces = vec![object("log", &seen, 0, 20 * MIB), hole(10), object("log", &seen, 20 * MIB + 10, 40 * MIB)];
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
        for pieces in [vec![object(key, &stale, 0, length)], vec![object(key, &stale, 0, length), chunk(1, 0, 9)]] {
            let found = bench.conflict(&bench.work(23, "target", "", pieces)).await;
            assert_eq!(found, Found { key: key.into(), object: version(seen.clone()) }, "{length}");
        }
        for pieces in [vec![object("gone", seen, 0, length)], vec![object("gone", seen, 0, length), hole(9)]] {
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
        let replaces = if replaces.is_empty() { String::new() } else { bench.store.inspect(&key).await.unwrap().etag };
        let works: Vec<_> = (0..4)
            .map(|n| bench.work(100 + n, &key, &replaces, vec![chunk(1, n, length)]))
            .collect();
        let done = join_all(works.iter().map(|work| bench.put(work))).await;
        let wrote = |done: &&Result<PutDone, ObjectError>| matches!(done, Ok(PutDone::Written { .. }));
        assert_eq!(done.iter().filter(wrote).count(), 1, "{length} {done:?}");
        let winner = done.iter().position(|done| wrote(&done)).unwrap();
        assert!(bench.read(&key).await == bench.chunks.0[&1][winner..winner + length], "{length}");
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
    // The second chunk never comes.
    let cut = tokio::time::timeout(std::time::Duration::from_millis(700), put.run()).await;
    assert!(cut.is_err(), "{cut:?}");
    let missing = bench.store.inspect("killed").await.unwrap_err();
    assert_eq!(missing, UnderStoreError::NoSuchKey { key: "killed".to_owned() });
    // One that fails, besides.
    let broken = bench.work(41, "failed", "", vec![chunk(1, 0, 20 * MIB), chunk(BROKEN, 0, 3)]);
    let chunks = Arc::new(FixedChunks([(1, bench.chunks.0[&1].clone()), (BROKEN, Bytes::new())].into()));
    let failing = Bench { chunks, store: Arc::clone(&bench.store), ..*bench };
    let error = failing.put(&broken).await.unwrap_err();
    assert_eq!(error, ObjectError::Read(ReadFailed { chunk: ChunkId(BROKEN), offset: 0 }));
    assert!(!error.permanent());
}

/// Waits until no upload of the store's is left.
async fn no_uploads_left(store: &S3Store) {
    let left = async {
        while store.count_abandoned("", cairn_types::Timestamp(i64::MAX)).await.unwrap() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), left).await.expect("an upload is left");
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
async fn all_kinds_of_pieces_in_any_order_make_the_object() {
    let store = memory();
    let bench = Bench::memory(&store, &[(1, random_bytes(7 * MIB))]);
    let (own, other) = (random_bytes(8 * MIB), random_bytes(7 * MIB));
    let (chunks, zeros) = (bench.chunks.0[&1].clone(), Bytes::from(vec![0; 7 * MIB]));
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
    assert!(store.object("there").unwrap() == bench.chunks.0[&1][..100]);
    // A part, which is the third request after the look and the beginning.
    store.fail_after(2, Fault::WrongBytes);
    bench.written(&bench.work(2, "parts", "", vec![chunk(1, 0, 20 * MIB)])).await;
    assert!(store.object("parts").unwrap() == bench.chunks.0[&1]);
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
        let error = bench.put(&bench.work(1, "there", replaces, vec![chunk(1, 0, length)])).await.unwrap_err();
        assert!(matches!(error, ObjectError::Unable { .. }) && error.permanent(), "{error:?}");
        assert!(error.to_string().contains("--sole-writer"), "{error}");
    }
    let terms = Terms { abilities: none, sole_writer: false };
    assert!(delete(&store, terms, "there", &there.etag).await.unwrap_err().permanent());
    let bench = Bench { sole_writer: true, ..bench };
    for length in [10, 20 * MIB] {
        let found = bench.conflict(&bench.work(2, "there", "", vec![chunk(1, 0, length)])).await;
        assert_eq!(found.object, version(there.clone()));
        assert_eq!(bench.conflict(&bench.work(2, "gone", "0123", vec![chunk(1, 0, length)])).await.object, None);
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
    let longer = says("200 OK", &format!("Content-Length: 11\r\nETag: \"e\"\r\nx-amz-meta-cairn-intent: {mark}\r\n"), "");
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
