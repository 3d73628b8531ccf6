//! One behavioural suite, run on every store.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(n: u8) -> Vec<u8> {
    vec![n / 16, n % 16]
}

fn put(store: &dyn Store, rows: &[(u8, &str)]) {
    let mut batch = WriteBatch::default();
    for (n, text) in rows {
        batch.put(Table::Nodes, key(*n), text.as_bytes());
    }
    store.write(batch).unwrap();
}

fn scan(rows: &dyn Rows, range: &KeyRange, limit: usize) -> Vec<(Vec<u8>, String)> {
    let visit = |caching| {
        let mut visited: Vec<Row> = Vec::new();
        let each = &mut |key: &[u8], value: &[u8]| {
            visited.push((key.to_vec(), value.to_vec()));
            visited.len() < limit
        };
        rows.visit(Table::Nodes, range, caching, each).unwrap();
        visited
    };
    let found = rows.scan(Table::Nodes, range, limit).unwrap();
    for caching in [Caching::Fill, Caching::Bypass] {
        assert_eq!(visit(caching), found, "a visit shows what a scan brings");
    }
    let rows = found;
    rows.into_iter().map(|(k, v)| (k, String::from_utf8(v).unwrap())).collect()
}

fn behaves(store: &dyn Store) {
    put(store, &[(1, "one"), (2, "two"), (17, "seventeen"), (18, "eighteen")]);
    assert_eq!(store.get(Table::Nodes, &key(2)).unwrap(), Some(b"two".to_vec()));
    assert_eq!(store.get(Table::Places, &key(2)).unwrap(), None, "tables are apart");

    let group = KeyRange::prefix(&[1]);
    assert_eq!(scan(store, &group, 9), vec![(key(17), "seventeen".into()), (key(18), "eighteen".into())]);
    assert_eq!(scan(store, &group, 1).len(), 1);
    assert_eq!(scan(store, &KeyRange::prefix_after(&[1], &key(17)), 9), vec![(key(18), "eighteen".into())]);
    assert_eq!(scan(store, &KeyRange::prefix(&[9]), 9), vec![]);
    let empty = KeyRange { from: key(18), until: Some(key(17)) };
    assert_eq!(scan(store, &empty, 9), vec![]);

    let last = |from: u8, before: u8| {
        store.last_before(Table::Nodes, &key(from), &key(before)).unwrap().map(|(k, _)| k)
    };
    assert_eq!(last(0, 17), Some(key(2)));
    assert_eq!(last(0, 18), Some(key(17)));
    assert_eq!(last(3, 17), None);
    assert_eq!(last(17, 17), None);

    let before = store.snapshot();
    let mut batch = WriteBatch::default();
    batch.delete(Table::Nodes, key(1));
    batch.put(Table::Nodes, key(2), "zwei");
    batch.put(Table::Places, key(1), "p");
    store.write(batch).unwrap();
    assert_eq!(before.get(Table::Nodes, &key(1)).unwrap(), Some(b"one".to_vec()));
    assert_eq!(before.get(Table::Places, &key(1)).unwrap(), None);
    assert_eq!(scan(&*before, &KeyRange::default(), 9).len(), 4);
    assert_eq!(before.last_before(Table::Nodes, &key(0), &key(2)).unwrap().unwrap().0, key(1));
    assert_eq!(store.get(Table::Nodes, &key(1)).unwrap(), None);
    assert_eq!(store.get(Table::Nodes, &key(2)).unwrap(), Some(b"zwei".to_vec()));
    assert_eq!(scan(store, &KeyRange::default(), 9).len(), 3);
}

#[test]
fn memory_behaves() {
    behaves(&MemoryStore::new());
}

#[test]
fn rocks_behaves() {
    let dir = tempfile::tempdir().unwrap();
    behaves(&RocksStore::open(dir.path(), 0).unwrap());
}

#[test]
fn a_snapshot_outlives_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), 0).unwrap();
    put(&store, &[(1, "one")]);
    let snapshot = store.snapshot();
    drop(store);
    assert_eq!(snapshot.get(Table::Nodes, &key(1)).unwrap(), Some(b"one".to_vec()));
}

