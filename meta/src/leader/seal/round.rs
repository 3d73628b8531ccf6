//! One try to seal a chunk: fence, decide, bring short replicas up, finish.

use std::time::Duration;

use cairn_proto::v1;
use cairn_types::{ChunkId, FsError, NodeId, Policy};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::decide::{self, Answer, End};
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::leader::tenure::{Refused, Tenure};
use crate::leader::{placement, wire};
use crate::namespace::Command;

/// How long one replica may take to be fenced.
const FENCE: Duration = Duration::from_secs(1);
/// How long further answers are awaited once the end could be decided: a replica that answers
/// late is worth less than a writer's pause.
const GRACE: Duration = Duration::from_millis(60);
/// How long a replica that is needed may take to be extended.
const EXTEND_NEEDED: Duration = Duration::from_secs(5);
/// How long one may take that is not: it would only save a repair later.
const EXTEND_SPARE: Duration = Duration::from_millis(500);
/// Fresh nodes that are tried in one round.
const FRESH_TRIES: usize = 3;

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The chunk is sealed, by this round or another, or gone.
    Decided,
    /// It must be tried again.
    Undecided,
}

/// Tries once to seal `chunk`.
#[tracing::instrument(skip(tenure))]
pub async fn seal(tenure: &Tenure, chunk: ChunkId) -> Outcome {
    let record = match tenure.chunk(chunk) {
        Ok(Some(record)) if record.state == ChunkState::Sealing => record,
        Ok(Some(record)) if record.state == ChunkState::Sealed => return Outcome::Decided,
        Ok(None) => return Outcome::Decided,
        Ok(Some(_)) | Err(_) => return Outcome::Undecided,
    };
    let answers = fence(tenure, &record).await;
    let end = match decide::decide(&answers, record.policy.ack, record.replicas.len()) {
        Ok(end) => end,
        Err(why) => {
            tenure.seals.stuck.note(&record, &answers, why);
            tracing::warn!(%why, answers = answers.len(), of = record.replicas.len(), "not decided yet");
            metrics::counter!("cairn_meta_seal_undecided_total").increment(1);
            return Outcome::Undecided;
        }
    };
    tenure.seals.stuck.forget(chunk);
    let (holders, needed) = bring_up(tenure, &record, &end).await;
    if holders.len() < needed {
        tracing::warn!(?holders, needed, length = end.length, "too few replicas hold the decided end");
        metrics::counter!("cairn_meta_seal_undecided_total").increment(1);
        return Outcome::Undecided;
    }
    finish(tenure, &record, end, holders).await
}

/// Fences every replica that can be reached; returns soon after the answers suffice.
pub(super) async fn fence(tenure: &Tenure, record: &ChunkRecord) -> Vec<Answer> {
    let address = |node| tenure.address(node);
    let wire_record = wire::chunk(record, None, &address);
    let mut fences = FuturesUnordered::new();
    for replica in &record.replicas {
        let Some(address) = tenure.address(replica.node) else { continue };
        let fence = v1::FenceRequest {
            chunk: record.chunk.0,
            epoch: record.epoch.0,
            opened_incarnation: replica.incarnation.0,
            record: Some(wire_record.clone()),
            node: replica.node.0,
        };
        let node = replica.node;
        fences.push(async move { (node, tenure.data.fence(node, &address, fence, FENCE).await) });
    }
    let needed = needed(tenure, record);
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let enough = decide::decide(&answers, record.policy.ack, record.replicas.len())
            .is_ok_and(|end| end.length == 0 || end.holders.len() + end.short.len() >= needed);
        let next = if enough {
            tokio::time::timeout(GRACE, fences.next()).await.unwrap_or(None)
        } else {
            fences.next().await
        };
        match next {
            None => return answers,
            Some((_, Ok(answer))) => answers.push(answer),
            Some((node, Err(error))) => {
                tracing::warn!(%node, %error, "a replica was not fenced");
                tenure.registry.blame(node);
            }
        }
    }
}

/// Replicas that must hold the end.
fn needed(tenure: &Tenure, record: &ChunkRecord) -> usize {
    let healthy = placement::addresses(&tenure.registry.candidates(&[]));
    decide::holders_needed(record.replicas.len(), healthy, &record.policy)
}

