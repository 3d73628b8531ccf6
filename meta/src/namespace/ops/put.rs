//! CreatePut: the intent that brings a pending file, or a directory's marker, nearer to what the bucket is to hold.

use std::collections::BTreeMap;

use cairn_types::{Extent, ExtentSource, FsError, Inode, InodeId, IntentId, LogIndex, MountId, NodeId};

use crate::keys;
use crate::keys::contents;
use crate::keys::extents::{self, ExtentRow};
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::objects::NOBODY;
use crate::keys::pending::PendingRow;
use crate::keys::pictures::{self, KeepRow, PictureRow, Piece, PieceSource};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::mounted::{Changed, KEY_BYTES_MAX, REPOINTED_MAX, TEMPORARY, sources};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::namespace::walk;

/// Ranges that an object is written from, at most.
const PIECES_MAX: usize = 65_536;
/// Ranges of a file above which its bytes are not changed while it is being written.
const LIVELY_MAX: usize = 3000;
/// Files that wait for one another's keys, at most, that are followed; a longer row of them is taken for a circle.
const CHAIN_MAX: usize = 256;

/// What is to be written where.
struct Target {
    key: Vec<u8>,
    replaces: String,
    temporary: bool,
}

/// Makes the intent, or answers the one under way. Without one nothing is to be done.
pub fn create(state: &mut State<'_, '_>, mount: MountId, ino: InodeId, assignee: NodeId) -> Outcome<Answer> {
    if !state.mount_mode(mount)?.is_some_and(|mode| mode.takes_writes()) {
        return refuse(FsError::ReadOnlyMount { mount });
    }
    let Some(mut row) = state.pending(mount, ino)? else { return Ok(Answer::default()) };
    if let Some(record) = state.unfinished(row.intent)? {
        return Ok(Answer { intent: Some(record.intent), ..Answer::default() });
    }
    state.end_failed(row.intent.take())?;
    let Some((_, inode)) = walk::inode(&*state.txn, ino)? else {
        state.put_pending(mount, ino, None)?;
        return Ok(Answer::default());
    };
    if inode.is_dir() { marker(state, &inode, row, assignee) } else { file(state, &inode, row, assignee) }
}

/// A directory that has a name in it needs no marker. One that is there already, whosever it was, will do.
fn marker(state: &mut State<'_, '_>, dir: &Inode, mut row: PendingRow, assignee: NodeId) -> Outcome<Answer> {
    let Some(mount) = dir.mount else { return Ok(Answer::default()) };
    let (wanted, home) = (state.wanted_key(dir)?, state.home(dir)?);
    let is_needed = row.marker && state.is_empty(dir.ino)?;
    let Some(wanted) = wanted.filter(|wanted| is_needed && home.as_ref() != Some(wanted)) else {
        row.marker = false;
        if row.walk.is_none() {
            state.leave_marker(dir)?;
        }
        state.settle_pending(dir, row)?;
        return Ok(Answer::default());
    };
    if wanted.len() > KEY_BYTES_MAX {
        return too_long(state, dir, row, wanted, assignee);
    }
    if state.claim(mount, &wanted)?.is_some() {
        return refuse(FsError::KeyBusy);
    }
    match state.object(mount, &wanted)? {
        None => {}
        // Which one is there is to be found out first: a deletion does.
        Some(known) if known.etag.is_empty() => return refuse(FsError::KeyBusy),
        Some(known) => {
            state.put_pending(mount, dir.ino, Some(&row))?;
            state.adopt_marker(dir, &wanted, (&known.etag, known.size))?;
            return Ok(Answer::default());
        }
    }
    let target = Target { key: wanted, replaces: String::new(), temporary: false };
    begin(state, dir, row, target, (PictureRow::default(), 0, false), assignee)
}

