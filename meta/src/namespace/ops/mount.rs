//! MountAdd, MountRemove.

use cairn_types::{FileKind, FsError, Inode, MountId, Policy};

use crate::keys;
use crate::keys::conflicts::{self, ConflictRow};
use crate::keys::events::EventKind;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::mount_modes::{BucketAccess, MountMode, MountRules};
use crate::keys::mounts::{self, MountRecord, MountSource};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::ops::mkdir;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};
use crate::namespace::walk::{self, LastLink};
use crate::store::{KeyRange, Table};

/// Mounts of a cluster, at most.
const MOUNTS_MAX: usize = 1024;
/// Bytes of each text of a source, at most.
const TEXT_BYTES_MAX: usize = 1024;
/// Intents that are looked through for those of a removed mount; the rest end in its purge.
const INTENTS_MAX: usize = 2048;

fn directory() -> Birth {
    Birth { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0 }
}

/// Binds a directory to a bucket and prefix.
pub fn add(state: &mut State<'_, '_>, target: &Target, source: &MountSource) -> Outcome<Answer> {
    let texts = [&source.bucket, &source.prefix, &source.endpoint, &source.region];
    let prefix_fits = source.prefix.is_empty() || source.prefix.ends_with('/');
    if source.bucket.is_empty() || !prefix_fits || texts.iter().any(|t| t.len() > TEXT_BYTES_MAX) {
        return refuse(FsError::InvalidRequest);
    }
    let mounts = keys::scan::<MountRecord>(&*state.txn, &KeyRange::default(), MOUNTS_MAX)?;
    if mounts.len() >= MOUNTS_MAX {
        return refuse(FsError::TooLarge);
    }
    state.must_administer()?;
    let mut root = mount_point(state, target)?;
    let mount = state.cluster.next.mount;
    state.cluster.next.mount = mount.next();
    root.mount = Some(mount);
    state.change_inode(&mut root)?;
    state.tell_of(&root, EventKind::MountAdded { mount })?;
    let record = MountRecord { mount, root: root.ino, source: source.clone(), created: state.now() };
    state.put(mounts::key(mount), &record);
    let prefix = source.prefix.clone().into_bytes();
    let import = ImportRecord { mount, prefix, imported_at: None, intent: None };
    state.put(imports::key(root.ino), &import);
    Ok(Answer { inode: Some(root), mount: Some(mount), ..Answer::default() })
}

/// The empty native directory at `target`, made if absent.
fn mount_point(state: &mut State<'_, '_>, target: &Target) -> Outcome<Inode> {
    let walked = state.walk(target, LastLink::Follow)?;
    let inode = match walked.end {
        walk::End::Dentry(dentry) if dentry.found.is_none() => {
            return mkdir::make_at(state, &dentry, &directory());
        }
        _ => walked.inode()?,
    };
    if !inode.is_dir() {
        return refuse(FsError::NotDirectory);
    }
    if inode.ino == cairn_types::InodeId::ROOT {
        return refuse(FsError::IsRoot);
    }
    if state.mount_at_root(&inode)?.is_some() {
        return refuse(FsError::IsMountRoot);
    }
    state.unmounted(&inode)?;
    if !state.is_empty(inode.ino)? {
        return refuse(FsError::NotEmpty);
    }
    Ok(inode)
}

/// As [`add`], of a mount of which it is noted what its bucket holds.
pub fn add_as(
    state: &mut State<'_, '_>,
    target: &Target,
    source: &MountSource,
    access: &BucketAccess,
    rules: MountRules,
) -> Outcome<Answer> {
    check_access(access)?;
    for (_, other) in keys::scan::<MountRecord>(&*state.txn, &KeyRange::default(), MOUNTS_MAX)? {
        let same = other.source.bucket == source.bucket && other.source.endpoint == source.endpoint;
        let (a, b) = (&other.source.prefix, &source.prefix);
        if same && (a.starts_with(b.as_str()) || b.starts_with(a.as_str())) {
            return refuse(FsError::MountOverlap { mount: other.mount });
        }
    }
    let answer = add(state, target, source)?;
    let (Some(mount), Some(root)) = (answer.mount, &answer.inode) else { return Ok(answer) };
    let mode = MountMode { rules, access: access.clone(), ..MountMode::default() };
    state.put_mount_mode(mount, mode)?;
    let import: Option<ImportRecord> = state.import_of(root.ino)?;
    state.put_import(root.ino, None)?;
    state.put_import(root.ino, import.as_ref())?;
    state.count_mount(mount, |counts| (counts.directories, counts.unread_directories) = (1, 1))?;
    Ok(answer)
}

