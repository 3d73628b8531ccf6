//! InitCluster: the first entry.

use cairn_types::{ClusterId, FileKind, FsError, Inode, InodeId, LogIndex, Policy};

use crate::keys::counters::{self, EventCounter};
use crate::keys::places::{self, Place};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};

/// Makes the root, once.
pub fn init(state: &mut State<'_, '_>, cluster: ClusterId, policy: Policy) -> Outcome<Answer> {
    policy.check()?;
    if cluster.is_nil() {
        return refuse(FsError::InvalidRequest);
    }
    if state.cluster.cluster == cluster {
        return Ok(Answer::default());
    }
    if !state.cluster.cluster.is_nil() {
        return refuse(FsError::Exists);
    }
    state.cluster.cluster = cluster;
    let birth = Birth { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0 };
    let next = state.cluster.next.inode;
    let root = Inode { ino: InodeId::ROOT, policy: Some(policy), ..state.new_inode(&birth, None) };
    state.cluster.next.inode = next;
    let place = Place::of_root();
    state.put_at(&place, &root);
    state.put(places::key(root.ino), &place);
    state.cluster.counts.inodes += 1;
    // All that ever changes here is told, from the first entry on.
    let counter = EventCounter { first: LogIndex(0), first_number: 0, kept: 0 };
    state.put(counters::EVENTS_KEY.to_vec(), &counter);
    Ok(Answer { inode: Some(root), ..Answer::default() })
}
