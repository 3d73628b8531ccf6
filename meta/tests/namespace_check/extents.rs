//! Extents, contents, live bytes.

use cairn_meta::keys::chunks::{self, ChunkRecord};
use cairn_meta::keys::contents::{self, ContentId, ContentRow, Part};
use cairn_meta::keys::counters::{self, ClusterRecord, ContentCounter};
use cairn_meta::keys::extents::{self, ExtentRow};
use cairn_meta::keys::mounts;
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::keys::packs::{self, PackRecord};
use cairn_meta::keys::places;
use cairn_meta::keys::queues::Queue;
use cairn_meta::namespace::check::{Counter, Finding, Severity};
use cairn_meta::store::{Rows, Table};
use cairn_types::{ChunkId, ExtentSource, InodeId, MountId, ObjectKey};

use crate::names::inode;
use crate::world::{Edit, World};
use crate::{left, mended};

fn row(length: u64, chunk: ChunkId, offset: u64) -> ExtentRow {
    ExtentRow { length, source: ExtentSource::Chunk { chunk, offset } }
}

/// Plants an extent of the chunk that waits for S3, which counts it.
fn extent(w: &World, e: &mut Edit<'_>, content: impl Into<ContentId>, at: u64, length: u64) {
    e.put(extents::key(content, at), &row(length, w.waiting, 70));
    e.change(chunks::key(w.waiting), |chunk: &mut ChunkRecord| {
        chunk.live_bytes += length;
        chunk.extent_end = 100;
    });
}

fn set_size(e: &mut Edit<'_>, parent: InodeId, name: &[u8], size: u64) {
    e.change(nodes::key(parent, name), |row: &mut NodeRow| inode(row).size = size);
}

/// A number that an inode had which is gone.
fn free(w: &World) -> InodeId {
    let row = |table, ino: u64| w.d.store.get(table, &ino.to_be_bytes()).unwrap();
    let gone = |ino: &u64| row(Table::Places, *ino).is_none() && row(Table::Orphans, *ino).is_none();
    InodeId((2..).find(gone).unwrap())
}

#[test]
fn content_of_a_file_that_is_gone_is_found_again() {
    let w = mended(|w, e| extent(w, e, free(w), 3, 10), |w| vec![Finding::LostFile { ino: free(w) }]);
    let lost = free_name(&w);
    let found = w.d.stat(&format!("/lost+found/{lost}")).unwrap();
    assert_eq!((found.size, found.nlink, found.mode), (13, 1, 0o600));
}

/// The one name in lost+found.
fn free_name(w: &World) -> String {
    let dir = w.d.stat("/lost+found").unwrap().ino;
    let listing = cairn_meta::namespace::read::list(&w.d.store, dir, b"", 10).unwrap();
    let [entry] = &listing.entries[..] else { panic!("{listing:?}") };
    String::from_utf8(entry.name.clone()).unwrap()
}

#[test]
fn a_cut_file_that_is_gone_is_found_again_with_all_its_parts() {
    let w = mended(
        |w, e| {
            e.delete(Table::Nodes, nodes::key(w.a, b"cut"));
            e.delete(Table::Places, places::key(w.cut));
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| cluster.counts.inodes -= 1);
        },
        |w| vec![Finding::LostFile { ino: w.cut }],
    );
    let found = w.d.stat(&format!("/lost+found/#{}", w.cut.0)).unwrap();
    assert_eq!((found.ino, found.size), (w.cut, 12));
}

#[test]
fn a_content_without_a_file_gets_one() {
    let content = ContentId::later(2);
    let w = mended(
        |w, e| {
            extent(w, e, content, 0, 4);
            e.put(counters::CONTENTS_KEY.to_vec(), &ContentCounter { made: 2 });
        },
        |_| vec![Finding::LostContent { content }],
    );
    assert_eq!(w.d.stat(&format!("/lost+found/{}", free_name(&w))).unwrap().size, 4);
}

#[test]
fn content_of_what_is_no_file() {
    left(|w, e| extent(w, e, w.c, 0, 5), |w| vec![Finding::NoFile { ino: w.c }]);
}

