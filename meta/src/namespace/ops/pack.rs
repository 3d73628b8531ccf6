//! CreateUpload, Persisted, CreatePackDeletion, PackDeleted, CondemnPacks.

use cairn_types::{ChunkId, FsError, IntentId, NodeId, PackId};

use crate::keys::chunks::{ChunkRecord, PackPlace};
use crate::keys::intents::{UploadChunk, Work};
use crate::keys::packs::{self, PackRecord};
use crate::namespace::command::{CONDEMNED_MAX, PersistedChunk, StrayPack};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::Table;

/// Chunks in one pack, at most.
pub(super) const CHUNKS_PER_PACK_MAX: usize = 512;
/// Bytes of an ETag that are kept, at most.
const ETAG_BYTES_MAX: usize = 256;

/// Makes the intent to upload sealed chunks as one pack.
pub fn create_upload(state: &mut State<'_, '_>, assignee: NodeId, chunks: &[ChunkId]) -> Outcome<Answer> {
    if chunks.is_empty() || chunks.len() > CHUNKS_PER_PACK_MAX {
        return refuse(FsError::InvalidRequest);
    }
    let intent = state.cluster.next.intent;
    let mut uploads = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let before = state.chunk(*chunk)?;
        let waits = !before.is_dead() && before.upload.is_none() && before.place.is_none();
        let Some(sealed) = before.sealed.as_ref().filter(|_| waits) else {
            return refuse(FsError::ChunkState { chunk: *chunk });
        };
        uploads.push(UploadChunk { chunk: *chunk, length: sealed.length, chain: sealed.chain });
        let after = ChunkRecord { upload: Some(intent), ..before.clone() };
        state.put_chunk(Some(&before), &after)?;
    }
    let (pack, key) = next(state);
    let made = state.new_intent(assignee, Work::Upload { pack, key, chunks: uploads });
    debug_assert_eq!(made, intent);
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Records where the chunks of an upload are in S3.
pub fn persisted(
    state: &mut State<'_, '_>,
    intent: IntentId,
    etag: &str,
    places: &[PersistedChunk],
    bytes: u64,
) -> Outcome<Answer> {
    let Work::Upload { pack, key, chunks } = state.intent(intent)?.work else {
        return refuse(FsError::InvalidRequest);
    };
    if !fit(chunks.iter().map(|c| (c.chunk, c.length)), places, bytes) {
        return refuse(FsError::InvalidRequest);
    }
    record(state, pack, key, etag, bytes);
    for place in places {
        // A chunk that died meanwhile and lost its last replica has no record any more.
        let Some(before) = state.find_chunk(place.chunk)? else { continue };
        let mut after = before.clone();
        after.upload = None;
        after.place = Some(placed(pack, place));
        state.put_chunk(Some(&before), &after)?;
    }
    state.end_intent(intent);
    Ok(Answer::default())
}

/// The id and the key of a pack that is to be.
pub(super) fn next(state: &mut State<'_, '_>) -> (PackId, String) {
    let pack = state.cluster.next.pack;
    state.cluster.next.pack = pack.next();
    (pack, packs::object_key(state.cluster.cluster, pack))
}

/// Where a chunk is in `pack`.
pub(super) fn placed(pack: PackId, place: &PersistedChunk) -> PackPlace {
    PackPlace { pack, offset: place.offset, length: place.length, crc32c: place.crc32c }
}

/// True when these are places of those chunks in a pack of `bytes`, in its order.
pub(super) fn fit(
    chunks: impl ExactSizeIterator<Item = (ChunkId, u64)>,
    places: &[PersistedChunk],
    bytes: u64,
) -> bool {
    chunks.len() == places.len()
        && chunks.zip(places).all(|((chunk, length), place)| {
            let end = place.offset.checked_add(place.length);
            chunk == place.chunk && length == place.length && end.is_some_and(|e| e <= bytes)
        })
}

/// Records a pack that nothing points into yet.
pub(super) fn record(state: &mut State<'_, '_>, pack: PackId, key: String, etag: &str, bytes: u64) {
    let record = PackRecord {
        pack,
        key,
        etag: etag.to_owned(),
        bytes,
        live_chunks: 0,
        live_bytes: 0,
        created: state.now(),
        deletion: None,
    };
    state.put_pack(&record);
    state.cluster.counts.packs += 1;
}

/// Records objects that nothing names as dead packs. That no intent names them is the leader's to look
/// at: it stays so for ever, since an intent that writes a pack is made together with the pack's id.
pub fn condemn(state: &mut State<'_, '_>, packs: &[StrayPack]) -> Outcome<Answer> {
    if packs.len() > CONDEMNED_MAX {
        return refuse(FsError::InvalidRequest);
    }
    for stray in packs {
        let known = state.get::<PackRecord>(&packs::key(stray.pack))?.is_some();
        if known || stray.pack >= state.cluster.next.pack || stray.etag.len() > ETAG_BYTES_MAX {
            continue;
        }
        let key = packs::object_key(state.cluster.cluster, stray.pack);
        record(state, stray.pack, key, &stray.etag, stray.bytes);
    }
    Ok(Answer::default())
}

/// Makes the intent to delete a pack that nothing points into.
pub fn create_deletion(state: &mut State<'_, '_>, pack: PackId, assignee: NodeId) -> Outcome<Answer> {
    let Some(mut record) = state.get::<PackRecord>(&packs::key(pack))? else {
        return refuse(FsError::NotFound);
    };
    if record.live_chunks > 0 || record.deletion.is_some() {
        return refuse(FsError::InvalidRequest);
    }
    let work = Work::DeletePack { pack, key: record.key.clone() };
    let intent = state.new_intent(assignee, work);
    record.deletion = Some(intent);
    state.put_pack(&record);
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Forgets a pack that is gone from S3. One whose upload was given up was never recorded.
pub fn deleted(state: &mut State<'_, '_>, intent: IntentId) -> Outcome<Answer> {
    let Work::DeletePack { pack, .. } = state.intent(intent)?.work else {
        return refuse(FsError::InvalidRequest);
    };
    if state.get::<PackRecord>(&packs::key(pack))?.is_some() {
        state.delete(Table::Packs, packs::key(pack));
        state.cluster.counts.packs = state.cluster.counts.packs.saturating_sub(1);
    }
    state.end_intent(intent);
    Ok(Answer::default())
}
