//! Space: when few segments are free, what may go goes as the policy says (`evict.rs`), and the
//! segments with the least left in them are used again: what is left is written again first.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::batch::{Notify, Pending, stored_bytes};
use super::engine::Engine;
use super::error::StoreError;
use super::space::{Fill, Waters};
use super::table::block_key;
use crate::segments::{BlockSums, Entry, Location, Privilege, RecordHeader, RecordKind};

/// Bytes written again between two batches, at most about.
const STEP_BYTES: u64 = 1 << 20;
/// How often the oldest segment is emptied, not the one that costs least.
const OLDEST_ONE_IN: u64 = 4;

/// The segment that is being emptied.
pub(crate) struct Victim {
    slot: u32,
    sequence: u64,
    entries: VecDeque<Entry>,
}

impl Engine {
    /// True while segments are being emptied.
    pub(crate) fn recycling(&self) -> bool {
        (self.victim.is_some() || self.draining) && self.table.retired().is_none()
    }

    /// From now on the disk may be so full.
    pub(crate) fn fill_to(&mut self, fill: Fill) {
        self.waters = Waters::of(self.log.options.segments_max, fill);
    }

    /// Goes on emptying a segment, or begins to when few are free. Between batches only.
    pub(crate) fn recycle_some(&mut self) {
        if self.table.retired().is_some() {
            return;
        }
        let free = self.log.free_segments();
        self.draining = free < if self.draining { self.waters.stop } else { self.waters.begin };
        if self.victim.is_none() && self.draining {
            self.choose();
            // Nothing is worth it until something changes.
            self.draining = self.victim.is_some();
        }
        if self.victim.is_some()
            && let Err(error) = self.step(STEP_BYTES)
        {
            tracing::warn!(%error, "recycling a segment stopped");
            self.victim = None;
            self.draining = false;
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

    /// A segment that gives back a quarter of itself at least, once what may go has gone.
    fn choose(&mut self) {
        self.commit();
        let figures = |engine: &Self| (engine.log.full_segments().len(), engine.log.live_bytes());
        let (segments, live) = figures(self);
        if segments == 0 || self.barren.is_some_and(|barren| segments <= barren.0 && live >= barren.1) {
            return;
        }
        // Drops that need room themselves must not ask for more of it here.
        let emptying = std::mem::replace(&mut self.emptying, true);
        self.shrink();
        let mut chosen = self.least_filled();
        while chosen.is_none() && self.let_go(self.log.segment_capacity_bytes() / 4) > 0 {
            chosen = self.least_filled();
        }
        self.commit();
        self.emptying = emptying;
        self.barren = chosen.is_none().then(|| figures(self));
        let Some((slot, sequence)) = chosen else { return };
        self.choices += 1;
        match self.log.entries(slot) {
            Ok(entries) => self.victim = Some(Victim { slot, sequence, entries: entries.into() }),
            Err(error) => tracing::error!(slot, %error, "a segment cannot be read"),
        }
    }

    /// The full segment that costs least to empty; now and then the oldest one that is worth it, since
    /// drop records stay as long as an older segment does.
    fn least_filled(&self) -> Option<(u32, u64)> {
        let bound = self.log.segment_capacity_bytes() / 4 * 3;
        let full = self.log.full_segments();
        let mut worth = full.iter().filter(|(_, _, live)| *live <= bound);
        let chosen = match self.choices % OLDEST_ONE_IN == OLDEST_ONE_IN - 1 {
            true => worth.next(),
            false => worth.min_by_key(|(_, _, live)| *live),
        };
        chosen.map(|(slot, sequence, _)| (*slot, *sequence))
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
            moved += self.rescue(&victim, &entry)?;
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
    fn rescue(&mut self, victim: &Victim, entry: &Entry) -> Result<u64, StoreError> {
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

    fn rescue_data(&mut self, victim: &Victim, entry: &Entry, chunk: ChunkId) -> Result<u64, StoreError> {
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
        let Some(key) = block_key(&header).filter(|_| self.table.counts(entry)) else { return Ok(0) };
        let bytes = header.stored_bytes();
        let raw = self.table.reader.raw(entry.location, victim.sequence, header.length);
        if let Ok((blocks, payload)) = raw {
            let sums = BlockSums { blocks, whole: header.payload_crc32c };
            if let Ok(new) = self.push(&header, &sums, &payload, Privilege::Move) {
                let (old, length) = (entry.location, header.length);
                self.wait(false, Pending::MovedBlock { key, old, new, length });
                return Ok(bytes);
            }
        }
        self.cache_drop(key, entry.location);
        Ok(0)
    }
}
