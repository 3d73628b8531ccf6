//! [`Subtree`]: all that lies below a directory, as the keys of a bucket would be: paths relative to
//! it, a directory's with a slash at its end, in the byte order of those keys, from any key on.
//!
//! Within a directory names come from the store in their own order. A directory `a` is held back
//! there while names follow that begin with `a` and go on with a byte smaller than the slash: `a-b`
//! comes before `a/`. Directories that are held back begin one another, so they are a stack, and no
//! more than a name has bytes.
//!
//! Memory is bounded by the depth: for each directory on the way down a few rows that were read ahead.

use std::collections::VecDeque;

use cairn_types::limits::PATH_BYTES_MAX;
use cairn_types::{Credentials, FsError, Inode, InodeId, Timestamp};

use super::error::{Outcome, refuse};
use super::names::inode_of;
use super::read::{self, ImportNeeded};
use super::walk;
use crate::keys::nodes::{self, NodeRow};
use crate::keys::{Record, RowFault};
use crate::store::{KeyRange, Row, Rows, Table};

/// Rows that are read first in a directory; each further read doubles them.
const ROWS_FIRST: usize = 16;
/// Rows that are read at once, at most.
const ROWS_MAX: usize = 512;
/// Rows that are kept of a directory while what lies in another one below it is listed.
const ROWS_KEPT: usize = 16;

/// Which keys, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only keys that begin with it.
    pub prefix: Vec<u8>,
    /// Keys that hold it behind the prefix are rolled up to their common prefix, up to its end.
    /// Empty: none are.
    pub delimiter: Vec<u8>,
    /// Only keys, and common prefixes, greater than this; empty: all.
    pub start_after: Vec<u8>,
}

/// A key, or a common prefix of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFound {
    /// Its bytes: relative to the listed directory, with a slash at the end of a directory's.
    pub key: Vec<u8>,
    /// What it leads to; of a common prefix only when it is itself a key.
    pub inode: Option<Inode>,
    /// It stands for all keys that begin with it.
    pub common_prefix: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A key.
    Key(KeyFound),
    /// There are no more.
    End,
    /// A directory of a mount must be read from S3 before its keys can be told: list on after the
    /// last key then.
    Import(ImportNeeded),
}

/// Where a listing of a subtree is. All reads must be of the same point in time.
pub struct Subtree {
    top: Level,
    wanted: Wanted,
    caller: Option<Credentials>,
    /// The directories from the top down to the one at work.
    frames: Vec<Frame>,
    /// The key of the directory at work; empty for the top.
    path: Vec<u8>,
    begun: bool,
}

/// A directory that is gone through.
#[derive(Clone, Copy)]
struct Level {
    directory: InodeId,
    mounted: bool,
}

impl Level {
    fn of(inode: &Inode) -> Self {
        Self { directory: inode.ino, mounted: inode.mount.is_some() }
    }
}

/// Whether a directory of a mount was looked at for its age.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// It must be fresh.
    Due,
    /// It is enough that it was read once: the listing is in the middle of it.
    WasRead,
    Checked,
}

struct Frame {
    level: Level,
    freshness: Freshness,
    /// How long `path` is without this directory.
    above: usize,
    /// The names that are read next begin here.
    from: Vec<u8>,
    ahead: VecDeque<Row>,
    /// No names are left behind those that were read ahead.
    read_out: bool,
    rows_next: usize,
    /// Directories whose keys are still to come, each name the beginning of the next one's.
    held_back: Vec<(Vec<u8>, Inode)>,
}

impl Frame {
    fn new(level: Level, above: usize) -> Self {
        Self {
            level,
            freshness: if level.mounted { Freshness::Due } else { Freshness::Checked },
            above,
            from: Vec::new(),
            ahead: VecDeque::new(),
            read_out: false,
            rows_next: ROWS_FIRST,
            held_back: Vec::new(),
        }
    }

    /// Reads ahead, where nothing is.
    fn fill(&mut self, rows: &dyn Rows) -> Result<(), RowFault> {
        if !self.ahead.is_empty() || self.read_out {
            return Ok(());
        }
        let all = nodes::all(self.level.directory);
        let range = KeyRange { from: nodes::key(self.level.directory, &self.from), ..all };
        let found = rows.scan(Table::Nodes, &range, self.rows_next)?;
        self.read_out = found.len() < self.rows_next;
        self.rows_next = (self.rows_next * 2).min(ROWS_MAX);
        self.ahead = found.into();
        self.note_end();
        Ok(())
    }

