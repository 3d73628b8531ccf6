//! Pure reads of a point in time: what clients ask for. [`jobs`](super::jobs) has the leader's.

mod callers;
mod xattrs;

use std::collections::BTreeSet;

use cairn_types::{
    ChunkId, Credentials, Extent, ExtentSource, FsError, Inode, InodeId, IntentId, MountId, Policy, Timestamp,
};

use super::error::{NamespaceError, Outcome, refuse};
pub use super::names::{Listed, Listing, Names, list, list_some, visit_some};
use super::operation::Target;
pub use super::walk::policy_and_origin;
use super::walk::{self, LastLink};
use crate::keys;
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::contents;
use crate::keys::counters::{self, ClusterRecord, Granted};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{self, IntentRecord};
use crate::keys::loads::{self, LoadRecord};
use crate::keys::mounts::{self, MountRecord};
use crate::keys::places::{self, Place};
use crate::keys::{Record, RowFault};
use crate::store::{KeyRange, Rows, Table};

pub use self::callers::{Access, access, caller, may_list, may_read, may_watch};
pub use self::xattrs::{xattr, xattr_as, xattr_names, xattr_names_as};

/// Extents in one answer, at most.
pub const EXTENTS_MAX: usize = 1024;
/// Mounts in one answer, at most; there are never more.
const MOUNTS_MAX: usize = 1024;
/// A directory is not read from S3 again before this age, whatever its mount says: a reader must
/// find it fresh after it waited.
pub const REFRESH_MS_MIN: u64 = 1_000;

/// An inode and what is in force there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The inode.
    pub inode: Inode,
    /// The policy in force: its own or inherited.
    pub policy: Policy,
    /// The open tail: its primary knows the length.
    pub tail: Option<ChunkRecord>,
}

/// A range of a file and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The inode and what is in force there.
    pub stat: Stat,
    /// The extents that touch the range, in order; gaps read as zeros.
    pub extents: Vec<Extent>,
    /// The chunks of those extents.
    pub chunks: Vec<ChunkRecord>,
    /// The mounts of those extents.
    pub mounts: Vec<MountRecord>,
    /// The range has further extents: ask again from the last one's end.
    pub more: bool,
}

/// A directory of a mount that must be read from S3 before the read can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportNeeded {
    /// The directory.
    pub directory: InodeId,
    /// The intent that is reading it already.
    pub under_way: Option<IntentId>,
}

fn last_link(target: &Target) -> LastLink {
    if target.no_follow { LastLink::Stop } else { LastLink::Follow }
}

/// What the state knows of itself: identity, time, counts.
///
/// # Errors
/// A fault of the store.
pub fn cluster(rows: &dyn Rows) -> Result<ClusterRecord, RowFault> {
    Ok(keys::get(rows, counters::KEY)?.unwrap_or_default())
}

/// The load of a dump that is under way.
///
/// # Errors
/// A fault of the store.
pub fn load(rows: &dyn Rows) -> Result<Option<LoadRecord>, RowFault> {
    keys::get(rows, loads::KEY)
}

/// Bytes granted to open chunks, as far as they count towards the lag.
///
/// # Errors
/// A fault of the store.
pub fn granted(rows: &dyn Rows) -> Result<u64, RowFault> {
    let granted: Option<Granted> = keys::get(rows, counters::GRANTED_KEY)?;
    Ok(granted.unwrap_or_default().bytes)
}

/// The inode of a target, a last symlink followed unless it says otherwise.
///
/// # Errors
/// [`FsError`] as path resolution has them.
pub fn resolve(rows: &dyn Rows, target: &Target) -> Outcome<Inode> {
    resolve_as(rows, None, target)
}

/// As [`resolve`], by a caller that is checked.
///
/// # Errors
/// As [`resolve`]; `PermissionDenied`.
pub fn resolve_as(rows: &dyn Rows, caller: Option<&Credentials>, target: &Target) -> Outcome<Inode> {
    Ok(walk::walk(rows, target, last_link(target), caller, &mut |_| {})?.inode()?)
}

/// The inode, the policy in force and the open tail.
///
/// # Errors
/// As [`resolve`].
pub fn stat(rows: &dyn Rows, target: &Target) -> Outcome<Stat> {
    stat_as(rows, None, target)
}

/// As [`stat`], by a caller that is checked.
///
/// # Errors
/// As [`stat`]; `PermissionDenied`.
pub fn stat_as(rows: &dyn Rows, caller: Option<&Credentials>, target: &Target) -> Outcome<Stat> {
    stat_on_way(rows, caller, target, &mut |_| {})
}

