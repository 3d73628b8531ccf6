//! `ListMounts`, `ListConflicts`, `ImportNow`: mounts, how they stand, and what of them was changed by others.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::{FsError, InodeId, IntentId, MountId};

use super::call::malformed;
use super::stat::{about, caller, imported, start_import};
use super::{Context, decode, policy, wait};
use crate::keys;
use crate::keys::conflicts::ConflictRow;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::mounts::MountRecord;
use crate::leader::wire;
use crate::namespace::mounting::{self, Figures};
use crate::namespace::read;
use crate::node::Consistency;
use crate::store::Rows;

/// Conflicts in one answer, at most.
const CONFLICTS_MAX: u32 = 1_000;

/// A mount as the wire has it.
pub fn mount(rows: &dyn Rows, record: &MountRecord) -> Result<v1::Mount, WireError> {
    let source = record.source.clone();
    let mode = mounting::mode(rows, record.mount).map_err(super::fault)?;
    Ok(v1::Mount {
        mount: record.mount.0,
        path: read::path_of(rows, record.root).map_err(super::refusal)?.into(),
        bucket: source.bucket,
        prefix: source.prefix,
        endpoint: source.endpoint,
        region: source.region,
        refresh_ms: source.refresh_ms,
        force_path_style: source.force_path_style,
        read_only: !mode.takes_writes(),
        root: record.root.0,
        access: Some(wire::access(&mode.access)),
        rules: Some(wire::rules(&mode.rules)),
        abilities: mode.abilities.as_ref().map(wire::abilities),
        read_only_because: mode.refused,
        figures: None,
    })
}

/// All mounts.
pub async fn list(ctx: &Context, request: v1::ListMountsRequest) -> Result<v1::ListMountsReply, WireError> {
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let rows: &dyn Rows = &*view.store;
    let mut mounts = Vec::new();
    for record in read::mounts(rows).map_err(super::fault)? {
        let figures = match request.figures {
            true => Some(figures(rows, record.mount)?),
            false => None,
        };
        mounts.push(v1::Mount { figures, ..mount(rows, &record)? });
    }
    Ok(v1::ListMountsReply { mounts })
}

/// How a mount stands. Sums that the state keeps: no objects are counted here.
fn figures(rows: &dyn Rows, mount: MountId) -> Result<v1::MountFigures, WireError> {
    let Figures { counts, oldest_pending } = mounting::figures(rows, mount).map_err(super::fault)?;
    Ok(v1::MountFigures {
        objects: counts.objects,
        bytes: counts.bytes,
        directories: counts.directories,
        unread_directories: counts.unread_directories,
        pending: counts.pending,
        pending_bytes: counts.pending_bytes,
        surplus: counts.surplus,
        oldest_pending_ns: oldest_pending.map_or(0, |since| since.0),
        conflicts: counts.conflicts,
        last_sync_ns: counts.last_sync.0,
        failing: counts.failing,
        last_error: counts.last_error,
    })
}

/// Conflicts of a mount, oldest first.
pub async fn conflicts(
    ctx: &Context,
    request: v1::ListConflictsRequest,
) -> Result<v1::ListConflictsReply, WireError> {
    if request.mount == 0 {
        return Err(malformed("mount"));
    }
    let limit = if request.limit == 0 { CONFLICTS_MAX } else { request.limit.min(CONFLICTS_MAX) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mount = MountId(request.mount);
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let rows: &dyn Rows = &*view.store;
    if read::mount(rows, mount).map_err(super::fault)?.is_none() {
        return Err(FsError::NoSuchMount.into());
    }
    let mut found = mounting::conflicts_after(rows, mount, request.after, limit + 1).map_err(super::fault)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let conflicts = found.into_iter().map(|(number, row)| conflict(rows, mount, number, row));
    Ok(v1::ListConflictsReply { conflicts: conflicts.collect::<Result<_, _>>()?, more })
}

fn conflict(
    rows: &dyn Rows,
    mount: MountId,
    number: u64,
    row: ConflictRow,
) -> Result<v1::MountConflict, WireError> {
    let kept_path = match row.kept {
        Some(kept) => policy::path(rows, kept)?,
        None => Vec::new(),
    };
    Ok(v1::MountConflict {
        conflict: number,
        mount: mount.0,
        key: row.key.into(),
        time_ns: row.time.0,
        expected_etag: row.expected_etag,
        found_etag: row.found_etag,
        kept_ino: row.kept.map_or(0, |kept| kept.0),
        kept_path: kept_path.into(),
        rule: wire::conflict_rule(row.rule).into(),
        what: row.what,
    })
}

/// Reads a directory of a mount from its bucket, however lately that was done: from a listing that begins after
/// the call did.
pub async fn import_now(
    ctx: &Context,
    request: v1::ImportNowRequest,
    deadline: Duration,
) -> Result<v1::ImportNowReply, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let target = decode::target(request.target)?;
    let tenure = ctx.tenure()?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, false).await?;
    let rows: &dyn Rows = &*view.store;
    let directory = read::resolve_as(rows, caller.as_ref(), &target).map_err(super::refusal)?;
    if !directory.is_dir() {
        return Err(FsError::NotDirectory.into());
    }
    read::may_list(rows, caller.as_ref(), &directory).map_err(super::refusal)?;
    // What could not be written there may be by now.
    tenure.retries.ask(directory.mount.ok_or(FsError::NoSuchMount)?);
    tenure.stir();
    // One that is under way may have listed what was changed since.
    if let Some(earlier) = under_way(rows, directory.ino)? {
        let over = || {
            let record = read::intent(&*ctx.node.read_local()?.store, earlier).map_err(super::fault)?;
            Ok(record.is_none_or(|record| record.failed).then_some(()))
        };
        if wait::until(ctx, wait::patience(0, deadline), over).await?.is_none() {
            return Err(FsError::Importing { intent: earlier }.into());
        }
    }
    let intent = start_import(ctx, directory.ino).await?;
    Ok(v1::ImportNowReply { intent: intent.0 })
}

/// The intent that reads a directory.
fn under_way(rows: &dyn Rows, directory: InodeId) -> Result<Option<IntentId>, WireError> {
    let import: Option<ImportRecord> = keys::get(rows, &imports::key(directory)).map_err(super::fault)?;
    let Some(intent) = import.and_then(|import| import.intent) else { return Ok(None) };
    let record = read::intent(rows, intent).map_err(super::fault)?;
    Ok(record.filter(|record| !record.failed).map(|record| record.intent))
}