#[test]
fn extents_that_overlap_or_are_empty() {
    left(
        |w, e| {
            e.put(extents::key(w.data, 50), &row(10, w.packed, 50));
            e.change(chunks::key(w.packed), |chunk: &mut ChunkRecord| chunk.live_bytes = 110);
            e.change(packs::key(w.pack), |pack: &mut PackRecord| pack.live_bytes = 110);
        },
        |w| vec![Finding::BadExtent { content: w.data.into(), offset: 50 }],
    );
    left(
        |w, e| e.put(extents::key(w.data, 100), &row(0, w.packed, 0)),
        |w| vec![Finding::BadExtent { content: w.data.into(), offset: 100 }],
    );
}

#[test]
fn a_file_that_ends_before_its_extents_is_lengthened() {
    mended(
        |w, e| set_size(e, w.a, b"data", 60),
        |w| vec![Finding::BeyondSize { ino: w.data, size: 60, end: 100 }],
    );
    mended(
        |w, e| set_size(e, w.a, b"cut", 11),
        |w| vec![Finding::BeyondSize { ino: w.cut, size: 11, end: 12 }],
    );
}

#[test]
fn an_extent_outside_its_part() {
    left(
        |w, e| {
            e.change(extents::key(w.cut, 4), |row: &mut ExtentRow| row.length = 4);
            e.change(chunks::key(w.waiting), |chunk: &mut ChunkRecord| chunk.live_bytes += 1);
        },
        |w| vec![Finding::OutsidePart { ino: w.cut, content: w.cut.into(), offset: 4 }],
    );
    left(
        |w, e| extent(w, e, ContentId::later(1), 5, 1),
        |w| vec![Finding::OutsidePart { ino: w.cut, content: ContentId::later(1), offset: 5 }],
    );
}

#[test]
fn an_extent_of_a_chunk_that_is_gone() {
    left(
        |w, e| {
            e.put(extents::key(w.linked, 0), &row(1, ChunkId(999), 0));
            set_size(e, w.a, b"f", 1);
        },
        |w| vec![Finding::NoChunk { content: w.linked.into(), offset: 0, chunk: ChunkId(999) }],
    );
}

#[test]
fn a_chunk_learns_how_far_extents_point_into_it() {
    mended(
        |w, e| e.change(chunks::key(w.held), |chunk: &mut ChunkRecord| chunk.extent_end = 3),
        |w| vec![Finding::BeyondExtentEnd { chunk: w.held, recorded: 3, end: 7 }],
    );
}

/// Ends the chunk that waits for S3 before what the orphan still points at.
fn seal_short(w: &World, e: &mut Edit<'_>, known: u64) {
    e.change(chunks::key(w.waiting), |chunk: &mut ChunkRecord| {
        chunk.sealed.as_mut().unwrap().length = 62;
    });
    e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| {
        cluster.counts.unpersisted_bytes -= 38;
        cluster.counts.extents_beyond_seal = known;
    });
}

#[test]
fn extents_beyond_the_end_of_a_sealed_chunk_unless_an_operator_accepted_that() {
    for known in [0, 1] {
        left(
            |w, e| seal_short(w, e, known),
            |w| {
                let (content, chunk, known) = (w.orphan.into(), w.waiting, known > 0);
                let finding = Finding::BeyondSeal { content, offset: 9, chunk, known };
                let severity = if known { Severity::Known } else { Severity::Damage };
                assert_eq!(finding.severity(), severity);
                vec![finding]
            },
        );
    }
}

#[test]
fn inodes_and_extents_of_a_mount_that_is_gone() {
    let gone = |ino, mount| Finding::NoMount { ino, mount: MountId(mount) };
    left(
        |_, e| e.delete(Table::Mounts, mounts::key(MountId(1))),
        |w| vec![gone(w.mount, 1), gone(w.mount_dir, 1), gone(w.mount_file, 1)],
    );
    left(
        |w, e| {
            let object = ObjectKey { mount: MountId(9), key: b"k".to_vec(), etag: "e".into() };
            let source = ExtentSource::Object { object, offset: 0 };
            e.put(extents::key(w.linked, 0), &ExtentRow { length: 1, source });
            set_size(e, w.a, b"f", 1);
        },
        |w| vec![gone(w.linked, 9)],
    );
}

