//! [`LagWalk`]: which bytes of files are not in S3, of a file or of all files below a directory, in
//! bounded steps. All reads must be of the same point in time.
//!
//! Memory is bounded by the depth: a few names that were read ahead for each directory on the way down;
//! and by how many chunks, and files with several names, are remembered.

use std::collections::{HashMap, HashSet, VecDeque};

use cairn_types::{ChunkId, Credentials, ExtentSource, Inode, InodeId, Persist, Policy, Timestamp};

use super::error::Outcome;
use super::names::{Listed, Names, list_some};
use super::{read, walk};
use crate::keys;
use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::keys::contents::{self, Span};
use crate::keys::extents::{self, ExtentRow};
use crate::store::{KeyRange, Rows};

/// Rows that one step reads, about.
const STEP_ROWS: usize = 2048;
/// Rows that are read at once.
const PAGE: usize = 256;
/// Names that are kept of a directory while what lies in another one below it is looked at.
const NAMES_KEPT: usize = 16;
/// Chunks that are remembered: small files share them.
const CHUNKS_KNOWN_MAX: usize = 65_536;
/// Files with several names that are remembered, so that each counts once. Beyond it they may count
/// more than once.
const SEEN_MAX: usize = 1 << 20;

/// What of a file is not in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLag {
    /// The file.
    pub ino: InodeId,
    /// By which name it was found.
    pub path: Vec<u8>,
    /// Bytes that are to be persisted and are not. Those of an open tail are not known here.
    pub bytes: u64,
    /// Bytes in chunks that are never persisted: no lag.
    pub never_bytes: u64,
    /// When the first of the chunks that hold them was opened, the tail included.
    pub oldest: Option<Timestamp>,
    /// The policy in force at the file.
    pub policy: Policy,
    /// The open tail, when it is to be persisted.
    pub tail: Option<ChunkRecord>,
}

impl FileLag {
    fn of(inode: &Inode, path: Vec<u8>, policy: Policy) -> Self {
        Self { ino: inode.ino, path, bytes: 0, never_bytes: 0, oldest: None, policy, tail: None }
    }

    fn is_none(&self) -> bool {
        self.bytes == 0 && self.tail.is_none()
    }

    fn since(&mut self, opened: Timestamp) {
        self.oldest = Some(self.oldest.map_or(opened, |oldest| oldest.min(opened)));
    }
}

/// What one step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Files with bytes that are not in S3; the file that the walk is of in any case.
    pub files: Vec<FileLag>,
    /// The walk is over.
    pub done: bool,
}

/// How a chunk's bytes stand.
#[derive(Clone, Copy, Debug)]
enum Standing {
    InS3,
    /// Waits, in a chunk that was opened then; unknown where the chunk has no record.
    Waits(Option<Timestamp>),
    Never,
}

/// A directory on the way down.
struct Level {
    directory: InodeId,
    policy: Policy,
    /// How long the path is with this directory.
    path: usize,
    after: Vec<u8>,
    ahead: VecDeque<Listed>,
    read_out: bool,
}

/// A file whose extents are read.
struct Scan {
    lag: FileLag,
    spans: VecDeque<Span>,
    range: Option<KeyRange>,
}

/// Where a walk is.
pub struct LagWalk {
    caller: Option<Credentials>,
    levels: Vec<Level>,
    path: Vec<u8>,
    file: Option<Scan>,
    /// The walk is of one file, which is told of whatever it holds.
    only: bool,
    known: HashMap<ChunkId, Standing>,
    seen: HashSet<InodeId>,
    names: u64,
    passed_over: u64,
}

impl LagWalk {
    /// Begins at an inode. With a `caller`, directories that it may not list are passed over.
    ///
    /// # Errors
    /// A fault of the store; [`FsError`](cairn_types::FsError) when the policy in force cannot be told.
    pub fn begin(rows: &dyn Rows, top: &Inode, caller: Option<Credentials>) -> Outcome<Self> {
        let policy = walk::policy_at(rows, top)?;
        // A file without a name has none to be told by.
        let path = read::path_of(rows, top.ino).unwrap_or_default();
        let mut begun = Self {
            caller,
            levels: Vec::new(),
            path,
            file: None,
            only: !top.is_dir(),
            known: HashMap::new(),
            seen: HashSet::new(),
            names: 0,
            passed_over: 0,
        };
        if top.is_dir() {
            begun.enter(rows, top, policy)?;
        } else if top.is_file() {
            begun.names = 1;
            let path = begun.path.clone();
            begun.file = Some(Scan::begin(rows, top, path, policy)?);
        }
        Ok(begun)
    }

    /// Names looked at so far.
    #[must_use]
    pub fn names(&self) -> u64 {
        self.names
    }

    /// Directories that the caller may not list, so far.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Looks at some rows.
    ///
    /// # Errors
    /// A fault of the store.
    pub fn step(&mut self, rows: &dyn Rows) -> Outcome<Step> {
        let mut step = Step::default();
        let mut left = STEP_ROWS;
        while left > 0 {
            if let Some(mut scan) = self.file.take() {
                if self.scan(rows, &mut scan, &mut left)? {
                    self.file = Some(scan);
                } else if self.only || !scan.lag.is_none() {
                    step.files.push(scan.lag);
                }
            } else if !self.next_name(rows, &mut left)? {
                step.done = true;
                break;
            }
        }
        Ok(step)
    }

