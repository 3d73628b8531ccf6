//! ObjectChanged: somebody else changed an object that an intent reads or writes.

use cairn_types::{FsError, Inode, IntentId, MountId};

use crate::keys::intents::Work;
use crate::keys::objects::{NOBODY, ObjectRow};
use crate::keys::surplus::{self, SurplusRow};
use crate::namespace::command::FoundObject;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::Contest;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;

/// Takes in what was found; nothing was done in the bucket.
pub fn changed(
    state: &mut State<'_, '_>,
    intent: IntentId,
    key: &[u8],
    found: Option<&FoundObject>,
) -> Outcome<Answer> {
    let record = state.intent(intent)?;
    let Some(mount) = record.work.mount() else { return refuse(FsError::InvalidRequest) };
    if record.failed || !matches!(record.work, Work::PutObject { .. } | Work::DeleteObject { .. }) {
        return refuse(FsError::InvalidRequest);
    }
    state.end_object_intent(&record)?;
    if state.mount(mount)?.is_none() {
        return Ok(Answer::default());
    }
    let Work::PutObject { ino, key: target, .. } = &record.work else {
        state.shield(mount, key)?;
        surplus_changed(state, mount, key, found)?;
        // What is left to be deleted is looked at anew.
        let at = surplus::key(mount, key);
        if let Some(row) = state.get::<SurplusRow>(&at)? {
            state.put(at, &SurplusRow { intent: None, ..row });
        }
        return Ok(Answer::default());
    };
    if let Some(mut row) = state.pending(mount, *ino)?
        && row.intent == Some(intent)
    {
        row.intent = None;
        state.put_pending(mount, *ino, Some(&row))?;
    }
    state.shield(mount, key)?;
    let known = state.object(mount, key)?;
    if let (Some(known), Some(found)) = (&known, found)
        && known.etag == found.etag
    {
        // Nothing that is not known: what the intent was made for is no more so, and is looked at anew.
        return Ok(Answer::default());
    }
    match walk::inode(&*state.txn, *ino)? {
        Some((_, dir)) if dir.is_dir() => marker_found(state, mount, &dir, key, found)?,
        Some((_, file)) => {
            let at_target = key == target.as_slice();
            contested(state, mount, &file, (key, at_target), known, found)?;
        }
        None => forget_version(state, mount, key, known)?,
    }
    Ok(Answer::default())
}

/// The file of the intent is gone: of a surplus object another version is there, or none.
fn forget_version(
    state: &mut State<'_, '_>,
    mount: MountId,
    key: &[u8],
    known: Option<ObjectRow>,
) -> Outcome<()> {
    match known {
        Some(row) if row.ino == NOBODY => Ok(state.drop_object(mount, key)?),
        _ => Ok(()),
    }
}

/// An object to be deleted is another one, or gone: it is wanted no more to be deleted. Which one a marker is
/// that nobody knew is known now.
fn surplus_changed(
    state: &mut State<'_, '_>,
    mount: MountId,
    key: &[u8],
    found: Option<&FoundObject>,
) -> Outcome<()> {
    let Some(known) = state.object(mount, key)?.filter(|row| row.ino == NOBODY) else { return Ok(()) };
    match found {
        Some(found) if found.etag == known.etag => Ok(()),
        Some(found) if known.etag.is_empty() && found.size == 0 && key.ends_with(b"/") => {
            let row = ObjectRow { etag: found.etag.clone(), ..known };
            Ok(state.put_object(mount, key, &row)?)
        }
        _ => Ok(state.drop_object(mount, key)?),
    }
}

/// A marker is there already, whoever made it; or one that was to be replaced is gone.
fn marker_found(
    state: &mut State<'_, '_>,
    mount: MountId,
    dir: &Inode,
    key: &[u8],
    found: Option<&FoundObject>,
) -> Outcome<()> {
    match found {
        Some(found) => state.adopt_marker(dir, key, (&found.etag, found.size)),
        None => Ok(state.drop_object(mount, key)?),
    }
}

/// An object of which a file is to be made, or that it is to replace, is another one than was known.
fn contested(
    state: &mut State<'_, '_>,
    mount: MountId,
    file: &Inode,
    (key, at_target): (&[u8], bool),
    known: Option<ObjectRow>,
    found: Option<&FoundObject>,
) -> Outcome<()> {
    let is_home = state.home(file)?.as_deref() == Some(key);
    let has_changes = state.pending(mount, file.ino)?.is_some_and(|row| row.content);
    if is_home && !has_changes {
        return match found {
            Some(found) => state.refresh_file(file, key, found),
            None => state.lose_file(file, key),
        };
    }
    if is_home {
        let expected = known.map(|row| row.etag).unwrap_or_default();
        return state.decide(mount, &Contest { file, key, expected: &expected, found });
    }
    // Of others the file reads nothing, and a key that another has is not written.
    if !at_target || known.as_ref().is_some_and(|row| row.ino != NOBODY) {
        return Ok(());
    }
    let expected = known.map(|row| row.etag).unwrap_or_default();
    state.drop_object(mount, key)?;
    let Some(found) = found else { return Ok(()) };
    let wanted = state.wanted_key(file)?.as_deref() == Some(key);
    if !wanted || state.may_be_left_behind(mount, key)? {
        return Ok(());
    }
    state.decide(mount, &Contest { file, key, expected: &expected, found: Some(found) })
}
