//! What the frequent operations cost in rows read and written.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::cell::Cell;

use cairn_meta::keys;
use cairn_meta::namespace::{Bounds, Command, Entry, Operation, Target, apply, apply_within, events, read};
use cairn_meta::store::{KeyRange, MemoryStore, Row, Rows, StoreFault, Table, Txn};
use cairn_types::limits::ROWS_PER_ENTRY_MAX;
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

fn entry(d: &Driver, operation: Operation) -> Entry {
    let command = Command::Request {
        session: d.session,
        sequence: Sequence(d.sequence + 1),
        acknowledged_below: Sequence(d.sequence),
        operation,
    };
    Entry { time: Timestamp(d.now), command }
}

#[test]
fn a_create_reads_its_path_and_writes_eight_rows_without_a_scan() {
    let mut d = Driver::new();
    d.mkdir("/a/b/c");
    d.file("/a/b/c/first");
    let rows = Counted::new(&d.store);
    let mut txn = Txn::new(&rows);
    apply(&mut txn, LogIndex(99), &entry(&d, create("/a/b/c/f", Vec::new()))).unwrap().unwrap();
    // nodes, places, the directory, counters, session, reply, and one acknowledged reply less; the
    // event, and the counter of events.
    assert!(txn.into_batch().changes().len() <= 7 + 2);
    assert_eq!(rows.scans.get(), 0);
    // The event names the three directories above: a read each, and one of the counter.
    assert!(rows.gets.get() <= 16 + 4, "{} gets", rows.gets.get());
}

/// The rows that an entry writes for watchers: its events, and how many others it removes.
fn of_watchers(d: &Driver, operation: Operation) -> (Vec<usize>, usize) {
    let mut txn = Txn::new(&d.store);
    apply_within(&mut txn, LogIndex(d.index + 1), &entry(d, operation), d.bounds).unwrap().unwrap();
    let changes = txn.into_batch().into_changes();
    let events = changes.iter().filter(|change| change.table == Table::Events);
    let (put, removed): (Vec<_>, Vec<_>) = events.partition(|change| change.value.is_some());
    (put.iter().map(|c| c.key.len() + c.value.as_ref().unwrap().len()).collect(), removed.len())
}

#[test]
fn a_create_tells_watchers_in_one_row_of_some_forty_bytes() {
    let mut d = Driver::new();
    d.mkdir("/a/b/c");
    let (put, removed) = of_watchers(&d, create("/a/b/c/twelve-bytes", Vec::new()));
    // Inodes are small here: with those of a large tree, five bytes each, it is 20 more.
    assert!(put.len() == 1 && put[0] <= 40, "{put:?}");
    assert_eq!(removed, 0);
}

#[test]
fn old_events_go_some_at_a_time_and_none_is_scanned_over() {
    let mut d = Driver::new();
    d.bounds = Bounds { events_kept: 100, ..Bounds::default() };
    let mut removed = Vec::new();
    for n in 0..1000 {
        let operation = create(&format!("/{n}"), Vec::new());
        removed.push(of_watchers(&d, operation.clone()).1);
        d.done(operation);
        let kept = events::counter(&d.store).unwrap().unwrap();
        let first = d.store.scan(Table::Events, &KeyRange::default(), 1).unwrap().remove(0).0;
        assert!(first >= keys::events::kept(&kept).from, "the first row is where scans begin, or later");
        assert!(kept.kept < 100 + 64);
    }
    // One entry in 64 removes as many.
    assert_eq!(removed.iter().filter(|count| **count > 0).count(), (1000 - 100) / 64);
    assert!(removed.iter().all(|count| *count == 0 || *count == 64), "{removed:?}");
}

#[test]
fn an_entry_with_many_events_removes_as_many_and_stays_within_its_rows() {
    let mut d = Driver::new();
    d.bounds = Bounds { events_kept: 100, ..Bounds::default() };
    for n in 0..8 {
        let target = Target::path(format!("/{n}{}", "/d".repeat(600)));
        let all = Operation::Mkdir { target, mode: 0o755, uid: 0, gid: 0, parents: true };
        let mut txn = Txn::new(&d.store);
        apply_within(&mut txn, LogIndex(d.index + 1), &entry(&d, all.clone()), d.bounds).unwrap().unwrap();
        assert!(txn.into_batch().changes().len() <= ROWS_PER_ENTRY_MAX);
        d.done(all);
        assert!(events::counter(&d.store).unwrap().unwrap().kept <= 100 + 64 + 601);
    }
    d.check();
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
    // Those of a create without, the extent, the chunk, and its queue or count.
    assert!(changes.len() <= 9 + 2, "{changes:?}");
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
    // One for the root, one for each component.
    assert_eq!((rows.gets.get(), rows.scans.get()), (9, 0));
}
