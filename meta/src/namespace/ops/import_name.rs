//! One name of a listing, of a mount of which it is noted what its bucket holds: objects are compared by their keys,
//! whatever their names lead to by now.

use cairn_types::{Inode, LogIndex};

use super::import::{self, Change};
use crate::keys::imports::ImportRecord;
use crate::keys::objects::{self, NOBODY, ObjectRow};
use crate::keys::places::Place;
use crate::namespace::command::{FoundObject, ImportedEntry};
use crate::namespace::error::Outcome;
use crate::namespace::mounted::{Contest, SHADOWED, TEMPORARY};
use crate::namespace::state::State;
use crate::namespace::walk::{self, Found};
use crate::store::{KeyRange, Rows, Table};

/// The directory that is read, and what was known of it before.
pub struct Reading<'r> {
    /// The directory.
    pub parent: &'r Inode,
    /// Where its objects are.
    pub import: &'r ImportRecord,
}

impl Reading<'_> {
    /// It was never read: what is there is its own, whoever came to its place.
    fn is_first(&self) -> bool {
        self.import.imported_at.is_none()
    }
}

/// Takes in one name.
pub fn settle(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    entry: Option<&ImportedEntry>,
    row: Option<&Inode>,
    change: &mut Change,
) -> Outcome<()> {
    match entry {
        Some(entry) if entry.directory => prefix(state, reading, name, entry, row, change),
        Some(entry) => object(state, reading, name, entry, row, change),
        None => match row {
            Some(inode) => absent(state, reading, name, inode, change),
            None => Ok(()),
        },
    }
}

/// A common prefix: a directory, unless all that is below it belongs elsewhere.
fn prefix(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    entry: &ImportedEntry,
    row: Option<&Inode>,
    change: &mut Change,
) -> Outcome<()> {
    let (mount, import) = (reading.import.mount, reading.import);
    if row.is_some_and(Inode::is_dir) || (name == TEMPORARY && state.mount_at_root(reading.parent)?.is_some())
    {
        return Ok(());
    }
    let below = [import.prefix.as_slice(), name, b"/"].concat();
    if state.is_passed_over(import, &below)? {
        return Ok(());
    }
    if !reading.is_first() {
        let known = KeyRange::prefix(&objects::key(mount, &below));
        if !state.txn.scan(Table::Keys, &known, 1)?.is_empty() || state.may_be_left_behind(mount, &below)? {
            return Ok(());
        }
    }
    if let Some(file) = row {
        // As when both were listed: the file is seen beside the directory.
        let beside = [name, SHADOWED].concat();
        if beside.len() > 255 || walk::lookup(&*state.txn, reading.parent.ino, &beside)?.is_some() {
            return Ok(());
        }
        state.fix_home(file)?;
        let place = |name: Vec<u8>| Place { parent: reading.parent.ino, name };
        state.move_file(file, &place(name.to_vec()), &place(beside))?;
        if let Some(pending) = state.pending(mount, file.ino)? {
            state.settle_pending(file, pending)?;
        }
    }
    import::make(state, reading.parent, import, name, entry, change)
}

fn found(entry: &ImportedEntry) -> FoundObject {
    FoundObject { etag: entry.etag.clone(), size: entry.size, mtime: entry.mtime }
}

/// An object.
fn object(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    entry: &ImportedEntry,
    row: Option<&Inode>,
    change: &mut Change,
) -> Outcome<()> {
    let mount = reading.import.mount;
    if state.is_passed_over(reading.import, &entry.key)? {
        return Ok(());
    }
    match state.object(mount, &entry.key)? {
        Some(known) if known.etag == entry.etag && known.size == entry.size => Ok(()),
        Some(ObjectRow { ino: NOBODY, .. }) => {
            state.drop_object(mount, &entry.key)?;
            newcomer(state, reading, name, entry, row, change)
        }
        Some(known) => match walk::inode(&*state.txn, known.ino)? {
            Some((_, file)) if file.is_file() => {
                change.content = true;
                newer(state, &file, entry, &known.etag)
            }
            _ => {
                state.drop_object(mount, &entry.key)?;
                newcomer(state, reading, name, entry, row, change)
            }
        },
        None => newcomer(state, reading, name, entry, row, change),
    }
}

