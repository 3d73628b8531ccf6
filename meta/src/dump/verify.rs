//! [`verify`]: a dump is read to its end and loaded into a scratch state, which is then checked as
//! `fsck` checks a cluster's. What is wrong is found before anything is changed.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use cairn_types::{FsError, InodeId, LogIndex, Policy};

use super::Header;
use super::reader::{DumpError, DumpReader, Line};
use crate::keys::RowFault;
use crate::keys::loads::LoadId;
use crate::namespace::check::{Check, CheckBounds, Severity};
use crate::namespace::facts::{Disks, FACTS_PER_ENTRY_MAX, Fact, Fate};
use crate::namespace::{Command, Entry, apply};
use crate::store::{RocksStore, Store, StoreFault, Txn};

/// Memory of the scratch state's database.
const MEMORY_BYTES: usize = 64 << 20;
/// Chunks and packs whose sums the check holds at once: 8 MiB.
const SUMS_AT_ONCE: usize = 1 << 18;
/// Findings that are told, at most; all are counted.
const TOLD_MAX: usize = 10;

/// A dump of which nothing is missing and whose facts fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its header.
    pub header: Header,
    /// Which dump it is.
    pub load: LoadId,
    /// Facts of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// What the cluster that it is for has not got.
    pub losses: Losses,
}

/// Chunks that are in no pack, and of which a cluster has no replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// How many.
    pub chunks: u64,
    /// Those of them that were growing: nobody knows how many bytes they had.
    pub growing: u64,
    /// Bytes of them that files point at.
    pub bytes: u64,
}

/// Why a dump is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is no whole dump that this build reads.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A fact cannot be: at a line, or soon after it.
    #[error("line {line}, or soon after it: the fact cannot be loaded: {refused}")]
    Refused {
        /// The first line that it may be.
        line: u64,
        /// Why.
        refused: FsError,
    },
    /// Facts contradict each other.
    #[error("{count} facts contradict others, or lack them: {}", told.join("; "))]
    Damage {
        /// How many.
        count: u64,
        /// The first of them, in words.
        told: Vec<String>,
    },
    /// The scratch state failed.
    #[error("the scratch directory failed")]
    Scratch(#[from] RowFault),
}

impl From<StoreFault> for VerifyError {
    fn from(fault: StoreFault) -> Self {
        Self::Scratch(fault.into())
    }
}

/// Verifies a dump for a cluster with these data nodes. `scratch` is an empty directory, which gets about
/// as large as the state; `progress` is told what is done, and how many facts or rows of it.
///
/// # Errors
/// [`VerifyError`]. Nothing but `scratch` is changed.
pub fn verify(
    from: impl BufRead,
    scratch: &Path,
    disks: &Disks,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<Verified, VerifyError> {
    let mut reader = DumpReader::open(from)?;
    let mut state = Scratch::begin(scratch, reader.header())?;
    let (mut losses, mut roots) = (Losses::default(), 0);
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let next = reader.next_line()?;
        let ended = next.is_none();
        if let Some(line) = next {
            if let Fact::Chunk(chunk) = &line.fact {
                let fate = chunk.clone().settle(disks);
                losses.chunks += u64::from(fate == Fate::Lost);
                losses.growing += u64::from(fate == Fate::Lost && chunk.sealed.is_none());
                losses.bytes += if fate == Fate::Lost { chunk.live_bytes } else { 0 };
            }
            roots += u64::from(matches!(&line.fact, Fact::Name { inode, .. } if inode.ino == InodeId::ROOT));
            lines.push(line);
        }
        if lines.len() >= FACTS_PER_ENTRY_MAX || ended {
            progress("reading", reader.counted().facts);
            state.load(std::mem::take(&mut lines))?;
        }
        if ended {
            break;
        }
    }
    if roots != 1 {
        // The scratch state has one of its own, which a check would be content with.
        return Err(VerifyError::Damage { count: 1, told: vec![format!("there are {roots} roots")] });
    }
    state.check(progress)?;
    let kinds = reader.counted().kinds.clone();
    Ok(Verified { header: reader.header().clone(), load: reader.id(), kinds, losses })
}

/// A state that nobody sees.
struct Scratch {
    store: RocksStore,
    index: u64,
    loaded: u64,
    header: Header,
    load: LoadId,
}

impl Scratch {
    fn begin(dir: &Path, header: &Header) -> Result<Self, VerifyError> {
        // How many facts there are is known at the end.
        let Header { cluster, log_index, .. } = *header;
        let load = LoadId { cluster, log_index, facts: u64::MAX, crc32c: 0 };
        let store = RocksStore::open(dir, MEMORY_BYTES)?;
        let mut scratch = Self { store, index: 0, loaded: 0, header: header.clone(), load };
        scratch.apply(1, Command::InitCluster { cluster, policy: Policy::cluster() })?;
        scratch.apply(1, Command::BeginLoad { load, next: header.next, time: header.time_ns })?;
        Ok(scratch)
    }

    fn load(&mut self, lines: Vec<Line>) -> Result<(), VerifyError> {
        let Some(first) = lines.first().map(|line| line.number) else { return Ok(()) };
        let count = lines.len() as u64;
        let facts = lines.into_iter().map(|line| Some(line.fact)).collect();
        self.apply(first, Command::LoadFacts { load: self.load, first: self.loaded, facts })?;
        self.loaded += count;
        Ok(())
    }

    fn apply(&mut self, line: u64, command: Command) -> Result<(), VerifyError> {
        self.index += 1;
        let mut txn = Txn::new(&self.store);
        let entry = Entry { time: self.header.time_ns, command };
        let reply = apply(&mut txn, LogIndex(self.index), &entry)?;
        self.store.write(txn.into_batch())?;
        reply.map(drop).map_err(|refused| VerifyError::Refused { line, refused })
    }

    fn check(&self, progress: &mut dyn FnMut(&str, u64)) -> Result<(), VerifyError> {
        let bounds = CheckBounds { sums_at_once: SUMS_AT_ONCE, ..CheckBounds::default() };
        let mut check = Check::new(bounds);
        let (mut count, mut told) = (0, Vec::new());
        loop {
            let step = check.step(&self.store)?;
            progress(check.phase(), check.rows());
            for finding in step.findings.iter().filter(|f| f.severity() == Severity::Damage) {
                count += 1;
                if told.len() < TOLD_MAX {
                    told.push(finding.to_string());
                }
            }
            if step.done {
                break;
            }
        }
        if count == 0 { Ok(()) } else { Err(VerifyError::Damage { count, told }) }
    }
}
