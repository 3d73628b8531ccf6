//! `intents` ↔ what names them.

use cairn_types::IntentId;

use super::look::{Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::packs::{self, PackRecord};
use crate::store::{StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Intents(Cursor::all(Table::Intents)))]
}

struct Intents(Cursor);

impl Pass for Intents {
    fn name(&self) -> &'static str {
        "intents"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(record) = look.read::<IntentRecord>(&key, &bytes) else { continue };
            let intent = record.intent;
            if key != intents::key(intent) {
                look.unreadable(Table::Intents, &key);
                continue;
            }
            look.tally.add(Counter::Intents, 1);
            look.tally.id(Counter::Intents, intent.0);
            if let Work::Upload { pack, .. }
            | Work::DeletePack { pack, .. }
            | Work::Compact { pack, .. }
            | Work::Merge { pack, .. } = &record.work
            {
                look.tally.id(Counter::Packs, pack.0);
            }
            // Those of runs have no rows yet, and are nobody else's.
            if let Work::Merge { runs, .. } = &record.work {
                runs.iter().for_each(|run| look.tally.id(Counter::Chunks, run.chunk.0));
            }
            if !is_named(look, &record)? {
                look.found(Finding::StrayIntent { intent });
            }
        }
        Ok(ended)
    }
}

/// True when what an intent is about waits for it. A chunk that died meanwhile may be gone, and so
/// may a pack: that of an upload which was given up was never recorded.
fn is_named(look: &Look<'_>, record: &IntentRecord) -> Result<bool, StoreFault> {
    let intent = Some(record.intent);
    match &record.work {
        Work::Upload { chunks: uploads, .. } => {
            for upload in uploads {
                let chunk = look.at::<ChunkRecord>(&chunks::key(upload.chunk))?;
                if chunk.record().is_some_and(|chunk| chunk.upload != intent) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Work::Import { directory, .. } => {
            let import = look.at::<ImportRecord>(&imports::key(*directory))?;
            Ok(import.holds_readable(|import| import.intent == intent))
        }
        // They hold nothing: chunks may die or move meanwhile, files may change.
        Work::Compact { .. }
        | Work::Merge { .. }
        | Work::PutObject { .. }
        | Work::DeleteObject { .. }
        | Work::ProbeMount { .. } => Ok(true),
        Work::DeletePack { pack, .. } => {
            let pack = look.at::<PackRecord>(&packs::key(*pack))?;
            Ok(pack.record().is_none_or(|pack| pack.deletion == intent))
        }
    }
}

/// True when an intent is there and nothing waits for it.
pub(super) fn is_stray(look: &Look<'_>, intent: IntentId) -> Result<bool, StoreFault> {
    match look.at::<IntentRecord>(&intents::key(intent))?.record() {
        Some(record) => Ok(!is_named(look, &record)?),
        None => Ok(false),
    }
}
