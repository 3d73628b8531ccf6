//! The calls that end a chunk or ask for its end: fence, extend, close, tail length.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::convert::health_number;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Chain, ChunkId, Epoch, Incarnation, NodeId};

use crate::chunk::FenceSpec;
use crate::node::{Node, Nodes};
use crate::replicate::extend::Goal;
use crate::replicate::seal::Reason;
use crate::replicate::{extend, open, record, refusal, seal};

/// How long an append that fenced out a chunk may take to be answered before it is worth a line.
const SLOW: Duration = Duration::from_millis(50);
/// The longest that one call waits for a chunk to grow.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Fences a node's replica: first its primary stops acknowledging, then the store drains, then
/// the new epoch is durable (rule R4).
pub(super) async fn fence(nodes: &Nodes, request: v1::FenceRequest) -> Result<v1::FenceReply, WireError> {
    let chunk = ChunkId(request.chunk);
    let described = request.record.as_ref().filter(|record| record.chunk == chunk.0);
    let described = described.ok_or_else(|| malformed("record"))?;
    // At the address of a node that is gone another may listen: its nothing must not count as an
    // answer of the one that was asked.
    let node = asked(nodes, request.node, described)?;
    let since = node.context.clock.boottime();
    if !described.replicas.iter().any(|replica| replica.node == node.id.0) {
        return Err(ServiceError::NoSuchChunk { chunk }.into());
    }
    let opened = Incarnation(request.opened_incarnation);
    let spec = record::spec(described, opened).map_err(ServiceError::from)?;
    node.primaries.fence(chunk).await;
    let epoch = Epoch(request.epoch);
    let fenced = node.context.store.fence(FenceSpec { spec, epoch }).await;
    let answer = fenced.map_err(|error| refusal::of_change(node.id, &error))?;
    node.primaries.tell();
    let took = node.context.clock.boottime().saturating_sub(since);
    if took > SLOW {
        tracing::info!(chunk = chunk.0, took_ms = took.as_millis() as u64, "a slow fence");
    }
    tracing::debug!(chunk = chunk.0, epoch = epoch.0, length = answer.length, health = ?answer.health, "fenced");
    Ok(v1::FenceReply {
        length: answer.length,
        chain: answer.chain.0,
        marks: answer.marks.iter().map(v1::WriterMark::from).collect(),
        health: health_number(answer.health),
        heard_committed: answer.heard_committed,
        incarnation: node.context.store.incarnation().0,
        mtime_ns: u64::try_from(answer.mtime.0).unwrap_or(0),
    })
}

/// The node that is asked about the chunk of this record. A leader of an older build names none: it means the one
/// of its replicas that is here, and a node that shall become one.
fn asked<'n>(nodes: &'n Nodes, named: u64, record: &v1::Chunk) -> Result<&'n Arc<Node>, WireError> {
    let mut replicas = record.replicas.iter().filter(|_| named == 0);
    match replicas.find_map(|replica| nodes.find(NodeId(replica.node))) {
        Some(node) => Ok(node),
        None => nodes.addressed(named, ChunkId(record.chunk)),
    }
}

/// Brings a node's replica to a decided length, durably; it is only ever extended.
pub(super) async fn extend(nodes: &Nodes, request: v1::ExtendRequest) -> Result<v1::ExtendReply, WireError> {
    let chunk = ChunkId(request.chunk);
    let described = request.record.as_ref().filter(|record| record.chunk == chunk.0);
    let described = described.ok_or_else(|| malformed("record"))?;
    let node = asked(nodes, request.node, described)?;
    let own = described.replicas.iter().find(|replica| replica.node == node.id.0);
    // A node that was not of the set makes its replica now, as this process.
    let opened = own.map_or(node.context.store.incarnation(), |own| Incarnation(own.incarnation));
    let spec = record::spec(described, opened).map_err(ServiceError::from)?;
    node.primaries.fence(chunk).await;
    let goal = Goal {
        spec,
        epoch: Epoch(request.epoch),
        length: request.length,
        chain: Chain(request.chain),
        sources: &request.sources,
    };
    let (length, chain) = extend::extend(&node.context, goal).await?;
    Ok(v1::ExtendReply { length, chain: chain.0 })
}

/// The committed length, while a disk of this process is the chunk's clean primary (rule R9).
pub(super) async fn tail_length(nodes: &Nodes, chunk: ChunkId, epoch: Epoch) -> Result<u64, WireError> {
    let (contexts, shared) = (nodes.contexts(), nodes.contexts().first());
    if let Some(answer) = nodes.first().primaries.tail_length(chunk, epoch).await {
        return answer;
    }
    if contexts.with(chunk).is_some() && !shared.spares.has(chunk) {
        return Err(ServiceError::ChunkFenced { chunk }.into());
    }
    // Nothing was taken for it here yet. If the metadata still names this process as its primary,
    // that is its length; whatever is taken from now on comes after this answer's beginning.
    let found = shared.metadata.get_chunk(chunk).await?;
    open::check(contexts, &found)?;
    Ok(0)
}

/// Waits until the committed length passes what the caller has. A length that is answered stays true
/// whatever comes after (R3, R5).
pub(super) async fn wait_length(node: &Node, asked: v1::WaitLengthRequest) -> Result<u64, WireError> {
    let chunk = ChunkId(asked.chunk);
    let patience = Duration::from_millis(asked.wait_ms).min(WAIT_MAX);
    let growing = node.primaries.wait_beyond(chunk, Epoch(asked.epoch), asked.beyond);
    tokio::select! {
        biased;
        grown = growing => grown,
        () = tokio::time::sleep(patience) => Ok(node.primaries.committed(chunk).unwrap_or(0)),
        () = node.stop.cancelled() => Err(ServiceError::Stopping.into()),
    }
}

/// Closes a chunk by plan, or by a seal round when its primary does not run here any more.
pub(super) async fn close(nodes: &Nodes, request: v1::CloseRequest) -> Result<v1::CloseReply, WireError> {
    let chunk = ChunkId(request.chunk);
    let sealed = |chunk| v1::CloseReply { chunk: Some(chunk), next: None };
    match nodes.first().primaries.close(chunk, request.go_on).await {
        Err(WireError::Service(ServiceError::NoSuchChunk { .. } | ServiceError::ChunkFenced { .. })) => {}
        outcome => return outcome,
    }
    let metadata = &nodes.first().context.metadata;
    let found = metadata.get_chunk(chunk).await?;
    if found.state() == v1::ChunkState::Sealed {
        return Ok(sealed(found));
    }
    if nodes.find(NodeId(found.primary)).is_none() {
        return Err(ServiceError::NotPrimary { chunk }.into());
    }
    let asked = seal::ask(metadata, chunk, Epoch(found.epoch), Reason::Close, None).await;
    asked.map(sealed)
}

fn malformed(field: &'static str) -> WireError {
    ServiceError::Malformed { field: field.to_owned() }.into()
}
