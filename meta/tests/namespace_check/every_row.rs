//! Each row in turn is lost, or becomes what is no record: that is found, and repairs come to an end.

use cairn_meta::keys::counters;
use cairn_meta::namespace::check::{Finding, Severity};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::FsError;

use crate::world::{World, found};

/// Repairs in a row, at most, as `cairn admin fsck --repair` does.
const ROUNDS_MAX: usize = 8;

/// Tables of which the check says no more than that each row is one; the Raft layer's own among them.
pub fn looked_at_alone(table: Table) -> bool {
    matches!(
        table,
        Table::Meta
            | Table::Xattrs
            | Table::Credentials
            | Table::Locks
            | Table::LockWaits
            | Table::Lockers
            | Table::Trees
            | Table::Branches
            | Table::Events
    )
}

fn rows() -> Vec<(Table, Vec<u8>)> {
    let world = World::new();
    let all = |table: &Table| {
        let rows = world.d.store.scan(*table, &KeyRange::default(), usize::MAX).unwrap();
        rows.into_iter().map(|(key, _)| (*table, key)).collect::<Vec<_>>()
    };
    Table::ALL.iter().filter(|table| !looked_at_alone(**table)).flat_map(all).collect()
}

/// Mends all that can be until nothing more is. What is left then cannot be, or is refused.
fn mend_all(world: &mut World, what: &str) -> Vec<Finding> {
    for _ in 0..ROUNDS_MAX {
        let findings = world.found();
        let mut mended = false;
        for finding in &findings {
            match world.repair(finding) {
                Ok(_) => mended = true,
                Err(FsError::InvalidRequest) => assert!(!finding.is_repairable(), "{what}: {finding:?}"),
                Err(_) => {}
            }
        }
        if !mended {
            return findings;
        }
    }
    panic!("{what}: there is no end of it: {:?}", world.found());
}

#[test]
fn each_row_is_missed_and_what_is_left_after_repairs_cannot_be_mended() {
    let mut mended_whole = 0;
    for (table, key) in rows() {
        // Without a count of granted bytes it is counted when it is needed. A disk registers anew.
        // Without a counter of events none are known to be kept.
        let unmissed = table == Table::Disks || key == counters::GRANTED_KEY || key == counters::EVENTS_KEY;
        let what = format!("{table:?} {key:02x?}");
        let mut world = World::new();
        world.plant(|_, e| e.delete(table, key.clone()));
        let damage = world.found().iter().any(|f| f.severity() == Severity::Damage);
        assert_eq!(damage, !unmissed, "{what}: {:?}", world.found());
        if table == Table::Counters && key == counters::KEY {
            continue;
        }
        let left = mend_all(&mut world, &what);
        if left.is_empty() {
            mended_whole += 1;
            // The naive checker wants the count that is made when it is needed.
            if !unmissed {
                world.d.check();
            }
        }
    }
    assert!(mended_whole > 40, "{mended_whole}");
}

#[test]
fn each_row_that_cannot_be_read_is_named_and_stops_no_server() {
    for (table, key) in rows() {
        // Their values say nothing, or no entry can be applied without them.
        let key_alone = matches!(table, Table::Links | Table::Queues | Table::Held | Table::Writing);
        if key_alone || table == Table::Counters {
            continue;
        }
        let mut world = World::new();
        world.plant(|_, e| e.raw(table, key.clone(), &[0xff]));
        let named = Finding::Undecodable { table: table.name().to_owned(), key: key.clone() };
        let findings = found(&world.d.store);
        assert_eq!(findings.iter().filter(|f| **f == named).count(), 1, "{table:?}: {findings:?}");
        mend_all(&mut world, &format!("{table:?} {key:02x?}"));
    }
}

#[test]
fn a_row_that_is_looked_at_alone_is_named_when_it_cannot_be_read() {
    for table in Table::ALL.iter().copied().filter(|table| looked_at_alone(*table) && *table != Table::Meta) {
        let mut world = World::new();
        let key = 7u64.to_be_bytes().to_vec();
        world.plant(|_, e| e.raw(table, key.clone(), &[0xff]));
        let named = Finding::Undecodable { table: table.name().to_owned(), key };
        assert_eq!(found(&world.d.store), [named], "{table:?}");
    }
}