/// As [`stat_as`], and whether the way led through a directory of a mount: [`import_needed`] says then
/// whether the outcome counts.
pub fn stat_and_way(rows: &dyn Rows, caller: Option<&Credentials>, target: &Target) -> (Outcome<Stat>, bool) {
    let mut mounted = false;
    let stat = stat_on_way(rows, caller, target, &mut |dir| mounted |= dir.mount.is_some());
    (stat, mounted)
}

fn stat_on_way(
    rows: &dyn Rows,
    caller: Option<&Credentials>,
    target: &Target,
    enter: &mut dyn FnMut(&Inode),
) -> Outcome<Stat> {
    let walked = walk::walk(rows, target, last_link(target), caller, enter)?;
    // The way down from an inode that is not the root may lie under a policy further up.
    let known = walked.policy;
    let inode = walked.inode()?;
    let policy = match known {
        Some(policy) => policy,
        None => walk::policy_at(rows, &inode)?,
    };
    let tail = match inode.tail {
        Some(tail) => chunk(rows, tail.chunk)?,
        None => None,
    };
    Ok(Stat { inode, policy, tail })
}

/// The extents of a file that touch `[offset, offset + length)`, `EXTENTS_MAX` at most.
///
/// # Errors
/// As [`resolve`]; `IsDirectory`, `NotFile`.
pub fn extents(rows: &dyn Rows, target: &Target, offset: u64, length: u64) -> Outcome<FileRange> {
    extents_as(rows, None, target, (offset, length))
}

/// As [`extents`], by a caller that is checked.
///
/// # Errors
/// As [`extents`]; `PermissionDenied`.
pub fn extents_as(
    rows: &dyn Rows,
    caller: Option<&Credentials>,
    target: &Target,
    (offset, length): (u64, u64),
) -> Outcome<FileRange> {
    let stat = stat_as(rows, caller, target)?;
    if stat.inode.is_dir() {
        return refuse(FsError::IsDirectory);
    }
    if !stat.inode.is_file() {
        return refuse(FsError::NotFile);
    }
    may_read(rows, caller, target, &stat.inode)?;
    let mut list = Vec::new();
    for span in contents::of(rows, stat.inode.ino)?.spans(offset, offset.saturating_add(length)) {
        if list.len() > EXTENTS_MAX {
            break;
        }
        let (zero, here) = (extents::key(span.content, 0), extents::key(span.content, span.from));
        if let Some((key, bytes)) = rows.last_before(Table::Extents, &zero, &here)? {
            let first = extents::extent(&key, ExtentRow::from_bytes(&key, &bytes)?)?;
            if first.end() > span.from {
                list.push(first);
            }
        }
        let range = extents::starting_in(span.content, span.from, span.until);
        for (key, row) in keys::scan::<ExtentRow>(rows, &range, EXTENTS_MAX + 1 - list.len())? {
            list.push(extents::extent(&key, row)?);
        }
    }
    let more = list.len() > EXTENTS_MAX;
    list.truncate(EXTENTS_MAX);
    let (chunks, mounts) = sources(rows, &list)?;
    Ok(FileRange { stat, extents: list, chunks, mounts, more })
}

/// The chunks and mounts that extents point at, each once.
fn sources(rows: &dyn Rows, list: &[Extent]) -> Outcome<(Vec<ChunkRecord>, Vec<MountRecord>)> {
    let mut chunk_ids = BTreeSet::new();
    let mut mount_ids = BTreeSet::new();
    for extent in list {
        match &extent.source {
            ExtentSource::Chunk { chunk, .. } => drop(chunk_ids.insert(*chunk)),
            ExtentSource::Object { object, .. } => drop(mount_ids.insert(object.mount)),
        }
    }
    let mut records = Vec::new();
    for id in chunk_ids {
        records.extend(chunk(rows, id)?);
    }
    let mut bound = Vec::new();
    for id in mount_ids {
        bound.extend(mount(rows, id)?);
    }
    Ok((records, bound))
}

/// What is known of a chunk.
///
/// # Errors
/// A fault of the store.
pub fn chunk(rows: &dyn Rows, chunk: ChunkId) -> Result<Option<ChunkRecord>, RowFault> {
    keys::get(rows, &chunks::key(chunk))
}

/// A mount.
///
/// # Errors
/// A fault of the store.
pub fn mount(rows: &dyn Rows, mount: MountId) -> Result<Option<MountRecord>, RowFault> {
    keys::get(rows, &mounts::key(mount))
}

