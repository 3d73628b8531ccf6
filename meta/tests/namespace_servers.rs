//! Which metadata servers may be members: an id belongs to one directory, and once it is removed to
//! nobody. Random histories against a model of who was given what, the same on both stores.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::collections::BTreeMap;

use cairn_meta::keys::servers::{DirectoryId, ID_MAX, Servers};
use cairn_meta::namespace::{Command, Entry, Reply, apply, jobs};
use cairn_meta::store::{RocksStore, Store, Txn};
use cairn_types::{FsError, LogIndex, NodeId, Timestamp};
use driver::Driver;
use proptest::prelude::*;

fn admit(node: u64, directory: u8) -> Command {
    Command::AdmitServer { node: NodeId(node), directory: DirectoryId([directory; 16]) }
}

fn retire(node: u64) -> Command {
    Command::RetireServer { node: NodeId(node) }
}

fn known(d: &Driver) -> Vec<(u64, u8, bool)> {
    let known = jobs::servers(&d.store).unwrap().known;
    known.iter().map(|s| (s.node.0, s.directory.0[0], s.removed)).collect()
}

#[test]
fn an_id_that_was_used_is_never_another_server_s() {
    let mut d = Driver::new();
    d.ok(admit(4, 1));
    d.ok(admit(4, 1));
    assert_eq!(d.propose(admit(4, 2)), Err(FsError::Exists), "it is another directory");
    d.ok(retire(4));
    d.ok(retire(4));
    assert_eq!(d.propose(admit(4, 1)), Err(FsError::Exists), "removed for good");
    d.ok(retire(2));
    assert_eq!(d.propose(admit(2, 3)), Err(FsError::Exists), "a first member's");
    assert_eq!(known(&d), [(2, 0, true), (4, 1, true)]);
    d.check();
}

#[test]
fn what_is_no_server_is_refused() {
    let mut d = Driver::new();
    for command in [admit(0, 1), admit(ID_MAX + 1, 1), admit(5, 0), retire(0)] {
        assert_eq!(d.propose(command), Err(FsError::InvalidRequest));
    }
    d.ok(admit(ID_MAX, 1));
    assert_eq!(known(&d), [(ID_MAX, 1, false)]);
}

/// The same commands applied to RocksDB: their replies, and what is known then.
fn on_rocks(commands: &[Command]) -> (Vec<Reply>, Servers) {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), 0).unwrap();
    let replies = (1..).zip(commands).map(|(index, command)| {
        let mut txn = Txn::new(&store);
        let entry = Entry { time: Timestamp(1), command: command.clone() };
        let reply = apply(&mut txn, LogIndex(index), &entry).unwrap();
        store.write(txn.into_batch()).unwrap();
        reply
    });
    (replies.collect(), jobs::servers(&store).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: what each id was first given, and whether it was taken away.
    #[test]
    fn every_history_gives_an_id_once(
        steps in proptest::collection::vec((1u64..6, 1u8..4, any::<bool>()), 0..40),
    ) {
        let mut d = Driver::new();
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        let mut given: BTreeMap<u64, (u8, bool)> = BTreeMap::new();
        for (node, directory, removes) in steps {
            let command = if removes { retire(node) } else { admit(node, directory) };
            let reply = d.propose(command.clone());
            let allowed = if removes {
                given.entry(node).or_insert((0, true)).1 = true;
                true
            } else {
                *given.entry(node).or_insert((directory, false)) == (directory, false)
            };
            prop_assert_eq!(reply.clone().err(), (!allowed).then_some(FsError::Exists));
            let wanted: Vec<_> = given.iter().map(|(n, (dir, gone))| (*n, *dir, *gone)).collect();
            prop_assert_eq!(known(&d), wanted);
            commands.push(command);
            replies.push(reply);
        }
        prop_assert_eq!(on_rocks(&commands), (replies, jobs::servers(&d.store).unwrap()));
        d.check();
    }
}