/// Another version of a file's object.
fn newer(state: &mut State<'_, '_>, file: &Inode, entry: &ImportedEntry, known: &str) -> Outcome<()> {
    let Some(mount) = file.mount else { return Ok(()) };
    let found = found(entry);
    if !state.pending(mount, file.ino)?.is_some_and(|row| row.content) {
        return state.refresh_file(file, &entry.key, &found);
    }
    state.decide(mount, &Contest { file, key: &entry.key, expected: known, found: Some(&found) })
}

/// An object that no row tells of.
fn newcomer(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    entry: &ImportedEntry,
    row: Option<&Inode>,
    change: &mut Change,
) -> Outcome<()> {
    let mount = reading.import.mount;
    if !reading.is_first() && state.may_be_left_behind(mount, &entry.key)? {
        return Ok(());
    }
    let Some(inode) = row else {
        return import::make(state, reading.parent, reading.import, name, entry, change);
    };
    if inode.is_dir() {
        // Seen when the directory is in the bucket too: it has another name then.
        return Ok(());
    }
    let found = found(entry);
    if state.pending(mount, inode.ino)?.is_none() {
        change.content = true;
        return state.refresh_file(inode, &entry.key, &found);
    }
    if state.wanted_key(inode)?.as_deref() != Some(entry.key.as_slice()) {
        return Ok(());
    }
    change.any = true;
    state.decide(mount, &Contest { file: inode, key: &entry.key, expected: "", found: Some(&found) })
}

/// A name that the bucket does not have.
fn absent(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    inode: &Inode,
    change: &mut Change,
) -> Outcome<()> {
    let mount = reading.import.mount;
    if inode.is_dir() {
        return absent_directory(state, reading, name, inode, change);
    }
    let key = [reading.import.prefix.as_slice(), name].concat();
    let home = state.home(inode)?;
    let here = [Some(key.as_slice()), key.strip_suffix(SHADOWED)].contains(&home.as_deref());
    let Some(home) = home.filter(|_| here) else { return Ok(()) };
    if state.is_passed_over(reading.import, &home)? {
        return Ok(());
    }
    if let Some(row) = state.pending(mount, inode.ino)?
        && (row.content || row.content_at > LogIndex(0))
    {
        let known = state.object(mount, &home)?.map(|row| row.etag).unwrap_or_default();
        return state.decide(mount, &Contest { file: inode, key: &home, expected: &known, found: None });
    }
    change.any = true;
    state.drop_object(mount, &home)?;
    state.forget_file(inode)?;
    state.take_file(reading.parent.ino, name, &Found { inode: inode.clone(), primary: true })
}

fn absent_directory(
    state: &mut State<'_, '_>,
    reading: &Reading<'_>,
    name: &[u8],
    dir: &Inode,
    change: &mut Change,
) -> Outcome<()> {
    let mount = reading.import.mount;
    if state.pending(mount, dir.ino)?.is_some() {
        return Ok(());
    }
    let Some(mut below) = state.import_of(dir.ino)? else { return Ok(()) };
    if !state.is_empty(dir.ino)? {
        // One that is to be where it was looked for: read anew, it goes once it is empty.
        if below.prefix == [reading.import.prefix.as_slice(), name, b"/"].concat() {
            below.imported_at = None;
            state.put_import(dir.ino, Some(&below))?;
        }
        return Ok(());
    }
    if let Some(home) = state.home(dir)? {
        if state.is_passed_over(reading.import, &home)? {
            return Ok(());
        }
        state.drop_object(mount, &home)?;
        state.drop_home(dir.ino);
    }
    change.any = true;
    change.subdirectories -= 1;
    import::end_import_of(state, dir.ino)?;
    Ok(state.take_directory(reading.parent.ino, name, dir)?)
}

/// The directory's own marker, where the listing tells of it.
pub fn marker(state: &mut State<'_, '_>, reading: &Reading<'_>, entry: &ImportedEntry) -> Outcome<()> {
    let (mount, dir) = (reading.import.mount, reading.parent);
    let own = state.wanted_key(dir)?.as_deref() == Some(entry.key.as_slice());
    if entry.key != reading.import.prefix || !own || state.is_passed_over(reading.import, &entry.key)? {
        return Ok(());
    }
    let known = state.object(mount, &entry.key)?;
    if known.is_none_or(|known| known.ino == dir.ino && known.etag != entry.etag) {
        state.adopt_marker(dir, &entry.key, (&entry.etag, entry.size))?;
    }
    Ok(())
}
