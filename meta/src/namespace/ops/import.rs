//! StartImport, ImportBatch: a mount's directory becomes what its bucket holds.

use std::collections::BTreeMap;

use cairn_types::limits::{FILE_BYTES_MAX, ROWS_PER_ENTRY_MAX};
use cairn_types::{
    Extent, ExtentSource, FileKind, FsError, Inode, InodeId, IntentId, Name, NodeId, ObjectKey,
};

use crate::keys;
use crate::keys::events::EventKind;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::objects::{self, ObjectRow};
use crate::namespace::chunks::LiveChanges;
use crate::namespace::command::ImportedEntry;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::ops::import_name::{self, Reading};
use crate::namespace::ops::purge::forget_object;
use crate::namespace::reply::Answer;
use crate::namespace::state::{Birth, State};
use crate::namespace::walk::Found;

/// Rows at which a page is cut, to go on in the next entry.
const ROWS_PER_PAGE: usize = ROWS_PER_ENTRY_MAX - 256;
/// Names of the directory that are compared in one entry.
const NAMES_AT_ONCE: usize = 2048;

/// A page of a bucket's listing.
pub struct Page<'p> {
    /// The import intent.
    pub intent: IntentId,
    /// The directory.
    pub directory: InodeId,
    /// Names greater than this one.
    pub start_after: &'p [u8],
    /// Names up to this one; empty: to the end.
    pub end: &'p [u8],
    /// What S3 has there.
    pub entries: &'p [ImportedEntry],
}

