//! Sums over everything: the live bytes of chunks, and the shares of packs. So many chunks or packs
//! are held at a time, the next by their ids, and for each such range all extents, or all chunks, are
//! passed over once.

use std::collections::BTreeMap;

use cairn_types::{ChunkId, ExtentSource, PackId};

use super::Finding;
use super::look::{Cursor, Look, Pass};
use crate::keys::chunks::{self, ChunkRecord, ChunkState};
use crate::keys::extents::ExtentRow;
use crate::keys::packs::{self, PackRecord};
use crate::keys::{Record, u64_at};
use crate::store::{StoreFault, Table};

/// Packs with wrong counts whose chunks are listed in one pass, at most.
const LISTED_AT_ONCE: usize = 64;
/// Chunks that a finding lists, at most: no pack has more.
const CHUNKS_MAX: usize = 1024;

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(LiveBytes {
            ranges: Cursor::all(Table::Chunks),
            last: false,
            held: Vec::new(),
            extents: None,
        }),
        Box::new(Packs {
            ranges: Cursor::all(Table::Packs),
            last: false,
            held: Vec::new(),
            phase: Phase::Gather,
        }),
    ]
}

/// The chunks of a range, each with what was summed so far.
struct LiveBytes {
    ranges: Cursor,
    last: bool,
    held: Vec<(ChunkId, u64)>,
    extents: Option<Cursor>,
}

impl Pass for LiveBytes {
    fn name(&self) -> &'static str {
        "live bytes of chunks"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let Some(extents) = self.extents.as_mut() else {
            let room = look.bounds.sums_at_once.max(1) - self.held.len();
            let (keys, ended) = self.ranges.next_within(look, room)?;
            for (key, _) in keys {
                self.held.extend(u64_at(Table::Chunks, &key, 0).ok().map(|id| (ChunkId(id), 0)));
            }
            self.last = ended;
            if ended || self.held.len() >= look.bounds.sums_at_once.max(1) {
                self.extents = Some(Cursor::all(Table::Extents));
            }
            return Ok(ended && self.held.is_empty());
        };
        let (rows, ended) = extents.next(look)?;
        for (key, bytes) in rows {
            let Ok(row) = ExtentRow::from_bytes(&key, &bytes) else { continue };
            if let ExtentSource::Chunk { chunk, .. } = row.source
                && let Ok(at) = self.held.binary_search_by_key(&chunk, |(id, _)| *id)
                && let Some((_, sum)) = self.held.get_mut(at)
            {
                *sum = sum.saturating_add(row.length);
            }
        }
        if !ended {
            return Ok(false);
        }
        self.extents = None;
        for (chunk, counted) in std::mem::take(&mut self.held) {
            compare(look, chunk, counted)?;
        }
        Ok(self.last)
    }
}

fn compare(look: &mut Look<'_>, chunk: ChunkId, counted: u64) -> Result<(), StoreFault> {
    let Some(record) = look.at::<ChunkRecord>(&chunks::key(chunk))?.record() else { return Ok(()) };
    if record.live_bytes != counted {
        let settled = record.state == ChunkState::Sealed && !record.held;
        look.found(Finding::LiveBytes { chunk, recorded: record.live_bytes, counted, settled });
    }
    Ok(())
}

/// What a pack's chunks sum up to.
#[derive(Clone, Copy, Default)]
struct Share {
    chunks: u32,
    bytes: u64,
}

enum Phase {
    /// The next packs are gathered.
    Gather,
    /// All chunks are passed over.
    Sum(Cursor),
    /// The chunks of packs with wrong counts are listed.
    List(Cursor, BTreeMap<PackId, Vec<ChunkId>>),
}

struct Packs {
    ranges: Cursor,
    last: bool,
    /// Ascending; after the sum those alone whose counts are wrong.
    held: Vec<(PackId, Share)>,
    phase: Phase,
}

