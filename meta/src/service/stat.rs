//! `Stat` and `GetChunk`, and what all reads share: their freshness, and directories of mounts that
//! must be read from S3 first.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, FsError, IntentId};

use super::call::malformed;
use super::{Context, decode};
use crate::leader::intents;
use crate::namespace::read::ImportNeeded;
use crate::namespace::{Command, Target, read};
use crate::node::{Consistency, ReadView};

/// How fresh a read must be.
///
/// # Errors
/// `Malformed` for what this build does not know.
pub fn consistency(wire: i32) -> Result<Consistency, WireError> {
    match v1::Consistency::try_from(wire) {
        Ok(v1::Consistency::Linearizable) => Ok(Consistency::Linearizable),
        Ok(v1::Consistency::Lease) => Ok(Consistency::Lease),
        Err(_) => Err(malformed("consistency")),
    }
}

/// Checks that what lies on the way to `target` has been read from S3, and that of the directory
/// at its end when its `contents` are asked for. What has not is being read from here on.
///
/// # Errors
/// `Importing` names the intent to wait for.
pub async fn imported(
    ctx: &Context,
    view: &ReadView,
    target: &Target,
    contents: bool,
) -> Result<(), WireError> {
    let time = read::cluster(&*view.store).map_err(super::fault)?.time;
    let now = time.max(ctx.clock.wall());
    let needed = read::import_needed(&*view.store, target, contents, now).map_err(super::fault)?;
    match needed {
        None => Ok(()),
        Some(needed) => Err(importing(ctx, needed).await),
    }
}

/// Says what to wait for: the directory is being read from here on, if it was not.
pub async fn importing(ctx: &Context, needed: ImportNeeded) -> WireError {
    let intent = match needed.under_way {
        Some(intent) => Ok(intent),
        None => start_import(ctx, needed.directory).await,
    };
    match intent {
        Ok(intent) => FsError::Importing { intent }.into(),
        Err(error) => error,
    }
}

/// Makes the intent that reads a directory, or finds the one that another request has just made.
async fn start_import(ctx: &Context, directory: cairn_types::InodeId) -> Result<IntentId, WireError> {
    let tenure = ctx.tenure()?;
    let live = intents::live_nodes(&tenure);
    let assignee = intents::pick(&tenure, &live).ok_or(FsError::TooFewNodes { available: 0, needed: 1 })?;
    let answer = tenure.propose(Command::StartImport { directory, assignee }).await;
    let answer = answer.map_err(|refused| match refused {
        crate::leader::tenure::Refused::Fs(error) => WireError::from(error),
        crate::leader::tenure::Refused::Node(error) => error.into(),
    })?;
    tracing::info!(%directory, %assignee, intent = ?answer.intent, "a directory is read from S3");
    tenure.stir();
    Ok(answer.intent.ok_or(ServiceError::Internal)?)
}

/// The inode, the policy in force, the open tail.
pub async fn stat(
    ctx: &Context,
    request: v1::StatRequest,
    _deadline: Duration,
) -> Result<v1::StatReply, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency)?).await?;
    imported(ctx, &view, &target, false).await?;
    let stat = read::stat(&*view.store, &target).map_err(super::refusal)?;
    Ok(v1::StatReply {
        inode: Some(v1::Inode::from(&stat.inode)),
        log_index: view.applied.0,
        tail: stat.tail.map(|t| ctx.wire_chunk(&*view.store, &t)).transpose()?,
        policy: Some(v1::Policy::from(&stat.policy)),
    })
}

/// What is known of a chunk, linearizable: how a primary comes to hold its activation.
pub async fn chunk(ctx: &Context, request: v1::GetChunkRequest) -> Result<v1::Chunk, WireError> {
    if request.chunk == 0 {
        return Err(malformed("chunk"));
    }
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let record = read::chunk(&*view.store, ChunkId(request.chunk)).map_err(super::fault)?;
    ctx.wire_chunk(&*view.store, &record.ok_or(FsError::NotFound)?)
}
