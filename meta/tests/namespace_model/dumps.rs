//! A state, dumped and loaded into an empty one, is the same state: as far as a dump tells of it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use cairn_meta::dump::{DumpLines, DumpReader, Header};
use cairn_meta::keys::loads::LoadId;
use cairn_meta::namespace::facts::{Fact, Facts};
use cairn_meta::namespace::{Command, Entry, Reply, apply};
use cairn_meta::store::{Rows, Store, Txn};
use cairn_types::{ClusterId, LogIndex, Policy, Timestamp};

/// The lines of a state.
pub fn dump(rows: &dyn Rows, at_once: usize) -> Vec<u8> {
    let (mut lines, mut out) = (DumpLines::new(), Vec::new());
    lines.header(&Header::of(rows, LogIndex(7)).unwrap(), &mut out);
    let mut facts = Facts::new();
    while facts.table().is_some() {
        facts.step(rows, at_once).unwrap().iter().for_each(|fact| lines.fact(fact, &mut out));
    }
    lines.end(&mut out);
    out
}

/// What a dump says, without the header and the last line, whose checksum covers it.
pub fn told(dump: &[u8]) -> Vec<&str> {
    let lines: Vec<&str> = std::str::from_utf8(dump).unwrap().lines().collect();
    lines[1..lines.len() - 1].to_vec()
}

/// A dump in entries.
pub struct Loader {
    pub load: LoadId,
    pub begin: Command,
    pub facts: Vec<Fact>,
    index: u64,
    time: Timestamp,
}

impl Loader {
    pub fn new(dump: &[u8]) -> Self {
        let mut reader = DumpReader::open(dump).unwrap();
        let mut facts = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            facts.push(line.fact);
        }
        let (load, header) = (reader.id(), reader.header().clone());
        let begin = Command::BeginLoad { load, next: header.next, time: header.time_ns };
        Self { load, begin, facts, index: 1000, time: Timestamp(1) }
    }

    pub fn propose(&mut self, store: &dyn Store, command: Command) -> Reply {
        self.index += 1;
        let entry = Entry::from_bytes(&Entry { time: self.time, command }.to_bytes()).unwrap();
        let mut txn = Txn::new(store);
        let reply = apply(&mut txn, LogIndex(self.index), &entry).unwrap();
        store.write(txn.into_batch()).unwrap();
        reply
    }

    /// A cluster with nothing but its root.
    pub fn found(&mut self, store: &dyn Store) {
        let (cluster, policy) = (ClusterId([9; 16]), Policy::single());
        self.propose(store, Command::InitCluster { cluster, policy }).unwrap();
    }

    /// The facts from the `first`th on, in entries of so many.
    pub fn load(&mut self, store: &dyn Store, first: usize, at_once: usize) {
        let mut at = first;
        for facts in self.facts.clone()[first..].chunks(at_once) {
            let (load, first) = (self.load, at as u64);
            let facts: Vec<Option<Fact>> = facts.iter().cloned().map(Some).collect();
            at += facts.len();
            self.propose(store, Command::LoadFacts { load, first, facts }).unwrap();
        }
    }

    pub fn all(&mut self, store: &dyn Store, at_once: usize) {
        self.found(store);
        self.propose(store, self.begin.clone()).unwrap();
        self.load(store, 0, at_once);
        self.propose(store, Command::EndLoad { load: self.load }).unwrap();
    }
}

/// Loads what `from` says into `to`, and dumps that: the same lines.
pub fn same_after_a_load(from: &dyn Rows, to: &dyn Store) {
    let first = dump(from, 7);
    Loader::new(&first).all(to, 5);
    let second = dump(to, 1000);
    assert_eq!(told(&second), told(&first));
}