impl Pass for Packs {
    fn name(&self) -> &'static str {
        "chunks of packs"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        match std::mem::replace(&mut self.phase, Phase::Gather) {
            Phase::Gather => self.gather(look),
            Phase::Sum(cursor) => self.sum(look, cursor),
            Phase::List(cursor, lists) => self.list(look, cursor, lists),
        }
    }
}

impl Packs {
    fn gather(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let most = look.bounds.sums_at_once.max(1);
        let (keys, ended) = self.ranges.next_within(look, most - self.held.len())?;
        for (key, _) in keys {
            self.held.extend(u64_at(Table::Packs, &key, 0).ok().map(|id| (PackId(id), Share::default())));
        }
        self.last = ended;
        if ended && self.held.is_empty() {
            return Ok(true);
        }
        if ended || self.held.len() >= most {
            self.phase = Phase::Sum(Cursor::all(Table::Chunks));
        }
        Ok(false)
    }

    fn sum(&mut self, look: &mut Look<'_>, mut cursor: Cursor) -> Result<bool, StoreFault> {
        let (rows, ended) = cursor.next(look)?;
        for (key, bytes) in rows {
            let Ok(record) = ChunkRecord::from_bytes(&key, &bytes) else { continue };
            if let Some(place) = record.place
                && let Ok(at) = self.held.binary_search_by_key(&place.pack, |(id, _)| *id)
                && let Some((_, share)) = self.held.get_mut(at)
            {
                share.chunks = share.chunks.saturating_add(u32::from(!record.is_dead()));
                share.bytes = share.bytes.saturating_add(record.live_bytes);
            }
        }
        if !ended {
            self.phase = Phase::Sum(cursor);
            return Ok(false);
        }
        let mut wrong = Vec::new();
        for (pack, share) in std::mem::take(&mut self.held) {
            let record = look.at::<PackRecord>(&packs::key(pack))?.record();
            if record.is_some_and(|r| (r.live_chunks, r.live_bytes) != (share.chunks, share.bytes)) {
                wrong.push((pack, share));
            }
        }
        self.held = wrong;
        Ok(self.next_lists())
    }

    /// Goes on with the next packs whose counts are wrong, or with the next range; true at the end.
    fn next_lists(&mut self) -> bool {
        let next: BTreeMap<_, _> =
            self.held.iter().take(LISTED_AT_ONCE).map(|(pack, _)| (*pack, Vec::new())).collect();
        if next.is_empty() {
            self.phase = Phase::Gather;
            return self.last;
        }
        self.phase = Phase::List(Cursor::all(Table::Chunks), next);
        false
    }

    fn list(
        &mut self,
        look: &mut Look<'_>,
        mut cursor: Cursor,
        mut lists: BTreeMap<PackId, Vec<ChunkId>>,
    ) -> Result<bool, StoreFault> {
        let (rows, ended) = cursor.next(look)?;
        for (key, bytes) in rows {
            let Ok(record) = ChunkRecord::from_bytes(&key, &bytes) else { continue };
            let list = record.place.and_then(|place| lists.get_mut(&place.pack));
            if let Some(list) = list.filter(|list| list.len() < CHUNKS_MAX) {
                list.push(record.chunk);
            }
        }
        if !ended {
            self.phase = Phase::List(cursor, lists);
            return Ok(false);
        }
        let count = lists.len().min(self.held.len());
        for (pack, share) in self.held.drain(..count).collect::<Vec<_>>() {
            let Some(record) = look.at::<PackRecord>(&packs::key(pack))?.record() else { continue };
            look.found(Finding::PackCounts {
                pack,
                recorded_chunks: record.live_chunks,
                recorded_bytes: record.live_bytes,
                counted_chunks: share.chunks,
                counted_bytes: share.bytes,
                chunks: lists.remove(&pack).unwrap_or_default(),
            });
        }
        Ok(self.next_lists())
    }
}
