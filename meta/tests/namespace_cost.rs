//! What the frequent operations cost in rows read and written.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::cell::Cell;

use cairn_meta::namespace::{Command, Entry, Target, apply, read};
use cairn_meta::store::{KeyRange, MemoryStore, Row, Rows, StoreFault, Table, Txn};
use cairn_types::{LogIndex, Sequence, Timestamp};
use driver::{Driver, create, extent};

/// Counts reads.
struct Counted<'s> {
    store: &'s MemoryStore,
    gets: Cell<usize>,
    scans: Cell<usize>,
}

impl<'s> Counted<'s> {
    fn new(store: &'s MemoryStore) -> Self {
        Self { store, gets: Cell::new(0), scans: Cell::new(0) }
    }
}

impl Rows for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.gets.set(self.gets.get() + 1);
        self.store.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        self.scans.set(self.scans.get() + 1);
        self.store.scan(table, range, limit)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        self.scans.set(self.scans.get() + 1);
        self.store.last_before(table, from, before)
    }
}

fn entry(d: &Driver, operation: cairn_meta::namespace::Operation) -> Entry {
    let command = Command::Request {
        session: d.session,
        sequence: Sequence(d.sequence + 1),
        acknowledged_below: Sequence(d.sequence),
        operation,
    };
    Entry { time: Timestamp(d.now), command }
}

#[test]
fn a_create_reads_its_path_and_writes_six_rows_without_a_scan() {
    let mut d = Driver::new();
    d.mkdir("/a/b/c");
    d.file("/a/b/c/first");
    let rows = Counted::new(&d.store);
    let mut txn = Txn::new(&rows);
    apply(&mut txn, LogIndex(99), &entry(&d, create("/a/b/c/f", Vec::new()))).unwrap().unwrap();
    // nodes, places, the directory, counters, session, reply, and one acknowledged reply less.
    assert!(txn.into_batch().changes().len() <= 7);
    assert_eq!(rows.scans.get(), 0);
    assert!(rows.gets.get() <= 16, "{} gets", rows.gets.get());
}

#[test]
fn a_create_with_bytes_touches_three_rows_more() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let rows = Counted::new(&d.store);
    let mut txn = Txn::new(&rows);
    let operation = create("/f", vec![extent(0, 10, chunk, 0)]);
    apply(&mut txn, LogIndex(99), &entry(&d, operation)).unwrap().unwrap();
    let changes = txn.into_batch().into_changes();
    assert!(changes.len() <= 9, "{changes:?}");
}

#[test]
fn a_listing_with_attributes_is_one_scan() {
    let mut d = Driver::new();
    let dir = d.mkdir("/d").ino;
    for i in 0..500 {
        d.file(&format!("/d/{i:03}"));
    }
    let rows = Counted::new(&d.store);
    let listing = read::list(&rows, dir, b"", 1000).unwrap();
    assert_eq!((listing.entries.len(), listing.last), (500, true));
    assert_eq!((rows.gets.get(), rows.scans.get()), (0, 1));
}

#[test]
fn a_stat_reads_one_row_a_component() {
    let mut d = Driver::new();
    d.mkdir("/1/2/3/4/5/6/7");
    d.file("/1/2/3/4/5/6/7/f");
    let rows = Counted::new(&d.store);
    read::stat(&rows, &Target::path("/1/2/3/4/5/6/7/f")).unwrap();
    // Two for the root, one for each component.
    assert_eq!((rows.gets.get(), rows.scans.get()), (10, 0));
}
