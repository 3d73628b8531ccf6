//! Space: the coldest segment is used again. What is pinned is written again first, what is hot once
//! more, the rest is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::batch::{Notify, Pending, stored_bytes};
use super::engine::Engine;
use super::error::StoreError;
use super::request::CacheKey;
use crate::segments::record::stored_bytes as record_bytes;
use crate::segments::{BlockSums, Entry, Location, Privilege, RecordHeader, RecordKind};

/// Bytes written again between two batches, at most about.
const STEP_BYTES: u64 = 1 << 20;

/// The segment that is being emptied.
pub(crate) struct Victim {
    slot: u32,
    sequence: u64,
    entries: VecDeque<Entry>,
    /// Of evictable chunks met in it: is it kept?
    kept: HashMap<ChunkId, bool>,
}

impl Engine {
    /// True while a segment is being emptied.
    pub(crate) fn recycling(&self) -> bool {
        self.victim.is_some() && self.table.retired().is_none()
    }

    fn low_water(&self) -> u32 {
        (self.log.options.segments_max / 8).clamp(4, 6)
    }

    /// Goes on emptying a segment, or begins to when few are free. Between batches only.
    pub(crate) fn recycle_some(&mut self) {
        if self.table.retired().is_some() {
            return;
        }
        if self.victim.is_none() && self.log.free_segments() < self.low_water() {
            self.choose();
        }
        if self.victim.is_some()
            && let Err(error) = self.step(STEP_BYTES)
        {
            tracing::warn!(%error, "recycling a segment stopped");
            self.victim = None;
        }
    }

    /// Empties segments until a record of `privilege` may take a new one. False when none can be.
    pub(crate) fn make_room(&mut self, privilege: Privilege) -> bool {
        if self.emptying {
            return false;
        }
        self.commit();
        while self.log.free_segments() <= privilege.leaves() {
            if self.table.retired().is_some() {
                return false;
            }
            if self.victim.is_none() {
                self.choose();
            }
            if self.victim.is_none() {
                return false;
            }
            if let Err(error) = self.step(u64::MAX) {
                tracing::warn!(%error, "recycling a segment stopped");
                self.victim = None;
                return false;
            }
        }
        true
    }

    /// The coldest segment that gives back a quarter of itself at least.
    fn choose(&mut self) {
        self.commit();
        let full = self.log.full_segments();
        let figures = (full.len(), self.log.live_bytes());
        let no_better = |(segments, live)| figures.0 <= segments && figures.1 >= live;
        if full.is_empty() || self.barren.is_some_and(no_better) {
            return;
        }
        let pinned = self.pinned_bytes();
        let bound = self.log.segment_capacity_bytes() / 4 * 3;
        let pinned_in = |slot: u32| pinned.get(&slot).copied().unwrap_or(0);
        let empty = full.iter().find(|(_, _, live)| *live == 0);
        let coldest = full.iter().find(|(slot, _, _)| pinned_in(*slot) <= bound);
        let chosen = empty.or(coldest).copied();
        self.barren = chosen.is_none().then_some(figures);
        let Some((slot, sequence, _)) = chosen else { return };
        match self.log.entries(slot) {
            Ok(entries) => {
                let (entries, kept) = (entries.into(), HashMap::new());
                self.victim = Some(Victim { slot, sequence, entries, kept });
            }
            Err(error) => tracing::error!(slot, %error, "a segment cannot be read"),
        }
    }

    /// Bytes by slot that must be written again before it may be used again.
    fn pinned_bytes(&self) -> HashMap<u32, u64> {
        let mut pinned: HashMap<u32, u64> = HashMap::new();
        for replica in self.replicas.values() {
            let (state_at, _, length) = replica.state_at;
            *pinned.entry(state_at.slot).or_default() += stored_bytes(length);
            if replica.state.place.is_none() {
                for r in &replica.cell.read().refs {
                    *pinned.entry(r.location.slot).or_default() += r.stored_bytes();
                }
            }
        }
        pinned
    }

    fn step(&mut self, budget: u64) -> Result<(), StoreError> {
        self.emptying = true;
        let outcome = self.empty_some(budget);
        self.emptying = false;
        outcome
    }

    fn empty_some(&mut self, budget: u64) -> Result<(), StoreError> {
        self.commit();
        let Some(mut victim) = self.victim.take() else { return Ok(()) };
        let mut moved = 0;
        while moved < budget {
            let Some(entry) = victim.entries.pop_front() else { return self.finish(&victim) };
            moved += self.rescue(&mut victim, &entry)?;
        }
        self.commit();
        self.victim = Some(victim);
        Ok(())
    }

    fn finish(&mut self, victim: &Victim) -> Result<(), StoreError> {
        self.flush();
        if let Some(retired) = self.table.retired() {
            return Err(retired.into());
        }
        self.log.release(victim.slot)?;
        Ok(())
    }

