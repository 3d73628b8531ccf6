//! Strikes data nodes that an operator removed from the chunks that they held, so that `repair`
//! makes further copies of what others hold and S3 has not.
//!
//! A *pass* is a look at every chunk, page by page. A node that no record of a whole pass names has
//! left: no chunk gets a removed node, so that none can name it later. A new leader begins a pass anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{ChunkId, NodeId};

use super::rows;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::keys::RowFault;
use crate::keys::chunks::{ChunkOwner, ChunkRecord};
use crate::keys::removed::{Standing, standing};
use crate::namespace::{Command, STRIKE_MAX, jobs};
use crate::store::Rows;

/// Chunks read in one step.
const PAGE: usize = 1024;
/// Steps in one turn, at most.
const PAGES_PER_TURN: usize = 32;
/// How long a pass that could strike nothing rests before the next one: what it found waits for a
/// seal, or for a file's removal.
const REST: Duration = Duration::from_secs(10);
/// Lost chunks that are kept for the status, at most; all are counted.
const LOST_MAX: usize = 64;

/// A sealed chunk whose only copy was on a removed node, and that is not in S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Whose bytes it took.
    pub owner: ChunkOwner,
    /// Its length in bytes.
    pub length: u64,
    /// The removed node.
    pub node: NodeId,
}

/// The lost chunks that a pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The first of them by id.
    pub first: Vec<LostChunk>,
}

impl Lost {
    fn add(&mut self, found: &[LostChunk]) {
        self.count += found.len() as u64;
        let room = LOST_MAX.saturating_sub(self.first.len());
        self.first.extend(found.iter().take(room));
    }
}

/// What the last whole pass of this term found lost, for the status.
#[derive(Debug, Default)]
pub struct Losses {
    // Guards: nothing beyond the value itself. Never held across an await.
    found: Mutex<Lost>,
}

impl Losses {
    /// What is lost.
    #[must_use]
    pub fn found(&self) -> Lost {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, lost: Lost) {
        metrics::gauge!("cairn_meta_chunks_lost_count").set(lost.count as f64);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.count > found.count {
            tracing::warn!(count = lost.count, "chunks are lost: their only copy was on a removed data node");
        }
        *found = lost;
    }
}

/// A look at all chunks, as far as it has come.
#[derive(Debug, Default)]
struct Pass {
    /// The removed nodes that are looked for, ascending.
    nodes: Vec<NodeId>,
    /// The last chunk that was looked at.
    after: ChunkId,
    /// Not before, by the boot clock.
    not_before: Duration,
    /// Those of the nodes that a record named.
    named: BTreeSet<NodeId>,
    struck: bool,
    lost: Lost,
}

/// What one step of a pass found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// From which chunks each node can be struck.
    strike: BTreeMap<NodeId, Vec<ChunkId>>,
    named: BTreeSet<NodeId>,
    lost: Vec<LostChunk>,
    /// The last chunk, when there may be more behind it.
    next: Option<ChunkId>,
}

impl Page {
    fn read(state: &dyn Rows, after: ChunkId, nodes: &[NodeId]) -> Result<Self, RowFault> {
        let records = rows::chunks_after(state, after, PAGE)?;
        let next = records.last().map(|r| r.chunk).filter(|_| records.len() == PAGE);
        let mut page = Self { next, ..Self::default() };
        for record in &records {
            for node in nodes {
                page.look(record, *node);
            }
        }
        Ok(page)
    }

    fn look(&mut self, record: &ChunkRecord, node: NodeId) {
        let standing = standing(record, node);
        if standing != Standing::Absent {
            self.named.insert(node);
        }
        match standing {
            Standing::Absent | Standing::Unsettled => {}
            Standing::Superfluous => self.strike.entry(node).or_default().push(record.chunk),
            Standing::Last => self.lost.push(LostChunk {
                chunk: record.chunk,
                owner: record.owner,
                length: record.sealed_length().unwrap_or(0),
                node,
            }),
        }
    }
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "removal", Duration::from_secs(1));
    let mut pass = Pass::default();
    while turns.next().await {
        turns.ended(turn(&tenure, &mut pass).await);
    }
}

