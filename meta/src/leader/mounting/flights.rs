//! [`Flights`]: the unfinished work on mounted buckets' objects, as this leader knows it. Few among many other
//! intents, so that they are kept by hand instead of being searched for each time.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::{IntentId, MountId, NodeId};

use crate::keys::RowFault;
use crate::keys::intents::{IntentRecord, Work};
use crate::namespace::{jobs, read};
use crate::store::Rows;

/// Intents read in one step.
const PAGE: usize = 4096;
/// How often all intents are looked through: for one that was made by an entry whose outcome was not heard.
const SEARCH: Duration = Duration::from_secs(30);

/// What an intent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It writes or copies an object.
    Put,
    /// It deletes one.
    Deletion,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    mount: MountId,
    node: NodeId,
    kind: Kind,
}

/// The unfinished puts and deletions.
#[derive(Debug, Default)]
pub struct Flights {
    known: BTreeMap<IntentId, Flight>,
    made: Vec<IntentId>,
    /// Where a search goes on.
    after: Option<IntentId>,
    searched: Option<Duration>,
}

impl Flights {
    /// Looks up what is known and was made; and all intents, when that was never done or is long ago.
    ///
    /// # Errors
    /// [`RowFault`] when the store failed or a row is damaged.
    pub fn refresh(&mut self, rows: &dyn Rows, now: Duration) -> Result<(), RowFault> {
        let mut ids: Vec<IntentId> = self.known.keys().copied().collect();
        ids.append(&mut self.made);
        for id in ids {
            match read::intent(rows, id)? {
                Some(record) => self.note(&record),
                None => drop(self.known.remove(&id)),
            }
        }
        if self.searched.is_some_and(|at| now.saturating_sub(at) < SEARCH) {
            return Ok(());
        }
        loop {
            let page = jobs::intents(rows, self.after, PAGE)?;
            page.iter().for_each(|record| self.note(record));
            self.after = page.last().filter(|_| page.len() == PAGE).map(|record| record.intent);
            if self.after.is_none() {
                self.searched = Some(now);
                return Ok(());
            }
        }
    }

    fn note(&mut self, record: &IntentRecord) {
        let (mount, kind) = match &record.work {
            Work::PutObject { mount, .. } => (*mount, Kind::Put),
            Work::DeleteObject { mount, .. } => (*mount, Kind::Deletion),
            _ => return,
        };
        if record.failed {
            self.known.remove(&record.intent);
        } else {
            self.known.insert(record.intent, Flight { mount, node: record.assignee, kind });
        }
    }

    /// Remembers one that was just made.
    pub fn made(&mut self, intent: IntentId) {
        self.made.push(intent);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// How many of a kind a mount has.
    #[must_use]
    pub fn of(&self, mount: MountId, kind: Kind) -> usize {
        self.known.values().filter(|flight| flight.mount == mount && flight.kind == kind).count()
    }

    /// The node of each.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.known.values().map(|flight| flight.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, Record, intents};
    use crate::store::{MemoryStore, Store, Txn};
    use cairn_types::Timestamp;

    const MOUNT: MountId = MountId(3);

    fn deletion() -> Work {
        Work::DeleteObject { mount: MOUNT, key: b"k".to_vec(), etag: "e".into() }
    }

    fn probe() -> Work {
        Work::ProbeMount { mount: MOUNT, prefix: String::new(), write: true }
    }

    fn put(store: &MemoryStore, intent: u64, node: u64, work: Work, failed: bool) {
        let new = IntentRecord::new(IntentId(intent), NodeId(node), work, Timestamp(0));
        let mut txn = Txn::new(store);
        keys::put(&mut txn, intents::key(IntentId(intent)), &IntentRecord { failed, ..new });
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    fn end(store: &MemoryStore, intent: u64) {
        let mut txn = Txn::new(store);
        txn.delete(IntentRecord::TABLE, intents::key(IntentId(intent)));
        txn.keep();
        store.write(txn.into_batch()).expect("written");
    }

    #[test]
    fn those_of_an_earlier_leader_are_found_and_those_made_are_followed() {
        let store = MemoryStore::new();
        let count = PAGE as u64 + 10;
        (1..=count).for_each(|intent| put(&store, intent, 101, probe(), false));
        put(&store, count + 1, 102, deletion(), false);
        put(&store, count + 2, 102, deletion(), true);
        let mut flights = Flights::default();
        flights.refresh(&store, Duration::ZERO).expect("read");
        assert_eq!(flights.nodes().collect::<Vec<_>>(), [NodeId(102)], "one has failed for good");
        assert_eq!((flights.of(MOUNT, Kind::Deletion), flights.of(MOUNT, Kind::Put)), (1, 0));
        // Another node has it, another one was made, and one without this leader's knowledge.
        put(&store, count + 1, 103, deletion(), false);
        put(&store, count + 3, 104, deletion(), false);
        put(&store, count + 4, 105, deletion(), false);
        flights.made(IntentId(count + 3));
        flights.refresh(&store, SEARCH / 2).expect("read");
        assert_eq!(flights.nodes().collect::<Vec<_>>(), [NodeId(103), NodeId(104)]);
        end(&store, count + 1);
        flights.refresh(&store, SEARCH).expect("read");
        assert_eq!(flights.nodes().collect::<Vec<_>>(), [NodeId(104), NodeId(105)]);
        assert_eq!(flights.count(), 2);
    }
}
