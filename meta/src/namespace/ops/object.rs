//! What became of work on objects: ObjectWritten, ObjectGone; and CreateObjectDeletion.

use cairn_types::{FsError, Inode, InodeId, IntentId, LogIndex, MountId, NodeId, ObjectKey};

use crate::keys::intents::{IntentRecord, Work};
use crate::keys::objects::{NOBODY, ObjectRow};
use crate::keys::pictures::{self, PictureRow};
use crate::keys::surplus::{self, SurplusRow};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::ops::put::picture_of;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;

/// No object has this ETag: to delete that version tells which one is there.
const NO_ETAG: &str = "00000000000000000000000000000000";

/// Ranges behind what an object holds, at most, that are laid anew when the file's begin becomes it.
const BEYOND_MAX: usize = 512;

/// A PutObject that was done.
struct Written<'w> {
    mount: MountId,
    key: &'w [u8],
    version: LogIndex,
    etag: &'w str,
    size: u64,
    /// Bytes were only added to its file meanwhile, if at all.
    only_grown: bool,
}

/// The object is there. What is known of its key is what the bucket holds now, whatever else has happened.
pub fn written(state: &mut State<'_, '_>, intent: IntentId, etag: &str, size: u64) -> Outcome<Answer> {
    let record = state.intent(intent)?;
    let Work::PutObject { mount, ino, key, version, length, .. } = &record.work else {
        return refuse(FsError::InvalidRequest);
    };
    if record.failed || size != *length || etag.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    let frozen = state.keep_of(*ino)?.is_some_and(|keep| keep.intent == intent && keep.frozen);
    let only_grown = frozen || has_only_grown(state, intent, *ino, *length)?;
    state.end_object_intent(&record)?;
    if state.mount(*mount)?.is_none() {
        return Ok(Answer::default());
    }
    if state.object(*mount, key)?.is_some_and(|row| row.ino == NOBODY) {
        state.end_surplus(*mount, key)?;
    }
    let written = Written { mount: *mount, key, version: *version, etag, size, only_grown };
    match walk::inode(&*state.txn, *ino)? {
        Some((_, inode)) => settle(state, &inode, &written)?,
        None => {
            state.put_object(*mount, key, &ObjectRow { ino: NOBODY, etag: etag.to_owned(), size })?;
            state.make_surplus(*mount, key)?;
        }
    }
    state.shield(*mount, key)?;
    Ok(Answer::default())
}

/// True when the file begins with all that the intent wrote, as it was: an object is made of it from time to time
/// while it grows, and the next is to take over what this one has.
fn has_only_grown(state: &State<'_, '_>, intent: IntentId, ino: InodeId, length: u64) -> Outcome<bool> {
    let (Some(picture), Some((_, inode))) =
        (state.get::<PictureRow>(&pictures::key(intent))?, walk::inode(&*state.txn, ino)?)
    else {
        return Ok(false);
    };
    if !inode.is_file() || inode.size < length {
        return Ok(false);
    }
    let beyond = state.extents_within(ino, length, u64::MAX)?;
    if beyond.len() > BEYOND_MAX {
        return Ok(false);
    }
    let now = picture_of(state, &Inode { size: length, ..inode })?;
    Ok(now.is_some_and(|(now, ..)| now.pieces == picture.pieces))
}

fn settle(state: &mut State<'_, '_>, inode: &Inode, written: &Written<'_>) -> Outcome<()> {
    let Written { mount, key, version, etag, size, only_grown } = *written;
    let former = state.home(inode)?;
    state.put_object(mount, key, &ObjectRow { ino: inode.ino, etag: etag.to_owned(), size })?;
    state.put_home(mount, inode.ino, key);
    let Some(mut row) = state.pending(mount, inode.ino)? else {
        // Cannot be: what is pending of an inode stays as long as an intent is at it.
        return Ok(());
    };
    row.intent = None;
    if inode.is_file() {
        let object = ObjectKey { mount, key: key.to_vec(), etag: etag.to_owned() };
        if row.content_at < version {
            (row.content, row.content_at) = (false, LogIndex(0));
            state.become_object(inode, &object, size)?;
        } else if only_grown {
            state.become_object(inode, &object, size)?;
        } else {
            state.repoint(inode, &object)?;
        }
        if row.attributes_at < version {
            row.attributes_at = LogIndex(0);
        }
    } else {
        // Moved on meanwhile, it needs one elsewhere.
        row.marker &= state.wanted_key(inode)?.as_deref() != Some(key);
    }
    if let Some(former) = former.filter(|former| former != key) {
        state.make_surplus(mount, &former)?;
    }
    state.settle_pending(inode, row)
}

/// Makes the intent that deletes a surplus object, or answers the one under way.
pub fn create_deletion(
    state: &mut State<'_, '_>,
    mount: MountId,
    key: &[u8],
    assignee: NodeId,
) -> Outcome<Answer> {
    if !state.mount_mode(mount)?.is_some_and(|mode| mode.takes_writes()) {
        return refuse(FsError::ReadOnlyMount { mount });
    }
    let at = surplus::key(mount, key);
    let Some(mut row) = state.get::<SurplusRow>(&at)? else { return Ok(Answer::default()) };
    if let Some(record) = state.unfinished(row.intent)? {
        return Ok(Answer { intent: Some(record.intent), ..Answer::default() });
    }
    let Some(known) = state.object(mount, key)?.filter(|known| known.ino == NOBODY) else {
        state.end_surplus(mount, key)?;
        return Ok(Answer::default());
    };
    if state.claim(mount, key)?.is_some() {
        return refuse(FsError::KeyBusy);
    }
    // A file that is to be there replaces it.
    if let Some(record) = state.mount(mount)?
        && let Some(file) = state.file_at_key(&record, key)?
        && state.pending(mount, file.ino)?.is_some()
    {
        return refuse(FsError::KeyBusy);
    }
    state.end_failed(row.intent)?;
    let etag = if known.etag.is_empty() { NO_ETAG.to_owned() } else { known.etag };
    let intent = state.new_intent(assignee, Work::DeleteObject { mount, key: key.to_vec(), etag });
    state.put_claim(mount, key, intent);
    row.intent = Some(intent);
    state.put(at, &row);
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// The object is not there any more.
pub fn gone(state: &mut State<'_, '_>, intent: IntentId) -> Outcome<Answer> {
    let record: IntentRecord = state.intent(intent)?;
    let Work::DeleteObject { mount, key, .. } = &record.work else { return refuse(FsError::InvalidRequest) };
    if record.failed {
        return refuse(FsError::InvalidRequest);
    }
    state.end_object_intent(&record)?;
    if state.object(*mount, key)?.is_some_and(|row| row.ino == NOBODY) {
        state.drop_object(*mount, key)?;
    }
    state.shield(*mount, key)?;
    Ok(Answer::default())
}
