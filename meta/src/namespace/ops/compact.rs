//! CreateCompaction, Compacted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cairn_types::{ChunkId, FsError, InodeId, IntentId, NodeId, PackId};

use super::pack::{self, CHUNKS_PER_PACK_MAX};
use crate::keys::chunks::ChunkOwner;
use crate::keys::intents::{PackSource, PackedChunk, Work};
use crate::keys::packs::{self, PackRecord};
use crate::namespace::command::PersistedChunk;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Makes the intent to write chunks that are in packs into a new one. It holds nothing: a chunk that dies
/// or moves meanwhile stays what it is.
pub fn create(state: &mut State<'_, '_>, assignee: NodeId, chunks: &[ChunkId]) -> Outcome<Answer> {
    if chunks.is_empty() || chunks.len() > CHUNKS_PER_PACK_MAX {
        return refuse(FsError::InvalidRequest);
    }
    let mut from: BTreeMap<PackId, PackSource> = BTreeMap::new();
    let mut moved: Vec<PackedChunk> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let record = state.chunk(*chunk)?;
        let (Some(sealed), Some(place), false) = (&record.sealed, record.place, record.is_dead()) else {
            return refuse(FsError::ChunkState { chunk: *chunk });
        };
        if moved.iter().any(|m| m.chunk == *chunk) {
            return refuse(FsError::InvalidRequest);
        }
        if let Entry::Vacant(source) = from.entry(place.pack) {
            let Some(pack) = state.get::<PackRecord>(&packs::key(place.pack))? else {
                return refuse(FsError::ChunkState { chunk: *chunk });
            };
            source.insert(PackSource { pack: place.pack, key: pack.key });
        }
        let (ino, base) = match record.owner {
            ChunkOwner::Session(_) => (InodeId(0), 0),
            ChunkOwner::Tail { ino, base } => (ino, base),
        };
        moved.push(PackedChunk { chunk: *chunk, chain: sealed.chain, ino, base, place });
    }
    let (pack, key) = pack::next(state);
    let from = from.into_values().collect();
    let intent = state.new_intent(assignee, Work::Compact { pack, key, from, chunks: moved });
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Moves the chunks that are still where they were found. A new pack that none of them moves to is dead
/// from the beginning; an old one that loses its last is dead now.
pub fn finish(
    state: &mut State<'_, '_>,
    intent: IntentId,
    etag: &str,
    places: &[PersistedChunk],
    bytes: u64,
) -> Outcome<Answer> {
    let Work::Compact { pack, key, chunks, .. } = state.intent(intent)?.work else {
        return refuse(FsError::InvalidRequest);
    };
    let same = |(chunk, place): (&PackedChunk, &PersistedChunk)| chunk.place.crc32c == place.crc32c;
    let fits = pack::fit(chunks.iter().map(|c| (c.chunk, c.place.length)), places, bytes);
    if !fits || !chunks.iter().zip(places).all(same) {
        return refuse(FsError::InvalidRequest);
    }
    pack::record(state, pack, key, etag, bytes);
    for (packed, place) in chunks.iter().zip(places) {
        let Some(before) = state.find_chunk(packed.chunk)? else { continue };
        if before.is_dead() || before.place != Some(packed.place) {
            continue;
        }
        let mut after = before.clone();
        after.place = Some(pack::placed(pack, place));
        state.put_chunk(Some(&before), &after)?;
    }
    state.end_intent(intent);
    Ok(Answer::default())
}
