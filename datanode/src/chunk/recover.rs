//! Recovery: replicas, cache and tombstones from what the log holds.

use std::collections::{BTreeMap, HashMap};

use cairn_types::{Chain, ChunkId, Epoch, Incarnation, ReplicaHealth, Sequence, WriterId};

use super::batch::stored_bytes;
use super::engine::Replica;
use super::heat::Heat;
use super::replica::Here;
use super::request::CacheKey;
use super::spec::{ChunkView, ReplicaPhase};
use super::state::{Phase, ReplicaState, Step};
use super::table::{CacheEntry, Cell, RecordRef, Table};
use crate::segments::{Entry, Location, RecordKind, Replay, SegmentLog};

/// What was found when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// This process's incarnation.
    pub incarnation: Incarnation,
    /// Replicas of earlier incarnations that are not sealed: they take no more appends and wait for
    /// their seal (R6).
    pub unsealed: Vec<ChunkView>,
    /// Replicas found damaged, sealed or not.
    pub damaged: Vec<ChunkId>,
}

impl OpenReport {
    pub(crate) fn of(incarnation: Incarnation, table: &Table) -> Self {
        let views = table.views();
        let damaged = views.iter().filter(|v| v.health == ReplicaHealth::Damaged).map(|v| v.chunk);
        let mut damaged: Vec<_> = damaged.collect();
        damaged.sort_unstable();
        let mut unsealed = views;
        unsealed.retain(|view| view.phase != ReplicaPhase::Sealed);
        unsealed.sort_unstable_by_key(|view| view.chunk);
        Self { incarnation, unsealed, damaged }
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    found: RecordRef,
    chain: Chain,
    /// Its payload is bad; it may be the only one.
    rotten: bool,
}

#[derive(Default)]
struct Found {
    state: Option<(ReplicaState, Location, u64, u32)>,
    /// The newest record at each offset.
    candidates: BTreeMap<u32, Candidate>,
    /// The highest epoch met, for a replica whose state is lost.
    epoch: Epoch,
    /// Records may be missing since.
    suspect: bool,
    /// Something did not fit since the newest state record, which speaks for what was before it.
    damaged: bool,
}

/// Collects what the log tells.
#[derive(Default)]
pub(crate) struct Rebuild {
    chunks: HashMap<ChunkId, Found>,
    cache: HashMap<CacheKey, (Location, u32)>,
    tombstones: HashMap<ChunkId, Location>,
    holes: bool,
}

/// What recovery made of it.
pub(crate) struct Rebuilt {
    pub(crate) replicas: HashMap<ChunkId, Replica>,
    pub(crate) tombstones: HashMap<ChunkId, Location>,
    pub(crate) newly_damaged: Vec<ChunkId>,
}

impl Replay for Rebuild {
    fn record(&mut self, entry: Entry, payload: Option<&[u8]>) {
        let chunk = ChunkId(entry.header.chunk);
        match entry.header.kind {
            RecordKind::Start => {}
            RecordKind::CacheBlock => {
                let header = entry.header;
                let object = u128::from(header.generation) << 64 | u128::from(header.writer);
                let key = CacheKey { object, block: header.sequence };
                self.cache.insert(key, (entry.location, header.length));
            }
            RecordKind::Drop => {
                self.chunks.remove(&chunk);
                self.tombstones.insert(chunk, entry.location);
            }
            RecordKind::Append | RecordKind::Copy | RecordKind::Close => {
                self.chunks.entry(chunk).or_default().take_data(&entry);
            }
            _ => {
                if entry.header.kind == RecordKind::Create {
                    self.tombstones.remove(&chunk);
                }
                self.chunks.entry(chunk).or_default().take_state(&entry, payload);
            }
        }
    }

    fn damaged(&mut self, entry: Entry) {
        match entry.header.kind {
            RecordKind::CacheBlock | RecordKind::Start | RecordKind::Drop => {}
            _ => self.chunks.entry(ChunkId(entry.header.chunk)).or_default().take_damage(&entry),
        }
    }

    fn hole(&mut self) {
        self.holes = true;
        for found in self.chunks.values_mut() {
            let sealed = found.state.as_ref().is_some_and(|(state, ..)| state.phase == Phase::Sealed);
            found.suspect |= !sealed;
        }
    }
}

impl Found {
    fn keep(&mut self, entry: &Entry, rotten: bool) {
        let header = entry.header;
        let (Ok(offset), length) = (u32::try_from(header.offset), header.length) else { return };
        let found = RecordRef { offset, length, location: entry.location };
        self.candidates.insert(offset, Candidate { found, chain: Chain(header.chain), rotten });
    }

