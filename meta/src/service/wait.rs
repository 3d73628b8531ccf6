//! `WaitIntent`, `WaitTree`, `WaitPersisted` and `WaitFile`: answered when the state says so, or when the time is up.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, FsError, Inode, InodeId, IntentId, Persist};

use super::Context;
use super::call::malformed;
use crate::keys::RowFault;
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::leader::{Tenure, aging, sweep};
use crate::namespace::{Target, jobs, read};
use crate::node::Consistency;
use crate::store::Rows;

/// Calls that wait for a file to change, and how many of them look at the usual pace; with more each looks
/// less often, so that all together cost no more.
pub const FILE_WAITS_MAX: usize = 1 << 13;
const AT_FULL_PACE: usize = 64;
/// The longest that one call waits.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The shortest time between two looks at the state: under load it changes all the time.
const PACE: Duration = Duration::from_millis(10);
/// How long a primary may take to close a chunk, before it is sealed without its help.
const CLOSE_WITHIN: Duration = Duration::from_millis(1_500);

/// How long a call may wait: what it asks for, within its deadline.
pub fn patience(timeout_ms: u64, deadline: Duration) -> Duration {
    // Answered a little before the deadline: "not yet" says more than a deadline that passed.
    let most = deadline.saturating_sub(deadline / 10).min(WAIT_MAX);
    if timeout_ms == 0 { most } else { Duration::from_millis(timeout_ms).min(most) }
}

/// Looks at the state at each change until `done` answers, or `patience` is over.
pub async fn until<T>(
    ctx: &Context,
    patience: Duration,
    done: impl FnMut() -> Result<Option<T>, WireError>,
) -> Result<Option<T>, WireError> {
    until_at(ctx, patience, || PACE, done).await
}

/// As [`until`], at a pace that may change.
async fn until_at<T>(
    ctx: &Context,
    patience: Duration,
    pace: impl Fn() -> Duration,
    mut done: impl FnMut() -> Result<Option<T>, WireError>,
) -> Result<Option<T>, WireError> {
    let mut applied = ctx.node.applied();
    let watching = async {
        loop {
            if let Some(answer) = done()? {
                return Ok(Some(answer));
            }
            if applied.changed().await.is_err() {
                return Err(ServiceError::Stopping.into());
            }
            tokio::time::sleep(pace()).await;
        }
    };
    tokio::time::timeout(patience, watching).await.unwrap_or(Ok(None))
}

/// Waits until an intent is done. It is done when it is gone; one that failed for good is kept
/// and says why.
pub async fn intent(
    ctx: &Context,
    request: v1::WaitIntentRequest,
    deadline: Duration,
) -> Result<v1::WaitIntentReply, WireError> {
    if request.intent == 0 {
        return Err(malformed("intent"));
    }
    let intent = IntentId(request.intent);
    ctx.node.read(Consistency::Linearizable).await?;
    let look = || {
        let record = read::intent(&*ctx.node.read_local()?.store, intent).map_err(super::fault)?;
        Ok(match record {
            None => Some(v1::WaitIntentReply { done: true, failure: String::new() }),
            Some(r) if r.failed => Some(v1::WaitIntentReply { done: true, failure: r.message }),
            Some(_) => None,
        })
    };
    let waited = until(ctx, patience(request.timeout_ms, deadline), look).await?;
    Ok(waited.unwrap_or_default())
}

/// Waits until a removed tree is all gone.
pub async fn tree(
    ctx: &Context,
    request: v1::WaitTreeRequest,
    deadline: Duration,
) -> Result<v1::WaitTreeReply, WireError> {
    if request.ino == 0 {
        return Err(malformed("ino"));
    }
    let top = InodeId(request.ino);
    let patience = patience(request.timeout_ms, deadline);
    let mut purged = 0;
    // A server that was behind would take a tree that it has not heard of for gone.
    ctx.node.read(Consistency::Linearizable).await?;
    let look = || {
        let tree = jobs::tree(&*ctx.node.read_local()?.store, top).map_err(super::fault)?;
        purged = tree.as_ref().map_or(purged, |tree| tree.purged);
        Ok(tree.is_none().then_some(()))
    };
    let done = until(ctx, patience, look).await?.is_some();
    Ok(v1::WaitTreeReply { done, purged })
}

