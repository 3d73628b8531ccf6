//! Closes open chunks whose bytes have waited for half of their policy's lag, so that a slow
//! writer's bytes reach S3 in time. Not while uploads fail: a closed chunk would gain nothing then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use cairn_types::{ChunkId, Persist};
use futures::StreamExt;

use super::first_seen::{FirstSeen, Now};
use super::rows::Queued;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{rows, sweep};
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::keys::queues::Queue;
use crate::namespace::jobs::Waiting;

/// Open chunks looked at in one turn, at most.
const OPEN_PER_TURN: usize = 16_384;
/// Questions and closes in flight, at most.
const IN_FLIGHT_MAX: usize = 16;
/// How long a primary may take to tell its length.
const ASK: Duration = Duration::from_secs(1);
/// How long a primary may take to close a chunk.
const CLOSE: Duration = Duration::from_secs(3);

/// What the job keeps between turns.
#[derive(Default)]
struct Job {
    /// When an old chunk that had no bytes is to be asked again.
    empty: HashMap<ChunkId, Duration>,
    seen: FirstSeen,
    next: Option<Waiting>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "aging", Duration::from_secs(1));
    let mut job = Job::default();
    while turns.next().await {
        turns.ended(turn(&tenure, &mut job).await);
    }
}

async fn turn(tenure: &Arc<Tenure>, job: &mut Job) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, job.next);
    let read = move || rows::look_at_chunks(&*view.store, Queue::Open, after, OPEN_PER_TURN);
    let open = tokio::task::spawn_blocking(read).await??;
    let now = Now::of(&*tenure.clock);
    job.next = open.next;
    job.seen.update(&open, |q| q.place, now.boot);
    job.empty.retain(|_, again| *again > now.boot);
    if tenure.uploads_fail() {
        return Ok(());
    }
    let is_old = |q: &Queued| {
        let policy = &q.record.policy;
        q.record.state == ChunkState::Open
            && policy.persist != Persist::Never
            && job.seen.age_ms(q.place, q.record.activation.time, now) >= policy.max_lag_ms / 2
            && !job.empty.contains_key(&q.record.chunk)
    };
    let old: Vec<ChunkRecord> = open.rows.into_iter().filter(is_old).map(|q| q.record).collect();
    let asked: Vec<(ChunkId, Duration, bool)> = futures::stream::iter(old)
        .map(|record| async move {
            let again = Duration::from_millis((record.policy.max_lag_ms / 8).max(100));
            (record.chunk, again, close_unless_empty(tenure, &record).await)
        })
        .buffer_unordered(IN_FLIGHT_MAX)
        .collect()
        .await;
    for (chunk, again, _) in asked.into_iter().filter(|(_, _, closed)| !closed) {
        job.empty.insert(chunk, now.boot + again);
    }
    Ok(())
}

/// Closes a chunk that has bytes; false when it has none.
async fn close_unless_empty(tenure: &Arc<Tenure>, record: &ChunkRecord) -> bool {
    let Some(address) = tenure.address(record.primary) else { return false };
    let ask = v1::TailLengthRequest { chunk: record.chunk.0, epoch: record.epoch.0 };
    match tenure.data.tail_length(&address, ask, ASK).await {
        Ok(0) => false,
        Ok(_) => {
            close(tenure, record, true).await;
            true
        }
        Err(error) => {
            // A primary that does not know the chunk has no bytes of it; one that is away is the
            // sweep's business.
            tracing::debug!(chunk = %record.chunk, %error, "the length of an old chunk is unknown");
            false
        }
    }
}

/// Closes an open chunk by a planned roll, or seals it when its primary does not answer. With `go_on` a
/// busy writer finds the next tail open.
pub async fn close(tenure: &Tenure, record: &ChunkRecord, go_on: bool) {
    if record.state == ChunkState::Open
        && let Some(address) = tenure.address(record.primary)
    {
        match tenure.data.close(&address, record.chunk, go_on, CLOSE).await {
            Ok(()) => return,
            Err(error) => tracing::info!(chunk = %record.chunk, %error, "not closed: it is sealed instead"),
        }
    }
    if let Err(error) = sweep::begin_seal(tenure, record).await {
        tracing::warn!(chunk = %record.chunk, %error, "an old chunk was not sealed");
    }
}
