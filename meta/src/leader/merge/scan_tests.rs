use cairn_types::{FileKind, Inode, LogIndex, MountId, ObjectKey, PackId};
use proptest::prelude::*;

use super::*;
use crate::keys::chunks::{self, ChunkOwner, ChunkState, PackPlace, Sealed};
use crate::keys::contents::Part;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places::{self, Place};
use crate::keys::samples;
use crate::namespace::MERGE_EXTENTS_MAX;
use crate::store::{MemoryStore, Store, Txn};

/// Chunks sealed up to then are old enough.
const BEFORE: Timestamp = Timestamp(100);
const HOLDER: NodeId = NodeId(101);

/// A state with files, extents and chunks in it, and nothing else that fits.
struct Made {
    store: MemoryStore,
    chunks: u64,
}

impl Made {
    fn new() -> Self {
        Self { store: MemoryStore::new(), chunks: 0 }
    }

    fn write(&self, change: impl FnOnce(&mut Txn<'_>)) {
        let mut txn = Txn::new(&self.store);
        change(&mut txn);
        txn.keep();
        self.store.write(txn.into_batch()).unwrap();
    }

    fn file(&self, ino: u64, mount: Option<MountId>) {
        let ino = InodeId(ino);
        let inode = Inode { ino, kind: FileKind::File, tail: None, mount, ..samples::inode() };
        let place = Place { parent: InodeId::ROOT, name: ino.0.to_be_bytes().to_vec() };
        self.write(|txn| {
            keys::put(txn, nodes::key(place.parent, &place.name), &NodeRow::Inode(inode));
            keys::put(txn, places::key(ino), &place);
        });
    }

    /// A chunk, in S3 or not, sealed then.
    fn chunk(&mut self, length: u64, in_s3: bool, at: i64) -> ChunkId {
        self.chunks += 1;
        let chunk = ChunkId(self.chunks);
        let sealed = samples::chunk().sealed.unwrap();
        let sealed = Sealed { length, holders: vec![HOLDER], at: Timestamp(at), ..sealed };
        let place = in_s3.then_some(PackPlace { pack: PackId(4), offset: 64, length, crc32c: 0 });
        let owner = ChunkOwner::Tail { ino: InodeId(7), base: 0 };
        let record = ChunkRecord {
            chunk,
            state: ChunkState::Sealed,
            owner,
            held: false,
            sealed: Some(sealed),
            live_bytes: length,
            place,
            ..samples::chunk()
        };
        self.write(|txn| keys::put(txn, chunks::key(chunk), &record));
        chunk
    }

    fn extent(&self, content: impl Into<ContentId>, at: u64, length: u64, source: ExtentSource) {
        let key = extents::key(content, at);
        self.write(|txn| keys::put(txn, key, &ExtentRow { length, source }));
    }

    /// Old extents in S3 that follow on one another, of this length each. Answers where they end.
    fn run(&mut self, content: impl Into<ContentId>, from: u64, count: u64, length: u64) -> u64 {
        let content = content.into();
        for n in 0..count {
            let chunk = self.chunk(length, true, 100);
            self.extent(content, from + n * length, length, ExtentSource::Chunk { chunk, offset: 0 });
        }
        from + count * length
    }

    /// A whole pass: what it finds, as (file, offset, length, extents), and how many steps it took.
    fn pass(&self, most: usize) -> (Vec<(u64, u64, u64, u32)>, usize) {
        let (mut found, mut at, mut steps) = (Vec::new(), Some(At::FIRST), 0);
        while let Some(from) = at {
            let step = step(&self.store, &from, most, BEFORE).unwrap();
            for candidate in step.found {
                let ExtentRun { ino, offset, length, extents } = candidate.run;
                assert_eq!(candidate.holders, BTreeMap::from([(HOLDER, length)]));
                // What is found the state takes.
                assert!(merging::pieces(&self.store, &candidate.run).unwrap().is_some());
                found.push((ino.0, offset, length, extents));
            }
            at = step.next;
            steps += 1;
            assert!(steps < 10_000, "it goes on");
        }
        (found, steps)
    }
}

#[test]
fn runs_of_all_files_are_found_whatever_a_step_takes() {
    let mut made = Made::new();
    for (ino, count) in [(10, 15), (11, 16), (12, 40), (13, 3)] {
        made.file(ino, None);
        made.run(InodeId(ino), 0, count, 4096);
    }
    let expected = vec![(11, 0, 16 * 4096, 16), (12, 0, 40 * 4096, 40)];
    for most in [41, 42, 50, 74, 75, 1000] {
        assert_eq!(made.pass(most).0, expected, "{most} rows a step");
    }
    assert_eq!(made.pass(1000).1, 2, "those of files that were cut are looked for last");
    // A file with more than a step takes is found in parts.
    let (found, _) = made.pass(20);
    assert_eq!(found, [(11, 0, 16 * 4096, 16), (12, 0, 20 * 4096, 20), (12, 20 * 4096, 20 * 4096, 20)]);
}

#[test]
fn gaps_long_extents_objects_and_the_ends_of_files_part_runs() {
    let mut made = Made::new();
    made.file(10, None);
    let end = made.run(InodeId(10), 0, 10, 100);
    made.run(InodeId(10), end + 1, 10, 100);
    made.file(11, None);
    let end = made.run(InodeId(11), 0, 10, 100);
    let long = made.chunk(EXTENT_BYTES_MAX + 1, true, 0);
    made.extent(InodeId(11), end, EXTENT_BYTES_MAX + 1, ExtentSource::Chunk { chunk: long, offset: 0 });
    made.run(InodeId(11), end + EXTENT_BYTES_MAX + 1, 10, 100);
    made.file(12, None);
    let end = made.run(InodeId(12), 0, 10, 100);
    let object = ObjectKey { mount: MountId(1), key: b"k".to_vec(), etag: "e".into() };
    made.extent(InodeId(12), end, 100, ExtentSource::Object { object, offset: 0 });
    made.run(InodeId(12), end + 100, 10, 100);
    // The next file begins where this one ends.
    made.file(13, None);
    made.file(14, None);
    made.run(InodeId(13), 0, 8, 100);
    made.run(InodeId(14), 800, 8, 100);
    assert_eq!(made.pass(1000).0, []);
}

#[test]
fn what_is_young_or_not_in_s3_is_left_and_so_are_mounts_and_what_is_unlinked() {
    let mut made = Made::new();
    for (ino, in_s3, at) in [(10, false, 50), (11, true, 101)] {
        made.file(ino, None);
        for n in 0..20 {
            let chunk = made.chunk(100, in_s3, at);
            made.extent(InodeId(ino), n * 100, 100, ExtentSource::Chunk { chunk, offset: 0 });
        }
    }
    // The old ones before a young one, and those behind it.
    made.file(12, None);
    let end = made.run(InodeId(12), 0, 20, 100);
    let chunk = made.chunk(100, true, 101);
    made.extent(InodeId(12), end, 100, ExtentSource::Chunk { chunk, offset: 0 });
    made.run(InodeId(12), end + 100, 17, 100);
    made.file(13, Some(MountId(1)));
    made.run(InodeId(13), 0, 20, 100);
    made.run(InodeId(14), 0, 20, 100);
    let (ino, kind) = (InodeId(15), FileKind::File);
    let inode = Inode { ino, kind, tail: None, mount: None, ..samples::inode() };
    let orphan = Orphan { inode, since: None };
    made.write(|txn| keys::put(txn, orphans::key(InodeId(15)), &orphan));
    made.run(InodeId(15), 0, 20, 100);
    assert_eq!(made.pass(1000).0, [(12, 0, 2000, 20), (12, 2100, 1700, 17)]);
    // One that is held lives.
    let orphan = Orphan { since: Some(LogIndex(5)), ..orphan };
    made.write(|txn| keys::put(txn, orphans::key(InodeId(15)), &orphan));
    assert_eq!(made.pass(1000).0.len(), 3);
}

#[test]
fn files_that_were_cut_are_found_by_their_parts() {
    let mut made = Made::new();
    let later = ContentId::later;
    made.file(10, None);
    made.file(11, None);
    let parts = |ino: u64, from: u64, content: u64| {
        let own = Part { from: 0, content: InodeId(ino).into() };
        ContentRow { parts: vec![own, Part { from, content: later(content) }] }
    };
    made.write(|txn| {
        keys::put(txn, contents::key(InodeId(10)), &parts(10, 1700, 1));
        keys::put(txn, contents::key(InodeId(11)), &parts(11, 1700, 3));
    });
    // What lies behind the cut under the old content is nobody's.
    made.run(InodeId(10), 0, 40, 100);
    made.run(later(1), 1700, 30, 100);
    made.run(later(2), 0, 30, 100);
    made.run(InodeId(11), 0, 3, 100);
    made.run(later(3), 1700, 16, 100);
    let found = made.pass(1000).0;
    assert_eq!(found, [(10, 0, 1700, 17), (10, 1700, 3000, 30), (11, 1700, 1600, 16)]);
    let most = made.pass(20).0.iter().filter(|run| run.1 >= 1700).map(|run| run.3).collect::<Vec<_>>();
    assert_eq!(most, [20, 16], "thirty are twenty and ten");
}

#[test]
fn a_backlog_is_cut_into_what_one_entry_takes() {
    let mut made = Made::new();
    made.file(10, None);
    made.run(InodeId(10), 0, 1300, 10);
    let extents: Vec<u32> = made.pass(5000).0.iter().map(|run| run.3).collect();
    assert_eq!(extents, [MERGE_EXTENTS_MAX as u32, MERGE_EXTENTS_MAX as u32, 276]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A pass in steps of any size ends, and finds no byte twice.
    #[test]
    fn a_pass_ends_and_finds_no_byte_twice(
        files in prop::collection::vec((1u64..60, 0u64..3, prop::bool::ANY), 1..8),
        most in 2usize..70,
    ) {
        let mut made = Made::new();
        for (n, (count, gap, cut)) in files.iter().enumerate() {
            let ino = 10 + n as u64;
            made.file(ino, None);
            let end = made.run(InodeId(ino), 0, *count, 10);
            if *cut {
                let content = ContentId::later(ino);
                let own = Part { from: 0, content: InodeId(ino).into() };
                let row = ContentRow { parts: vec![own, Part { from: end, content }] };
                made.write(|txn| keys::put(txn, contents::key(InodeId(ino)), &row));
                made.run(content, end + gap, *count, 10);
            }
        }
        let (found, _) = made.pass(most);
        let mut ranges: Vec<(u64, u64, u64)> = found.iter().map(|(ino, at, length, _)| (*ino, *at, at + length)).collect();
        ranges.sort_unstable();
        for two in ranges.windows(2) {
            prop_assert!(two[0].0 != two[1].0 || two[0].2 <= two[1].1, "{two:?}");
        }
    }
}
