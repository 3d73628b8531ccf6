//! The check of the whole state: every row against every other that it says something about.
//!
//! It reads one point in time in bounded steps and holds little: rows are read in the order of their
//! keys, what they name is looked up one by one, and sums over everything (the live bytes of chunks,
//! the shares of packs) are made for so many chunks or packs at a time, with a pass over all rows for
//! each such range. It changes nothing; `ops/repair` mends what it found, one entry a finding.
//!
//! ```text
//! names      nodes, links, places, orphans: names, link counts, what no path reaches
//! extents    what a file's bytes are
//! contents   contents, detached: files that were cut
//! sums       chunks and packs against all that points into them
//! chunks     chunks, queues, held; packs      chunks ↔ who waits for them
//! mounts     keys, imports, mounts
//! sessions   replies, writers, writing
//! holds      denials ↔ sessions ↔ who holds which unlinked files
//! intents    intents ↔ what names them
//! readable   what is looked at alone: attributes, credentials, locks, removed trees, events
//! counts     the counters, at the end
//! ```

mod chunks;
mod contents;
mod counter;
mod counts;
mod described;
mod extents;
mod finding;
mod holds;
mod intents;
mod look;
mod mounts;
mod names;
mod readable;
pub(super) mod recheck;
mod sessions;
mod sums;

pub use counter::Counter;
pub use finding::{Finding, Severity};

pub(super) use counts::recorded;
pub(super) use holds::held;
pub(super) use look::{At, at, inode, is_branch, is_orphaned, ring_of};

use crate::store::{Rows, StoreFault};
use look::{Look, Pass};

/// How much a check reads at once, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckBounds {
    /// Rows that one step scans, at most; each costs up to a dozen lookups.
    pub rows_per_step: usize,
    /// Chunks, packs or contents whose sums are held at once, at most: 32 bytes each.
    pub sums_at_once: usize,
}

impl Default for CheckBounds {
    fn default() -> Self {
        Self { rows_per_step: 1024, sums_at_once: 1 << 20 }
    }
}

/// A check that is under way: a list of passes, of which one is at work.
pub struct Check {
    passes: Vec<Box<dyn Pass>>,
    at: usize,
    bounds: CheckBounds,
    tally: counts::Tally,
    rows: u64,
}

/// What a step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The check is done.
    pub done: bool,
}

impl Check {
    /// A check that has not begun.
    #[must_use]
    pub fn new(bounds: CheckBounds) -> Self {
        let mut passes: Vec<Box<dyn Pass>> = Vec::new();
        passes.extend(names::passes());
        passes.extend(extents::passes());
        passes.extend(contents::passes());
        passes.extend(sums::passes());
        passes.extend(chunks::passes());
        passes.extend(mounts::passes());
        passes.extend(sessions::passes());
        passes.extend(holds::passes());
        passes.extend(intents::passes());
        passes.extend(readable::passes());
        passes.extend(counts::passes());
        Self { passes, at: 0, bounds, tally: counts::Tally::default(), rows: 0 }
    }

    /// What is being looked at.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        self.passes.get(self.at).map_or("done", |pass| pass.name())
    }

    /// Rows that were scanned so far. A pass that goes over a table again counts again.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads a bounded number of rows. `rows` must be the same point in time in all steps.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed: nothing can be said then. Rows that cannot be read are
    /// findings.
    pub fn step(&mut self, rows: &dyn Rows) -> Result<Step, StoreFault> {
        let mut step = Step::default();
        let Some(pass) = self.passes.get_mut(self.at) else {
            return Ok(Step { done: true, ..step });
        };
        let mut look = Look {
            rows,
            bounds: self.bounds,
            findings: &mut step.findings,
            tally: &mut self.tally,
            scanned: 0,
        };
        let ended = pass.step(&mut look)?;
        self.rows += look.scanned;
        self.at += usize::from(ended);
        step.done = self.at == self.passes.len();
        Ok(step)
    }

    /// Checks everything and answers all findings: for tests and small states.
    ///
    /// # Errors
    /// As [`Check::step`].
    pub fn all(rows: &dyn Rows, bounds: CheckBounds) -> Result<Vec<Finding>, StoreFault> {
        let mut check = Self::new(bounds);
        let mut findings = Vec::new();
        loop {
            let step = check.step(rows)?;
            findings.extend(step.findings);
            if step.done {
                return Ok(findings);
            }
        }
    }
}