#[test]
fn what_was_flushed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), 0).unwrap();
    put(&store, &[(1, "one")]);
    store.flush().unwrap();
    drop(store);
    let store = RocksStore::open(dir.path(), 0).unwrap();
    assert_eq!(store.get(Table::Nodes, &key(1)).unwrap(), Some(b"one".to_vec()));
}

#[test]
fn a_checkpoint_is_the_state_of_its_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(&dir.path().join("state"), 0).unwrap();
    put(&store, &[(1, "one")]);
    let copy = dir.path().join("copy");
    store.checkpoint(&copy).unwrap();
    put(&store, &[(1, "changed"), (2, "two")]);
    assert!(store.checkpoint(&copy).is_err(), "the directory exists");
    let copy = RocksStore::open(&copy, 0).unwrap();
    assert_eq!(scan(&copy, &KeyRange::default(), 9), vec![(key(1), "one".into())]);
}

#[test]
fn a_discarded_entry_leaves_nothing() {
    let store = MemoryStore::new();
    put(&store, &[(1, "one")]);
    let mut txn = Txn::new(&store);
    txn.put(Table::Nodes, key(2), b"two".to_vec());
    txn.keep();
    txn.delete(Table::Nodes, key(1));
    txn.delete(Table::Nodes, key(2));
    assert_eq!(txn.rows_touched(), 2);
    assert_eq!(txn.get(Table::Nodes, &key(2)).unwrap(), None);
    txn.discard();
    assert_eq!(txn.rows_touched(), 0);
    assert_eq!(txn.get(Table::Nodes, &key(2)).unwrap(), Some(b"two".to_vec()));
    store.write(txn.into_batch()).unwrap();
    assert_eq!(scan(&store, &KeyRange::default(), 9).len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Keep,
    Discard,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => any::<u8>().prop_map(Step::Delete),
        1 => Just(Step::Keep),
        1 => Just(Step::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A txn reads as its store would after the same writes.
    #[test]
    fn a_txn_reads_what_was_written(
        base in proptest::collection::btree_map(any::<u8>(), any::<u8>(), 0..200),
        steps in proptest::collection::vec(step(), 0..300),
        from in any::<u8>(), to in any::<u8>(), limit in 1usize..200,
    ) {
        let store = MemoryStore::new();
        let mut batch = WriteBatch::default();
        for (k, v) in &base {
            batch.put(Table::Nodes, key(*k), vec![*v]);
        }
        store.write(batch).unwrap();
        let mut kept = base.clone();
        let mut model = base;
        let mut txn = Txn::new(&store);
        for step in steps {
            match step {
                Step::Put(k, v) => { txn.put(Table::Nodes, key(k), vec![v]); model.insert(k, v); }
                Step::Delete(k) => { txn.delete(Table::Nodes, key(k)); model.remove(&k); }
                Step::Keep => { txn.keep(); kept = model.clone(); }
                Step::Discard => { txn.discard(); model = kept.clone(); }
            }
        }
        let expect: Vec<Row> = model.iter().filter(|(k, _)| (from..to).contains(*k))
            .map(|(k, v)| (key(*k), vec![*v])).collect();
        let range = KeyRange { from: key(from), until: Some(key(to)) };
        let found = txn.scan(Table::Nodes, &range, limit).unwrap();
        prop_assert_eq!(&found[..], &expect[..expect.len().min(limit)]);
        let last = txn.last_before(Table::Nodes, &key(from), &key(to)).unwrap();
        prop_assert_eq!(last.as_ref(), expect.last());
        txn.keep();
        store.write(txn.into_batch()).unwrap();
        let all: BTreeMap<Vec<u8>, Vec<u8>> = model.iter().map(|(k, v)| (key(*k), vec![*v])).collect();
        let stored: BTreeMap<_, _> = store.scan(Table::Nodes, &KeyRange::default(), 999).unwrap().into_iter().collect();
        prop_assert_eq!(stored, all);
    }
}
