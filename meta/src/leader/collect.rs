//! Takes away what nothing points at any more: replicas of dead chunks and of nodes that are no
//! holders, packs without a live chunk, rows of unlinked files. All of it is in the log first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, PackId};

use super::board::WorkKey;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{intents, notice, rows};
use crate::keys::packs::PackRecord;
use crate::keys::queues::Queue;
use crate::namespace::Command;
use crate::namespace::jobs;

/// Rows of each kind looked at in one turn, at most.
const PER_TURN: usize = 1024;
/// How long a dead replica is kept: a reader may have been told of it a moment ago.
const REPLICA_DELAY: Duration = Duration::from_secs(10);
/// How long a dead pack is kept, for the same reason.
const PACK_DELAY: Duration = Duration::from_secs(60);
/// Entries that one orphan's rows may take in one turn, at most.
const PURGE_STEPS_MAX: usize = 64;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "collect", Duration::from_secs(1));
    let mut dead_chunks = Delayed::new(REPLICA_DELAY);
    let mut dead_packs = Delayed::new(PACK_DELAY);
    while turns.next().await {
        turns.ended(surplus(&tenure).await);
        turns.ended(garbage(&tenure, &mut dead_chunks).await);
        turns.ended(packs(&tenure, &mut dead_packs).await);
        turns.ended(orphans(&tenure).await);
    }
}

/// What was found dead, and when this leader first found it so.
struct Delayed {
    delay: Duration,
    found: HashMap<u64, Duration>,
}

impl Delayed {
    fn new(delay: Duration) -> Self {
        Self { delay, found: HashMap::new() }
    }

    /// Of what is dead now, what has been for long enough.
    fn due(&mut self, dead: &[u64], now: Duration) -> Vec<u64> {
        let known = std::mem::take(&mut self.found);
        self.found = dead.iter().map(|id| (*id, known.get(id).copied().unwrap_or(now))).collect();
        let old =
            |id: &&u64| self.found.get(id).is_some_and(|since| now.saturating_sub(*since) >= self.delay);
        dead.iter().filter(old).copied().collect()
    }
}

/// Offers the deletion of replicas that are no holders (rule R8).
async fn surplus(tenure: &Arc<Tenure>) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let read = move || rows::queued_chunks(&*view.store, Queue::Surplus, PER_TURN);
    for record in tokio::task::spawn_blocking(read).await?? {
        for replica in record.replicas.iter().filter(|r| !record.is_holder(r.node)) {
            if let Some(work) = notice::sealed(&record, replica.node) {
                tenure.board.offer(replica.node, WorkKey::Delete(record.chunk), work);
            }
        }
    }
    Ok(())
}

/// The ids at a queue's head.
async fn ids(tenure: &Tenure, queue: Queue) -> Result<Vec<u64>, JobFault> {
    let view = tenure.local()?;
    let read = move || rows::queue(&*view.store, queue, PER_TURN);
    Ok(tokio::task::spawn_blocking(read).await??.into_iter().map(|(_, id)| id).collect())
}

/// Offers the deletion of dead chunks' replicas.
async fn garbage(tenure: &Arc<Tenure>, delayed: &mut Delayed) -> Result<(), JobFault> {
    let dead = ids(tenure, Queue::Garbage).await?;
    for id in delayed.due(&dead, tenure.clock.boottime()) {
        let Some(record) = tenure.chunk(ChunkId(id))? else { continue };
        // One that is on its way to S3 goes when the upload has ended.
        if !record.is_dead() || record.upload.is_some() {
            continue;
        }
        for replica in &record.replicas {
            let work = notice::delete(record.chunk);
            tenure.board.offer(replica.node, WorkKey::Delete(record.chunk), work);
        }
    }
    Ok(())
}

/// Makes the intents that delete dead packs.
async fn packs(tenure: &Arc<Tenure>, delayed: &mut Delayed) -> Result<(), JobFault> {
    let dead = ids(tenure, Queue::DeadPacks).await?;
    let live = intents::live_nodes(tenure);
    for id in delayed.due(&dead, tenure.clock.boottime()) {
        let record = jobs::pack(&*tenure.local()?.store, PackId(id))?;
        let dead = |r: &PackRecord| r.deletion.is_none() && r.live_chunks == 0;
        let Some(record) = record.filter(dead) else { continue };
        let Some(assignee) = intents::pick(tenure, &live) else { break };
        tenure.try_propose(Command::CreatePackDeletion { pack: record.pack, assignee }).await?;
        metrics::counter!("cairn_meta_pack_deletions_total").increment(1);
        tenure.stir();
    }
    Ok(())
}

/// Removes the rows of unlinked inodes, step by step.
async fn orphans(tenure: &Arc<Tenure>) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let read = move || jobs::orphans(&*view.store, PER_TURN);
    let found = tokio::task::spawn_blocking(read).await??;
    for ino in found {
        for _ in 0..PURGE_STEPS_MAX {
            tenure.try_propose(Command::Purge { ino }).await?;
            let left = crate::keys::get::<crate::keys::orphans::Orphan>(
                &*tenure.local()?.store,
                &crate::keys::orphans::key(ino),
            )?;
            if left.is_none() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dead_rests_before_it_goes_and_one_that_lives_again_starts_anew() {
        let mut delayed = Delayed::new(Duration::from_secs(10));
        let at = |s| Duration::from_secs(s);
        assert!(delayed.due(&[1, 2], at(100)).is_empty());
        assert!(delayed.due(&[1], at(105)).is_empty());
        assert_eq!(delayed.due(&[1, 2], at(110)), [1]);
        assert_eq!(delayed.due(&[1, 2], at(120)), [1, 2]);
    }
}