/// Waits until every byte of a file below its present end is in S3.
pub async fn persisted(
    ctx: &Context,
    request: v1::WaitPersistedRequest,
    deadline: Duration,
) -> Result<v1::WaitPersistedReply, WireError> {
    let target = super::decode::target(request.target)?;
    let patience = patience(request.timeout_ms, deadline);
    let tenure = ctx.tenure()?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    super::stat::imported(ctx, &view, &target, false).await?;
    let stat = read::stat(&*view.store, &target).map_err(super::refusal)?;
    if !stat.inode.is_file() {
        return Err(FsError::NotFile.into());
    }
    if stat.policy.persist == Persist::Never && stat.inode.mount.is_none() {
        return Err(FsError::NotSupported.into());
    }
    let started = ctx.clock.boottime();
    let open = open_chunks(&*view.store, &stat.inode).map_err(super::fault)?;
    let settling = futures::future::join_all(open.iter().map(|c| close(&tenure, c)));
    // In time or not: what is not sealed yet is among what is waited for below.
    drop(tokio::time::timeout(patience, settling).await);
    // What is written from now on need not be waited for.
    let wanted = wanted(&tenure, stat.inode.ino, &open)?;
    tenure.urge(wanted.iter().copied());
    let look = || {
        let left = left_of(ctx, &wanted)?;
        Ok((left == 0).then_some(()))
    };
    let left = patience.saturating_sub(ctx.clock.boottime().saturating_sub(started));
    let done = until(ctx, left, look).await?.is_some();
    Ok(v1::WaitPersistedReply { done, unpersisted_bytes: left_of(ctx, &wanted)? })
}

/// Waits until a file is not as the caller knows it. A file that is gone answers `Stale`.
pub async fn file(
    ctx: &Context,
    request: v1::WaitFileRequest,
    deadline: Duration,
) -> Result<v1::WaitFileReply, WireError> {
    if request.ino == 0 {
        return Err(malformed("ino"));
    }
    let _place = ctx.file_waits.try_acquire().map_err(|_| ServiceError::Overloaded)?;
    let target = Target::ino(InodeId(request.ino));
    ctx.node.read(Consistency::Linearizable).await?;
    let look = || {
        let view = ctx.node.read_local()?;
        let inode = read::resolve(&*view.store, &target).map_err(super::refusal)?;
        let tail = inode.tail.map_or(0, |tail| tail.chunk.0);
        Ok(((inode.version, tail) != (request.version, request.tail)).then_some(()))
    };
    let pace = || {
        let waiting = FILE_WAITS_MAX - ctx.file_waits.available_permits();
        PACE * u32::try_from(waiting.div_ceil(AT_FULL_PACE)).unwrap_or(1).max(1)
    };
    let changed = until_at(ctx, patience(request.timeout_ms, deadline), pace, look).await?.is_some();
    Ok(v1::WaitFileReply { changed })
}

/// What must be in S3 before a file is: its chunks that are not, and of those that were `open` the
/// ones whose end is not decided yet. No extent names the bytes of an open tail.
fn wanted(tenure: &Tenure, ino: InodeId, open: &[ChunkRecord]) -> Result<BTreeSet<ChunkId>, WireError> {
    let view = tenure.local()?;
    let (_, mut wanted) = read::unpersisted(&*view.store, ino).map_err(super::fault)?;
    for record in open {
        let now = read::chunk(&*view.store, record.chunk).map_err(super::fault)?;
        if now.is_some_and(|now| now.state != ChunkState::Sealed) {
            wanted.insert(record.chunk);
        }
    }
    Ok(wanted)
}

/// Bytes of those of `wanted` that are not in S3 yet. One that is gone needs no copy there.
fn left_of(ctx: &Context, wanted: &BTreeSet<ChunkId>) -> Result<u64, WireError> {
    let view = ctx.node.read_local()?;
    let mut left = 0;
    for chunk in wanted {
        let record = read::chunk(&*view.store, *chunk).map_err(super::fault)?;
        if let Some(record) = record.filter(|r| r.place.is_none() && !r.is_dead()) {
            left += record.sealed_length().unwrap_or(record.extent_end).max(1);
        }
    }
    Ok(left)
}

/// Closes a chunk and waits until it is sealed.
async fn close(tenure: &Tenure, record: &ChunkRecord) {
    if record.state == ChunkState::Open {
        let closed = tokio::time::timeout(CLOSE_WITHIN, aging::close(tenure, record, false)).await;
        if closed.is_err()
            && let Err(error) = sweep::begin_seal(tenure, record).await
        {
            tracing::debug!(chunk = %record.chunk, %error, "not sealed: it may be closed already");
        }
    }
    if let Ok(Some(now)) = tenure.chunk(record.chunk) {
        // A failure shows as bytes that are not persisted.
        drop(super::seal::decided(tenure, now).await);
    }
}

/// The chunks of a file that are not sealed: its tail, and shared ones.
fn open_chunks(rows: &dyn Rows, inode: &Inode) -> Result<Vec<ChunkRecord>, RowFault> {
    let (_, mut ids) = read::unpersisted(rows, inode.ino)?;
    ids.extend(inode.tail.map(|t| t.chunk));
    let records = ids.into_iter().filter_map(|c| read::chunk(rows, c).transpose());
    let records: Vec<ChunkRecord> = records.collect::<Result<_, _>>()?;
    Ok(records.into_iter().filter(|r| r.state != ChunkState::Sealed).collect())
}
