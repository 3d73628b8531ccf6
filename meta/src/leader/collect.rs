//! Takes away what nothing points at any more: replicas of dead chunks and of nodes that are no
//! holders, packs without a live chunk, rows of unlinked files and of what files were cut off from.
//! All of it is in the log first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, FeatureLevel, InodeId, IntentId, PackId};

use super::board::WorkKey;
use super::first_seen::FirstSeen;
use super::look::Look;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{intents, notice, rows};
use crate::keys::contents::{self, ContentId, DetachedRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::packs::PackRecord;
use crate::keys::queues::Queue;
use crate::keys::{self, Record};
use crate::namespace::jobs::{self, Waiting};
use crate::namespace::{Command, read};

/// Rows of each kind looked at in one turn, at most.
const PER_TURN: usize = 1024;
/// How long a dead replica is kept: a reader may have been told of it a moment ago.
const REPLICA_DELAY: Duration = Duration::from_secs(10);
/// Entries that the rows of one orphan, or one content, may take in one turn, at most.
const PURGE_STEPS_MAX: usize = 64;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "collect", Duration::from_secs(1));
    let mut dead_chunks = Delayed::new(REPLICA_DELAY);
    let mut dead_packs = Delayed::new(tenure.pack_delay);
    let (mut surplus_next, mut orphans_next, mut detached_next) = (None, None, None);
    while turns.next().await {
        turns.ended(surplus(&tenure, &mut surplus_next).await);
        turns.ended(garbage(&tenure, &mut dead_chunks).await);
        turns.ended(packs(&tenure, &mut dead_packs).await);
        turns.ended(orphans(&tenure, &mut orphans_next).await);
        turns.ended(detached(&tenure, &mut detached_next).await);
    }
}

/// What was found dead, and when this leader first found it so.
struct Delayed {
    delay: Duration,
    found: FirstSeen,
    next: Option<Waiting>,
}

impl Delayed {
    fn new(delay: Duration) -> Self {
        Self { delay, found: FirstSeen::default(), next: None }
    }

    /// Of what a turn found dead, the ids of what has been for long enough.
    fn due(&mut self, dead: &Look<Waiting, Waiting>, now: Duration) -> Vec<u64> {
        self.next = dead.next;
        self.found.update(dead, |w| *w, now);
        let old = |w: &&Waiting| self.found.known_for(**w, now) >= self.delay;
        dead.rows.iter().filter(old).map(|w| w.id).collect()
    }
}

/// Offers the deletion of replicas that are no holders (rule R8).
async fn surplus(tenure: &Arc<Tenure>, next: &mut Option<Waiting>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || rows::look_at_chunks(&*view.store, Queue::Surplus, after, PER_TURN);
    let found = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    for record in found.rows.iter().map(|q| &q.record) {
        for replica in record.replicas.iter().filter(|r| !record.is_holder(r.node)) {
            if let Some(work) = notice::sealed(record, replica.node) {
                tenure.board.offer(replica.node, WorkKey::Delete(record.chunk), work);
            }
        }
    }
    Ok(())
}

/// A turn's look at a queue.
async fn look(
    tenure: &Tenure,
    queue: Queue,
    after: Option<Waiting>,
) -> Result<Look<Waiting, Waiting>, JobFault> {
    let view = tenure.local()?;
    let read = move || rows::look(&*view.store, queue, after, PER_TURN);
    Ok(tokio::task::spawn_blocking(read).await??)
}

/// Offers the deletion of dead chunks' replicas.
async fn garbage(tenure: &Arc<Tenure>, delayed: &mut Delayed) -> Result<(), JobFault> {
    let dead = look(tenure, Queue::Garbage, delayed.next).await?;
    let mut uploads = BTreeSet::new();
    for id in delayed.due(&dead, tenure.clock.boottime()) {
        let Some(record) = tenure.chunk(ChunkId(id))? else { continue };
        if !record.is_dead() {
            continue;
        }
        // One that is on its way to S3 goes when the upload has ended.
        if let Some(upload) = record.upload {
            uploads.insert(upload);
            continue;
        }
        if record.replicas.is_empty() {
            // It was in S3, and its last replica was on a node that is removed: nobody is left to tell.
            let (chunk, node) = (record.chunk, record.primary);
            tenure.try_propose(Command::DropReplica { chunk, node }).await?;
        }
        for replica in &record.replicas {
            let work = notice::delete(record.chunk);
            tenure.board.offer(replica.node, WorkKey::Delete(record.chunk), work);
        }
    }
    for upload in uploads {
        cancel(tenure, upload).await?;
    }
    Ok(())
}