#[test]
fn parts_that_contradict_each_other() {
    left(
        |w, e| e.change(contents::key(w.cut), |row: &mut ContentRow| row.parts[0].from = 1),
        |w| vec![Finding::BadParts { ino: w.cut }],
    );
    // The same content in two files.
    left(
        |w, e| {
            let parts = vec![Part { from: 0, content: ContentId::later(1) }];
            e.put(contents::key(w.linked), &ContentRow { parts });
            set_size(e, w.a, b"f", 12);
        },
        |w| vec![Finding::BadParts { ino: w.cut.max(w.linked) }],
    );
}

fn live(w: &World, chunk: ChunkId) -> u64 {
    w.d.chunk(chunk).live_bytes
}

fn live_bytes(chunk: ChunkId, recorded: u64, counted: u64, settled: bool) -> Finding {
    Finding::LiveBytes { chunk, recorded, counted, settled }
}

fn set_live(e: &mut Edit<'_>, chunk: ChunkId, live: u64) {
    e.change(chunks::key(chunk), |record: &mut ChunkRecord| record.live_bytes = live);
}

#[test]
fn live_bytes_become_the_sum_of_the_extents() {
    let sound = live(&World::new(), World::new().waiting);
    let w = mended(
        |w, e| set_live(e, w.waiting, sound + 5),
        |w| vec![live_bytes(w.waiting, sound + 5, sound, true)],
    );
    assert_eq!(live(&w, w.waiting), sound);
    mended(|w, e| set_live(e, w.waiting, 1), |w| vec![live_bytes(w.waiting, 1, sound, true)]);
}

#[test]
fn the_live_bytes_of_a_chunk_that_is_written_are_not_mended() {
    left(|w, e| set_live(e, w.held, 9), |w| vec![live_bytes(w.held, 9, 7, false)]);
}

#[test]
fn live_bytes_that_changed_meanwhile_are_left_to_the_next_check() {
    let mut w = World::new();
    w.plant(|w, e| set_live(e, w.waiting, 50));
    let finding = w.found().pop().unwrap();
    w.d.unlink("/a/cut");
    assert_eq!(w.repair(&finding), Err(cairn_types::FsError::NotFound));
    let finding = w.found().pop().unwrap();
    assert!(w.repair(&finding).is_ok());
    assert_eq!(w.found(), []);
    w.d.check();
}

#[test]
fn live_bytes_in_a_pack_are_mended_before_the_pack_is() {
    mended(
        |w, e| set_live(e, w.packed, 90),
        |w| {
            let counts = Finding::PackCounts {
                pack: w.pack,
                recorded_chunks: 1,
                recorded_bytes: 100,
                counted_chunks: 1,
                counted_bytes: 90,
                chunks: vec![w.packed],
            };
            vec![live_bytes(w.packed, 90, 100, true), counts]
        },
    );
}

#[test]
fn a_chunk_that_was_taken_for_dead_lives_again() {
    let sound = live(&World::new(), World::new().waiting);
    mended(
        |w, e| set_live(e, w.waiting, 0),
        |w| {
            let order = w.d.chunk(w.waiting).sealed.unwrap().at;
            let id = w.waiting.0;
            let recorded = cairn_meta::namespace::read::cluster(&w.d.store).unwrap().counts.unpersisted_bytes;
            vec![
                live_bytes(w.waiting, 0, sound, true),
                Finding::MissingQueueRow { queue: Queue::Garbage as u8, order, id },
                Finding::StrayQueueRow { queue: Queue::Unpersisted as u8, order, id },
                Finding::WrongCount { counter: Counter::UnpersistedBytes, recorded, counted: recorded - 100 },
            ]
        },
    );
}
