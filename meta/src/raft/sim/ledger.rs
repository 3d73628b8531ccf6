//! [`Ledger`]: what everybody has promised, done and been told, written down outside of the servers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_types::{FsError, Inode};

use super::log::Platter;
use super::server::shown;
use crate::namespace::reply::Reply;
use crate::raft::record::{EntryRecord, LogIdRecord, VoteRecord};
use crate::raft::types::Entry;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub session: u64,
    pub sequence: u64,
    /// The entry that answered.
    pub index: u64,
    pub reply: Reply,
}

/// A read that was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    /// The last entry that the state had applied.
    pub index: u64,
    pub found: Result<Inode, FsError>,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub lives: u64,
    pub snapshots: u64,
    pub elections: u64,
    pub changes: u64,
}

/// What is written down.
#[derive(Default)]
pub struct Pages {
    /// What was applied, by any server, at each index.
    pub log: BTreeMap<u64, EntryRecord>,
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<u64, VoteRecord>,
    promised: BTreeMap<u64, BTreeMap<u64, u64>>,
    missing: Vec<(u64, u64, u64)>,
    /// A read that begins now must show this entry.
    pub floor: u64,
    pub acknowledged: Vec<Acknowledged>,
    pub seen: Vec<Seen>,
    pub counts: Counts,
    faults: Vec<String>,
}

/// The ledger.
#[derive(Default)]
pub struct Ledger(Mutex<Pages>);

impl Ledger {
    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must not be.
    pub fn fault(&self, what: String) {
        self.pages().faults.push(what);
    }

    /// Faults so far, and entries that somebody lost which were committed after all.
    pub fn faults(&self) -> Vec<String> {
        let pages = self.pages();
        let mut faults = pages.faults.clone();
        for (server, index, term) in &pages.missing {
            if pages.log.get(index).is_some_and(|entry| entry.id.term == *term) {
                faults.push(format!("server {server} acknowledged entry {term}-{index} and lost it"));
            }
        }
        faults
    }

    /// A server is given an entry to apply.
    pub fn applies(&self, server: u64, entry: &Entry) {
        let record = EntryRecord::from(entry);
        let mut pages = self.pages();
        let index = record.id.index;
        let known = pages.log.entry(index).or_insert_with(|| record.clone()).clone();
        if known != record {
            pages.faults.push(format!(
                "server {server} applies entry {} where another applied {}",
                shown(Some(record.id)),
                shown(Some(known.id))
            ));
        }
    }

    /// A server has a state that it was sent.
    pub fn installed(&self) {
        self.pages().counts.snapshots += 1;
    }

    /// A server says that it leads.
    pub fn leads(&self, vote: &VoteRecord) {
        let mut pages = self.pages();
        let leader = *pages.leaders.entry(vote.term).or_insert(vote.node);
        if leader != vote.node {
            pages.faults.push(format!("servers {leader} and {} lead in term {}", vote.node, vote.term));
        }
    }

    /// A server promises to follow nobody of less.
    pub fn promises_vote(&self, server: u64, vote: VoteRecord) {
        let mut pages = self.pages();
        let known = pages.votes.entry(server).or_insert(vote);
        if known.term < vote.term {
            *known = vote;
        }
    }

    /// A server says that these entries are on its disk.
    pub fn promises_entries(&self, server: u64, ids: impl Iterator<Item = LogIdRecord>) {
        let mut pages = self.pages();
        let promised = pages.promised.entry(server).or_default();
        promised.extend(ids.map(|id| (id.index, id.term)));
    }

    /// A server starts, with this on its disk.
    pub fn returns(&self, server: u64, platter: &Platter, applied: Option<LogIdRecord>) {
        let mut pages = self.pages();
        pages.counts.lives += 1;
        let image = platter.current();
        if let Some(promised) = pages.votes.get(&server).copied() {
            let kept = image.vote.is_some_and(|vote| {
                vote.term > promised.term || (vote.term == promised.term && vote.node == promised.node)
            });
            if !kept {
                let found = image.vote.map(|vote| (vote.term, vote.node));
                let promised = (promised.term, promised.node);
                pages.faults.push(format!("server {server} gave its vote {promised:?} and has {found:?}"));
            }
        }
        let below = applied.map_or(0, |id| id.index).max(image.purged.map_or(0, |id| id.index));
        let promised = pages.promised.remove(&server).unwrap_or_default();
        let lost = promised
            .into_iter()
            .filter(|(index, term)| *index > below && image.term(*index).is_none_or(|found| found != *term));
        let lost: Vec<_> = lost.map(|(index, term)| (server, index, term)).collect();
        pages.missing.extend(lost);
    }
}