/// Makes the intent to read a directory, or answers the one under way.
pub fn start(state: &mut State<'_, '_>, directory: InodeId, assignee: NodeId) -> Outcome<Answer> {
    let Some(mut import) = state.get::<ImportRecord>(&imports::key(directory))? else {
        return refuse(FsError::NotFound);
    };
    if let Some(intent) = import.intent
        && let Some(known) = state.get::<IntentRecord>(&intents::key(intent))?
    {
        if !known.failed {
            return Ok(Answer { intent: Some(intent), ..Answer::default() });
        }
        state.end_reading(&import)?;
        state.end_intent(intent);
    }
    let work = Work::Import {
        mount: import.mount,
        directory,
        prefix: import.prefix.clone(),
        start_after: Vec::new(),
    };
    let intent = state.new_intent(assignee, work);
    state.begin_reading(&import, intent)?;
    import.intent = Some(intent);
    state.put(imports::key(directory), &import);
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Compares a page with the directory's names in its range.
pub fn batch(state: &mut State<'_, '_>, page: &Page<'_>) -> Outcome<Answer> {
    let mut record = state.intent(page.intent)?;
    let Work::Import { directory, .. } = record.work else { return refuse(FsError::InvalidRequest) };
    let Some(mut import) = state.get::<ImportRecord>(&imports::key(directory))? else {
        return refuse(FsError::NotFound);
    };
    if directory != page.directory || record.failed || import.intent != Some(page.intent) {
        return refuse(FsError::InvalidRequest);
    }
    let parent = state.inode(directory)?;
    let (change, cut) = compare(state, &parent, &import, page)?;
    state.touch_names(directory, change)?;
    if change.any || change.content {
        // One event for all: the first import of a large bucket would drive out everybody else's.
        let parent = state.inode(directory)?;
        state.tell_of(&parent, EventKind::Imported)?;
    }
    let done_to = cut.clone().unwrap_or_else(|| page.end.to_vec());
    if cut.is_none() && page.end.is_empty() {
        let now = state.now();
        state.end_reading(&import)?;
        import.imported_at = Some(now);
        import.intent = None;
        state.put_import(directory, Some(&import))?;
        state.count_mount(import.mount, |counts| counts.last_sync = now)?;
        state.end_intent(page.intent);
    } else if let Work::Import { start_after, .. } = &mut record.work {
        *start_after = done_to;
        state.put(intents::key(page.intent), &record);
    }
    Ok(Answer { resume_after: cut, ..Answer::default() })
}

/// How a directory's names changed.
#[derive(Clone, Copy, Default)]
pub struct Change {
    /// Names did.
    pub any: bool,
    /// Objects of files that stay are others.
    pub content: bool,
    /// So many more of them are directories'.
    pub subdirectories: i64,
}

/// Walks names of both sides in order. Answers the name at which it was cut, if it was.
fn compare(
    state: &mut State<'_, '_>,
    parent: &Inode,
    import: &ImportRecord,
    page: &Page<'_>,
) -> Outcome<(Change, Option<Vec<u8>>)> {
    if page.start_after.is_empty()
        && let Some(entry) = page.entries.iter().find(|entry| entry.name.is_empty() && !entry.directory)
        && state.is_noted(import.mount)?
    {
        import_name::marker(state, &Reading { parent, import }, entry)?;
    }
    let there = entries_in_range(page);
    let (here, here_ends) = names_in_range(state, parent.ino, page)?;
    let mut names: Vec<&Vec<u8>> = there.keys().copied().chain(here.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut change = Change::default();
    let mut done: Option<Vec<u8>> = None;
    for name in names {
        let beyond = here_ends.as_ref().is_some_and(|last| name > last);
        if beyond || state.txn.rows_touched() > ROWS_PER_PAGE {
            return Ok((change, done.or_else(|| Some(page.start_after.to_vec()))));
        }
        let (entry, row) = (there.get(name).copied(), here.get(name));
        settle(state, parent, import, name, entry, row, &mut change)?;
        done = Some(name.clone());
    }
    // When the directory has more names in the range than were read, the next entry goes on there.
    Ok((change, here_ends))
}

/// The page's entries that can be names, a directory hiding an object of the same name.
fn entries_in_range<'p>(page: &Page<'p>) -> BTreeMap<&'p Vec<u8>, &'p ImportedEntry> {
    let mut out: BTreeMap<&Vec<u8>, &ImportedEntry> = BTreeMap::new();
    for entry in page.entries {
        let after = page.start_after.is_empty() || entry.name.as_slice() > page.start_after;
        let before = page.end.is_empty() || entry.name.as_slice() <= page.end;
        let fits = Name::new(entry.name.clone()).is_ok() && entry.size <= FILE_BYTES_MAX;
        let hidden = out.get(&entry.name).is_some_and(|known| known.directory);
        if after && before && fits && !hidden {
            out.insert(&entry.name, entry);
        }
    }
    out
}

type Names = BTreeMap<Vec<u8>, Inode>;

/// The directory's names in the page's range, and the last one when there are more.
fn names_in_range(
    state: &State<'_, '_>,
    directory: InodeId,
    page: &Page<'_>,
) -> Outcome<(Names, Option<Vec<u8>>)> {
    let mut range = nodes::after(directory, page.start_after);
    if !page.end.is_empty() {
        let mut until = nodes::key(directory, page.end);
        until.push(0);
        range.until = Some(until);
    }
    let rows = keys::scan::<NodeRow>(&*state.txn, &range, NAMES_AT_ONCE)?;
    let full = rows.len() == NAMES_AT_ONCE;
    let mut out = Names::new();
    for (key, row) in rows {
        // Hard links are not made under mounts, so every row is an inode.
        if let NodeRow::Inode(inode) = row {
            out.insert(nodes::name(&key).to_vec(), inode);
        }
    }
    let last = out.keys().next_back().filter(|_| full).cloned();
    Ok((out, last))
}

/// Makes one name what the bucket has.
fn settle(
    state: &mut State<'_, '_>,
    parent: &Inode,
    import: &ImportRecord,
    name: &[u8],
    entry: Option<&ImportedEntry>,
    row: Option<&Inode>,
    change: &mut Change,
) -> Outcome<()> {
    if state.is_noted(import.mount)? {
        return import_name::settle(state, &Reading { parent, import }, name, entry, row, change);
    }
    match (entry, row) {
        (Some(entry), Some(inode)) if entry.directory == inode.is_dir() => {
            if !entry.directory {
                change.content |= refresh(state, import, inode, entry)?;
            }
        }
        (Some(entry), Some(inode)) => {
            if remove(state, parent, name, inode, change)? {
                make(state, parent, import, name, entry, change)?;
            }
        }
        (Some(entry), None) => make(state, parent, import, name, entry, change)?,
        (None, Some(inode)) => {
            remove(state, parent, name, inode, change)?;
        }
        (None, None) => {}
    }
    Ok(())
}

/// Makes the file of an object, or the directory of a common prefix, at a name that is free.
pub fn make(
    state: &mut State<'_, '_>,
    parent: &Inode,
    import: &ImportRecord,
    name: &[u8],
    entry: &ImportedEntry,
    change: &mut Change,
) -> Outcome<()> {
    change.any = true;
    let (kind, mode) = if entry.directory { (FileKind::Directory, 0o755) } else { (FileKind::File, 0o644) };
    let birth = Birth { kind, mode, uid: parent.uid, gid: parent.gid };
    let mut inode = state.new_inode(&birth, Some(import.mount));
    let place = keys::places::Place { parent: parent.ino, name: name.to_vec() };
    if entry.directory {
        change.subdirectories += 1;
        let prefix = [import.prefix.as_slice(), name, b"/"].concat();
        let below = ImportRecord { mount: import.mount, prefix, imported_at: None, intent: None };
        state.put_import(inode.ino, Some(&below))?;
    } else {
        inode.mtime = entry.mtime;
        inode.size = entry.size;
        point_at(state, import, &inode, entry)?;
    }
    state.put_at(&place, &inode);
    state.put(keys::places::key(inode.ino), &place);
    state.cluster.counts.inodes += 1;
    Ok(())
}

/// Gives a file the object's bytes.
fn point_at(
    state: &mut State<'_, '_>,
    import: &ImportRecord,
    inode: &Inode,
    entry: &ImportedEntry,
) -> Outcome<()> {
    let object = ObjectKey { mount: import.mount, key: entry.key.clone(), etag: entry.etag.clone() };
    if entry.size > 0 {
        let source = ExtentSource::Object { object, offset: 0 };
        let extent = Extent { file_offset: 0, length: entry.size, source };
        let row = keys::extents::ExtentRow { length: extent.length, source: extent.source };
        state.put(keys::extents::key(inode.ino, 0), &row);
    }
    let known = ObjectRow { ino: inode.ino, etag: entry.etag.clone(), size: entry.size };
    Ok(state.put_object(import.mount, &entry.key, &known)?)
}

/// Gives a file its object's new version; false when that did not change.
fn refresh(
    state: &mut State<'_, '_>,
    import: &ImportRecord,
    inode: &Inode,
    entry: &ImportedEntry,
) -> Outcome<bool> {
    let key = objects::key(import.mount, &entry.key);
    let known: Option<ObjectRow> = state.get(&key)?;
    let same = known.is_some_and(|k| k.ino == inode.ino && k.etag == entry.etag && k.size == entry.size);
    if same {
        return Ok(false);
    }
    let mut inode = inode.clone();
    state.carve(inode.ino, 0, u64::MAX, &mut LiveChanges::new())?;
    inode.size = entry.size;
    inode.mtime = entry.mtime;
    point_at(state, import, &inode, entry)?;
    state.change_inode(&mut inode)?;
    Ok(true)
}

/// Takes a name out that the bucket has no more. A directory that is not empty is read anew when
/// next asked for, and goes once it is empty; false when the name is still taken.
fn remove(
    state: &mut State<'_, '_>,
    parent: &Inode,
    name: &[u8],
    inode: &Inode,
    change: &mut Change,
) -> Outcome<bool> {
    if inode.is_dir() && !state.is_empty(inode.ino)? {
        if let Some(mut below) = state.get::<ImportRecord>(&imports::key(inode.ino))? {
            below.imported_at = None;
            state.put(imports::key(inode.ino), &below);
        }
        return Ok(false);
    }
    change.any = true;
    if inode.is_dir() {
        change.subdirectories -= 1;
        end_import_of(state, inode.ino)?;
        state.take_directory(parent.ino, name, inode)?;
    } else {
        forget_object(state, inode)?;
        let found = Found { inode: inode.clone(), primary: true };
        state.take_file(parent.ino, name, &found)?;
    }
    Ok(true)
}

/// Ends the import of a directory that goes.
pub fn end_import_of(state: &mut State<'_, '_>, directory: InodeId) -> Outcome<()> {
    let import: Option<ImportRecord> = state.get(&imports::key(directory))?;
    let Some(import) = import else { return Ok(()) };
    if let Some(intent) = import.intent
        && state.get::<IntentRecord>(&intents::key(intent))?.is_some()
    {
        state.end_reading(&import)?;
        state.end_intent(intent);
    }
    Ok(())
}

impl State<'_, '_> {
    fn touch_names(&mut self, directory: InodeId, change: Change) -> Outcome<()> {
        if change.any { self.touch_directory(directory, change.subdirectories) } else { Ok(()) }
    }
}
