//! Histories of sessions that say which unlinked files they hold: what is held stays, with all its
//! bytes, what is not goes, and the model knows which is which.

use cairn_meta::namespace::holds;
use cairn_meta::store::{MemoryStore, RocksStore, Store};
use cairn_types::{FsError, InodeId, LogIndex, SessionId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::model::Met;
use super::{Step, Verb, World, dump, invariants, path, ranges, read, replay, run_world, verb};
use cairn_meta::namespace::{NamespaceError, Target};

fn removal() -> impl Strategy<Value = Verb> {
    prop_oneof![
        3 => path().prop_map(Verb::Unlink),
        2 => (path(), path()).prop_map(|(from, to)| Verb::Rename(from, to, false, false)),
        2 => path().prop_map(Verb::RemoveTree),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let few = |p: f64| prop::bool::weighted(p);
    let name =
        || prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(|n| (0u64, n.as_bytes().to_vec(), false));
    let verb = prop_oneof![
        30 => verb(),
        14 => (name(), ranges()).prop_map(|(p, r)| Verb::Create(p, false, true, r)),
        4 => Just(Verb::OpenChunk(0)),
        10 => (1u64..14, ranges()).prop_map(|(ino, r)| Verb::Commit(ino, r, None)),
        16 => name().prop_map(Verb::Unlink),
        8 => removal(),
        12 => (any::<u64>(), few(0.9), name()).prop_map(|(m, r, p)| Verb::Holding(m, r, Box::new(Verb::Unlink(p)))),
        6 => (any::<u64>(), few(0.8), removal()).prop_map(|(m, r, v)| Verb::Holding(m, r, Box::new(v))),
        3 => (any::<u64>(), name()).prop_map(|(m, p)| {
            Verb::Holding(m, true, Box::new(Verb::Transact(Vec::new(), vec![Verb::Unlink(p)])))
        }),
        18 => (any::<u64>(), any::<u64>(), few(0.9), 0u8..4).prop_map(|(h, r, f, u)| Verb::Answer(h, r, f, u)),
        4 => Just(Verb::EndSession),
        3 => path().prop_map(Verb::RemoveTree),
    ];
    let step =
        (0..super::SESSIONS, -5i64..20, verb).prop_map(|(client, time, verb)| Step { client, time, verb });
    proptest::collection::vec(step, 40..140)
}

/// Whoever names a file that is gone hears so; whoever is asked is asked about what waits for its word.
fn as_the_model_has_it(store: &dyn Store, world: &World) {
    let model = &world.model;
    for ino in 2..40 {
        let found = read::stat(store, &Target::ino(InodeId(ino)));
        let gone = matches!(found, Err(NamespaceError::Refused(FsError::Stale)));
        assert_eq!(gone, !model.nodes.contains_key(&ino), "{ino}: {found:?}");
    }
    let applied = LogIndex(model.holding.index);
    for session in 1..world.next_session {
        let asked = holds::question(store, SessionId(session), applied, 1000).unwrap();
        let mut asked: Vec<(u64, u64)> =
            asked.into_iter().flat_map(|q| q.files).map(|f| (f.since.0, f.ino.0)).collect();
        asked.sort_unstable();
        let unlinked = model.holding.unlinked.iter();
        let mut waiting: Vec<(u64, u64)> =
            unlinked.filter(|(_, f)| f.silent.contains(&session)).map(|(ino, f)| (f.since, *ino)).collect();
        waiting.sort_unstable();
        assert_eq!(asked, waiting, "what {session} is asked");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every reply, the content of files with and without names, live bytes, and who is asked what.
    #[test]
    fn unlinked_files_stay_as_long_as_the_model_says(history in history()) {
        let store = MemoryStore::new();
        let (log, replies, world) = run_world(&store, &history, true);
        as_the_model_has_it(&store, &world);
        let batched = MemoryStore::new();
        prop_assert_eq!(replay(&batched, &log, &[3, 1, 11]), replies);
        prop_assert_eq!(dump(&batched), dump(&store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_keep_the_same_unlinked_files(history in history()) {
        let memory = MemoryStore::new();
        let (log, replies, _) = run_world(&memory, &history, true);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        prop_assert_eq!(replay(&rocks, &log, &[7, 2]), replies);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
        invariants::check(&rocks);
    }
}

/// The histories are worth their name: files are kept, held, changed without a name, and go in every way.
#[test]
fn histories_keep_files_and_let_them_go() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Met::default();
    for _ in 0..60 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (_, _, world) = run_world(&MemoryStore::new(), &history, true);
        let met = world.model.holding.met;
        all.kept += met.kept;
        all.at_once += met.at_once;
        all.held += met.held;
        all.gone += met.gone;
        all.changed += met.changed;
    }
    let enough = all.kept > 100 && all.held > 40 && all.gone > 50 && all.changed > 20 && all.at_once > 3;
    assert!(enough, "{all:?}");
}