async fn turn(tenure: &Arc<Tenure>, pass: &mut Pass) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let removed = tokio::task::spawn_blocking(move || jobs::removed(&*view.store)).await??;
    let mut nodes: Vec<NodeId> = removed.iter().filter(|r| r.struck.is_none()).map(|r| r.node).collect();
    nodes.sort_unstable();
    if pass.nodes != nodes {
        *pass = Pass { nodes, ..Pass::default() };
    }
    if pass.nodes.is_empty() {
        tenure.losses.note(Lost::default());
        return Ok(());
    }
    if tenure.clock.boottime() < pass.not_before {
        return Ok(());
    }
    for _ in 0..PAGES_PER_TURN {
        let (view, after, nodes) = (tenure.local()?, pass.after, pass.nodes.clone());
        let read = move || Page::read(&*view.store, after, &nodes);
        let page = tokio::task::spawn_blocking(read).await??;
        strike(tenure, &page).await?;
        pass.struck |= !page.strike.is_empty();
        pass.named.extend(&page.named);
        pass.lost.add(&page.lost);
        match page.next {
            Some(last) => pass.after = last,
            None => return ended(tenure, pass).await,
        }
    }
    Ok(())
}

async fn strike(tenure: &Tenure, page: &Page) -> Result<(), JobFault> {
    for (node, chunks) in &page.strike {
        for chunks in chunks.chunks(STRIKE_MAX) {
            let command = Command::StrikeReplicas { node: *node, chunks: chunks.to_vec() };
            if tenure.try_propose(command).await?.is_some() {
                metrics::counter!("cairn_meta_replicas_struck_total").increment(chunks.len() as u64);
            }
        }
    }
    if !page.strike.is_empty() {
        tenure.stir();
    }
    Ok(())
}

/// All chunks were looked at: nodes that none of them names have left.
async fn ended(tenure: &Tenure, pass: &mut Pass) -> Result<(), JobFault> {
    let whole = std::mem::take(pass);
    tenure.losses.note(whole.lost);
    // What was struck may leave others as the last holders: the next pass tells.
    let rest = if whole.struck { Duration::ZERO } else { REST };
    pass.not_before = tenure.clock.boottime() + rest;
    pass.nodes.clone_from(&whole.nodes);
    for node in whole.nodes.into_iter().filter(|node| !whole.named.contains(node)) {
        if tenure.try_propose(Command::EndRemoval { node }).await?.is_some() {
            tenure.registry.forget(node);
            tracing::info!(%node, "no chunk names the removed data node any more");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::samples;

    const GONE: NodeId = NodeId(101);

    #[test]
    fn a_page_tells_what_to_strike_what_is_lost_and_whom_it_named() {
        // In S3, held by the removed node alone.
        let in_s3 = samples::chunk();
        let lost = ChunkRecord { chunk: ChunkId(10), place: None, upload: None, ..in_s3.clone() };
        let sealing = ChunkRecord { chunk: ChunkId(11), sealed: None, ..lost.clone() };
        let mut page = Page::default();
        page.look(&sealing, NodeId(102));
        assert_eq!(page, Page::default(), "it names another one");
        page.look(&sealing, GONE);
        assert_eq!(page, Page { named: [GONE].into(), ..Page::default() }, "named, and left to its seal");
        page.look(&in_s3, GONE);
        page.look(&lost, GONE);
        assert_eq!(page.strike, BTreeMap::from([(GONE, vec![in_s3.chunk])]));
        let found = LostChunk { chunk: ChunkId(10), owner: lost.owner, length: 70_000, node: GONE };
        assert_eq!(page.lost, [found]);
        let mut all = Lost::default();
        for _ in 0..100 {
            all.add(&page.lost);
        }
        assert_eq!((all.count, all.first.len()), (100, LOST_MAX), "all are counted, some are kept");
    }
}
