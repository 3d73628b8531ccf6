//! MountAdd, MountRemove.

use cairn_types::{FileKind, FsError, Inode, Policy};

use crate::keys;
use crate::keys::events::EventKind;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::mounts::{self, MountRecord, MountSource};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::ops::mkdir;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State, writable};
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
    writable(&inode)?;
    if !state.is_empty(inode.ino)? {
        return refuse(FsError::NotEmpty);
    }
    Ok(inode)
}

/// Ends a mount. Its names become an orphan, purged in steps; an empty directory takes their place.
pub fn remove(state: &mut State<'_, '_>, target: &Target) -> Outcome<Answer> {
    state.must_administer()?;
    let old = state.resolve(target)?;
    let Some(record) = state.mount_at_root(&old)? else { return refuse(FsError::NoSuchMount) };
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
    state.delete(Table::Mounts, mounts::key(record.mount));
    let intents = keys::scan::<IntentRecord>(&*state.txn, &KeyRange::default(), INTENTS_MAX)?;
    for (_, intent) in intents {
        if matches!(intent.work, Work::Import { mount, .. } if mount == record.mount) {
            state.end_intent(intent.intent);
        }
    }
    Ok(Answer { inode: Some(fresh), mount: Some(record.mount), ..Answer::default() })
}
