//! What a scrub or a reader found bad is put right: a good copy of a record takes the bad one's
//! place, a replica that was read through is healthy again, a bad state is written anew.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_types::{Chain, ChunkId};

use super::batch::{Notify, Pending, stored_bytes};
use super::change::append_header;
use super::completion::Callback;
use super::engine::{Engine, notify_error};
use super::error::StoreError;
use super::policy::Item;
use super::request::CacheKey;
use super::spec::AppendRecord;
use super::state::Phase;
use super::table::RecordRef;
use crate::segments::{BlockSums, Entry, Location, Privilege, RecordHeader, RecordKind};

impl Engine {
    /// Writes a good copy of a record of a sealed or fenced replica, in the place of one of the same bytes or
    /// at the end of what is there.
    pub(crate) fn repair(&mut self, record: &AppendRecord, sums: &BlockSums, callback: Callback<()>) {
        let chunk = record.chunk;
        self.settle(chunk);
        let (old, cell) = match self.check_repair(record, sums) {
            Ok(place) => place,
            Err(error) => return callback(Err(error)),
        };
        let header = append_header(RecordKind::Copy, record);
        let pushed = self.push(&header, sums, &record.payload, Privilege::Move);
        let location = match pushed {
            Ok(location) => location,
            Err(error) => return callback(Err(error)),
        };
        self.note_data(chunk);
        let added = RecordRef { offset: record.offset as u32, length: header.length, location };
        self.wait(true, Pending::Repaired { cell, added, old, callback });
    }

    /// Is it, as far as can be told, the very record that was there? Answers where the bad one is.
    fn check_repair(
        &self,
        record: &AppendRecord,
        sums: &BlockSums,
    ) -> Result<(Option<Location>, Arc<super::table::Cell>), StoreError> {
        let (chunk, bad) = (record.chunk, StoreError::BadRecord { chunk: record.chunk });
        let Some(replica) = self.replicas.get(&chunk) else {
            return Err(StoreError::UnknownChunk { chunk });
        };
        let state = &replica.state;
        if !matches!(state.phase, Phase::Sealed | Phase::Fenced) {
            return Err(StoreError::NotSealed { chunk });
        }
        let sound = !record.payload.is_empty()
            && sums.whole == record.payload_crc32c
            && record.next_chain() == record.chain
            && record.end() <= state.length;
        let last = record.end() == state.length;
        if !sound || (last && record.chain != state.chain) {
            return Err(bad);
        }
        let cell = Arc::clone(&replica.cell);
        let (old, end) = {
            let body = cell.read();
            let index = body.refs.binary_search_by_key(&(record.offset as u32), |r| r.offset).ok();
            let end = body.refs.last().map_or(0, RecordRef::end);
            (index.and_then(|i| body.refs.get(i)).copied(), end)
        };
        let fits = match old {
            Some(old) => u64::from(old.length) == record.payload.len() as u64,
            None => record.offset == end,
        };
        if !fits || !self.chained(record) {
            return Err(bad);
        }
        Ok((old.map(|old| old.location), cell))
    }

    /// False when a neighbour that reads contradicts the record's chain.
    fn chained(&self, record: &AppendRecord) -> bool {
        let before = self.table.chain_at(record.chunk, record.offset);
        let after = self.table.chain_before(record.chunk, record.end());
        let follows = |found: Result<Option<Chain>, _>, chain| found.map_or(true, |c| c == Some(chain));
        follows(before, record.previous_chain) && follows(after, record.chain)
    }

    /// A sealed replica was read through: what was said of its damage no longer holds.
    pub(crate) fn heal(&mut self, chunk: ChunkId, callback: Callback<()>) {
        let Some(replica) = self.replicas.get_mut(&chunk) else {
            return callback(Err(StoreError::UnknownChunk { chunk }));
        };
        if replica.state.phase != Phase::Sealed {
            return callback(Err(StoreError::NotSealed { chunk }));
        }
        let doubted = replica.cell.damaged.swap(false, Ordering::AcqRel);
        if !std::mem::replace(&mut replica.state.damaged, false) && !doubted {
            return self.wait(true, Pending::Other(Notify::Done(callback)));
        }
        let notify = Notify::Done(callback);
        if let Err((error, notify)) = self.push_state(chunk, RecordKind::Moved, Privilege::Control, notify) {
            if let Some(replica) = self.replicas.get_mut(&chunk) {
                replica.state.damaged = true;
            }
            notify_error(notify, error);
        }
    }

    /// Writes a record that is no bytes of a chunk again, if the newest of its kind is the one at
    /// `entry`. Answers whether it still counted.
    pub(crate) fn rewrite(&mut self, entry: &Entry, callback: Callback<bool>) {
        let chunk = ChunkId(entry.header.chunk);
        let outcome = match entry.header.kind {
            RecordKind::Drop => self.rewrite_tombstone(entry, chunk),
            kind => {
                let counts = self.replicas.get(&chunk).is_some_and(|replica| {
                    let (at, segment, _) = replica.state_at;
                    // A close record is told by the state that comes after it, if one does.
                    at == entry.location || (kind == RecordKind::Close && segment <= entry.segment)
                });
                let written = match counts {
                    true => self.push_state(chunk, RecordKind::Moved, Privilege::Control, Notify::Nobody),
                    false => Ok(()),
                };
                written.map(|()| counts).map_err(|(error, _)| error)
            }
        };
        self.flush();
        callback(outcome);
    }

    fn rewrite_tombstone(&mut self, entry: &Entry, chunk: ChunkId) -> Result<bool, StoreError> {
        if self.tombstones.get(&chunk) != Some(&entry.location) {
            return Ok(false);
        }
        let header = RecordHeader::new(RecordKind::Drop, chunk.0);
        let new = self.push(&header, &BlockSums::default(), &Bytes::new(), Privilege::Control)?;
        if let Some(old) = self.tombstones.insert(chunk, new) {
            self.log.drop_live(old, stored_bytes(0));
        }
        Ok(true)
    }

    pub(crate) fn cache_drop(&mut self, key: CacheKey, location: Location) {
        let mut cache = self.table.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.get(&key).is_some_and(|found| found.location == location)
            && let Some(lost) = cache.remove(&key)
        {
            self.log.drop_live(location, stored_bytes(lost.length));
            self.policy.forget(&Item::Block(key));
        }
    }
}
