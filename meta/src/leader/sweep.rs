//! Finds chunks to seal: those whose seal an earlier leader began, and open ones whose nodes have
//! restarted (append protocol R6) or are silent.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::ChunkId;

use super::nodes::{Liveness, View};
use super::rows;
use super::tenure::{JobFault, Refused, Tenure};
use super::turns::Turns;
use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::keys::queues::Queue;
use crate::namespace::jobs::Waiting;
use crate::namespace::{Command, read};

/// Chunks in `Sealing` that are asked for in one turn, at most.
const SEALING_PER_TURN: usize = 2048;
/// Open chunks read in one step.
const OPEN_PAGE: usize = 4096;
/// A node silent for this many times `node_timeout` loses its open chunks.
const SILENT_TIMEOUTS: u32 = 4;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "sweep", Duration::from_secs(1));
    let (mut seen, mut next) = (None, None);
    while turns.next().await {
        turns.ended(sealing(&tenure, &mut next).await);
        let restarts = tenure.registry.restarts();
        if seen != Some(restarts) || !lost(&tenure).is_empty() {
            let result = orphaned(&tenure).await;
            if result.is_ok() {
                seen = Some(restarts);
            }
            turns.ended(result);
        }
    }
}

/// Asks for chunks whose seal is undecided.
async fn sealing(tenure: &Arc<Tenure>, next: &mut Option<Waiting>) -> Result<(), JobFault> {
    let (view, after) = (tenure.local()?, *next);
    let read = move || {
        let count = read::cluster(&*view.store)?.counts.chunks_sealing;
        let found = rows::look(&*view.store, Queue::Sealing, after, SEALING_PER_TURN)?;
        Ok::<_, RowFault>((count, found))
    };
    let (count, found) = tokio::task::spawn_blocking(read).await??;
    *next = found.next;
    metrics::gauge!("cairn_meta_chunks_sealing_count").set(count as f64);
    let (undecided, _) = tenure.seals.stuck.first(0);
    metrics::gauge!("cairn_meta_chunks_undecided_count").set(undecided as f64);
    for waiting in found.rows {
        tenure.seals.ask(ChunkId(waiting.id));
    }
    Ok(())
}

/// Nodes that were removed, or have been silent for too long for their open chunks.
fn lost(tenure: &Tenure) -> Vec<cairn_types::NodeId> {
    let limit = tenure.node_timeout * SILENT_TIMEOUTS;
    let silent = |l| matches!(l, Liveness::Silent(age) if age > limit);
    let lost = |v: &&View| v.registered.removed || silent(v.liveness);
    tenure.registry.all().iter().filter(lost).map(|v| v.registered.node).collect()
}

/// Begins the seal of all open chunks that have lost a member.
async fn orphaned(tenure: &Arc<Tenure>) -> Result<(), JobFault> {
    let lost = lost(tenure);
    let mut after = None;
    loop {
        let view = tenure.local()?;
        let read = move || rows::queued_chunks(&*view.store, Queue::Open, after, OPEN_PAGE);
        let (open, next) = tokio::task::spawn_blocking(read).await??;
        for record in open.iter().filter(|r| has_lost_a_member(tenure, r, &lost)) {
            match begin_seal(tenure, record).await {
                Ok(_) => tracing::info!(chunk = %record.chunk, "a member is lost: the chunk is sealed"),
                // It was closed or collected meanwhile.
                Err(Refused::Fs(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

fn has_lost_a_member(tenure: &Tenure, record: &ChunkRecord, lost: &[cairn_types::NodeId]) -> bool {
    record.replicas.iter().any(|r| {
        let restarted = |v: View| v.registered.incarnation != r.incarnation;
        lost.contains(&r.node) || tenure.registry.get(r.node).is_some_and(restarted)
    })
}

/// Open → Sealing, and on to the seal job.
///
/// # Errors
/// [`Refused`] when the entry did not get into the log.
pub async fn begin_seal(tenure: &Tenure, record: &ChunkRecord) -> Result<ChunkRecord, Refused> {
    let command = Command::BeginSeal { chunk: record.chunk, epoch: record.epoch };
    let answer = tenure.propose(command).await?;
    tenure.seals.ask(record.chunk);
    Ok(answer.chunk.unwrap_or_else(|| record.clone()))
}
