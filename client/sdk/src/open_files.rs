//! [`OpenFiles`]: which files this client has open, so that it can say which unlinked ones it holds.
//!
//! The servers ask about files that were unlinked up to some entry of the log. Once that is answered, a
//! handle may be made only of a file that is known to have had a name *after* that entry: whoever opened
//! it by an older state looks again, and finds that it is gone. Answering and making a handle take the
//! same lock, so that each handle is either in the answer or knows of it.
//!
//! A request for a removal says which files are open ([`Claim`]), so that what nobody holds goes at
//! once. Nothing is opened while such a request is under way; one whose outcome is unknown is taken the
//! sting out of by another answer, which comes before the next file is opened.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_proto::v1;
use cairn_types::limits::{CLAIMED_FILES_MAX, HELD_UNLINKED_MAX, HOLDS_PER_ANSWER_MAX};
use cairn_types::{Inode, InodeId, LogIndex, SessionId};
use tokio::sync::{Notify, watch};

use crate::error::{Cause, Error, Result};

/// The table of a client's open files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OpenFiles {
    shared: Arc<Shared>,
}

struct Shared {
    // Guards: each handle is in the table before an answer is made of it, or knows that one was. Never
    // held across an await.
    table: Mutex<Table>,
    /// Nothing may be opened: removals are under way, or one of them may still be.
    shut: watch::Sender<bool>,
    /// There is something to tell the servers.
    wake: Notify,
}

#[derive(Default)]
struct Table {
    /// How often each file is open.
    open: HashMap<InodeId, usize>,
    /// Files that are being opened.
    openings: usize,
    /// The session whose answers are counted.
    session: SessionId,
    /// All that was unlinked up to here is denied, but what is claimed.
    denied: LogIndex,
    /// The number of the last answer that was made, and of the last that was taken.
    number: u64,
    taken: u64,
    /// Unlinked files that the servers may have heard are held.
    claimed: BTreeSet<InodeId>,
    /// Of those, the ones that no answer has certainly brought yet, and those that are closed.
    fresh: BTreeSet<InodeId>,
    released: VecDeque<InodeId>,
    /// There is an answer that says no more than how far is denied.
    due: bool,
    /// Removals under way that say what is open.
    removals: usize,
    /// The number of an answer that must be taken before anything is opened.
    barrier: u64,
}

impl Table {
    fn is_shut(&self) -> bool {
        self.removals > 0 || self.taken < self.barrier
    }
}

/// A file that is being opened. What it is found by is asked for after this was made.
pub(crate) struct Opening {
    files: OpenFiles,
    known_at: LogIndex,
}

/// An open file. When the last one of a file is dropped, the file is closed.
pub(crate) struct OpenFile {
    files: OpenFiles,
    ino: InodeId,
}

/// What a request for a removal says of open files.
pub(crate) struct Claim {
    files: OpenFiles,
    session: SessionId,
    wire: v1::Holding,
    settled: bool,
}

