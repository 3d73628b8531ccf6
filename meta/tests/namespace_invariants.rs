//! The checker of invariants finds what is planted.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::counters::{self, ClusterRecord, Counts};
use cairn_meta::keys::extents::{self, ExtentRow};
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::keys::places::Place;
use cairn_meta::keys::queues::{self, Queue};
use cairn_meta::keys::{self, Record};
use cairn_meta::store::{MemoryStore, Store, Table, WriteBatch};
use cairn_types::{ChunkId, Generation, Timestamp};
use cairn_types::{ExtentSource, FileKind, Inode, InodeId};
use invariants::check;

fn root() -> Inode {
    Inode {
        ino: InodeId::ROOT,
        kind: FileKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        nlink: 2,
        size: 0,
        mtime: Timestamp(0),
        ctime: Timestamp(0),
        atime: Timestamp(0),
        btime: Timestamp(0),
        version: 1,
        generation: Generation(0),
        tail: None,
        target: None,
        policy: None,
        mount: None,
    }
}

fn store(change: impl Fn(&mut WriteBatch)) -> MemoryStore {
    let store = MemoryStore::new();
    let mut batch = WriteBatch::default();
    let place = Place { parent: InodeId(0), name: Vec::new() };
    batch.put(Table::Nodes, nodes::key(InodeId(0), b""), NodeRow::Inode(root()).to_bytes());
    batch.put(Table::Places, keys::places::key(InodeId::ROOT), place.to_bytes());
    let counts = Counts { inodes: 1, ..Counts::default() };
    let cluster = ClusterRecord { counts, ..ClusterRecord::default() };
    batch.put(Table::Counters, counters::KEY, cluster.to_bytes());
    change(&mut batch);
    store.write(batch).unwrap();
    store
}

#[test]
fn a_sound_state_passes() {
    check(&store(|_| {}));
}

#[test]
#[should_panic(expected = "place")]
fn a_missing_place_is_found() {
    check(&store(|batch| batch.delete(Table::Places, keys::places::key(InodeId::ROOT))));
}

#[test]
#[should_panic(expected = "nlink of ino-1")]
fn a_wrong_link_count_is_found() {
    let inode = Inode { nlink: 3, ..root() };
    check(&store(|batch| {
        batch.put(Table::Nodes, nodes::key(InodeId(0), b""), NodeRow::Inode(inode.clone()).to_bytes());
    }));
}

#[test]
#[should_panic(expected = "which is gone")]
fn an_extent_of_nothing_is_found() {
    let source = ExtentSource::Chunk { chunk: ChunkId(1), offset: 0 };
    let row = ExtentRow { length: 1, source };
    check(&store(|batch| batch.put(Table::Extents, extents::key(InodeId(9), 0), row.to_bytes())));
}

#[test]
#[should_panic(expected = "queues")]
fn a_stray_queue_row_is_found() {
    check(&store(|batch| {
        batch.put(Table::Queues, queues::key(Queue::Open, Timestamp(0), 7), keys::PRESENT);
    }));
}

#[test]
#[should_panic(expected = "counts")]
fn a_wrong_count_is_found() {
    check(&store(|batch| batch.put(Table::Counters, counters::KEY, ClusterRecord::default().to_bytes())));
}
