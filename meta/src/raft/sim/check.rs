//! The end of a run: the log that was applied, replayed on the reference model, must have given what the
//! clients were told, what they read, and what every server holds.

use std::collections::BTreeMap;

use cairn_types::{FsError, Inode, InodeId, Timestamp};

use super::client::POLICY;
use super::ledger::{Acknowledged, Ledger, Pages, Seen};
use super::model::{Model, Outcome};
use crate::namespace::reply::Reply;
use crate::namespace::{Command, Entry, Operation, Target, read};
use crate::raft::record::PayloadRecord;
use crate::store::{KeyRange, Row, Rows, Table};

/// All rows of all tables.
pub type Dump = Vec<(Table, Vec<Row>)>;

pub fn dump(rows: &dyn Rows) -> Dump {
    let all = |table| rows.scan(table, &KeyRange::default(), usize::MAX).unwrap();
    Table::ALL.iter().map(|table| (*table, all(*table))).collect()
}

/// Where two servers differ.
pub fn difference(one: &Dump, other: &Dump) -> Option<String> {
    let pairs = one.iter().zip(other);
    let mut unequal = pairs.filter(|((_, left), (_, right))| left != right);
    unequal.next().map(|((table, left), (_, right))| {
        format!("table {}: {} rows and {} rows, not the same", table.name(), left.len(), right.len())
    })
}

/// The model and what it has answered.
struct Replay {
    model: Option<Model>,
    sessions: u64,
    answers: BTreeMap<(u64, u64), Outcome>,
    /// At which entry each request was done.
    done: BTreeMap<(u64, u64), u64>,
}

fn ask(model: &mut Model, session: u64, operation: &Operation) -> Outcome {
    fn at(target: &Target) -> (u64, &[u8]) {
        (target.ino.0, &target.path)
    }
    fn full(target: &Target) -> (u64, &[u8], bool) {
        (target.ino.0, &target.path, target.no_follow)
    }
    match operation {
        Operation::Mkdir { target, mode, parents, .. } => model.mkdir(at(target), *mode, *parents),
        Operation::Create { target, mode, exclusive, truncate, extents, .. } => {
            model.create(full(target), (*mode, session), (*exclusive, *truncate), extents)
        }
        Operation::Rename { from, to, no_replace, exchange } => {
            model.rename(at(from), at(to), *no_replace, *exchange)
        }
        Operation::Link { from, to } => model.link(full(from), at(to)),
        Operation::Unlink { target } => model.unlink(at(target)),
        Operation::Rmdir { target } => model.rmdir(at(target)),
        Operation::SetAttr { target, mode, .. } => model.set_attr(full(target), *mode, None, None, None),
        other => panic!("no client asks for {other:?}"),
    }
}

impl Replay {
    fn apply(&mut self, index: u64, entry: &Entry) {
        if let Some(model) = &mut self.model {
            model.now = model.now.max(entry.time);
        }
        match &entry.command {
            Command::InitCluster { .. } => {
                self.model.get_or_insert_with(|| Model::new(POLICY, entry.time));
            }
            Command::OpenSession { .. } => {
                self.sessions += u64::from(self.model.is_some());
            }
            Command::Request { session, sequence, operation, .. } => {
                let key = (session.0, sequence.0);
                // A request that came again: its answer stands, and nothing is done.
                if self.answers.contains_key(&key) {
                    return;
                }
                let model = self.model.as_mut().expect("sessions come after the cluster");
                let before = model.clone();
                let outcome = ask(model, session.0, operation);
                if outcome.is_err() {
                    *model = before;
                }
                self.answers.insert(key, outcome);
                self.done.insert(key, index);
            }
            other => panic!("nobody proposes {other:?}"),
        }
    }

    fn see(&self, seen: &Seen) -> Option<String> {
        let found: Result<Inode, FsError> = match &self.model {
            // Before the first entry.
            None => return None,
            Some(model) => model.find((0, seen.path.as_bytes()), true).map(|ino| model.see(ino).clone()),
        };
        (found != seen.found).then(|| {
            format!("at entry {} {:?} was read as {:?}; it was {found:?}", seen.index, seen.path, seen.found)
        })
    }

    fn acknowledged(&self, told: &Acknowledged) -> Option<String> {
        let key = (told.session, told.sequence);
        let name = format!("request {} of session {}", told.sequence, told.session);
        let Some(outcome) = self.answers.get(&key) else {
            return Some(format!("{name} was acknowledged at entry {} and is in no log", told.index));
        };
        let same = match (outcome, &told.reply) {
            (Ok(expected), Ok(answer)) => expected.inode == answer.inode,
            (Err(expected), Err(error)) => expected == error,
            _ => false,
        };
        if self.done[&key] > told.index {
            return Some(format!("{name} was acknowledged before it was done"));
        }
        (!same).then(|| format!("{name} was answered {:?}; it was {outcome:?}", told.reply))
    }
}

fn shown(reply: &Reply) -> Option<&Inode> {
    reply.as_ref().ok()?.inode.as_ref()
}

/// The state as clients read it is the model's.
fn same_tree(rows: &dyn Rows, model: &Model) -> Option<String> {
    for (ino, node) in &model.nodes {
        let found = read::stat(rows, &Target::ino(InodeId(*ino))).map(|stat| stat.inode);
        match found {
            Ok(inode) if inode == node.inode => {}
            other => return Some(format!("inode {ino} is {other:?}; it should be {:?}", node.inode)),
        }
        if node.inode.is_dir() {
            let listing = read::list(rows, InodeId(*ino), b"", 10_000).unwrap();
            let found: Vec<_> = listing.entries.into_iter().map(|e| (e.name, e.inode.ino.0)).collect();
            let expected: Vec<_> = node.children.iter().map(|(name, ino)| (name.clone(), *ino)).collect();
            if found != expected {
                return Some(format!("directory {ino} holds {found:?}; it should hold {expected:?}"));
            }
        }
    }
    None
}

/// Replays the log; answers what does not fit, and how many entries there were.
pub fn replay(ledger: &Ledger, rows: &dyn Rows) -> Result<u64, String> {
    let pages = ledger.pages();
    let Pages { log, acknowledged, seen, .. } = &*pages;
    let mut reads: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    seen.iter().for_each(|seen| reads.entry(seen.index).or_default().push(seen));
    let mut replay = Replay { model: None, sessions: 0, answers: BTreeMap::new(), done: BTreeMap::new() };
    for (expected, (index, record)) in log.iter().enumerate() {
        if *index != expected as u64 {
            return Err(format!("nobody applied entry {expected}"));
        }
        if let PayloadRecord::Command(bytes) = &record.payload {
            replay.apply(*index, &Entry::from_bytes(bytes).map_err(|error| error.to_string())?);
        }
        let wrong = reads.get(index).into_iter().flatten().find_map(|seen| replay.see(seen));
        wrong.map_or(Ok(()), Err)?;
    }
    acknowledged.iter().find_map(|told| replay.acknowledged(told)).map_or(Ok(()), Err)?;
    let model = replay.model.as_ref().ok_or("the cluster was never made")?;
    same_tree(rows, model).map_or(Ok(()), Err)?;
    let inodes = acknowledged.iter().filter_map(|told| shown(&told.reply)).count();
    if inodes == 0 || model.now == Timestamp(0) {
        return Err("nothing was done".to_owned());
    }
    Ok(log.len() as u64)
}
