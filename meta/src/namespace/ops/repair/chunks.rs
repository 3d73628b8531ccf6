//! Queues, held chunks, packs, intents.

use std::collections::BTreeSet;

use cairn_types::{ChunkId, FsError, IntentId, PackId};

use super::{holds, record, sessions, still};
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::held;
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::packs::{self, PackRecord};
use crate::keys::queues;
use crate::namespace::check::{At, Finding, at};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::ops::{intent, open};
use crate::namespace::state::State;
use crate::store::Table;

pub fn repair(state: &mut State<'_, '_>, finding: &Finding) -> Outcome<()> {
    match finding {
        Finding::MissingQueueRow { queue, order, id } => {
            still(state, finding)?;
            state.mark(Table::Queues, queues::key_of(*queue, *order, *id));
        }
        Finding::StrayQueueRow { queue, order, id } => {
            still(state, finding)?;
            state.delete(Table::Queues, queues::key_of(*queue, *order, *id));
        }
        Finding::MissingHeld { session, chunk } => {
            still(state, finding)?;
            state.mark(Table::Held, held::key(*session, *chunk));
        }
        Finding::StrayHeld { session, chunk } => {
            still(state, finding)?;
            state.delete(Table::Held, held::key(*session, *chunk));
        }
        Finding::StraySpare { tail } => {
            still(state, finding)?;
            state.discard_spare(*tail)?;
        }
        Finding::LostSpare { chunk } => {
            still(state, finding)?;
            state.begin_seal(*chunk)?;
        }
        Finding::HeldForNobody { chunk, .. } => {
            still(state, finding)?;
            open::let_go(state, *chunk)?;
        }
        Finding::PackCounts { pack, chunks, .. } => pack_counts(state, *pack, chunks)?,
        Finding::UploadGone { chunk, .. } => {
            still(state, finding)?;
            let before: ChunkRecord = record(at(&*state.txn, &chunks::key(*chunk))?)?;
            let after = ChunkRecord { upload: None, ..before.clone() };
            state.put_chunk(Some(&before), &after)?;
        }
        Finding::DeletionGone { pack, .. } => {
            still(state, finding)?;
            let mut known: PackRecord = record(at(&*state.txn, &packs::key(*pack))?)?;
            known.deletion = None;
            state.put_pack(&known);
        }
        Finding::StrayIntent { intent } => {
            still(state, finding)?;
            end(state, *intent)?;
        }
        Finding::ForgottenOrphan { .. } | Finding::WrongDenial { .. } | Finding::StrayHold { .. } => {
            holds::repair(state, finding)?;
        }
        _ => sessions::repair(state, finding)?,
    }
    Ok(())
}

/// A pack's counts become the sums of its chunks. A pack gets its chunks when it is made and no
/// other later: those that the check listed are all that there can be.
fn pack_counts(state: &mut State<'_, '_>, pack: PackId, listed: &[ChunkId]) -> Outcome<()> {
    let mut known: PackRecord = record(at(&*state.txn, &packs::key(pack))?)?;
    let (mut live_chunks, mut live_bytes) = (0u32, 0u64);
    for chunk in listed.iter().collect::<BTreeSet<_>>() {
        let chunk = match at::<ChunkRecord>(&*state.txn, &chunks::key(*chunk))? {
            At::Nothing => continue,
            found => record(found)?,
        };
        if chunk.place.is_some_and(|place| place.pack == pack) {
            live_chunks += u32::from(!chunk.is_dead());
            live_bytes = live_bytes.saturating_add(chunk.live_bytes);
        }
    }
    // One that died meanwhile is looked at again: see `Finding::is_repairable`.
    if live_chunks == 0 || (known.live_chunks, known.live_bytes) == (live_chunks, live_bytes) {
        return refuse(FsError::NotFound);
    }
    (known.live_chunks, known.live_bytes) = (live_chunks, live_bytes);
    state.put_pack(&known);
    Ok(())
}

/// An intent that nothing waits for ends; what is in S3 of an upload is deleted.
fn end(state: &mut State<'_, '_>, id: IntentId) -> Outcome<()> {
    let known: IntentRecord = record(at(&*state.txn, &intents::key(id))?)?;
    match known.work {
        Work::Upload { .. } | Work::Compact { .. } | Work::Merge { .. } => intent::give_up(state, known),
        Work::Import { .. } | Work::DeletePack { .. } => {
            state.end_intent(id);
            Ok(())
        }
        Work::PutObject { .. } | Work::DeleteObject { .. } | Work::ProbeMount { .. } => {
            Ok(state.end_object_intent(&known)?)
        }
    }
}