/// Ends an upload that has dead chunks, unless a node is at it: it may never end by itself, where there
/// is no under-store or none that answers. What lives of it goes up with others.
async fn cancel(tenure: &Tenure, upload: IntentId) -> Result<(), JobFault> {
    let view = tenure.local()?;
    if jobs::level(&*view.store)? < FeatureLevel::FOURTH {
        return Ok(());
    }
    let Some(record) = read::intent(&*view.store, upload)? else { return Ok(()) };
    let (node, key) = (record.assignee, WorkKey::Intent(upload));
    let live = tenure.registry.get(node).is_some_and(|v| v.is_live());
    if live && tenure.board.is_under_way(node, key) {
        return Ok(());
    }
    if tenure.try_propose(Command::CancelUpload { intent: upload }).await?.is_some() {
        tracing::info!(intent = %upload, "an upload with dead chunks is given up");
        metrics::counter!("cairn_meta_uploads_cancelled_total").increment(1);
        tenure.board.done(node, key);
        tenure.stir();
    }
    Ok(())
}

/// Makes the intents that delete dead packs.
async fn packs(tenure: &Arc<Tenure>, delayed: &mut Delayed) -> Result<(), JobFault> {
    let dead = look(tenure, Queue::DeadPacks, delayed.next).await?;
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
async fn orphans(tenure: &Arc<Tenure>, next: &mut Option<InodeId>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || {
        let page = |after, limit| jobs::orphans(&*view.store, after, limit);
        Look::take(after, PER_TURN, |ino: &InodeId| *ino, page)
    };
    let found = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    for ino in found.rows {
        purge::<Orphan>(tenure, &orphans::key(ino), &Command::Purge { ino }).await?;
    }
    Ok(())
}

/// Removes the extents that no file names any more, step by step.
async fn detached(tenure: &Arc<Tenure>, next: &mut Option<ContentId>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || {
        let page = |after, limit| jobs::detached(&*view.store, after, limit);
        Look::take(after, PER_TURN, |content: &ContentId| *content, page)
    };
    let found = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    for content in found.rows {
        let key = contents::detached_key(content);
        purge::<DetachedRow>(tenure, &key, &Command::PurgeContent { content }).await?;
    }
    Ok(())
}

/// Proposes a step again and again until the row that asks for it is gone, or others have waited
/// long enough.
async fn purge<R: Record>(tenure: &Tenure, key: &[u8], step: &Command) -> Result<(), JobFault> {
    for _ in 0..PURGE_STEPS_MAX {
        let refused = tenure.try_propose(step.clone()).await?.is_none();
        if refused || keys::get::<R>(&*tenure.local()?.store, key)?.is_none() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::Timestamp;
    use std::convert::Infallible;

    const PER_TEST_TURN: usize = 8;

    /// A turn's look at a queue of these ids.
    fn look(queue: &[u64], after: Option<Waiting>) -> Look<Waiting, Waiting> {
        let page = |after: Option<Waiting>, limit: usize| {
            let all = queue.iter().map(|id| Waiting { since: Timestamp(0), id: *id });
            Ok::<_, Infallible>(all.filter(|w| after.is_none_or(|a| *w > a)).take(limit).collect::<Vec<_>>())
        };
        Look::take(after, PER_TEST_TURN, |w: &Waiting| *w, page).expect("it cannot fail")
    }

    #[test]
    fn what_is_dead_rests_before_it_goes_and_one_that_lives_again_starts_anew() {
        let mut delayed = Delayed::new(Duration::from_secs(10));
        let at = |s| Duration::from_secs(s);
        assert!(delayed.due(&look(&[1, 2], None), at(100)).is_empty());
        assert!(delayed.due(&look(&[1], None), at(105)).is_empty());
        assert_eq!(delayed.due(&look(&[1, 2], None), at(110)), [1]);
        assert_eq!(delayed.due(&look(&[1, 2], None), at(120)), [1, 2]);
    }

    #[test]
    fn what_can_never_go_hides_none_of_what_is_dead_behind_it() {
        let mut delayed = Delayed::new(Duration::from_secs(10));
        // The replicas of the first 50 are on a node that is gone for good.
        let mut queue: Vec<u64> = (1..=60).collect();
        for second in 0..60 {
            let turn = look(&queue, delayed.next);
            for id in delayed.due(&turn, Duration::from_secs(second)) {
                queue.retain(|q| *q <= 50 || *q != id);
            }
        }
        assert_eq!(queue, (1..=50).collect::<Vec<_>>());
    }
}