    fn note_end(&mut self) {
        if let Some((key, _)) = self.ahead.back() {
            self.from = [nodes::name(key), &[0]].concat();
        }
    }

    /// Lets go of most of what was read ahead: another directory is gone through first.
    fn rest(&mut self) {
        if self.ahead.len() > ROWS_KEPT {
            self.ahead.truncate(ROWS_KEPT);
            self.ahead.shrink_to_fit();
            self.read_out = false;
            self.note_end();
        }
        self.rows_next = ROWS_FIRST;
    }

    /// The directory whose key comes before that of the next name.
    fn due(&mut self) -> Option<(Vec<u8>, Inode)> {
        let (held, _) = self.held_back.last()?;
        let next = self.ahead.front().map(|(key, _)| nodes::name(key));
        let before = |name: &[u8]| name.starts_with(held) && name.get(held.len()).is_some_and(|b| *b < b'/');
        if next.is_some_and(before) { None } else { self.held_back.pop() }
    }
}

impl Subtree {
    /// Begins a listing of what lies below `directory`. A `caller` must be allowed to list what it
    /// enters.
    #[must_use]
    pub fn new(directory: &Inode, wanted: Wanted, caller: Option<Credentials>) -> Self {
        let top = Level::of(directory);
        Self { top, wanted, caller, frames: Vec::new(), path: Vec::new(), begun: false }
    }

    /// The next key that is wanted. `now` tells how old what was read from S3 is.
    ///
    /// # Errors
    /// [`FsError::NameTooLong`] for a key of more than 4,096 bytes.
    pub fn next(&mut self, rows: &dyn Rows, now: Timestamp) -> Outcome<Next> {
        if !self.begun {
            self.begin(rows)?;
            self.begun = true;
        }
        let (key, inode) = match self.step(rows, now)? {
            Step::Key(key, inode) => (key, inode),
            Step::End => return Ok(Next::End),
            Step::Import(needed) => return Ok(Next::Import(needed)),
        };
        // Keys that begin with the prefix are side by side.
        let Some(behind) = key.strip_prefix(self.wanted.prefix.as_slice()) else {
            self.frames.clear();
            return Ok(Next::End);
        };
        let Some(end) = end_of(&self.wanted.delimiter, behind) else {
            return Ok(Next::Key(KeyFound { key, inode: Some(inode), common_prefix: false }));
        };
        let common = key.get(..self.wanted.prefix.len() + end).unwrap_or_default().to_vec();
        self.pass(rows, &common)?;
        let inode = (common == key).then_some(inode);
        Ok(Next::Key(KeyFound { key: common, inode, common_prefix: true }))
    }

    /// Goes to the first key that is wanted.
    fn begin(&mut self, rows: &dyn Rows) -> Outcome<()> {
        let Wanted { prefix, delimiter, start_after } = self.wanted.clone();
        if start_after < prefix || start_after.is_empty() {
            return self.seek(rows, &prefix, true);
        }
        let behind = start_after.strip_prefix(prefix.as_slice());
        match behind.and_then(|behind| end_of(&delimiter, behind)) {
            // What is rolled up to a prefix of it is not greater.
            Some(end) => self.pass(rows, start_after.get(..prefix.len() + end).unwrap_or_default()),
            None => self.seek(rows, &start_after, false),
        }
    }

    /// Goes on behind all keys that begin with `common`.
    fn pass(&mut self, rows: &dyn Rows, common: &[u8]) -> Outcome<()> {
        match KeyRange::prefix(common).until {
            Some(behind) => self.seek(rows, &behind, true),
            None => {
                self.frames.clear();
                Ok(())
            }
        }
    }

    /// Goes to the first key that is greater than `key`, or equal to it when it is `inclusive`.
    fn seek(&mut self, rows: &dyn Rows, key: &[u8], inclusive: bool) -> Outcome<()> {
        self.frames.clear();
        self.path.clear();
        let (mut level, mut rest, mut above) = (self.top, key, 0);
        loop {
            let mut frame = Frame::new(level, above);
            let Some(slash) = rest.iter().position(|b| *b == b'/') else {
                frame.held_back = begun_by(rows, level.directory, rest)?;
                frame.from = rest.to_vec();
                if !inclusive && !rest.is_empty() {
                    frame.from.push(0);
                    frame.held_back.extend(directory_named(rows, level.directory, rest)?);
                }
                self.enter(frame, b"");
                return Ok(());
            };
            let (name, below) =
                (rest.get(..slash).unwrap_or_default(), rest.get(slash + 1..).unwrap_or_default());
            frame.held_back = begun_by(rows, level.directory, name)?;
            frame.from = [name, b"/"].concat();
            let child = directory_named(rows, level.directory, name)?;
            let Some((name, inode)) = child else {
                self.enter(frame, b"");
                return Ok(());
            };
            if below.is_empty() && inclusive {
                frame.held_back.push((name, inode));
                self.enter(frame, b"");
                return Ok(());
            }
            if frame.freshness == Freshness::Due {
                frame.freshness = Freshness::WasRead;
            }
            read::may_list(rows, self.caller.as_ref(), &inode)?;
            above = self.path.len();
            self.enter(frame, &name);
            (level, rest) = (Level::of(&inode), below);
        }
    }

