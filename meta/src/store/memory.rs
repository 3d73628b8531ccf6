//! [`MemoryStore`]: a store of B-trees, for tests and models.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::{
    Caching, KeyRange, Row, Rows, Snapshot, Store, StoreFault, StoreSnapshot, Table, Visitor, WriteBatch,
};

type Tree = BTreeMap<Vec<u8>, Vec<u8>>;
type Trees = BTreeMap<Table, Arc<Tree>>;

/// A store in memory. A snapshot shares the trees; a write after it copies those it touches.
#[derive(Default)]
pub struct MemoryStore {
    // Guards the set of trees: a reader sees a batch wholly or not at all.
    trees: RwLock<Trees>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn trees(&self) -> Trees {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Rows for Trees {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.get(&table).and_then(|tree| tree.get(key)).cloned())
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        let Some(tree) = self.get(&table) else { return Ok(Vec::new()) };
        if range.until.as_ref().is_some_and(|until| *until <= range.from) {
            return Ok(Vec::new());
        }
        let until = range.until.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = tree.range::<[u8], _>((Bound::Included(range.from.as_slice()), until));
        Ok(rows.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        let Some(tree) = self.get(&table) else { return Ok(None) };
        if before <= from {
            return Ok(None);
        }
        let mut rows = tree.range::<[u8], _>((Bound::Included(from), Bound::Excluded(before)));
        Ok(rows.next_back().map(|(k, v)| (k.clone(), v.clone())))
    }

    fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        _caching: Caching,
        each: &mut Visitor<'_>,
    ) -> Result<(), StoreFault> {
        let Some(tree) = self.get(&table) else { return Ok(()) };
        if range.until.as_ref().is_some_and(|until| *until <= range.from) {
            return Ok(());
        }
        let until = range.until.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = tree.range::<[u8], _>((Bound::Included(range.from.as_slice()), until));
        // Ends at the first row that `each` answers false for.
        let _ = rows.all(|(key, value)| each(key, value));
        Ok(())
    }
}

impl StoreSnapshot for Trees {}

impl Rows for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        Rows::get(&*self.trees.read().unwrap_or_else(PoisonError::into_inner), table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).scan(table, range, limit)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).last_before(table, from, before)
    }

    fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        caching: Caching,
        each: &mut Visitor<'_>,
    ) -> Result<(), StoreFault> {
        // `each` may read the store, so the lock is not held meanwhile.
        self.trees().visit(table, range, caching, each)
    }
}

impl Store for MemoryStore {
    fn write(&self, batch: WriteBatch) -> Result<(), StoreFault> {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        for change in batch.into_changes() {
            let tree = Arc::make_mut(trees.entry(change.table).or_default());
            match change.value {
                Some(value) => tree.insert(change.key, value),
                None => tree.remove(&change.key),
            };
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(self.trees())
    }
}
