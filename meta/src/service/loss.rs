//! `AcceptLoss`: an operator decides the end of a chunk that its replicas do not decide.

use cairn_proto::convert::health_number;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ChunkId, FsError, NodeId};

use super::Context;
use super::call::malformed;
use crate::keys::chunks::{ChunkOwner, ChunkRecord};
use crate::leader::Tenure;
use crate::leader::removal::LostChunk;
use crate::leader::seal::loss::{self, Accepted, Loss, LossRefused};
use crate::leader::seal::stuck::StuckChunk;
use crate::leader::tenure::Refused;
use crate::namespace::{NamespaceError, read};
use crate::node::Consistency;
use crate::store::Rows;

/// Tells what would be lost, or accepts it. The caller's deadline bounds it; asking again is safe.
pub async fn accept(ctx: &Context, request: v1::AcceptLossRequest) -> Result<v1::AcceptLossReply, WireError> {
    if request.chunk == 0 {
        return Err(malformed("chunk"));
    }
    if request.length > CHUNK_BYTES_MAX {
        return Err(malformed("length"));
    }
    let tenure = ctx.tenure()?;
    let record = {
        let view = ctx.node.read(Consistency::Linearizable).await?;
        read::chunk(&*view.store, ChunkId(request.chunk)).map_err(super::fault)?
    };
    let record = record.ok_or(FsError::NotFound)?;
    if request.accept && record.sealed_length() == Some(request.length) {
        return already(ctx, &tenure, &record);
    }
    let loss = loss::look(&tenure, record).await.map_err(wire_error)?;
    if !request.accept {
        return reply(ctx, &tenure, &loss, &loss.record);
    }
    let accepted = Accepted { length: request.length, nothing_left: request.nothing_left };
    let sealed = loss::accept(&tenure, &loss, accepted).await.map_err(wire_error)?;
    reply(ctx, &tenure, &loss, &sealed)
}

/// The answer to one who asks again: it is sealed there.
fn already(ctx: &Context, tenure: &Tenure, sealed: &ChunkRecord) -> Result<v1::AcceptLossReply, WireError> {
    let view = tenure.local()?;
    let (_, path) = file_of(&*view.store, sealed.owner)?;
    Ok(v1::AcceptLossReply {
        chunk: Some(ctx.wire_chunk(&*view.store, sealed)?),
        length: sealed.sealed_length().unwrap_or(0),
        path: path.into(),
        already: true,
        ..Default::default()
    })
}

fn reply(
    ctx: &Context,
    tenure: &Tenure,
    loss: &Loss,
    after: &ChunkRecord,
) -> Result<v1::AcceptLossReply, WireError> {
    let view = tenure.local()?;
    let (_, path) = file_of(&*view.store, loss.record.owner)?;
    Ok(v1::AcceptLossReply {
        chunk: Some(ctx.wire_chunk(&*view.store, after)?),
        length: loss.length(),
        heard: loss.heard,
        referenced: loss.record.extent_end,
        replicas: loss.record.replicas.iter().map(|r| replica(tenure, loss, r.node)).collect(),
        path: path.into(),
        already: false,
    })
}

fn replica(tenure: &Tenure, loss: &Loss, node: NodeId) -> v1::ReplicaAnswer {
    let address = tenure.address(node).unwrap_or_default();
    match loss.answers.iter().find(|a| a.node == node) {
        None => v1::ReplicaAnswer { node: node.0, address, ..Default::default() },
        Some(answer) => v1::ReplicaAnswer {
            node: node.0,
            address,
            answered: true,
            length: answer.length,
            health: health_number(answer.health),
            heard: answer.heard_committed,
        },
    }
}

/// The file whose tail a chunk is, with its path; 0 and empty when it is none's, or the file is gone.
fn file_of(rows: &dyn Rows, owner: ChunkOwner) -> Result<(u64, Vec<u8>), WireError> {
    let ChunkOwner::Tail { ino, .. } = owner else { return Ok((0, Vec::new())) };
    match read::path_of(rows, ino) {
        Ok(path) => Ok((ino.0, path)),
        Err(NamespaceError::Refused(_)) => Ok((ino.0, Vec::new())),
        Err(NamespaceError::Fault(error)) => Err(super::fault(error)),
    }
}

/// A stuck chunk as the status shows it.
pub fn undecided(
    tenure: &Tenure,
    rows: &dyn Rows,
    stuck: &StuckChunk,
) -> Result<v1::UndecidedChunk, WireError> {
    let (ino, path) = file_of(rows, stuck.owner)?;
    Ok(v1::UndecidedChunk {
        chunk: stuck.chunk.0,
        ino,
        path: path.into(),
        length: stuck.length,
        heard: stuck.heard,
        answered: u32::try_from(stuck.answered).unwrap_or(u32::MAX),
        replicas: u32::try_from(stuck.replicas).unwrap_or(u32::MAX),
        age_ms: tenure.seals.stuck.age_ms(stuck),
        reason: stuck.why.to_string(),
    })
}

/// A lost chunk as the status shows it.
pub fn lost(rows: &dyn Rows, lost: &LostChunk) -> Result<v1::LostChunk, WireError> {
    let (ino, path) = file_of(rows, lost.owner)?;
    Ok(v1::LostChunk { chunk: lost.chunk.0, ino, path: path.into(), length: lost.length, node: lost.node.0 })
}

fn wire_error(refused: LossRefused) -> WireError {
    let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    match refused {
        LossRefused::NotUndecided { chunk } => ServiceError::NotUndecided { chunk }.into(),
        LossRefused::Decidable { chunk } => ServiceError::Decidable { chunk }.into(),
        LossRefused::Differs { chunk, length } => ServiceError::LossDiffers { chunk, length }.into(),
        LossRefused::NothingLeft { chunk } => ServiceError::NothingLeft { chunk }.into(),
        LossRefused::Diverged { chunk, length } => ServiceError::Diverged { chunk, length }.into(),
        LossRefused::TooFewHolders { available, needed } => {
            FsError::TooFewNodes { available: small(available), needed: small(needed) }.into()
        }
        LossRefused::Proposal(Refused::Fs(error)) => error.into(),
        LossRefused::Proposal(Refused::Node(error)) => error.into(),
    }
}