    /// Goes on to the next name; false when there is none.
    fn next_name(&mut self, rows: &dyn Rows, left: &mut usize) -> Outcome<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        if level.ahead.is_empty() && !level.read_out {
            let names = Names { start_after: &level.after, ..Names::default() };
            let listing = list_some(rows, level.directory, names, PAGE)?;
            *left = left.saturating_sub(listing.entries.len());
            level.read_out = listing.last;
            if let Some(last) = listing.entries.last() {
                level.after.clone_from(&last.name);
            }
            level.ahead.extend(listing.entries);
        }
        let Some(Listed { name, inode }) = level.ahead.pop_front() else {
            self.levels.pop();
            return Ok(true);
        };
        self.names += 1;
        *left = left.saturating_sub(1);
        self.path.truncate(level.path);
        if self.path.last() != Some(&b'/') {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&name);
        let policy = inode.policy.unwrap_or(level.policy);
        if inode.is_dir() {
            level.keep_some();
            self.enter(rows, &inode, policy)?;
        } else if inode.is_file() && self.is_new(&inode) {
            self.file = Some(Scan::begin(rows, &inode, self.path.clone(), policy)?);
        }
        Ok(true)
    }

    fn enter(&mut self, rows: &dyn Rows, directory: &Inode, policy: Policy) -> Outcome<()> {
        if let Some(caller) = &self.caller
            && !read::access(rows, caller, directory.ino)?.list
        {
            self.passed_over += 1;
            return Ok(());
        }
        self.levels.push(Level {
            directory: directory.ino,
            policy,
            path: self.path.len(),
            after: Vec::new(),
            ahead: VecDeque::new(),
            read_out: false,
        });
        Ok(())
    }

    /// False for a further name of a file that was counted.
    fn is_new(&mut self, inode: &Inode) -> bool {
        inode.nlink <= 1 || self.seen.len() >= SEEN_MAX || self.seen.insert(inode.ino)
    }

    /// Reads some of a file's extents; false when there are no more.
    fn scan(&mut self, rows: &dyn Rows, scan: &mut Scan, left: &mut usize) -> Result<bool, RowFault> {
        let Some(range) = scan.next_range() else { return Ok(false) };
        let limit = PAGE.min(*left).max(1);
        let found = keys::scan::<ExtentRow>(rows, range, limit)?;
        *left = left.saturating_sub(found.len().max(1));
        match found.last().filter(|_| found.len() == limit) {
            Some((key, _)) => range.from = [key.as_slice(), &[0]].concat(),
            None => scan.range = None,
        }
        for (_, row) in found {
            let ExtentSource::Chunk { chunk, .. } = row.source else { continue };
            match self.standing(rows, chunk, left)? {
                Standing::InS3 => {}
                Standing::Never => scan.lag.never_bytes += row.length,
                Standing::Waits(opened) => {
                    scan.lag.bytes += row.length;
                    opened.into_iter().for_each(|opened| scan.lag.since(opened));
                }
            }
        }
        Ok(true)
    }

    fn standing(&mut self, rows: &dyn Rows, chunk: ChunkId, left: &mut usize) -> Result<Standing, RowFault> {
        if let Some(known) = self.known.get(&chunk) {
            return Ok(*known);
        }
        *left = left.saturating_sub(1);
        let standing = match read::chunk(rows, chunk)? {
            Some(record) if record.place.is_some() => Standing::InS3,
            Some(record) if record.policy.persist == Persist::Never => Standing::Never,
            Some(record) => Standing::Waits(Some(record.activation.time)),
            None => Standing::Waits(None),
        };
        if self.known.len() >= CHUNKS_KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(chunk, standing);
        Ok(standing)
    }
}

impl Level {
    /// Drops most of what was read ahead; it is read again.
    fn keep_some(&mut self) {
        if self.ahead.len() > NAMES_KEPT {
            self.ahead.truncate(NAMES_KEPT);
            self.read_out = false;
            if let Some(last) = self.ahead.back() {
                self.after.clone_from(&last.name);
            }
        }
    }
}

impl Scan {
    fn begin(rows: &dyn Rows, inode: &Inode, path: Vec<u8>, policy: Policy) -> Outcome<Self> {
        let mut lag = FileLag::of(inode, path, policy);
        if let Some(tail) = inode.tail
            && let Some(record) = read::chunk(rows, tail.chunk)?
            && record.policy.persist != Persist::Never
        {
            lag.since(record.activation.time);
            lag.tail = Some(record);
        }
        let spans = contents::of(rows, inode.ino)?.spans(0, u64::MAX);
        Ok(Self { lag, spans: spans.into(), range: None })
    }

    fn next_range(&mut self) -> Option<&mut KeyRange> {
        if self.range.is_none() {
            let span = self.spans.pop_front()?;
            self.range = Some(extents::starting_in(span.content, span.from, span.until));
        }
        self.range.as_mut()
    }
}
