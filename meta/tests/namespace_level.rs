//! The feature level in the state goes up and never down; random histories against a model that is one
//! number, the same on both stores. And an entry that changes nothing changes nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::namespace::{Command, Entry, Reply, apply, jobs};
use cairn_meta::store::{KeyRange, RocksStore, Rows, Store, Table, Txn};
use cairn_types::{FeatureLevel, FsError, LogIndex, Timestamp};
use driver::Driver;
use proptest::prelude::*;

fn raise(to: u32) -> Command {
    Command::RaiseLevel { to: FeatureLevel(to) }
}

fn level(rows: &dyn Rows) -> u32 {
    jobs::level(rows).unwrap().0
}

/// All rows that an entry could change, but for the state's time.
fn rows(d: &Driver) -> Vec<(Table, usize)> {
    let count = |table: &Table| d.store.scan(*table, &KeyRange::default(), 1000).unwrap().len();
    Table::ALL.iter().map(|table| (*table, count(table))).collect()
}

#[test]
fn the_level_goes_up_and_never_down() {
    let mut d = Driver::new();
    assert_eq!(level(&d.store), 1, "a state that names none");
    d.ok(raise(1));
    assert!(d.store.get(Table::Counters, b"level").unwrap().is_none(), "the first is not written down");
    d.ok(raise(3));
    d.ok(raise(2));
    assert_eq!(level(&d.store), 3);
    assert_eq!(d.propose(raise(0)), Err(FsError::InvalidRequest));
    d.ok(raise(300));
    assert_eq!(level(&d.store), 300);
    d.check();
}

#[test]
fn a_probe_changes_nothing() {
    let mut d = Driver::new();
    let before = rows(&d);
    d.ok(Command::Probe);
    assert_eq!(rows(&d), before);
    d.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_level_is_the_highest_that_was_ever_raised_to(steps in proptest::collection::vec(0u32..6, 0..20)) {
        let mut d = Driver::new();
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        let mut model = 1;
        for (index, to) in (1..).zip(steps) {
            let reply = d.propose(raise(to));
            prop_assert_eq!(reply.is_ok(), to > 0);
            model = model.max(to);
            let mut txn = Txn::new(&rocks);
            let entry = Entry { time: Timestamp(1), command: raise(to) };
            let same: Reply = apply(&mut txn, LogIndex(index), &entry).unwrap();
            rocks.write(txn.into_batch()).unwrap();
            prop_assert_eq!(same, reply);
            prop_assert_eq!((level(&d.store), level(&rocks)), (model, model));
        }
        d.check();
    }
}
