//! [`Tally`]: what the passes count on their way, compared with the counters in the end.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::InodeId;

use super::look::{Look, Pass};
use super::{Counter, Finding};
use crate::keys::contents::ContentId;
use crate::keys::counters::{self, ClusterRecord, ContentCounter, Granted};
use crate::keys::disks::DiskRecord;
use crate::keys::removed::RemovedNode;
use crate::store::{KeyRange, StoreFault, Table};

/// Data nodes of a cluster, at most, that are looked at.
const NODES_MAX: usize = 10_000;

/// What was counted so far.
#[derive(Default)]
pub(super) struct Tally {
    counts: BTreeMap<Counter, u64>,
    ids: BTreeMap<Counter, u64>,
    /// Inodes at a name that their place does not say: nothing else is said of them. Bounded.
    pub unplaced: BTreeSet<InodeId>,
    /// Hard links that are not listed. Bounded.
    pub unlisted: BTreeMap<InodeId, u32>,
}

impl Tally {
    /// Counts so many more.
    pub fn add(&mut self, counter: Counter, by: u64) {
        let count = self.counts.entry(counter).or_default();
        *count = count.saturating_add(by);
    }

    /// Notes an id in use.
    pub fn id(&mut self, counter: Counter, id: u64) {
        let greatest = self.ids.entry(counter).or_default();
        *greatest = (*greatest).max(id);
    }

    /// Notes an inode that has a name.
    pub fn inode(&mut self, ino: InodeId) {
        self.add(Counter::Inodes, 1);
        self.id(Counter::Inodes, ino.0);
    }

    /// Notes a content in use.
    pub fn content(&mut self, content: ContentId) {
        if let Some(number) = content.number() {
            self.id(Counter::Contents, number);
        }
    }

    fn counted(&self, counter: Counter) -> u64 {
        self.counts.get(&counter).copied().unwrap_or(0)
    }
}

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Totals)]
}

/// What a counter says in the state.
pub(in crate::namespace) fn recorded(counter: Counter, cluster: &mut ClusterRecord) -> Option<&mut u64> {
    let counts = &mut cluster.counts;
    Some(match counter {
        Counter::Inodes => &mut counts.inodes,
        Counter::ChunksOpen => &mut counts.chunks_open,
        Counter::ChunksSealing => &mut counts.chunks_sealing,
        Counter::ChunksSealed => &mut counts.chunks_sealed,
        Counter::UnderReplicated => &mut counts.under_replicated,
        Counter::UnpersistedBytes => &mut counts.unpersisted_bytes,
        Counter::Packs => &mut counts.packs,
        Counter::Sessions => &mut counts.sessions,
        Counter::Intents => &mut counts.intents,
        Counter::Chunks | Counter::GrantedBytes | Counter::Nodes | Counter::Mounts | Counter::Contents => {
            return None;
        }
    })
}

/// The counts of the cluster's record, and that of granted bytes.
const COUNTED: [Counter; 10] = [
    Counter::Inodes,
    Counter::ChunksOpen,
    Counter::ChunksSealing,
    Counter::ChunksSealed,
    Counter::UnderReplicated,
    Counter::UnpersistedBytes,
    Counter::Packs,
    Counter::Sessions,
    Counter::Intents,
    Counter::GrantedBytes,
];

/// The last pass: what was counted against what is kept.
struct Totals;

impl Pass for Totals {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        nodes(look)?;
        let record = look.rows.get(Table::Counters, counters::KEY)?;
        let Some(bytes) = record else {
            if look.tally.counted(Counter::Inodes) > 0 {
                look.unreadable(Table::Counters, counters::KEY);
            }
            return Ok(true);
        };
        let Some(mut cluster) = look.read::<ClusterRecord>(counters::KEY, &bytes) else { return Ok(true) };
        let granted = look.at::<Granted>(counters::GRANTED_KEY)?;
        for counter in COUNTED {
            let counted = look.tally.counted(counter);
            let recorded = match recorded(counter, &mut cluster) {
                Some(count) => *count,
                // Before the first change of a grant there is no row, and it is counted when needed.
                None if granted.is_absent() => counted,
                None => granted_bytes(look)?,
            };
            if recorded != counted {
                look.found(Finding::WrongCount { counter, recorded, counted });
            }
        }
        ids(look, &cluster)?;
        Ok(true)
    }
}

fn granted_bytes(look: &Look<'_>) -> Result<u64, StoreFault> {
    Ok(look.at::<Granted>(counters::GRANTED_KEY)?.record().unwrap_or_default().bytes)
}

/// Each next id is beyond those in use.
fn ids(look: &mut Look<'_>, cluster: &ClusterRecord) -> Result<(), StoreFault> {
    let made = look.at::<ContentCounter>(counters::CONTENTS_KEY)?.record().unwrap_or_default().made;
    let next = &cluster.next;
    let all = [
        (Counter::Inodes, next.inode.0),
        (Counter::Chunks, next.chunk.0),
        (Counter::Sessions, next.session.0),
        (Counter::Nodes, next.node.0),
        (Counter::Packs, next.pack.0),
        (Counter::Mounts, u64::from(next.mount.0)),
        (Counter::Intents, next.intent.0),
        (Counter::Contents, made.saturating_add(1)),
    ];
    for (counter, next) in all {
        let used = look.tally.ids.get(&counter).copied().unwrap_or(0);
        if used >= next {
            look.found(Finding::NextId { counter, next, used });
        }
    }
    Ok(())
}

/// Ids of data nodes and of sessions: those tables are small.
fn nodes(look: &mut Look<'_>) -> Result<(), StoreFault> {
    let all = KeyRange::default();
    for (key, bytes) in look.rows.scan(Table::Disks, &all, NODES_MAX)? {
        if let Some(disk) = look.read::<DiskRecord>(&key, &bytes) {
            look.tally.id(Counter::Nodes, disk.node.0);
        }
    }
    for (key, bytes) in look.rows.scan(Table::Removed, &all, NODES_MAX)? {
        if let Some(gone) = look.read::<RemovedNode>(&key, &bytes) {
            look.tally.id(Counter::Nodes, gone.node.0);
        }
    }
    Ok(())
}
