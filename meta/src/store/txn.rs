//! [`Txn`]: an overlay over a store, so that consecutive entries share one batch and see their own
//! writes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Change, KeyRange, Row, Rows, StoreFault, Table, WriteBatch};

/// Rows that are read from the base in one step of a merge.
const MERGE_ROWS: usize = 64;

/// Bytes that are folded into a digest at once: many small rows cost less together.
const FOLDED_AT_ONCE: usize = 4096;

/// Written rows of one table; `None` deletes.
type Written = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a layer says of a key: its value, or that it has none.
type Known<'t> = (&'t [u8], Option<&'t [u8]>);

/// A row of any table, in the order of tables, then keys: an entry writes a few rows in many tables,
/// and one small tree costs less than many.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct At {
    table: Table,
    key: Vec<u8>,
}

/// An [`At`] that is looked for, without a key of its own.
trait Sought {
    fn at(&self) -> (Table, &[u8]);
}

impl Sought for At {
    fn at(&self) -> (Table, &[u8]) {
        (self.table, &self.key)
    }
}

impl Sought for (Table, &[u8]) {
    fn at(&self) -> (Table, &[u8]) {
        *self
    }
}

impl<'k> Borrow<dyn Sought + 'k> for At {
    fn borrow(&self) -> &(dyn Sought + 'k) {
        self
    }
}

impl PartialEq for dyn Sought + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.at() == other.at()
    }
}

impl Eq for dyn Sought + '_ {}

impl PartialOrd for dyn Sought + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Sought + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at().cmp(&other.at())
    }
}

/// Writes that are not yet in the store. Two layers: the entries applied so far, and the entry at
/// work, which [`Txn::keep`] adds to them and [`Txn::discard`] forgets.
///
/// Each kept entry's writes are folded into a digest: servers that have applied the same entries
/// from the same digest on have the same one, however the entries were batched.
pub struct Txn<'a> {
    base: &'a dyn Rows,
    /// One for each table.
    kept: Vec<Written>,
    current: BTreeMap<At, Option<Vec<u8>>>,
    current_writes: usize,
    current_bytes: usize,
    digest: u32,
    /// Its room is used again.
    folding: Vec<u8>,
}

/// CRC32C over one entry's writes, in the order of tables and keys, going on from `digest`.
fn fold(digest: u32, writes: &BTreeMap<At, Option<Vec<u8>>>, bytes: &mut Vec<u8>) -> u32 {
    bytes.clear();
    let (mut digest, mut last) = (digest, None);
    for (At { table, key }, value) in writes {
        if last != Some(*table) {
            bytes.extend_from_slice(table.name().as_bytes());
            last = Some(*table);
        }
        let length = value.as_ref().map_or(u64::MAX, |v| v.len() as u64);
        bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default());
        if bytes.len() > FOLDED_AT_ONCE / 2 {
            digest = crc32c::crc32c_append(digest, bytes);
            bytes.clear();
        }
    }
    crc32c::crc32c_append(digest, bytes)
}

impl<'a> Txn<'a> {
    /// An overlay over `base` with no writes.
    #[must_use]
    pub fn new(base: &'a dyn Rows) -> Self {
        Self::continuing(base, 0)
    }

    /// An overlay over `base` with no writes, whose digest goes on from `digest`.
    #[must_use]
    pub fn continuing(base: &'a dyn Rows, digest: u32) -> Self {
        Self {
            base,
            kept: Table::ALL.iter().map(|_| Written::new()).collect(),
            current: BTreeMap::new(),
            current_writes: 0,
            current_bytes: 0,
            digest,
            folding: Vec::with_capacity(FOLDED_AT_ONCE),
        }
    }

    /// The digest after the last kept entry.
    #[must_use]
    pub fn digest(&self) -> u32 {
        self.digest
    }