impl OpenFiles {
    /// An empty table for a session that was just opened.
    pub(crate) fn new(session: SessionId) -> Self {
        let table = Mutex::new(Table { session, ..Table::default() });
        let shared = Shared { table, shut: watch::Sender::new(false), wake: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets those know who wait to open a file.
    fn tell(&self, table: &Table) {
        let shut = table.is_shut();
        self.shared.shut.send_if_modified(|was| std::mem::replace(was, shut) != shut);
    }

    /// Another session takes the place of one that has expired: it holds nothing, and nothing was heard
    /// of it. What is open under a name stays open.
    pub(crate) fn begin_session(&self, session: SessionId) {
        let mut table = self.table();
        let Table { open, openings, denied, removals, .. } = std::mem::take(&mut *table);
        *table = Table { open, openings, denied, removals, session, ..Table::default() };
        self.tell(&table);
    }

    /// The session is over: no removal of it is done any more.
    pub(crate) fn has_expired(&self, session: SessionId) {
        let mut table = self.table();
        if table.session == session {
            table.barrier = 0;
            self.tell(&table);
        }
    }

    /// Begins to open a file; waits while a removal of this client is under way.
    pub(crate) async fn opening(&self, limit: Duration) -> Result<Opening> {
        // Counted from here on: no further removal says what is open, so that this wait has an end.
        self.table().openings += 1;
        let mut opening = Opening { files: self.clone(), known_at: LogIndex(0) };
        let mut shut = self.shared.shut.subscribe();
        // The sender is this table's own: it is there for as long as this waits.
        if tokio::time::timeout(limit, shut.wait_for(|shut| !*shut)).await.is_err() {
            let last = "a removal's outcome is not known".to_owned();
            return Err(Error::new("open", "", Cause::RetriesUsedUp { seconds: limit.as_secs(), last }));
        }
        opening.known_at = self.table().denied;
        Ok(opening)
    }

    /// What to say with a request for a removal; `None`: nothing.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let mut table = self.table();
        if table.openings > 0 || table.open.len() > CLAIMED_FILES_MAX || table.taken < table.barrier {
            return None;
        }
        table.removals += 1;
        self.tell(&table);
        let wire = v1::Holding { number: table.taken, inos: table.open.keys().map(|ino| ino.0).collect() };
        Some(Claim { files: self.clone(), session: table.session, wire, settled: false })
    }

    /// Answers a question of the servers: which of these are open. The answer is in the next
    /// [`Self::to_tell`]; false: there is none, since too many are held.
    pub(crate) fn answer(&self, session: SessionId, asked: &[v1::UnlinkedFile], upto: u64) -> bool {
        let mut table = self.table();
        if table.session != session {
            return false;
        }
        let mut upto = LogIndex(upto);
        let (mut held, mut full) = (Vec::new(), false);
        for file in asked {
            let ino = InodeId(file.ino);
            if !table.open.contains_key(&ino) || table.claimed.contains(&ino) {
                continue;
            }
            full = held.len() + table.fresh.len() >= HOLDS_PER_ANSWER_MAX
                || held.len() + table.claimed.len() >= HELD_UNLINKED_MAX as usize;
            if full {
                // What was unlinked by this entry, and after it, stays without a word.
                upto = LogIndex(file.log_index.saturating_sub(1));
                held.retain(|(_, since)| *since <= upto);
                break;
            }
            held.push((ino, LogIndex(file.log_index)));
        }
        for (ino, _) in held {
            table.claimed.insert(ino);
            table.fresh.insert(ino);
        }
        // What is no further on was answered before, and the answer was lost.
        let answered = !full || upto > table.denied;
        table.denied = table.denied.max(upto);
        table.due |= answered;
        answered
    }

    /// What is to be told, if there is anything. Told again until [`Self::told`].
    pub(crate) fn to_tell(&self, session: SessionId) -> Option<v1::HoldAnswer> {
        let mut table = self.table();
        let nothing = !table.due && table.fresh.is_empty() && table.released.is_empty();
        if table.session != session || (nothing && table.taken >= table.barrier) {
            return None;
        }
        table.number += 1;
        let released = table.released.iter().take(HOLDS_PER_ANSWER_MAX).map(|ino| ino.0);
        Some(v1::HoldAnswer {
            number: table.number,
            upto: table.denied.0,
            held: table.fresh.iter().map(|ino| ino.0).collect(),
            released: released.collect(),
        })
    }

    /// The servers have taken an answer.
    pub(crate) fn told(&self, session: SessionId, answer: &v1::HoldAnswer) {
        let mut table = self.table();
        if table.session != session {
            return;
        }
        table.taken = answer.number;
        table.due = false;
        for ino in &answer.held {
            table.fresh.remove(&InodeId(*ino));
        }
        for ino in &answer.released {
            // What is released is not opened again: it stands at the front until now.
            table.released.retain(|released| released.0 != *ino);
            table.claimed.remove(&InodeId(*ino));
        }
        self.tell(&table);
        if !table.released.is_empty() {
            self.shared.wake.notify_one();
        }
    }

    /// Returns when there is something to tell that should not wait.
    pub(crate) async fn woken(&self) {
        self.shared.wake.notified().await;
    }
}

impl Opening {
    /// Makes the handle of a file that had a name in the state after the entry `known_at`, or of one
    /// that is open already. `None`: it may be gone; look again.
    pub(crate) fn found(&self, inode: &Inode, known_at: LogIndex) -> Option<OpenFile> {
        let mut table = self.files.table();
        let named = inode.nlink > 0 && known_at >= table.denied;
        if !named && !table.open.contains_key(&inode.ino) {
            return None;
        }
        *table.open.entry(inode.ino).or_default() += 1;
        drop(table);
        Some(OpenFile { files: self.files.clone(), ino: inode.ino })
    }

    /// As [`Self::found`], of a file that a change has answered which was asked for since: a repeated
    /// answer may be as old as that.
    pub(crate) fn made(&self, inode: &Inode) -> Option<OpenFile> {
        self.found(inode, self.known_at)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut table = self.files.table();
        table.openings = table.openings.saturating_sub(1);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut table = self.files.table();
        let Some(count) = table.open.get_mut(&self.ino) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        table.open.remove(&self.ino);
        if table.claimed.contains(&self.ino) {
            table.fresh.remove(&self.ino);
            table.released.push_back(self.ino);
            self.files.shared.wake.notify_one();
        }
    }
}

impl Claim {
    /// What a request of `session` carries.
    pub(crate) fn wire(&self, session: SessionId) -> Option<v1::Holding> {
        (session == self.session).then(|| self.wire.clone())
    }

    /// The request was answered: it is not under way any more.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.files.table();
        table.removals = table.removals.saturating_sub(1);
        if !self.settled && table.session == self.session {
            // It may be done later. Not after an answer of a greater number than it was asked with.
            table.barrier = table.number + 1;
            self.files.shared.wake.notify_one();
        }
        self.files.tell(&table);
    }
}

#[cfg(test)]
#[path = "open_files_tests.rs"]
mod tests;
