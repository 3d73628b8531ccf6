//! An entry of many operations does what they do one by one, whatever an entry remembers of the ways
//! that its paths went.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::namespace::{Command, Memory, Operation, Target, XattrMode};
use cairn_meta::store::{KeyRange, Row, Rows, Table};
use cairn_types::{Credentials, FsError, InodeId};
use driver::Driver;
use proptest::prelude::*;

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        12 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just("..".to_owned()),
    ];
    (proptest::collection::vec(part, 1..4), any::<bool>())
        .prop_map(|(parts, slash)| format!("{}{}", if slash { "/" } else { "" }, parts.join("/")))
}

/// By its path, or from an inode that may be there, or such an inode itself.
fn target() -> impl Strategy<Value = Target> {
    let ino = || (1u64..16).prop_map(InodeId);
    let target = prop_oneof![
        5 => path().prop_map(Target::path),
        2 => (ino(), path()).prop_map(|(ino, path)| Target::under(ino, path)),
        3 => ino().prop_map(Target::ino),
    ];
    (target, prop::bool::weighted(0.2)).prop_map(
        |(target, no_follow)| {
            if no_follow { target.no_follow() } else { target }
        },
    )
}

fn set_mode(target: Target, mode: u32) -> Operation {
    let (uid, gid, size, mtime, atime, expected_version) = (None, None, None, None, None, None);
    Operation::SetAttr { target, mode: Some(mode), uid, gid, size, mtime, atime, expected_version }
}

fn operation() -> impl Strategy<Value = Operation> {
    let mode = || prop::sample::select(vec![0o755, 0o700, 0o600, 0o000, 0o2775]);
    let acl = || prop::sample::select(vec!["user.x", "user.y"]);
    prop_oneof![
        6 => target().prop_map(|target| Operation::Create {
            target, mode: 0o644, uid: 7, gid: 7, exclusive: false, truncate: false, extents: Vec::new(),
        }),
        5 => (target(), mode(), any::<bool>()).prop_map(|(target, mode, parents)| {
            Operation::Mkdir { target, mode, uid: 7, gid: 7, parents }
        }),
        3 => (target(), path()).prop_map(|(target, to)| {
            Operation::Symlink { target, to: to.into_bytes(), uid: 7, gid: 7 }
        }),
        2 => target().prop_map(|target| Operation::Unlink { target }),
        2 => target().prop_map(|target| Operation::Rmdir { target }),
        3 => (target(), target(), any::<bool>()).prop_map(|(from, to, exchange)| {
            Operation::Rename { from, to, no_replace: false, exchange }
        }),
        2 => (target(), target()).prop_map(|(from, to)| Operation::Link { from, to }),
        2 => (target(), mode()).prop_map(|(target, mode)| set_mode(target, mode)),
        1 => (target(), acl()).prop_map(|(target, name)| Operation::SetXattr {
            target, name: name.as_bytes().to_vec(), value: b"v".to_vec(), mode: XattrMode::Any,
        }),
    ]
}

/// A driver whose session is user 7's, with a directory of its own.
fn driver(checked: bool) -> Driver {
    let mut d = Driver::new();
    d.mkdir("/a/b");
    for path in ["/", "/a", "/a/b"] {
        d.done(set_mode(Target::path(path), 0o777));
    }
    if checked {
        let credentials = Credentials { uid: 7, gid: 7, groups: vec![8] };
        d.session = d.ok(Command::OpenSessionAs { client: "seven".into(), credentials }).session.unwrap();
        d.sequence = 0;
    }
    d
}

/// Every row but those that tell entries apart.
fn rows(d: &Driver) -> Vec<(Table, Vec<Row>)> {
    let of_entries = [Table::Replies, Table::Sessions, Table::Counters, Table::Events];
    let tables = Table::ALL.iter().filter(|table| !of_entries.contains(table));
    tables.map(|t| (*t, d.store.scan(*t, &KeyRange::default(), usize::MAX).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_transaction_does_what_its_operations_do_one_by_one(
        checked in any::<bool>(),
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        let (mut one_by_one, mut at_once) = (driver(checked), driver(checked));
        // What is remembered from entry to entry changes nothing either.
        let mut remembering = driver(checked);
        remembering.memory = Some(Memory::default());
        let (mut done, mut inodes, mut refused) = (Vec::new(), Vec::new(), None);
        for operation in operations {
            let reply = one_by_one.ask(operation.clone());
            prop_assert_eq!(&remembering.ask(operation.clone()), &reply);
            match reply {
                Ok(answer) => {
                    inodes.push(answer.inode.map(|inode| cairn_types::Inode { target: None, ..inode }));
                    done.push(operation);
                }
                Err(error) => refused = refused.or(Some((done.len(), operation, error))),
            }
        }
        if let Some((after, operation, error)) = refused {
            let operations = done.iter().take(after).cloned().chain([operation]).collect();
            let reply = at_once.ask(Operation::Transact { preconditions: Vec::new(), operations });
            let why = Box::new(error);
            prop_assert_eq!(reply, Err(FsError::OperationRefused { index: after as u32, why }));
        }
        if !done.is_empty() {
            let reply = at_once.ask(Operation::Transact { preconditions: Vec::new(), operations: done });
            prop_assert_eq!(reply.unwrap().steps, inodes);
        }
        prop_assert_eq!(rows(&at_once), rows(&one_by_one));
        let all = |d: &Driver, table| d.store.scan(table, &KeyRange::default(), usize::MAX).unwrap();
        for table in Table::ALL {
            prop_assert_eq!(all(&remembering, *table), all(&one_by_one, *table), "{:?}", table);
        }
        at_once.check();
    }
}