/// Extends short replicas, and fresh nodes if they are too few. Answers the holders and how
/// many there must be.
pub(super) async fn bring_up(tenure: &Tenure, record: &ChunkRecord, end: &End) -> (Vec<NodeId>, usize) {
    let mut holders = end.holders.clone();
    // Of an empty chunk there is nothing that a second holder could save.
    let needed = if end.length == 0 { 1 } else { needed(tenure, record) };
    let deadline = if holders.len() < needed { EXTEND_NEEDED } else { EXTEND_SPARE };
    holders.extend(extend(tenure, record, end, &end.short, deadline).await);
    for attempt in 0..FRESH_TRIES {
        if holders.len() >= needed {
            break;
        }
        let fresh = fresh_nodes(tenure, record, needed - holders.len(), attempt as u64);
        holders.extend(extend(tenure, record, end, &fresh, EXTEND_NEEDED).await);
    }
    holders.sort_unstable();
    holders.dedup();
    (holders, needed)
}

/// Healthy nodes outside the set, and in other processes than those of it that take chunks.
fn fresh_nodes(tenure: &Tenure, record: &ChunkRecord, count: usize, attempt: u64) -> Vec<NodeId> {
    let mut candidates = tenure.registry.candidates(&[]);
    candidates.retain(|c| record.replicas.iter().all(|r| r.node != c.node));
    let replicas = u8::try_from(count.min(candidates.len())).unwrap_or(u8::MAX);
    let policy = Policy { replicas, min_replicas: replicas.min(1), ..record.policy };
    let has = tenure.registry.kept_at(record.replicas.iter().map(|r| r.node));
    placement::choose(&candidates, &has, &policy, tenure.random.next_u64() ^ attempt).unwrap_or_default()
}

/// Extends `nodes` to the decided end, all at once; answers those that have it.
async fn extend(
    tenure: &Tenure,
    record: &ChunkRecord,
    end: &End,
    nodes: &[NodeId],
    deadline: Duration,
) -> Vec<NodeId> {
    let address = |node| tenure.address(node);
    let sources: Vec<v1::Replica> = record
        .replicas
        .iter()
        .filter(|r| end.holders.contains(&r.node))
        .map(|r| wire::replica(r, address(r.node)))
        .collect();
    let ask = v1::ExtendRequest {
        chunk: record.chunk.0,
        epoch: record.epoch.0,
        length: end.length,
        chain: end.chain.0,
        sources,
        record: Some(wire::chunk(record, None, &address)),
        node: 0,
    };
    let extends = nodes.iter().filter_map(|node| tenure.address(*node).map(|a| (*node, a)));
    let mut running: FuturesUnordered<_> = extends
        .map(|(node, address)| {
            let ask = v1::ExtendRequest { node: node.0, ..ask.clone() };
            async move { (node, tenure.data.extend(&address, ask, deadline).await) }
        })
        .collect();
    let mut reached = Vec::new();
    while let Some((node, result)) = running.next().await {
        match result {
            Ok(has) if has == (end.length, end.chain) => reached.push(node),
            Ok((length, _)) => tracing::warn!(%node, length, wanted = end.length, "a replica is elsewhere"),
            Err(error) => tracing::warn!(%node, %error, "a replica was not extended"),
        }
    }
    reached
}

/// Puts the decision into the log: the first such entry wins.
async fn finish(tenure: &Tenure, record: &ChunkRecord, end: End, holders: Vec<NodeId>) -> Outcome {
    let length = end.length;
    let count = holders.len();
    let command = Command::FinishSeal {
        chunk: record.chunk,
        epoch: record.epoch,
        length: end.length,
        chain: end.chain,
        holders,
        marks: end.marks,
        mtime: end.mtime,
    };
    match tenure.propose(command).await {
        Ok(answer) => {
            tracing::info!(chunk = %record.chunk, length, holders = count, "sealed");
            metrics::counter!("cairn_meta_chunks_sealed_total").increment(1);
            if let Some(sealed) = answer.chunk {
                tenure.announce_sealed(&sealed);
            }
            Outcome::Decided
        }
        // Another round or a close came first: the next look at the row sees it.
        Err(Refused::Fs(FsError::ChunkState { .. })) => Outcome::Undecided,
        Err(error) => {
            tracing::warn!(%error, "the decided end did not get into the log");
            Outcome::Undecided
        }
    }
}