/// All mounts.
///
/// # Errors
/// A fault of the store.
pub fn mounts(rows: &dyn Rows) -> Result<Vec<MountRecord>, RowFault> {
    let found = keys::scan(rows, &KeyRange::default(), MOUNTS_MAX)?;
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

/// The absolute path of an inode's primary link.
///
/// # Errors
/// [`FsError::Stale`] when it is gone; [`FsError::TooLarge`] above 4,096 levels.
pub fn path_of(rows: &dyn Rows, ino: InodeId) -> Outcome<Vec<u8>> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != InodeId::ROOT {
        if names.len() >= 4096 {
            return refuse(FsError::TooLarge);
        }
        let Some(place) = keys::get::<Place>(rows, &places::key(at))? else { return refuse(FsError::Stale) };
        at = place.parent;
        names.push(place.name);
    }
    if names.is_empty() {
        return Ok(b"/".to_vec());
    }
    Ok(names.into_iter().rev().flat_map(|name| [b"/".to_vec(), name].concat()).collect())
}

/// An unfinished or failed intent; `None` when it is done.
///
/// # Errors
/// A fault of the store.
pub fn intent(rows: &dyn Rows, intent: IntentId) -> Result<Option<IntentRecord>, RowFault> {
    keys::get(rows, &intents::key(intent))
}

/// The first directory on a target's way that was never read from its bucket, or not since
/// `refresh_ms`; with `contents` the directory at its end counts too (a listing).
///
/// # Errors
/// A fault of the store. That nothing is at the target is no error here.
pub fn import_needed(
    rows: &dyn Rows,
    target: &Target,
    contents: bool,
    now: Timestamp,
) -> Result<Option<ImportNeeded>, RowFault> {
    let mut entered: Vec<InodeId> = Vec::new();
    let mut enter = |dir: &Inode| {
        if dir.mount.is_some() {
            entered.push(dir.ino);
        }
    };
    match walk::walk(rows, target, last_link(target), None, &mut enter) {
        Ok(walked) => {
            if let Ok(inode) = walked.inode()
                && contents
                && inode.is_dir()
                && inode.mount.is_some()
            {
                entered.push(inode.ino);
            }
        }
        Err(NamespaceError::Refused(_)) => {}
        Err(NamespaceError::Fault(fault)) => return Err(fault),
    }
    for directory in entered {
        if let Some(needed) = stale(rows, directory, now)? {
            return Ok(Some(needed));
        }
    }
    Ok(None)
}

/// The directory, when it was never read from its bucket, or not since `refresh_ms`.
pub(super) fn stale(
    rows: &dyn Rows,
    directory: InodeId,
    now: Timestamp,
) -> Result<Option<ImportNeeded>, RowFault> {
    let Some(import) = keys::get::<ImportRecord>(rows, &imports::key(directory))? else { return Ok(None) };
    let Some(bound) = mount(rows, import.mount)? else { return Ok(None) };
    let refresh_ms = bound.source.refresh_ms;
    let fresh = import.imported_at.is_some_and(|at| {
        let age_ms = now.0.saturating_sub(at.0).max(0).cast_unsigned() / 1_000_000;
        refresh_ms == 0 || age_ms <= refresh_ms.max(REFRESH_MS_MIN)
    });
    if fresh {
        return Ok(None);
    }
    let under_way = match import.intent {
        Some(id) => intent(rows, id)?.filter(|record| !record.failed).map(|record| record.intent),
        None => None,
    };
    Ok(Some(ImportNeeded { directory, under_way }))
}

/// Bytes of a file that are not in S3 yet, and the chunks that hold them. A tail is not counted: it
/// must be sealed first. Chunks whose policy is never to persist count too.
///
/// # Errors
/// A fault of the store.
pub fn unpersisted(rows: &dyn Rows, ino: InodeId) -> Result<(u64, BTreeSet<ChunkId>), RowFault> {
    let (mut bytes, mut waiting) = (0, BTreeSet::new());
    let mut persisted = BTreeSet::new();
    for span in contents::of(rows, ino)?.spans(0, u64::MAX) {
        let mut range = extents::starting_in(span.content, span.from, span.until);
        loop {
            let found = keys::scan::<ExtentRow>(rows, &range, EXTENTS_MAX)?;
            let full = found.len() == EXTENTS_MAX;
            for (key, row) in found {
                range.from = [key.as_slice(), &[0]].concat();
                let ExtentSource::Chunk { chunk: id, .. } = row.source else { continue };
                if persisted.contains(&id) {
                    continue;
                }
                if waiting.contains(&id) || chunk(rows, id)?.is_none_or(|record| record.place.is_none()) {
                    bytes += row.length;
                    waiting.insert(id);
                } else {
                    persisted.insert(id);
                }
            }
            if !full {
                break;
            }
        }
    }
    Ok((bytes, waiting))
}