    /// Writes a record again if it still counts; answers the bytes written.
    fn rescue(&mut self, victim: &mut Victim, entry: &Entry) -> Result<u64, StoreError> {
        let chunk = ChunkId(entry.header.chunk);
        match entry.header.kind {
            RecordKind::Append | RecordKind::Copy => self.rescue_data(victim, entry, chunk),
            RecordKind::Close => self.rescue_state(victim, chunk, |_| true),
            RecordKind::Drop => self.rescue_tombstone(victim, entry, chunk),
            RecordKind::CacheBlock => self.rescue_cached(victim, entry),
            RecordKind::Start => Ok(0),
            _ => self.rescue_state(victim, chunk, |at| at == entry.location),
        }
    }

    /// Writes a replica's state again if the newest is in the victim or before it, and `concerns`
    /// the caller.
    fn rescue_state(
        &mut self,
        victim: &Victim,
        chunk: ChunkId,
        concerns: impl Fn(Location) -> bool,
    ) -> Result<u64, StoreError> {
        let Some(replica) = self.replicas.get(&chunk) else { return Ok(0) };
        let (at, segment, length) = replica.state_at;
        if segment > victim.sequence || !concerns(at) {
            return Ok(0);
        }
        self.push_state(chunk, RecordKind::Moved, Privilege::Control, Notify::Nobody).map_err(|(e, _)| e)?;
        Ok(stored_bytes(length))
    }

    fn rescue_data(&mut self, victim: &mut Victim, entry: &Entry, chunk: ChunkId) -> Result<u64, StoreError> {
        let Some(replica) = self.replicas.get(&chunk) else { return Ok(0) };
        let cell = Arc::clone(&replica.cell);
        let offset = entry.header.offset as u32;
        let live = {
            let body = cell.read();
            let found = body.refs.binary_search_by_key(&offset, |r| r.offset).ok();
            found.and_then(|i| body.refs.get(i)).is_some_and(|r| r.location == entry.location)
        };
        if !live {
            return Ok(0);
        }
        if replica.state.place.is_some() && !self.keeps(victim, chunk) {
            self.drop_replica(chunk)?;
            return Ok(record_bytes(0) as u64);
        }
        let state = self.rescue_state(victim, chunk, |_| true)?;
        let raw = self.table.reader.raw(entry.location, victim.sequence, entry.header.length);
        let Ok((blocks, payload)) = raw else {
            // It stays where it is: the segment keeps live bytes and is not used again.
            tracing::error!(%chunk, offset, "a pinned record cannot be read");
            return Ok(state);
        };
        let header = RecordHeader { kind: RecordKind::Copy, ..entry.header };
        let sums = BlockSums { blocks, whole: header.payload_crc32c };
        let new = self.push(&header, &sums, &payload, Privilege::Move)?;
        self.note_data(chunk);
        self.wait(false, Pending::Moved { cell, offset, old: entry.location, new });
        Ok(state + entry.header.stored_bytes())
    }

    /// Is an evictable chunk hot? Asked once a segment; asking cools it.
    fn keeps(&self, victim: &mut Victim, chunk: ChunkId) -> bool {
        *victim.kept.entry(chunk).or_insert_with(|| {
            let cell = self.replicas.get(&chunk).map(|replica| &replica.cell);
            cell.is_some_and(|cell| cell.touched.swap(false, Ordering::Relaxed))
        })
    }

    fn rescue_tombstone(
        &mut self,
        victim: &Victim,
        entry: &Entry,
        chunk: ChunkId,
    ) -> Result<u64, StoreError> {
        if self.tombstones.get(&chunk) != Some(&entry.location) {
            return Ok(0);
        }
        if self.log.oldest_segment() >= victim.sequence {
            // No older segment can hold a record of the chunk.
            self.tombstones.remove(&chunk);
            self.log.drop_live(entry.location, stored_bytes(0));
            return Ok(0);
        }
        let new = self.push(&entry.header, &BlockSums::default(), &Bytes::new(), Privilege::Control)?;
        self.log.drop_live(entry.location, stored_bytes(0));
        self.tombstones.insert(chunk, new);
        Ok(stored_bytes(0))
    }

    fn rescue_cached(&mut self, victim: &Victim, entry: &Entry) -> Result<u64, StoreError> {
        let header = entry.header;
        let object = u128::from(header.generation) << 64 | u128::from(header.writer);
        let key = CacheKey { object, block: header.sequence };
        let hot = {
            let mut cache = self.table.cache.write().unwrap_or_else(PoisonError::into_inner);
            let Some(found) = cache.get(&key).filter(|e| e.location == entry.location) else {
                return Ok(0);
            };
            let hot = found.hot.load(Ordering::Relaxed);
            if !hot {
                cache.remove(&key);
            }
            hot
        };
        let bytes = header.stored_bytes();
        let again = hot.then(|| self.table.reader.raw(entry.location, victim.sequence, header.length));
        if let Some(Ok((blocks, payload))) = again {
            let sums = BlockSums { blocks, whole: header.payload_crc32c };
            if let Ok(location) = self.push(&header, &sums, &payload, Privilege::Move) {
                let (length, notify) = (header.length, Notify::Nobody);
                self.wait(false, Pending::Cached { key, location, length, notify });
                return Ok(bytes);
            }
        }
        self.table.cache.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.log.drop_live(entry.location, bytes);
        Ok(0)
    }
}
