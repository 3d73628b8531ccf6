//! [`Uploads`]: the unfinished uploads, as the leader knows them. Few among many other intents, so
//! that they are kept by hand instead of being searched for each time.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::{IntentId, NodeId, Timestamp};

use super::first_seen::Now;
use crate::keys::RowFault;
use crate::keys::intents::{IntentRecord, UploadChunk, Work};
use crate::namespace::{jobs, read};
use crate::store::Rows;

/// Intents read in one step.
const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Upload {
    assignee: NodeId,
    /// When its oldest byte may have been written; `None` when all of it is dead.
    opened: Option<Timestamp>,
    /// When this leader saw it first, by its boot clock.
    seen: Duration,
}

/// The unfinished uploads.
#[derive(Debug, Default)]
pub struct Uploads {
    known: BTreeMap<IntentId, Upload>,
    made: Vec<IntentId>,
    after: Option<IntentId>,
    /// All intents were read once.
    complete: bool,
}

impl Uploads {
    /// Looks up what is known and was made, and a page of the other intents; all of them when that
    /// was never done.
    ///
    /// # Errors
    /// [`RowFault`] when the store failed or a row is damaged.
    pub fn refresh(&mut self, rows: &dyn Rows, now: Duration) -> Result<(), RowFault> {
        let mut ids: Vec<IntentId> = self.known.keys().copied().collect();
        ids.append(&mut self.made);
        for id in ids {
            match read::intent(rows, id)? {
                Some(record) => self.note(rows, &record, now)?,
                None => {
                    self.known.remove(&id);
                }
            }
        }
        loop {
            let page = jobs::intents(rows, self.after, PAGE)?;
            for record in &page {
                self.note(rows, record, now)?;
            }
            self.after = page.last().filter(|_| page.len() == PAGE).map(|record| record.intent);
            self.complete |= self.after.is_none();
            if self.complete {
                return Ok(());
            }
        }
    }

    fn note(&mut self, rows: &dyn Rows, record: &IntentRecord, now: Duration) -> Result<(), RowFault> {
        let Work::Upload { chunks, .. } = &record.work else { return Ok(()) };
        let (intent, assignee) = (record.intent, record.assignee);
        if record.failed {
            self.known.remove(&intent);
        } else if let Some(upload) = self.known.get_mut(&intent) {
            upload.assignee = assignee;
        } else {
            let opened = opened(rows, chunks)?;
            self.known.insert(intent, Upload { assignee, opened, seen: now });
        }
        Ok(())
    }

    /// Remembers an upload that was just made.
    pub fn made(&mut self, intent: IntentId) {
        self.made.push(intent);
    }

    /// The node of each upload.
    pub fn assignees(&self) -> impl Iterator<Item = NodeId> {
        self.known.values().map(|upload| upload.assignee)
    }

    /// The age in milliseconds of the oldest byte in any of them.
    #[must_use]
    pub fn oldest_ms(&self, now: Now) -> Option<u64> {
        let age = |u: &Upload| u.opened.map(|opened| now.age_ms(opened, now.boot.saturating_sub(u.seen)));
        self.known.values().filter_map(age).max()
    }
}

/// When the first of the chunks that are not dead was opened.
fn opened(rows: &dyn Rows, chunks: &[UploadChunk]) -> Result<Option<Timestamp>, RowFault> {
    let mut first: Option<Timestamp> = None;
    for upload in chunks {
        let Some(record) = read::chunk(rows, upload.chunk)?.filter(|r| !r.is_dead()) else { continue };
        let opened = record.activation.time;
        first = Some(first.map_or(opened, |known| known.min(opened)));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, Record, intents};
    use crate::store::{MemoryStore, Store, Table, Txn};
    use cairn_types::{InodeId, MountId, PackId};

    fn put(store: &MemoryStore, intent: u64, assignee: u64, work: Work, failed: bool) {
        let record = IntentRecord {
            intent: IntentId(intent),
            assignee: NodeId(assignee),
            work,
            created: Timestamp(0),
            assigned: Timestamp(0),
            failures: 0,
            message: String::new(),
            failed,
        };
        let mut txn = Txn::new(store);
        keys::put(&mut txn, intents::key(record.intent), &record);
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    fn end(store: &MemoryStore, intent: u64) {
        let mut txn = Txn::new(store);
        txn.delete(IntentRecord::TABLE, intents::key(IntentId(intent)));
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    fn upload() -> Work {
        Work::Upload { pack: PackId(1), key: "k".into(), chunks: Vec::new() }
    }

    fn import() -> Work {
        let (mount, directory) = (MountId(1), InodeId(2));
        Work::Import { mount, directory, prefix: Vec::new(), start_after: Vec::new() }
    }

    #[test]
    fn uploads_are_known_however_many_failed_imports_came_before() {
        assert_eq!(IntentRecord::TABLE, Table::Intents);
        let store = MemoryStore::new();
        let count = PAGE as u64 + 10;
        for intent in 1..=count {
            put(&store, intent, 101, import(), true);
        }
        put(&store, count + 1, 102, upload(), false);
        let mut uploads = Uploads::default();
        uploads.refresh(&store, Duration::ZERO).expect("read");
        assert_eq!(uploads.assignees().collect::<Vec<_>>(), [NodeId(102)]);
        put(&store, count + 1, 103, upload(), false);
        put(&store, count + 2, 101, upload(), false);
        uploads.made(IntentId(count + 2));
        uploads.refresh(&store, Duration::ZERO).expect("read");
        assert_eq!(uploads.assignees().collect::<Vec<_>>(), [NodeId(103), NodeId(101)]);
        end(&store, count + 1);
        uploads.refresh(&store, Duration::ZERO).expect("read");
        assert_eq!(uploads.assignees().collect::<Vec<_>>(), [NodeId(101)]);
    }
}