fn check_access(access: &BucketAccess) -> Outcome<()> {
    let BucketAccess { profile, credentials_file, sse, sse_kms_key, storage_class, .. } = access;
    let texts = [profile, credentials_file, sse, sse_kms_key, storage_class];
    if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        return refuse(FsError::InvalidRequest);
    }
    Ok(())
}

/// The mount whose root is at a target.
fn mount_at(state: &State<'_, '_>, target: &Target) -> Outcome<(Inode, MountRecord)> {
    state.must_administer()?;
    let root = state.resolve(target)?;
    match state.mount_at_root(&root)? {
        Some(record) => Ok((root, record)),
        None => refuse(FsError::NoSuchMount),
    }
}

/// Changes how a mount is kept. What its endpoint can do is found out anew; until then it is not written to.
pub fn set(
    state: &mut State<'_, '_>,
    target: &Target,
    refresh_ms: u64,
    access: &BucketAccess,
    rules: MountRules,
) -> Outcome<Answer> {
    check_access(access)?;
    let (_, mut record) = mount_at(state, target)?;
    let mount = record.mount;
    record.source.refresh_ms = refresh_ms;
    state.put(mounts::key(mount), &record);
    let known = state.mount_mode(mount)?.unwrap_or_default();
    state.end_failed(known.probe)?;
    let probe = state.unfinished(known.probe)?;
    if let Some(probe) = probe {
        state.end_object_intent(&probe)?;
    }
    let mode = MountMode { rules, access: access.clone(), ..MountMode::default() };
    state.put_mount_mode(mount, mode)?;
    Ok(Answer { mount: Some(mount), ..Answer::default() })
}

/// Forgets a conflict.
pub fn dismiss(state: &mut State<'_, '_>, mount: MountId, conflict: u64) -> Outcome<Answer> {
    state.must_administer()?;
    let key = conflicts::key(mount, conflict);
    if state.get::<ConflictRow>(&key)?.is_none() {
        return refuse(FsError::NotFound);
    }
    state.delete(Table::Conflicts, key);
    state.count_mount(mount, |counts| counts.conflicts = counts.conflicts.saturating_sub(1))?;
    Ok(Answer { mount: Some(mount), ..Answer::default() })
}

/// Ends a mount. Its names become an orphan, purged in steps; an empty directory takes their place.
pub fn remove(state: &mut State<'_, '_>, target: &Target, abandon: bool) -> Outcome<Answer> {
    let (old, record) = mount_at(state, target)?;
    let mount = record.mount;
    let counts = state.mount_counts(mount)?;
    let pending = counts.pending + counts.surplus;
    if pending > 0 && !abandon {
        return refuse(FsError::MountPending { pending });
    }
    let Some((place, _)) = walk::inode(&*state.txn, old.ino)? else { return refuse(FsError::Stale) };
    let birth = Birth { kind: FileKind::Directory, mode: old.mode, uid: old.uid, gid: old.gid };
    let policy: Option<Policy> = old.policy;
    let fresh = Inode { policy, btime: old.btime, ..state.new_inode(&birth, None) };
    let what = EventKind::MountRemoved { mount: record.mount, fresh: fresh.ino };
    state.tell(place.parent, &place.name, &old, what)?;
    state.put_at(&place, &fresh);
    state.put(places::key(fresh.ino), &place);
    state.move_xattrs(old.ino, fresh.ino)?;
    state.delete(Table::Places, places::key(old.ino));
    state.put(orphans::key(old.ino), &Orphan { inode: old, since: None });
    state.delete(Table::Mounts, mounts::key(mount));
    state.drop_mount_mode(mount);
    let intents = keys::scan::<IntentRecord>(&*state.txn, &KeyRange::default(), INTENTS_MAX)?;
    for (_, intent) in intents {
        match &intent.work {
            Work::Import { mount: of, .. } if *of == mount => state.end_intent(intent.intent),
            work if work.mount() == Some(mount) => state.end_object_intent(&intent)?,
            _ => {}
        }
    }
    Ok(Answer { inode: Some(fresh), mount: Some(record.mount), ..Answer::default() })
}