fn file(state: &mut State<'_, '_>, inode: &Inode, row: PendingRow, assignee: NodeId) -> Outcome<Answer> {
    let Some(mount) = inode.mount else { return Ok(Answer::default()) };
    let Some(wanted) = state.wanted_key(inode)? else { return Ok(Answer::default()) };
    let home = state.home(inode)?;
    let changed = row.content || row.attributes_at > LogIndex(0);
    if !changed && home.as_ref() == Some(&wanted) {
        state.settle_pending(inode, row)?;
        return Ok(Answer::default());
    }
    if wanted.len() > KEY_BYTES_MAX {
        return too_long(state, inode, row, wanted, assignee);
    }
    for key in [Some(&wanted), home.as_ref()].into_iter().flatten() {
        if state.claim(mount, key)?.is_some() {
            return refuse(FsError::KeyBusy);
        }
    }
    let target = match state.object(mount, &wanted)? {
        None => Target { key: wanted, replaces: String::new(), temporary: false },
        // What is there is to be found out first: a deletion does.
        Some(known) if known.etag.is_empty() => return refuse(FsError::KeyBusy),
        Some(known) if known.ino == inode.ino || known.ino == NOBODY => {
            Target { key: wanted, replaces: known.etag, temporary: false }
        }
        Some(known) => {
            let waits = waits_for(state, inode, known.ino)?;
            match home {
                Some(_) if waits == Waits::InCircle => aside(state, mount, inode)?,
                _ => return busy(),
            }
        }
    };
    let picture = picture_of(state, inode)?;
    let Some(picture) = picture else {
        return give_up(state, inode, row, target.key, assignee, "it consists of more than 65,536 ranges");
    };
    begin(state, inode, row, target, picture, assignee)
}

/// The key is in the way of others first. An owner that was noted to leave it stays noted: nothing is refused.
fn busy() -> Outcome<Answer> {
    Ok(Answer { resume_after: Some(Vec::new()), ..Answer::default() })
}

/// A key below the temporary directory of a mount, which no other file gets.
fn aside(state: &State<'_, '_>, mount: MountId, inode: &Inode) -> Outcome<Target> {
    let Some(record) = state.mount(mount)? else { return refuse(FsError::NoSuchMount) };
    let name = format!("/{}-{}", inode.ino.0, state.index.0);
    let key = [record.source.prefix.as_bytes(), TEMPORARY, name.as_bytes()].concat();
    Ok(Target { key, replaces: String::new(), temporary: true })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// For others to go on.
    ForOthers,
    /// For itself.
    InCircle,
}

/// Follows who has the key that is wanted, and who has the key that that one wants. Whoever has one and is to
/// leave it is pending from here on, if it was not yet.
fn waits_for(state: &mut State<'_, '_>, inode: &Inode, owner: InodeId) -> Outcome<Waits> {
    let Some(mount) = inode.mount else { return Ok(Waits::ForOthers) };
    let mut at = owner;
    for step in 0..CHAIN_MAX {
        let Some((_, next)) = walk::inode(&*state.txn, at)? else { return Ok(Waits::ForOthers) };
        let row = state.pending(mount, at)?;
        let at_work = row.as_ref().is_some_and(|row| row.intent.is_some());
        let (wanted, home) = (state.wanted_key(&next)?, state.home(&next)?);
        if !next.is_file() || at_work || wanted == home {
            return Ok(Waits::ForOthers);
        }
        if row.is_none() && step == 0 {
            state.fix_home(&next)?;
            state.note_file(&next, Changed::Name)?;
        }
        let Some(wanted) = wanted else { return Ok(Waits::ForOthers) };
        match state.object(mount, &wanted)? {
            Some(known) if known.ino == inode.ino => return Ok(Waits::InCircle),
            Some(known) if known.ino != NOBODY => at = known.ino,
            _ => return Ok(Waits::ForOthers),
        }
    }
    Ok(Waits::InCircle)
}

/// What a file consists of up to its recorded length, that length, and whether its bytes must stay while it is
/// written. `None`: of too much.
pub fn picture_of(state: &State<'_, '_>, inode: &Inode) -> Outcome<Option<(PictureRow, u64, bool)>> {
    let Some(extents) = extents_of(state, inode)? else { return Ok(None) };
    let in_objects = extents.iter().filter(|e| matches!(e.source, ExtentSource::Object { .. })).count();
    let frozen = in_objects > REPOINTED_MAX || extents.len() > LIVELY_MAX;
    let (mut pieces, mut at): (Vec<Piece>, u64) = (Vec::new(), 0);
    let hole = |length| Piece { offset: 0, length, source: PieceSource::Hole };
    for extent in extents {
        if extent.file_offset > at {
            pieces.push(hole(extent.file_offset - at));
        }
        at = extent.end();
        let length = extent.length;
        pieces.push(match extent.source {
            ExtentSource::Chunk { chunk, offset } => {
                Piece { offset, length, source: PieceSource::Chunk(chunk) }
            }
            ExtentSource::Object { object, offset } => {
                let known = state.object(object.mount, &object.key)?;
                let size = known.map_or(0, |row| row.size);
                let source = PieceSource::Object { key: object.key, etag: object.etag, size };
                Piece { offset, length, source }
            }
        });
    }
    if at < inode.size {
        pieces.push(hole(inode.size - at));
    }
    let like = match (state.home(inode)?, inode.mount) {
        (Some(home), Some(mount)) => {
            let known = state.object(mount, &home)?.filter(|row| !row.etag.is_empty());
            known.map(|row| (home, row.etag))
        }
        _ => None,
    };
    let picture = PictureRow { pieces, metadata: metadata(inode), like };
    Ok(Some((picture, inode.size, frozen)))
}

