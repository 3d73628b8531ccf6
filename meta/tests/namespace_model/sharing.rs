//! Histories of transactions, and of what moves no bytes: few names, most of them of files with content.

use std::collections::BTreeMap;

use cairn_meta::namespace::{Operation, Precondition, Wanted};
use cairn_meta::store::{MemoryStore, RocksStore, Store};
use cairn_types::{FsError, Inode, InodeId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::model::{Outcome, Told};
use super::steps::side_by_side;
use super::{
    Path, SESSIONS, Step, Verb, World, dump, invariants, path, ranges, replay, run, target, verb, verb_name,
};

/// What shares bytes, or drops them.
#[derive(Clone, Debug)]
pub enum Share {
    Clone(Path, Path, bool, bool),
    CopyRange(Path, u64, Path, u64, Option<u64>),
    Concat(Path, Vec<Path>),
    PunchHole(Path, u64, u64, bool),
    Allocate(Path, u64, u64, bool),
}

/// A path, and what shall be there: nothing, or something with the number, version and length that
/// it has (true), or others.
#[derive(Clone, Debug)]
pub struct Demand {
    at: Path,
    absent: bool,
    ino: Option<bool>,
    version: Option<bool>,
    length: Option<bool>,
}

/// A path that mostly leads to a file or a directory.
fn near() -> impl Strategy<Value = Path> {
    let name = prop_oneof![4 => Just("a"), 4 => Just("b"), 3 => Just("c"), 2 => Just("d"), 2 => Just("d/a"),
        1 => Just("d/b"), 1 => Just("d/d")];
    let name = (name, prop::bool::weighted(0.1)).prop_map(|(name, n)| (0, name.as_bytes().to_vec(), n));
    prop_oneof![9 => name, 1 => path()]
}

fn share() -> impl Strategy<Value = Share> {
    let length = || prop_oneof![1 => Just(0u64), 20 => 1u64..12];
    let few = |p: f64| prop::bool::weighted(p);
    let part = (near(), 0u64..12, near(), 0u64..24, prop::option::weighted(0.7, length()));
    prop_oneof![
        6 => (near(), near(), few(0.4), few(0.5)).prop_map(|(a, b, r, all)| Share::Clone(a, b, r, all)),
        5 => part.prop_map(|(a, from, b, to, length)| Share::CopyRange(a, from, b, to, length)),
        3 => (near(), proptest::collection::vec(near(), 0..3)).prop_map(|(a, from)| Share::Concat(a, from)),
        2 => (near(), 0u64..24, length(), any::<bool>()).prop_map(|(p, o, l, k)| Share::PunchHole(p, o, l, k)),
        2 => (near(), 0u64..24, length(), few(0.3)).prop_map(|(p, o, l, k)| Share::Allocate(p, o, l, k)),
    ]
}

fn demand() -> impl Strategy<Value = Demand> {
    let holds = || prop::option::weighted(0.4, prop::bool::weighted(0.9));
    (near(), prop::bool::weighted(0.2), holds(), holds(), holds())
        .prop_map(|(at, absent, ino, version, length)| Demand { at, absent, ino, version, length })
}

/// What a transaction holds, and mostly succeeds.
fn part() -> impl Strategy<Value = Verb> {
    prop_oneof![
        8 => share().prop_map(Verb::Share),
        5 => (near(), prop::bool::weighted(0.7), ranges()).prop_map(|(p, t, r)| Verb::Create(p, false, t, r)),
        2 => near().prop_map(|p| Verb::Mkdir(p, true)),
        2 => (near(), near()).prop_map(|(a, b)| Verb::Link(a, b)),
        2 => (near(), near(), prop::bool::weighted(0.3)).prop_map(|(a, b, x)| Verb::Rename(a, b, false, x)),
        2 => (1u64..14, ranges()).prop_map(|(ino, ranges)| Verb::Commit(ino, ranges, None)),
        1 => near().prop_map(Verb::Unlink),
        1 => (near(), 0u64..24).prop_map(|(p, size)| Verb::SetAttr(p, None, Some(size), None, None)),
    ]
}

fn transact() -> impl Strategy<Value = Verb> {
    let verbs = prop_oneof![9 => part(), 1 => verb()];
    (proptest::collection::vec(demand(), 0..3), proptest::collection::vec(verbs, 0..5))
        .prop_map(|(demands, verbs)| Verb::Transact(demands, verbs))
}

pub fn history() -> impl Strategy<Value = Vec<Step>> {
    let verb = prop_oneof![
        12 => part(),
        8 => transact(),
        4 => verb(),
        3 => Just(Verb::OpenChunk(0)),
        1 => Just(Verb::Repeat),
    ];
    let step = (0..SESSIONS, -5i64..20, verb).prop_map(|(client, time, verb)| Step { client, time, verb });
    proptest::collection::vec(step, 40..120)
}

impl Share {
    pub fn operation(&self) -> Operation {
        match self {
            Self::Clone(from, to, replace, recursive) => Operation::Clone {
                from: target(from),
                to: target(to),
                uid: 0,
                gid: 0,
                replace: *replace,
                recursive: *recursive,
            },
            Self::CopyRange(from, from_offset, to, to_offset, length) => Operation::CopyRange {
                from: target(from),
                from_offset: *from_offset,
                to: target(to),
                to_offset: *to_offset,
                length: *length,
            },
            Self::Concat(at, from) => {
                Operation::Concat { target: target(at), from: from.iter().map(target).collect() }
            }
            Self::PunchHole(at, offset, length, keep_size) => Operation::PunchHole {
                target: target(at),
                offset: *offset,
                length: *length,
                keep_size: *keep_size,
            },
            Self::Allocate(at, offset, length, keep_size) => Operation::Allocate {
                target: target(at),
                offset: *offset,
                length: *length,
                keep_size: *keep_size,
            },
        }
    }
}

impl World {
    pub fn demand(&self, demand: &Demand) -> Precondition {
        let target = target(&demand.at);
        if demand.absent {
            return Precondition { target, wanted: Wanted::Absent };
        }
        let there = self.model.find((demand.at.0, &demand.at.1), !demand.at.2).ok();
        let inode = there.map(|ino| self.model.see(ino).clone());
        let so = |right: Option<bool>, value: Option<u64>| right.map(|r| value.unwrap_or(1) + u64::from(!r));
        let wanted = Wanted::Present {
            ino: so(demand.ino, inode.as_ref().map(|i| i.ino.0)).map(InodeId),
            version: so(demand.version, inode.as_ref().map(|i| i.version)),
            length: so(demand.length, inode.as_ref().map(|i| i.size)),
        };
        Precondition { target, wanted }
    }

    /// A transaction is its operations one after another, if nothing is refused on the way; the
    /// caller takes back what was done when something is.
    pub fn ask_all(
        &mut self,
        session: u64,
        preconditions: &[Precondition],
        operations: &[Operation],
    ) -> Outcome {
        if operations.is_empty() {
            return Err(FsError::InvalidRequest);
        }
        for (index, precondition) in (0..).zip(preconditions) {
            match self.model.holds(precondition) {
                Ok(Ok(())) => {}
                Ok(Err(found)) => return Err(FsError::PreconditionFailed { index, found }),
                Err(why) => return Err(FsError::PreconditionRefused { index, why: Box::new(why) }),
            }
        }
        let mut steps = Vec::new();
        for (index, operation) in (0..).zip(operations) {
            let opens = matches!(
                operation,
                Operation::SetPolicy { .. }
                    | Operation::OpenChunk { .. }
                    | Operation::OpenTail { .. }
                    | Operation::OpenExclusive { .. }
                    | Operation::ReleaseChunk { .. }
                    | Operation::MountAdd { .. }
                    | Operation::MountRemove { .. }
                    | Operation::RemoveTree { .. }
            );
            let outcome = if opens { Err(FsError::InvalidRequest) } else { self.ask(session, operation) };
            match outcome {
                Ok(told) => steps.push(told.inode.map(|inode| Inode { target: None, ..inode })),
                Err(why) => return Err(FsError::OperationRefused { index, why: Box::new(why) }),
            }
        }
        Ok(Told { steps, ..Told::default() })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Replies, tree, content and live bytes are the model's; what is refused leaves every row as it was.
    #[test]
    fn transactions_and_shared_bytes_are_the_models(history in history()) {
        let store = MemoryStore::new();
        let (log, replies) = run(&store, &history);
        let batched = MemoryStore::new();
        prop_assert_eq!(replay(&batched, &log, &[5, 1, 17]), replies);
        prop_assert_eq!(dump(&batched), dump(&store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also of files that were cut where an entry removes next to nothing.
    #[test]
    fn shared_bytes_that_are_removed_in_steps_are_gone_at_once(history in history(), rows_at_once in 1usize..4) {
        let (log, _) = run(&MemoryStore::new(), &history);
        side_by_side(&MemoryStore::new(), &log, rows_at_once, &[0, 1, 3, 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_share_the_same_bytes(history in history()) {
        let memory = MemoryStore::new();
        let (log, replies) = run(&memory, &history);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        prop_assert_eq!(replay(&rocks, &log, &[3, 1, 11]), replies);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
        invariants::check(&rocks);
    }
}

/// The histories are worth their name.
#[test]
fn histories_share_bytes_and_refuse_in_every_way() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut done, mut refused) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
    for _ in 0..400 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (log, replies) = run(&MemoryStore::new(), &history);
        for (entry, reply) in log.iter().zip(replies) {
            match reply {
                Ok(answer) if answer.steps.len() > 2 => *done.entry("of three".to_owned()).or_default() += 1,
                Ok(_) => *done.entry(verb_name(&entry.command)).or_default() += 1,
                Err(error) => {
                    let shown = format!("{error:?}");
                    let name = shown.split(' ').next().unwrap_or_default().to_owned();
                    *refused.entry(name).or_default() += 1;
                }
            }
        }
    }
    for verb in ["Transact", "Clone", "CopyRange", "Concat", "PunchHole", "Allocate"] {
        assert!(done.get(verb).is_some_and(|n| *n >= 10), "{verb} hardly ever succeeds: {done:?}");
    }
    assert!(done.get("of three").is_some_and(|n| *n >= 3), "{done:?}");
    let errors = [
        "PreconditionFailed",
        "PreconditionRefused",
        "OperationRefused",
        "InvalidRequest",
        "LengthMismatch",
        "TailOpen",
        "Exists",
        "IntoItself",
        "IsDirectory",
    ];
    for error in errors {
        assert!(refused.contains_key(error), "{error} is never met: {refused:?}");
    }
}
