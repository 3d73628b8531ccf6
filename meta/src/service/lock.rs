//! `TestLock`, `WaitLock`, and the wire forms of locks.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::{LockKind, LockMode, LockOwner, LockRange, LogIndex, SessionId};

use super::call::malformed;
use super::{Context, decode, wait};
use crate::namespace::Operation;
use crate::namespace::locks::Lock;
use crate::namespace::locks::look::{self, Question};
use crate::namespace::reply::LockAnswer;
use crate::node::Consistency;

fn kind(wire: i32) -> Result<LockKind, WireError> {
    match v1::LockKind::try_from(wire) {
        Ok(v1::LockKind::Range) => Ok(LockKind::Range),
        Ok(v1::LockKind::Flock) => Ok(LockKind::Flock),
        Err(_) => Err(malformed("kind")),
    }
}

fn mode(exclusive: bool) -> LockMode {
    if exclusive { LockMode::Exclusive } else { LockMode::Shared }
}

fn range(kind: LockKind, start: u64, length: u64) -> Result<LockRange, WireError> {
    let range = LockRange::of(start, length).ok_or_else(|| malformed("length"))?;
    if kind == LockKind::Flock && range != LockRange::WHOLE {
        return Err(malformed("start"));
    }
    Ok(range)
}

/// Decodes a `Lock`.
///
/// # Errors
/// `Malformed`.
pub fn lock(m: v1::Lock) -> Result<Operation, WireError> {
    let kind = kind(m.kind)?;
    Ok(Operation::Lock {
        ino: decode::inode(m.ino)?,
        kind,
        owner: m.owner,
        range: range(kind, m.start, m.length)?,
        mode: mode(m.exclusive),
        wait: m.wait,
    })
}

/// Decodes an `Unlock`.
///
/// # Errors
/// `Malformed`.
pub fn unlock(m: v1::Unlock) -> Result<Operation, WireError> {
    let kind = kind(m.kind)?;
    let range = range(kind, m.start, m.length)?;
    Ok(Operation::Unlock { ino: decode::inode(m.ino)?, kind, owner: m.owner, range })
}

/// Decodes a `CancelLock`.
///
/// # Errors
/// `Malformed`.
pub fn cancel(m: v1::CancelLock) -> Result<Operation, WireError> {
    let (ino, kind) = (decode::inode(m.ino)?, kind(m.kind)?);
    Ok(Operation::CancelLock { ino, kind, owner: m.owner, wait: LogIndex(m.wait) })
}

/// How a lock stands, for the wire.
pub fn reply(answer: LockAnswer) -> v1::LockReply {
    use v1::lock_reply::State;
    let (state, fence, wait) = match answer {
        LockAnswer::Held { fence } => (State::Held, fence.0, 0),
        LockAnswer::Waiting { wait } => (State::Waiting, 0, wait.0),
        LockAnswer::Cancelled => (State::Cancelled, 0, 0),
        LockAnswer::Gone => (State::Gone, 0, 0),
    };
    v1::LockReply { state: state.into(), fence, wait }
}

fn held(lock: Lock) -> v1::HeldLock {
    v1::HeldLock {
        session: lock.by.session.0,
        owner: lock.by.owner,
        start: lock.range.start,
        length: lock.range.length(),
        exclusive: lock.mode == LockMode::Exclusive,
        fence: lock.fence.0,
    }
}

/// Who is in the way of a lock.
pub async fn test(ctx: &Context, m: v1::TestLockRequest) -> Result<v1::TestLockReply, WireError> {
    let kind = kind(m.kind)?;
    let question = Question {
        ino: decode::inode(m.ino)?,
        kind,
        by: LockOwner { session: SessionId(m.session), owner: m.owner },
        range: range(kind, m.start, m.length)?,
        mode: mode(m.exclusive),
    };
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let found = look::in_the_way(&*view.store, &question).map_err(super::refusal)?;
    Ok(v1::TestLockReply { held: found.map(held) })
}

/// Waits until a lock that was queued is held, or is waited for no more.
pub async fn wait(
    ctx: &Context,
    m: v1::WaitLockRequest,
    deadline: Duration,
) -> Result<v1::WaitLockReply, WireError> {
    let kind = kind(m.kind)?;
    let question = Question {
        ino: decode::inode(m.ino)?,
        kind,
        by: LockOwner { session: SessionId(m.session), owner: m.owner },
        range: range(kind, m.start, m.length)?,
        mode: mode(m.exclusive),
    };
    let number = LogIndex(m.wait);
    ctx.node.read(Consistency::Linearizable).await?;
    let look = || {
        let view = ctx.node.read_local()?;
        let standing = look::standing(&*view.store, &question, number).map_err(super::refusal)?;
        Ok((!matches!(standing, LockAnswer::Waiting { .. })).then_some(standing))
    };
    let standing = wait::until(ctx, wait::patience(m.timeout_ms, deadline), look).await?;
    let standing = standing.unwrap_or(LockAnswer::Waiting { wait: number });
    Ok(v1::WaitLockReply { lock: Some(reply(standing)) })
}
