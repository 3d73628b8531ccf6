//! Reassign, FailIntent, CancelUpload.

use cairn_types::{FsError, IntentId, NodeId};

use crate::keys::chunks::ChunkRecord;
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::packs::{self, PackRecord};
use crate::keys::surplus::{self, SurplusRow};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::jobs;
use crate::namespace::ops::session::clipped;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Bytes of a failure's message that are kept.
const MESSAGE_BYTES_MAX: usize = 512;

/// Gives an unfinished intent to another node.
pub fn reassign(state: &mut State<'_, '_>, intent: IntentId, node: NodeId) -> Outcome<Answer> {
    let mut record = state.intent(intent)?;
    if record.failed {
        return refuse(FsError::InvalidRequest);
    }
    record.assignee = node;
    record.assigned = state.now();
    state.put(intents::key(intent), &record);
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Notes a failure. A permanent one gives the work up: its chunks wait for another upload, and what
/// is in S3 of this one is deleted; its pack waits for another deletion; a failed import is kept for
/// those who wait for it.
pub fn fail(state: &mut State<'_, '_>, intent: IntentId, permanent: bool, message: &str) -> Outcome<Answer> {
    let mut record = state.intent(intent)?;
    let first = record.failures == 0;
    record.failures = record.failures.saturating_add(1);
    record.message = clipped(message, MESSAGE_BYTES_MAX);
    if !matches!(record.work, Work::Import { .. })
        && let Some(mount) = record.work.mount()
    {
        let message = record.message.clone();
        state.count_mount(mount, |counts| {
            counts.failing += u64::from(first);
            counts.last_error = message;
        })?;
    }
    if !permanent {
        state.put(intents::key(intent), &record);
        return Ok(Answer { intent: Some(intent), ..Answer::default() });
    }
    give_up(state, record)?;
    Ok(Answer::default())
}

/// Ends an intent for good.
pub fn give_up(state: &mut State<'_, '_>, mut record: IntentRecord) -> Outcome<()> {
    let intent = record.intent;
    match &record.work {
        Work::Upload { pack, key, chunks } => {
            for upload in chunks {
                release_upload(state, intent, upload.chunk)?;
            }
            state.end_intent(intent);
            // The object may be there, and nothing will ever point into it. A new intent: a late
            // report of the upload must not find one.
            state.new_intent(record.assignee, Work::DeletePack { pack: *pack, key: key.clone() });
        }
        // As of an upload: chunks stay where they are, and files what they are.
        Work::Compact { pack, key, .. } | Work::Merge { pack, key, .. } => {
            state.end_intent(intent);
            state.new_intent(record.assignee, Work::DeletePack { pack: *pack, key: key.clone() });
        }
        Work::DeletePack { pack, .. } => {
            if let Some(mut pack) = state.get::<PackRecord>(&packs::key(*pack))? {
                pack.deletion = None;
                state.put_pack(&pack);
            }
            state.end_intent(intent);
        }
        // Kept for those who wait for it.
        Work::Import { .. } => {
            record.failed = true;
            state.put(intents::key(intent), &record);
        }
        Work::PutObject { .. } | Work::DeleteObject { .. } | Work::ProbeMount { .. } => {
            give_up_object(state, record)?;
        }
    }
    Ok(())
}

/// What was to become of an object is kept as failed, until its file changes again or somebody asks for it anew;
/// nothing is kept of what nobody waits for.
fn give_up_object(state: &mut State<'_, '_>, mut record: IntentRecord) -> Outcome<()> {
    let waits = match &record.work {
        Work::PutObject { mount, ino, .. } => state.pending(*mount, *ino)?.and_then(|row| row.intent),
        Work::DeleteObject { mount, key, .. } => {
            state.get::<SurplusRow>(&surplus::key(*mount, key))?.and_then(|row| row.intent)
        }
        Work::ProbeMount { mount, .. } => state.mount_mode(*mount)?.and_then(|mode| mode.probe),
        _ => None,
    };
    if waits != Some(record.intent) {
        return Ok(state.end_object_intent(&record)?);
    }
    state.release_object_intent(&record)?;
    record.failed = true;
    state.put(intents::key(record.intent), &record);
    Ok(())
}

/// Ends an upload, a compaction or a merge that is not worth its while any more. Nothing is made that deletes
/// its object: on a cluster without an under-store that could never be done, and where the object was
/// made, or is made yet, a survey finds it.
pub fn cancel_upload(state: &mut State<'_, '_>, intent: IntentId) -> Outcome<Answer> {
    let record = state.intent(intent)?;
    if !jobs::is_in_vain(&*state.txn, &record.work)? {
        return refuse(FsError::InvalidRequest);
    }
    if let Work::Upload { chunks, .. } = &record.work {
        for upload in chunks {
            release_upload(state, intent, upload.chunk)?;
        }
    }
    state.end_intent(intent);
    Ok(Answer::default())
}

fn release_upload(state: &mut State<'_, '_>, intent: IntentId, chunk: cairn_types::ChunkId) -> Outcome<()> {
    if let Some(before) = state.find_chunk(chunk)?
        && before.upload == Some(intent)
    {
        let after = ChunkRecord { upload: None, ..before.clone() };
        state.put_chunk(Some(&before), &after)?;
    }
    Ok(())
}
