//! CreateMerge, Merged.

use cairn_types::{Chain, Epoch, ExtentSource, FsError, Generation, IntentId, NodeId, Timestamp};

use super::pack;
use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState, PackPlace, Sealed};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::intents::{MergeRun, Work};
use crate::namespace::chunks::LiveChanges;
use crate::namespace::command::{ExtentRun, PersistedChunk};
use crate::namespace::content::note;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::merging::{self, MERGE_EXTENTS_MAX};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::Table;

/// Makes the intent to write runs of small extents as new chunks. It holds nothing: a file that changes
/// meanwhile stays what it is. The chunks have ids and no rows until their bytes are in S3.
pub fn create(state: &mut State<'_, '_>, assignee: NodeId, asked: &[ExtentRun]) -> Outcome<Answer> {
    let extents: u64 = asked.iter().map(|run| u64::from(run.extents)).sum();
    if extents > MERGE_EXTENTS_MAX as u64 || asked.iter().any(|run| run.extents < 2) {
        return refuse(FsError::InvalidRequest);
    }
    let mut runs = Vec::with_capacity(asked.len());
    for run in asked {
        let Some(pieces) = merging::pieces(&*state.txn, run)? else { continue };
        let chunk = state.cluster.next.chunk;
        state.cluster.next.chunk = chunk.next();
        runs.push(MergeRun { chunk, ino: run.ino, base: run.offset, pieces });
    }
    if runs.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    let (pack, key) = pack::next(state);
    let intent = state.new_intent(assignee, Work::Merge { pack, key, runs });
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Puts the new chunks in the place of the runs that are as they were found. A pack of which none was taken
/// is dead from the beginning.
pub fn finish(
    state: &mut State<'_, '_>,
    intent: IntentId,
    etag: &str,
    places: &[PersistedChunk],
    bytes: u64,
) -> Outcome<Answer> {
    let record = state.intent(intent)?;
    let Work::Merge { pack, key, runs } = record.work else { return refuse(FsError::InvalidRequest) };
    if !pack::fit(runs.iter().map(|run| (run.chunk, run.length())), places, bytes) {
        return refuse(FsError::InvalidRequest);
    }
    pack::record(state, pack, key, etag, bytes);
    for (run, place) in runs.iter().zip(places) {
        replace(state, run, pack::placed(pack, place), record.assignee)?;
    }
    state.end_intent(intent);
    Ok(Answer::default())
}

/// One extent in the place of a run's. The inode is not touched: nobody who reads can tell.
fn replace(state: &mut State<'_, '_>, run: &MergeRun, place: PackPlace, primary: NodeId) -> Outcome<()> {
    let Some(content) = merging::stands(&*state.txn, run)? else { return Ok(()) };
    let (mut live, mut at, mut mtime) = (LiveChanges::new(), run.base, Timestamp(i64::MIN));
    let mut policy = None;
    for piece in &run.pieces {
        let from = state.chunk(piece.chunk)?;
        mtime = mtime.max(from.sealed.as_ref().map_or(mtime, |sealed| sealed.mtime));
        policy = policy.or(Some(from.policy));
        let source = ExtentSource::Chunk { chunk: piece.chunk, offset: piece.offset };
        note(&mut live, &source, piece.length, false);
        state.delete(Table::Extents, extents::key(content, at));
        at += piece.length;
    }
    let Some(policy) = policy else { return refuse(FsError::InvalidRequest) };
    let length = run.length();
    let sealed = Sealed {
        length,
        // No appends wrote it, and no replica is made of it.
        chain: Chain::default(),
        holders: Vec::new(),
        marks: Vec::new(),
        mtime,
        at: state.now(),
    };
    let chunk = ChunkRecord {
        chunk: run.chunk,
        state: ChunkState::Sealed,
        epoch: Epoch(1),
        replicas: Vec::new(),
        primary,
        policy,
        owner: ChunkOwner::Tail { ino: run.ino, base: run.base },
        held: false,
        activation: state.activation(Generation(0), Vec::new()),
        sealed: Some(sealed),
        live_bytes: length,
        extent_end: length,
        upload: None,
        place: Some(place),
    };
    state.put_chunk(None, &chunk)?;
    let row = ExtentRow { length, source: ExtentSource::Chunk { chunk: run.chunk, offset: 0 } };
    state.put(extents::key(content, run.base), &row);
    state.apply_live(live)
}