/// The extents of a file up to its length, in order; `None`: too many.
fn extents_of(state: &State<'_, '_>, inode: &Inode) -> Outcome<Option<Vec<Extent>>> {
    let mut found = Vec::new();
    for span in contents::of(&*state.txn, inode.ino)?.spans(0, inode.size) {
        let range = extents::starting_in(span.content, span.from, span.until);
        let rows = keys::scan::<ExtentRow>(&*state.txn, &range, PIECES_MAX + 1 - found.len())?;
        for (key, row) in rows {
            let mut extent = extents::extent(&key, row)?;
            extent.length = extent.end().min(inode.size) - extent.file_offset;
            found.push(extent);
        }
        if found.len() > PIECES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// The file type of a regular file in a mode.
const REGULAR: u32 = 0o100_000;

/// Mode, owner and times as other tools write and read them: s3fs the whole of `st_mode` in decimal, `uid` and
/// `gid`; s3fs and rclone `mtime` in seconds, with a fraction.
fn metadata(inode: &Inode) -> BTreeMap<String, String> {
    let seconds = inode.mtime.0.div_euclid(1_000_000_000);
    let nanos = inode.mtime.0.rem_euclid(1_000_000_000);
    let named = |name: &str, value: String| (name.to_owned(), value);
    [
        named("mode", (REGULAR | inode.mode).to_string()),
        named("uid", inode.uid.to_string()),
        named("gid", inode.gid.to_string()),
        named("mtime", format!("{seconds}.{nanos:09}")),
    ]
    .into()
}

/// Makes the intent; from here on it uses the keys that it writes and reads.
fn begin(
    state: &mut State<'_, '_>,
    inode: &Inode,
    mut row: PendingRow,
    target: Target,
    (picture, length, frozen): (PictureRow, u64, bool),
    assignee: NodeId,
) -> Outcome<Answer> {
    let Some(mount) = inode.mount else { return Ok(Answer::default()) };
    let Target { key, replaces, temporary } = target;
    let version = state.index;
    let work =
        Work::PutObject { mount, ino: inode.ino, key: key.clone(), replaces, version, length, temporary };
    let intent = state.new_intent(assignee, work);
    state.put_claim(mount, &key, intent);
    for source in sources(&picture) {
        state.put_claim(mount, &source, intent);
    }
    state.put(pictures::key(intent), &picture);
    if inode.is_file() {
        let keep = KeepRow { intent, content: None, next: 0, contents: Vec::new(), frozen };
        state.put(pictures::keep_key(inode.ino), &keep);
    }
    row.intent = Some(intent);
    state.put_pending(mount, inode.ino, Some(&row))?;
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

fn too_long(
    state: &mut State<'_, '_>,
    inode: &Inode,
    row: PendingRow,
    key: Vec<u8>,
    assignee: NodeId,
) -> Outcome<Answer> {
    let why =
        format!("its key would have {} bytes, and may have {KEY_BYTES_MAX}: shorten its path", key.len());
    give_up(state, inode, row, Vec::new(), assignee, &why)
}

/// Notes that a file cannot be written as it is: as an intent that has failed for good.
fn give_up(
    state: &mut State<'_, '_>,
    inode: &Inode,
    mut row: PendingRow,
    key: Vec<u8>,
    assignee: NodeId,
    why: &str,
) -> Outcome<Answer> {
    let Some(mount) = inode.mount else { return Ok(Answer::default()) };
    let (replaces, version, length) = (String::new(), state.index, inode.size);
    let work = Work::PutObject { mount, ino: inode.ino, key, replaces, version, length, temporary: false };
    let intent: IntentId = state.new_intent(assignee, work);
    let mut record: IntentRecord = state.intent(intent)?;
    (record.failed, record.failures, record.message) = (true, 1, why.to_owned());
    state.put(intents::key(intent), &record);
    state.count_mount(mount, |counts| {
        counts.failing += 1;
        counts.last_error = why.to_owned();
    })?;
    row.intent = Some(intent);
    state.put_pending(mount, inode.ino, Some(&row))?;
    Ok(Answer::default())
}