    /// Sets a row.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.set(table, key, Some(value));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.set(table, key, None);
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.current_writes += 1;
        self.current_bytes += value.as_ref().map_or(0, Vec::len);
        self.current.insert(At { table, key }, value);
    }

    /// Rows that the entry at work has touched.
    #[must_use]
    pub fn rows_touched(&self) -> usize {
        self.current.len()
    }

    /// Writes of the entry at work, those of the same row again among them.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.current_writes
    }

    /// Bytes of values in them.
    #[must_use]
    pub fn bytes_written(&self) -> usize {
        self.current_bytes
    }

    /// Keeps what the entry at work wrote.
    pub fn keep(&mut self) {
        self.digest = fold(self.digest, &self.current, &mut self.folding);
        for (At { table, key }, value) in std::mem::take(&mut self.current) {
            if let Some(kept) = self.kept.get_mut(table as usize) {
                kept.insert(key, value);
            }
        }
        (self.current_writes, self.current_bytes) = (0, 0);
    }

    /// Forgets what the entry at work wrote.
    pub fn discard(&mut self) {
        self.current.clear();
        (self.current_writes, self.current_bytes) = (0, 0);
    }

    /// All that was kept, in the order of tables and keys.
    #[must_use]
    pub fn into_batch(self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        for (table, rows) in Table::ALL.iter().zip(self.kept) {
            for (key, value) in rows {
                batch.push(Change { table: *table, key, value });
            }
        }
        batch
    }

    /// What was kept about the keys in `[from, until)`.
    fn kept_in<'t>(
        &'t self,
        table: Table,
        from: &[u8],
        until: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = Known<'t>> + use<'t> {
        let rows =
            self.kept.get(table as usize).map(|rows| rows.range::<[u8], _>((Bound::Included(from), until)));
        rows.into_iter().flatten().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// What the entry at work says about the keys in `[from, until)`.
    fn current_in<'t>(
        &'t self,
        table: Table,
        from: &[u8],
        until: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = Known<'t>> + use<'t> {
        let from = (table, from);
        let until = match until {
            Bound::Included(until) | Bound::Excluded(until) => Some((table, until)),
            Bound::Unbounded => Table::ALL.get(table as usize + 1).map(|next| (*next, &[][..])),
        };
        let until = until.as_ref().map_or(Bound::Unbounded, |until| Bound::Excluded(until as &dyn Sought));
        let rows = self.current.range::<dyn Sought, _>((Bound::Included(&from as &dyn Sought), until));
        rows.map(|(at, value)| (at.key.as_slice(), value.as_deref()))
    }

    /// True when neither layer says anything about a table.
    fn is_untouched(&self, table: Table) -> bool {
        self.kept.get(table as usize).is_none_or(BTreeMap::is_empty)
            && self.current_in(table, &[], Bound::Unbounded).next().is_none()
    }

    /// What the layers say about the keys from `from` on, below `until`, the upper layer's word last. Of
    /// each layer the first `limit` only, and the key up to which that is everything.
    fn overlaid(&self, table: Table, from: &[u8], until: Option<&[u8]>, limit: usize) -> Overlaid<'_> {
        let until = until.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut rows, mut complete_to) = (BTreeMap::new(), None);
        for layer in [
            &mut self.kept_in(table, from, until) as &mut dyn Iterator<Item = Known<'_>>,
            &mut self.current_in(table, from, until),
        ] {
            let mut taken = 0;
            for (key, value) in layer.take(limit) {
                rows.insert(key, value);
                taken += 1;
                if taken == limit {
                    complete_to = Some(complete_to.map_or(key, |c: &[u8]| c.min(key)));
                }
            }
        }
        Overlaid { rows, complete_to }
    }

    /// One step of a scan: some rows from `from` on, and where to go on, or `None` at the end.
    fn scan_step(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&Vec<u8>>,
    ) -> Result<(Vec<Row>, Option<Vec<u8>>), StoreFault> {
        let range = KeyRange { from: from.to_vec(), until: until.cloned() };
        let base = self.base.scan(table, &range, MERGE_ROWS)?;
        let over = self.overlaid(table, from, until.map(Vec::as_slice), MERGE_ROWS);
        // Rows are final up to the least key at which one of the sources was cut off.
        let base_cut = (base.len() == MERGE_ROWS).then(|| base.last().map(|(k, _)| k.clone())).flatten();
        let cut = match (base_cut, over.complete_to.map(<[u8]>::to_vec)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            base.into_iter().map(|(k, v)| (k, Some(v))).collect();
        for (key, value) in over.rows {
            merged.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
        let rows = merged
            .into_iter()
            .take_while(|(k, _)| cut.as_ref().is_none_or(|c| k <= c))
            .filter_map(|(k, v)| v.map(|v| (k, v)))
            .collect();
        let next = cut.map(|mut key| {
            key.push(0);
            key
        });
        Ok((rows, next))
    }
}

struct Overlaid<'t> {
    rows: BTreeMap<&'t [u8], Option<&'t [u8]>>,
    complete_to: Option<&'t [u8]>,
}

impl Rows for Txn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        if let Some(value) = self.current.get::<dyn Sought>(&(table, key)) {
            return Ok(value.clone());
        }
        match self.kept.get(table as usize).and_then(|rows| rows.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        if range.until.as_ref().is_some_and(|until| *until <= range.from) {
            return Ok(Vec::new());
        }
        if self.is_untouched(table) {
            return self.base.scan(table, range, limit);
        }
        let mut out = Vec::new();
        let mut from = range.from.clone();
        while out.len() < limit {
            let (rows, next) = self.scan_step(table, &from, range.until.as_ref())?;
            out.extend(rows);
            match next {
                Some(key) if range.until.as_ref().is_none_or(|until| key < *until) => from = key,
                _ => break,
            }
        }
        out.truncate(limit);
        Ok(out)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        let mut before = before.to_vec();
        loop {
            if before.as_slice() <= from {
                return Ok(None);
            }
            let base = self.base.last_before(table, from, &before)?;
            let until = Bound::Excluded(before.as_slice());
            let layers = [
                self.kept_in(table, from, until).next_back(),
                self.current_in(table, from, until).next_back(),
            ];
            // The upper layer comes last, and max_by_key answers the last of equals.
            let over = layers.into_iter().flatten().max_by_key(|(key, _)| *key);
            match (base, over) {
                (base, None) => return Ok(base),
                (Some((key, value)), Some((over_key, _))) if key.as_slice() > over_key => {
                    return Ok(Some((key, value)));
                }
                (_, Some((key, Some(value)))) => return Ok(Some((key.to_vec(), value.to_vec()))),
                (_, Some((key, None))) => before = key.to_vec(),
            }
        }
    }
}
