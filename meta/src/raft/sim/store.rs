//! [`ForgetfulStore`]: a state in memory. A crash keeps what was flushed, and of the batches after it
//! the first few or none, each wholly, as RocksDB's atomic flush does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lie::Lie;
use super::life::{Dead, Forgets, Life, Point};
use crate::raft::record;
use crate::store::{
    Caching, Change, DurableStore, Figures, KeyRange, MemoryStore, Row, Rows, Snapshot, Store, StoreFault,
    Table, Visitor, WriteBatch,
};

const ROWS: &str = "ROWS";

/// A row as the file has it: the table's place in [`Table::ALL`], key, value.
type Line = (u32, Vec<u8>, Vec<u8>);

/// A store of one life.
pub struct ForgetfulStore {
    life: Arc<Life>,
    path: PathBuf,
    lie: Option<Lie>,
    rows: MemoryStore,
    // Guards that these are the batches which the file lacks.
    unflushed: Mutex<Vec<WriteBatch>>,
}

fn gone(_: Dead) -> StoreFault {
    StoreFault::File(std::io::Error::other(Dead))
}

fn save(path: &Path, rows: &dyn Rows) {
    let mut lines: Vec<Line> = Vec::new();
    for (number, table) in Table::ALL.iter().enumerate() {
        let all = rows.scan(*table, &KeyRange::default(), usize::MAX).unwrap();
        lines.extend(all.into_iter().map(|(key, value)| (number as u32, key, value)));
    }
    fs::write(path.join(ROWS), record::encode(&lines)).unwrap();
}

fn load(path: &Path) -> MemoryStore {
    let store = MemoryStore::new();
    if let Ok(bytes) = fs::read(path.join(ROWS)) {
        let mut batch = WriteBatch::default();
        for (number, key, value) in record::decode::<Vec<Line>>(&bytes).unwrap() {
            batch.put(Table::ALL[number as usize], key, value);
        }
        store.write(batch).unwrap();
    }
    store
}

impl ForgetfulStore {
    pub fn open(life: &Arc<Life>, path: &Path, lie: Option<Lie>) -> Result<Arc<Self>, StoreFault> {
        life.reach(Point::Open, || fs::create_dir_all(path)).map_err(gone)??;
        let rows = load(path);
        let (life, path) = (Arc::clone(life), path.to_owned());
        let store = Arc::new(Self { life, path, lie, rows, unflushed: Mutex::default() });
        let forgets: Arc<dyn Forgets> = store.clone();
        store.life.joins(Arc::downgrade(&forgets));
        Ok(store)
    }

    fn unflushed(&self) -> MutexGuard<'_, Vec<WriteBatch>> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_now(&self) {
        let mut unflushed = self.unflushed();
        save(&self.path, &self.rows);
        unflushed.clear();
    }
}

/// The changes of `batch` in the tables that `wanted` names.
fn only(batch: &WriteBatch, wanted: impl Fn(Table) -> bool) -> WriteBatch {
    let mut some = WriteBatch::default();
    batch.changes().iter().filter(|change| wanted(change.table)).for_each(|change| some.push(change.clone()));
    some
}

impl Forgets for ForgetfulStore {
    fn forget(&self) {
        let unflushed = std::mem::take(&mut *self.unflushed());
        let written = unflushed.len() as u64;
        let kept = self.life.world.roll(|dice| if dice.percent(60) { 0 } else { dice.below(written + 1) });
        let disk = load(&self.path);
        for batch in unflushed.iter().take(kept as usize) {
            disk.write(batch.clone()).unwrap();
        }
        if self.lie == Some(Lie::Applied)
            && let Some(batch) = unflushed.get(kept as usize)
        {
            disk.write(only(batch, |table| table == Table::Meta)).unwrap();
        }
        if self.lie == Some(Lie::Replies) {
            let mut none = WriteBatch::default();
            for (key, _) in disk.scan(Table::Replies, &KeyRange::default(), usize::MAX).unwrap() {
                none.push(Change { table: Table::Replies, key, value: None });
            }
            disk.write(none).unwrap();
        }
        save(&self.path, &disk);
    }
}

impl Rows for ForgetfulStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.rows.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        self.rows.scan(table, range, limit)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        self.rows.last_before(table, from, before)
    }

    fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        caching: Caching,
        each: &mut Visitor<'_>,
    ) -> Result<(), StoreFault> {
        self.rows.visit(table, range, caching, each)
    }
}

impl Store for ForgetfulStore {
    fn write(&self, batch: WriteBatch) -> Result<(), StoreFault> {
        let done = self.life.reach(Point::Apply, || {
            self.unflushed().push(batch.clone());
            self.rows.write(batch)
        });
        done.map_err(gone)?
    }

    fn snapshot(&self) -> Snapshot {
        self.rows.snapshot()
    }
}

impl DurableStore for ForgetfulStore {
    fn flush(&self) -> Result<(), StoreFault> {
        self.life.reach(Point::Flush, || self.flush_now()).map_err(gone)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreFault> {
        let done = self.life.reach(Point::Checkpoint, || {
            self.flush_now();
            fs::create_dir(dir)?;
            save(dir, &self.rows);
            Ok(())
        });
        done.map_err(gone)?
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// [`StateDir`](crate::raft::state::StateDir) owns its stores; a life knows them as well.
pub struct Shared(pub Arc<ForgetfulStore>);

impl Rows for Shared {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        self.0.scan(table, range, limit)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        self.0.last_before(table, from, before)
    }

    fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        caching: Caching,
        each: &mut Visitor<'_>,
    ) -> Result<(), StoreFault> {
        self.0.visit(table, range, caching, each)
    }
}

impl Store for Shared {
    fn write(&self, batch: WriteBatch) -> Result<(), StoreFault> {
        self.0.write(batch)
    }

    fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }
}

impl DurableStore for Shared {
    fn flush(&self) -> Result<(), StoreFault> {
        self.0.flush()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreFault> {
        self.0.checkpoint(dir)
    }

    fn figures(&self) -> Figures {
        self.0.figures()
    }
}