    /// Puts a frame on top; with a `name`, of the directory below that is entered next.
    fn enter(&mut self, frame: Frame, name: &[u8]) {
        self.frames.push(frame);
        if !name.is_empty() {
            self.path.extend_from_slice(name);
            self.path.push(b'/');
        }
    }

    /// The next key of all.
    fn step(&mut self, rows: &dyn Rows, now: Timestamp) -> Outcome<Step> {
        loop {
            // A directory that is held back in the middle of a seek is looked at in its turn.
            if let Some(needed) = self.import_needed(rows, now)? {
                return Ok(Step::Import(needed));
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(Step::End) };
            frame.fill(rows)?;
            if let Some((name, inode)) = frame.due() {
                frame.rest();
                let above = self.path.len();
                self.path.extend_from_slice(&name);
                self.path.push(b'/');
                check_length(&self.path)?;
                read::may_list(rows, self.caller.as_ref(), &inode)?;
                self.frames.push(Frame::new(Level::of(&inode), above));
                return Ok(Step::Key(self.path.clone(), inode));
            }
            let Some((key, value)) = frame.ahead.pop_front() else {
                self.path.truncate(frame.above);
                self.frames.pop();
                continue;
            };
            let row = NodeRow::from_bytes(&key, &value)?;
            let inode = inode_of(rows, row, &key)?;
            let name = nodes::name(&key);
            if inode.is_dir() {
                frame.held_back.push((name.to_vec(), inode));
                continue;
            }
            let whole = [self.path.as_slice(), name].concat();
            check_length(&whole)?;
            return Ok(Step::Key(whole, inode));
        }
    }

    /// The first directory on the way down that must be read from S3 first.
    fn import_needed(&mut self, rows: &dyn Rows, now: Timestamp) -> Outcome<Option<ImportNeeded>> {
        for frame in self.frames.iter_mut().filter(|f| f.freshness != Freshness::Checked) {
            let now = if frame.freshness == Freshness::Due { now } else { Timestamp(i64::MIN) };
            if let Some(needed) = read::stale(rows, frame.level.directory, now)? {
                return Ok(Some(needed));
            }
            frame.freshness = Freshness::Checked;
        }
        Ok(None)
    }
}

enum Step {
    Key(Vec<u8>, Inode),
    End,
    Import(ImportNeeded),
}

/// Where the first delimiter in `text` ends.
fn end_of(delimiter: &[u8], text: &[u8]) -> Option<usize> {
    if delimiter.is_empty() {
        return None;
    }
    text.windows(delimiter.len()).position(|at| at == delimiter).map(|at| at + delimiter.len())
}

fn check_length(key: &[u8]) -> Outcome<()> {
    if key.len() > PATH_BYTES_MAX { refuse(FsError::NameTooLong) } else { Ok(()) }
}

/// The directory of that name.
fn directory_named(
    rows: &dyn Rows,
    directory: InodeId,
    name: &[u8],
) -> Result<Option<(Vec<u8>, Inode)>, RowFault> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = walk::lookup(rows, directory, name)?;
    Ok(found.filter(|f| f.inode.is_dir()).map(|f| (name.to_vec(), f.inode)))
}

/// The directories whose names begin `name`, are smaller, and whose keys are greater: the shortest
/// first.
fn begun_by(rows: &dyn Rows, directory: InodeId, name: &[u8]) -> Result<Vec<(Vec<u8>, Inode)>, RowFault> {
    let mut found = Vec::new();
    for (length, next) in name.iter().enumerate() {
        if *next < b'/' {
            found.extend(directory_named(rows, directory, name.get(..length).unwrap_or_default())?);
        }
    }
    Ok(found)
}
