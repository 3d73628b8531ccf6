//! For each kind of damage: it is planted into a sound state, the check finds exactly that, and what
//! can be mended is, by entries, so that nothing is found any more and the naive checker agrees.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_check/chunks.rs"]
mod chunks;
#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_check/every_row.rs"]
mod every_row;
#[path = "namespace_check/extents.rs"]
mod extents;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_check/names.rs"]
mod names;
#[path = "namespace_check/others.rs"]
mod others;
#[path = "namespace_check/world.rs"]
mod world;

use cairn_meta::namespace::check::Finding;
use cairn_meta::store::{KeyRange, Rows, Table};
use world::{Edit, World};

#[test]
fn the_sound_state_has_rows_of_every_kind_and_no_finding() {
    let world = World::new();
    // Rows of holders: `namespace_holds` loses and mends each.
    let elsewhere = [Table::Removed, Table::Denials, Table::Holds];
    // Rows of written mounts: nothing is found in any state that `namespace_mount_writes` comes to.
    let mounted = Table::ALL.iter().skip_while(|table| **table != Table::MountModes).collect::<Vec<_>>();
    let elsewhere = |table: &Table| elsewhere.contains(table) || mounted.contains(&table);
    let linked = |table: &&Table| !elsewhere(table) && !every_row::looked_at_alone(**table);
    for table in Table::ALL.iter().filter(linked) {
        let rows = world.d.store.scan(*table, &KeyRange::default(), 1).unwrap();
        assert!(!rows.is_empty(), "{table:?}");
    }
    assert_eq!(world.found(), []);
    world.d.check();
}

/// Plants damage: exactly `expected` is found, in that order. Nothing of it can be mended.
fn left(plant: impl FnOnce(&World, &mut Edit<'_>), expected: impl FnOnce(&World) -> Vec<Finding>) {
    let mut world = World::new();
    world.plant(plant);
    let expected = expected(&world);
    assert_eq!(world.found(), expected);
    for finding in expected {
        assert!(!finding.is_repairable(), "{finding:?}");
        let refused = Err(cairn_types::FsError::InvalidRequest);
        assert_eq!(world.repair(&finding), refused, "{finding:?}");
    }
}

/// Plants damage: exactly `expected` is found, in that order, and mended in that order. A second
/// repair of the same finds nothing to do. Answers the state after it.
fn mended(plant: impl FnOnce(&World, &mut Edit<'_>), expected: impl FnOnce(&World) -> Vec<Finding>) -> World {
    mended_of(World::new(), plant, expected)
}

/// As [`mended`], of a state that is given.
fn mended_of(
    mut world: World,
    plant: impl FnOnce(&World, &mut Edit<'_>),
    expected: impl FnOnce(&World) -> Vec<Finding>,
) -> World {
    world.plant(plant);
    let expected = expected(&world);
    assert_eq!(world.found(), expected);
    let seen = cairn_types::LogIndex(world.d.index);
    let mend = |finding: &Finding, world: &mut World| {
        assert!(finding.is_repairable(), "{finding:?}");
        world.d.propose(cairn_meta::namespace::Command::Repair { seen, finding: finding.clone() })
    };
    let mut any = false;
    for finding in &expected {
        match mend(finding, &mut world) {
            Ok(_) => any = true,
            // Mended with another.
            Err(error) => assert_eq!(error, cairn_types::FsError::NotFound, "{finding:?}"),
        }
    }
    assert!(any, "nothing was mended");
    assert_eq!(world.found(), [], "after the repair");
    world.d.check();
    for finding in &expected {
        assert_eq!(mend(finding, &mut world), Err(cairn_types::FsError::NotFound), "again: {finding:?}");
    }
    world.d.check();
    world
}

/// Each kind has a test here: its name stands in one of the files.
#[test]
fn every_kind_is_planted() {
    let texts = ["names", "extents", "chunks", "others"]
        .map(|file| std::fs::read_to_string(format!("tests/namespace_check/{file}.rs")).unwrap())
        .concat();
    for kind in Finding::KINDS {
        let name: String =
            kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<Vec<_>>().concat();
        assert!(texts.contains(&format!("Finding::{name} ")), "{name} is never planted");
    }
}
