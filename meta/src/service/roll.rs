//! `PrepareSpare` and `Roll`: a tail that fills up is followed by a chunk that was made ahead (append
//! protocol R1, R5).

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::{CHUNK_BYTES_MAX, GRANT_BYTES_FIRST};
use cairn_types::{Chain, ChunkId, Epoch, FsError, NodeId, WriterMark};

use super::Context;
use super::call::malformed;
use super::nodes::mtime;
use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use crate::leader::Tenure;
use crate::leader::lag::{self, Room};
use crate::namespace::{Command, Placement};

/// The record of an open chunk that `node` orders.
fn led_by(tenure: &Tenure, chunk: ChunkId, node: u64) -> Result<ChunkRecord, WireError> {
    let record = tenure.chunk(chunk).map_err(super::fault)?.ok_or(FsError::NotFound)?;
    if record.primary != NodeId(node) {
        return Err(ServiceError::NotPrimary { chunk }.into());
    }
    Ok(record)
}

/// Makes the chunk that is to follow a tail.
pub async fn prepare_spare(
    ctx: &Context,
    request: v1::PrepareSpareRequest,
    deadline: Duration,
) -> Result<v1::Chunk, WireError> {
    let tenure = ctx.tenure()?;
    let chunk = ChunkId(request.chunk);
    let record = led_by(&tenure, chunk, request.node)?;
    let placement = placement(&tenure, &record)?;
    let command = Command::PrepareSpare { chunk, epoch: Epoch(request.epoch), placement };
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    let spare = reply?.chunk.ok_or(ServiceError::Internal)?;
    ctx.wire_chunk(&*tenure.local()?.store, &spare)
}

/// A spare lies where its tail does, as long as all of those nodes are the processes they were, would be
/// chosen, and are as many as the policy wants. Otherwise the next tail is placed anew, when it is opened.
fn placement(tenure: &Tenure, tail: &ChunkRecord) -> Result<Placement, WireError> {
    let candidates = tenure.registry.candidates(&[]);
    let good = |node: NodeId| candidates.iter().any(|c| c.node == node && !c.shunned && c.has_room());
    let replicas: Vec<_> = tail
        .replicas
        .iter()
        .filter(|replica| good(replica.node))
        .filter_map(|replica| {
            let placed = tenure.registry.placed(replica.node);
            placed.filter(|placed| placed.incarnation == replica.incarnation)
        })
        .collect();
    let needed = usize::from(tail.policy.replicas);
    if replicas.len() < needed || replicas.len() < tail.replicas.len() {
        let available = u8::try_from(replicas.len()).unwrap_or(u8::MAX);
        return Err(FsError::TooFewNodes { available, needed: tail.policy.replicas }.into());
    }
    Ok(Placement { replicas, primary: tail.primary })
}

/// A primary has the close record on every replica, and the next chunk made: Open → Sealed and Spare →
/// Open at once.
pub async fn roll(
    ctx: &Context,
    request: v1::RollRequest,
    deadline: Duration,
) -> Result<v1::RollReply, WireError> {
    let seal = request.seal.ok_or_else(|| malformed("seal"))?;
    if seal.length > CHUNK_BYTES_MAX {
        return Err(malformed("length"));
    }
    let tenure = ctx.tenure()?;
    let (chunk, epoch, length) = (ChunkId(seal.chunk), Epoch(seal.epoch), seal.length);
    let record = led_by(&tenure, chunk, seal.node)?;
    let (chain, mtime) = (Chain(seal.chain), mtime(ctx));
    let marks = seal.marks.iter().map(WriterMark::from).collect();
    let next = ChunkId(request.next);
    let command = if has_room(&tenure, &record, length)? {
        Command::Roll { chunk, epoch, length, chain, marks, mtime, next }
    } else {
        // Its writer hears the refusal, with its numbers, when it opens the next tail.
        Command::SealPlanned { chunk, epoch, length, chain, marks, mtime }
    };
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    let sealed = reply?.chunk.ok_or(ServiceError::Internal)?;
    if sealed.sealed.is_some() {
        tenure.announce_sealed(&sealed);
    }
    let store = tenure.local()?.store;
    let is_tail = |next: &ChunkRecord| next.state == ChunkState::Open && same_file(next, &record);
    let next = tenure.chunk(next).map_err(super::fault)?.filter(is_tail);
    let next = next.map(|next| ctx.wire_chunk(&*store, &next)).transpose()?;
    Ok(v1::RollReply { sealed: Some(ctx.wire_chunk(&*store, &sealed)?), next })
}

fn same_file(one: &ChunkRecord, other: &ChunkRecord) -> bool {
    match (one.owner, other.owner) {
        (ChunkOwner::Tail { ino: one, .. }, ChunkOwner::Tail { ino: other, .. }) => one == other,
        _ => false,
    }
}

/// True when the lag bound leaves room for another tail behind `length` more bytes (append protocol R13).
fn has_room(tenure: &Tenure, record: &ChunkRecord, length: u64) -> Result<bool, WireError> {
    let ChunkOwner::Tail { ino, .. } = record.owner else { return Ok(false) };
    let wanted = length + GRANT_BYTES_FIRST;
    let room = Room { tail_of: Some(ino), opened: None, granted: length, wanted };
    let given = lag::give(tenure, &record.policy, room).map_err(super::fault)?;
    // A pause is told, and kept, where the next tail is opened.
    Ok(given.is_ok_and(|given| given.pause.is_zero()))
}
