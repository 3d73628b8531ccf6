//! [`Txn`]: an overlay over a store, so that consecutive entries share one batch and see their own
//! writes.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Change, KeyRange, Row, Rows, StoreFault, Table, WriteBatch};

/// Rows that are read from the base in one step of a merge.
const MERGE_ROWS: usize = 64;

/// Bytes that are folded into a digest at once: many small rows cost less together.
const FOLDED_AT_ONCE: usize = 4096;

type Overlay = BTreeMap<Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// Writes that are not yet in the store. Two layers: the entries applied so far, and the entry at
/// work, which [`Txn::keep`] adds to them and [`Txn::discard`] forgets.
///
/// Each kept entry's writes are folded into a digest: servers that have applied the same entries
/// from the same digest on have the same one, however the entries were batched.
pub struct Txn<'a> {
    base: &'a dyn Rows,
    kept: Overlay,
    current: Overlay,
    current_rows: usize,
    current_writes: usize,
    current_bytes: usize,
    digest: u32,
}

/// CRC32C over one entry's writes, in the order of tables and keys, going on from `digest`.
fn fold(digest: u32, writes: &Overlay) -> u32 {
    let mut bytes = Vec::with_capacity(FOLDED_AT_ONCE);
    let mut digest = digest;
    for (table, rows) in writes {
        bytes.extend_from_slice(table.name().as_bytes());
        for (key, value) in rows {
            let length = value.as_ref().map_or(u64::MAX, |v| v.len() as u64);
            bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(value.as_deref().unwrap_or_default());
            if bytes.len() > FOLDED_AT_ONCE / 2 {
                digest = crc32c::crc32c_append(digest, &bytes);
                bytes.clear();
            }
        }
    }
    crc32c::crc32c_append(digest, &bytes)
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
            kept: Overlay::new(),
            current: Overlay::new(),
            current_rows: 0,
            current_writes: 0,
            current_bytes: 0,
            digest,
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
        if self.current.entry(table).or_default().insert(key, value).is_none() {
            self.current_rows += 1;
        }
    }

    /// Rows that the entry at work has touched.
    #[must_use]
    pub fn rows_touched(&self) -> usize {
        self.current_rows
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
        self.digest = fold(self.digest, &self.current);
        for (table, rows) in std::mem::take(&mut self.current) {
            let kept = self.kept.entry(table).or_default();
            if kept.is_empty() {
                *kept = rows;
            } else {
                kept.extend(rows);
            }
        }
        (self.current_rows, self.current_writes, self.current_bytes) = (0, 0, 0);
    }

    /// Forgets what the entry at work wrote.
    pub fn discard(&mut self) {
        self.current.clear();
        (self.current_rows, self.current_writes, self.current_bytes) = (0, 0, 0);
    }

    /// All that was kept, in the order of tables and keys.
    #[must_use]
    pub fn into_batch(self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        for (table, rows) in self.kept {
            for (key, value) in rows {
                batch.push(Change { table, key, value });
            }
        }
        batch
    }

    fn layers(&self, table: Table) -> impl Iterator<Item = &BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        [self.kept.get(&table), self.current.get(&table)].into_iter().flatten()
    }

    /// What the layers say about the keys in `[from, until)`, the upper layer's word last. Of each
    /// layer the first `limit` only, and the key up to which that is everything.
    fn overlaid(&self, table: Table, from: &[u8], until: Bound<&[u8]>, limit: usize) -> Overlaid<'_> {
        let mut rows = BTreeMap::new();
        let mut complete_to: Option<&[u8]> = None;
        for layer in self.layers(table) {
            let mut taken = 0;
            for (key, value) in layer.range::<[u8], _>((Bound::Included(from), until)).take(limit) {
                rows.insert(key.as_slice(), value.as_deref());
                taken += 1;
                if taken == limit {
                    complete_to = Some(complete_to.map_or(key.as_slice(), |c| c.min(key.as_slice())));
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
        let bound = until.map_or(Bound::Unbounded, |u| Bound::Excluded(u.as_slice()));
        let over = self.overlaid(table, from, bound, MERGE_ROWS);
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
        for layer in [self.current.get(&table), self.kept.get(&table)].into_iter().flatten() {
            if let Some(value) = layer.get(key) {
                return Ok(value.clone());
            }
        }
        self.base.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        if range.until.as_ref().is_some_and(|until| *until <= range.from) {
            return Ok(Vec::new());
        }
        if self.layers(table).all(BTreeMap::is_empty) {
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
            let bounds = (Bound::Included(from), Bound::Excluded(before.as_slice()));
            // The upper layer comes last, and max_by_key answers the last of equals.
            let over = self
                .layers(table)
                .filter_map(|layer| layer.range::<[u8], _>(bounds).next_back())
                .max_by_key(|(key, _)| key.as_slice());
            match (base, over) {
                (base, None) => return Ok(base),
                (Some((key, value)), Some((over_key, _))) if key > *over_key => {
                    return Ok(Some((key, value)));
                }
                (_, Some((key, Some(value)))) => return Ok(Some((key.clone(), value.clone()))),
                (_, Some((key, None))) => before = key.clone(),
            }
        }
    }
}