    fn take_data(&mut self, entry: &Entry) {
        let header = entry.header;
        self.epoch = self.epoch.max(Epoch(header.epoch));
        if header.kind.is_data() {
            self.keep(entry, false);
        }
        let Some((state, ..)) = &mut self.state else { return };
        if header.kind == RecordKind::Copy || header.offset < state.length {
            return;
        }
        let follows = header.offset == state.length && Chain(header.previous_chain) == state.chain;
        if !follows {
            self.damaged = true;
            return;
        }
        self.suspect = false;
        state.advance(&Step {
            offset: header.offset,
            length: header.length,
            writer: WriterId(header.writer),
            sequence: Sequence(header.sequence),
            chain: Chain(header.chain),
            committed: header.committed,
            close: header.kind == RecordKind::Close,
            wall: entry.wall,
        });
    }

    fn take_state(&mut self, entry: &Entry, payload: Option<&[u8]>) {
        let decoded = payload.map(ReplicaState::decode);
        let Some(Ok(state)) = decoded else {
            tracing::error!(chunk = entry.header.chunk, "a replica's state does not decode");
            self.damaged = true;
            return;
        };
        if entry.header.kind == RecordKind::Create {
            *self = Self::default();
        }
        self.suspect = false;
        self.damaged = false;
        self.state = Some((state, entry.location, entry.segment, entry.header.length));
    }

    fn take_damage(&mut self, entry: &Entry) {
        self.epoch = self.epoch.max(Epoch(entry.header.epoch));
        self.damaged = true;
        let covered = self.state.as_ref().is_some_and(|(state, ..)| entry.header.offset < state.length);
        if entry.header.kind.is_data() && covered {
            // A copy: it may be the only one, and reads will say what is wrong with it.
            self.keep(entry, true);
        }
    }

    /// The unbroken run of records from 0 up to `length`, the chain at its end, and whether one of
    /// them is bad.
    fn prefix(&self, length: u64) -> (Vec<RecordRef>, u64, Chain, bool) {
        let (mut refs, mut end, mut chain, mut rotten) = (Vec::new(), 0u64, Chain(0), false);
        while let Some(next) = u32::try_from(end).ok().and_then(|at| self.candidates.get(&at)) {
            if next.found.end() > length || next.found.length == 0 {
                break;
            }
            end = next.found.end();
            chain = next.chain;
            rotten |= next.rotten;
            refs.push(next.found);
        }
        (refs, end, chain, rotten)
    }
}

impl Rebuild {
    pub(crate) fn finish(self, log: &mut SegmentLog, table: &Table, here: &Here) -> Rebuilt {
        let mut rebuilt = Rebuilt {
            replicas: HashMap::with_capacity(self.chunks.len()),
            tombstones: self.tombstones,
            newly_damaged: Vec::new(),
        };
        let holes = self.holes;
        for (chunk, found) in self.chunks {
            if found.state.is_none() && !found.damaged && !holes {
                // What is left of an evicted chunk.
                continue;
            }
            let (replica, damaged) = found.finish(chunk, here);
            if damaged {
                rebuilt.newly_damaged.push(chunk);
            }
            for r in &replica.cell.read().refs {
                log.add_live(r.location, r.stored_bytes());
            }
            let (state_at, _, length) = replica.state_at;
            log.add_live(state_at, stored_bytes(length));
            table.insert(chunk, std::sync::Arc::clone(&replica.cell));
            rebuilt.replicas.insert(chunk, replica);
        }
        for location in rebuilt.tombstones.values() {
            log.add_live(*location, stored_bytes(0));
        }
        let mut cache = table.cache.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (key, (location, length)) in self.cache {
            log.add_live(location, stored_bytes(length));
            cache.insert(key, CacheEntry { location, length, heat: Heat::default() });
        }
        rebuilt
    }
}

impl Found {
    /// The replica, and whether it was found damaged just now.
    fn finish(mut self, chunk: ChunkId, here: &Here) -> (Replica, bool) {
        let nowhere = Location { slot: u32::MAX, offset: 0 };
        let lost = || (ReplicaState::lost(chunk, self.epoch), nowhere, 0, 0);
        let known = self.state.is_some();
        let (mut state, at, segment, bytes) = self.state.take().unwrap_or_else(lost);
        let (refs, end, chain, rotten) = self.prefix(state.length);
        let before = known && state.damaged;
        state.damaged |= self.damaged || rotten || self.suspect || end < state.length;
        if end < state.length && state.phase != Phase::Sealed {
            state.length = end;
            state.chain = chain;
        }
        let newly = state.damaged && !before;
        let cell = Cell::new(state.view(here), refs);
        (Replica { state, cell, state_at: (at, segment, bytes), synced_batch: 0, data_batch: 0 }, newly)
    }
}
