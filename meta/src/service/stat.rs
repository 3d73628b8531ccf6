//! `Stat` and `GetChunk`, and what all reads share: their freshness, and directories of mounts that
//! must be read from S3 first.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::STATS_MAX;
use cairn_types::{ChunkId, Credentials, FsError, IntentId, SessionId};
use tonic::Status;

use super::call::malformed;
use super::{Context, decode};
use crate::leader::intents;
use crate::namespace::read::ImportNeeded;
use crate::namespace::{Command, Target, read};
use crate::node::{Consistency, ReadView};
use crate::trace::{self, About};

/// Stats of one call in a row.
const TURN: usize = 16;

/// Notes what a read is about, for the line that is written when it was slow.
pub fn about(session: u64, target: Option<&v1::Target>) {
    let (ino, path) = target.map(|t| (t.ino, t.path.clone())).unwrap_or_default();
    trace::note(About { session, sequence: 0, ino, path });
}

/// How fresh a read must be.
///
/// # Errors
/// `Malformed` for what this build does not know.
pub fn consistency(wire: i32, max_age_ms: u64) -> Result<Consistency, WireError> {
    match v1::Consistency::try_from(wire) {
        Ok(v1::Consistency::Linearizable) => Ok(Consistency::Linearizable),
        Ok(v1::Consistency::Lease) => Ok(Consistency::Lease),
        Ok(v1::Consistency::AnyServer) => Ok(Consistency::AnyServer),
        Ok(v1::Consistency::Stale) if max_age_ms > 0 => {
            Ok(Consistency::Stale(Duration::from_millis(max_age_ms)))
        }
        Ok(v1::Consistency::Stale) => Err(malformed("max_age_ms")),
        Err(_) => Err(malformed("consistency")),
    }
}

/// How long ago at most a change was acknowledged that `view` does not show, in milliseconds, rounded
/// up; 0 unless a stale state was asked for.
pub fn age_ms(ctx: &Context, view: &ReadView, consistency: Consistency) -> u64 {
    let (Consistency::Stale(_), Some(as_of)) = (consistency, view.as_of) else { return 0 };
    let age = ctx.clock.boottime().saturating_sub(as_of);
    u64::try_from(age.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Who reads, where the request names a session that said so.
///
/// # Errors
/// `SessionExpired`.
pub fn caller(view: &ReadView, session: u64) -> Result<Option<Credentials>, WireError> {
    read::caller(&*view.store, SessionId(session)).map_err(super::refusal)
}

/// As [`caller`], of a read that may be stale: a state from before the session was opened does not
/// know it, and another server does.
///
/// # Errors
/// `SessionExpired`, `NotLeader`.
pub fn caller_of(
    view: &ReadView,
    consistency: Consistency,
    session: u64,
) -> Result<Option<Credentials>, WireError> {
    if matches!(consistency, Consistency::Stale(_)) && session != 0 {
        let next = read::cluster(&*view.store).map_err(super::fault)?.next.session;
        if SessionId(session) >= next {
            return Err(ServiceError::NotLeader { leader_address: String::new() }.into());
        }
    }
    caller(view, session)
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
pub async fn start_import(ctx: &Context, directory: cairn_types::InodeId) -> Result<IntentId, WireError> {
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
    about(request.session, request.target.as_ref());
    let target = decode::target(request.target)?;
    let consistency = consistency(request.consistency, request.max_age_ms)?;
    let view = ctx.node.read(consistency).await?;
    let caller = caller_of(&view, consistency, request.session)?;
    let reply = one(ctx, &view, caller.as_ref(), &target).await?;
    Ok(v1::StatReply { age_ms: age_ms(ctx, &view, consistency), ..reply })
}

/// As [`stat`] of several targets, from one point in time, each with its own outcome.
pub async fn stat_all(
    ctx: &Context,
    request: v1::StatAllRequest,
    _deadline: Duration,
) -> Result<v1::StatAllReply, WireError> {
    decode::group(request.group)?;
    if !(1..=STATS_MAX).contains(&request.targets.len()) {
        return Err(malformed("targets"));
    }
    let consistency = consistency(request.consistency, request.max_age_ms)?;
    let view = ctx.node.read(consistency).await?;
    let caller = caller_of(&view, consistency, request.session)?;
    let mut outcomes = Vec::with_capacity(request.targets.len());
    for (n, target) in request.targets.into_iter().enumerate() {
        // Each is a few dozen reads that may block: others of this thread have their turn between.
        if n % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        let outcome = match decode::target(Some(target)) {
            Ok(target) => one(ctx, &view, caller.as_ref(), &target).await,
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(reply) => v1::stat_outcome::Outcome::Reply(reply),
            Err(error) => v1::stat_outcome::Outcome::Refusal(Status::from(error).into()),
        };
        outcomes.push(v1::StatOutcome { outcome: Some(outcome) });
    }
    let age_ms = age_ms(ctx, &view, consistency);
    Ok(v1::StatAllReply { outcomes, log_index: view.applied.0, age_ms })
}

async fn one(
    ctx: &Context,
    view: &ReadView,
    caller: Option<&Credentials>,
    target: &Target,
) -> Result<v1::StatReply, WireError> {
    let (mut stat, mounted) = read::stat_and_way(&*view.store, caller, target);
    if mounted {
        imported(ctx, view, target, false).await?;
        stat = read::stat_as(&*view.store, caller, target);
    }
    let stat = stat.map_err(super::refusal)?;
    Ok(v1::StatReply {
        inode: Some(v1::Inode::from(&stat.inode)),
        log_index: view.applied.0,
        tail: stat.tail.map(|t| ctx.wire_chunk(&*view.store, &t)).transpose()?,
        policy: Some(v1::Policy::from(&stat.policy)),
        age_ms: 0,
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
