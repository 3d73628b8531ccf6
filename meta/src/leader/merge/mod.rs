//! Has runs of small extents of files written as one chunk each: a log that is appended to slowly is sealed
//! every few seconds, and would come to have thousands of tiny ones, each a look-up and a GET of its own.
//!
//! ```text
//! mod.rs      the job: looks, makes the intents, looks after them
//! ├── scan.rs    which runs there are, so many rows at a time
//! └── runs.rs    which extents make a run
//! ```
//!
//! What is found is forgotten when another server leads: it begins a pass anew, and finds the intent that is
//! under way. The intent holds nothing: a run whose extents have changed meanwhile stays what it is. Bytes are
//! merged once they are in S3, and are in S3 again, in their new chunk, before the entry that makes an extent
//! of them: the lag knows nothing of it. Files that are never persisted are left as they are.
//!
//! It stays behind everything else: one merge at a time, so many bytes a second, a look of so many rows a
//! second, none while uploads fail, none on a data node whose disk is full.

mod runs;
mod scan;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{FeatureLevel, InodeId, NodeId, Timestamp};

use super::errands::Errands;
use super::group::PACK_BYTES_MAX;
use super::intents;
use super::nodes::View;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::keys::intents::Work;
use crate::namespace::command::ExtentRun;
use crate::namespace::{Command, MERGE_EXTENTS_MAX, jobs};
use scan::{At, Candidate, Step};

/// How often all extents are looked at, at most, when nobody asks.
const LOOK: Duration = Duration::from_secs(60);
/// Rows of extents that are looked at in one step.
const ROWS_PER_STEP: usize = 4096;
/// Steps in one turn, at most: a small pass is one turn's.
const STEPS_PER_TURN: usize = 16;
/// Rows that are looked at in a second: a few thousandths of what a core can do.
const ROWS_PER_SECOND: u64 = 20_000;
/// Runs that wait, at most: nothing more is looked for before they are fewer.
const FOUND_MAX: usize = 256;
/// How long the files of a merge that was given up are left alone.
const REST: Duration = Duration::from_secs(3_600);
/// Files that are left alone, at most.
const RESTING_MAX: usize = 4096;
/// A data node with less room than the largest pack, twice, is given none.
const ROOM_BYTES_MIN: u64 = 2 * PACK_BYTES_MAX;

/// When small extents are merged, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merging {
    /// Bytes written again in a second, on the average; 0: none.
    pub bytes_per_second: u64,
    /// How long a chunk is left alone after its seal.
    pub after: Duration,
}

impl Default for Merging {
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, after: Duration::from_secs(600) }
    }
}

/// What the last whole pass found, for who asks.
#[derive(Debug, Default)]
pub struct Fragments {
    // Guards: nothing beyond the value itself. Never held across an await.
    last: Mutex<Fragmented>,
}

/// Files with runs that are worth merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragmented {
    /// How many.
    pub files: u64,
    /// The extents in those runs.
    pub extents: u64,
}

impl Fragments {
    /// What the last whole pass found.
    #[must_use]
    pub fn told(&self) -> Fragmented {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, found: Fragmented) {
        metrics::gauge!("cairn_meta_fragmented_files_count").set(found.files as f64);
        metrics::gauge!("cairn_meta_fragmented_extents_count").set(found.extents as f64);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// A pass through all extents.
struct Pass {
    at: At,
    began: Duration,
    found: Fragmented,
    /// The last file that had a run: they come in the order of their numbers.
    last: Option<InodeId>,
}

/// What the job keeps between turns.
struct Job {
    errands: Errands,
    pass: Option<Pass>,
    found: VecDeque<Candidate>,
    /// When the next pass, and the next step of one, may begin.
    look_at: Duration,
    /// Somebody asked for a pass while one was under way: another one follows at once.
    again: bool,
    /// Files that are left alone, until when.
    resting: HashMap<InodeId, Duration>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "merge", Duration::from_secs(1));
    let now = tenure.clock.boottime();
    let mut job = Job {
        errands: Errands::of(|work| matches!(work, Work::Merge { .. })),
        pass: None,
        found: VecDeque::new(),
        look_at: now.saturating_add(LOOK),
        again: false,
        resting: HashMap::new(),
    };
    while turns.next().await {
        turns.ended(job.turn(&tenure).await);
    }
    // Another server leads, and tells.
    tenure.fragments.tell(Fragmented::default());
}

impl Job {
    async fn turn(&mut self, tenure: &Arc<Tenure>) -> Result<(), JobFault> {
        let level = jobs::level(&*tenure.local()?.store)?;
        if tenure.merging.bytes_per_second == 0 || level < FeatureLevel::FIFTH {
            return Ok(());
        }
        let too_long = self.errands.look_after(tenure).await?;
        let now = tenure.clock.boottime();
        self.rest(&too_long, now);
        if tenure.gc.take_merges_hastened() {
            self.again |= self.pass.is_some();
            self.look_at = now;
        }
        for _ in 0..STEPS_PER_TURN {
            let now = tenure.clock.boottime();
            if self.found.len() >= FOUND_MAX || now < self.look_at {
                break;
            }
            self.look(tenure, now).await?;
        }
        if !self.errands.may_begin(now) || tenure.uploads_fail() {
            return Ok(());
        }
        match next(&mut self.found) {
            Some(batch) => self.begin(tenure, batch).await,
            None => Ok(()),
        }
    }

    /// Leaves the files alone that took too long: something about them cannot be read.
    fn rest(&mut self, too_long: &[Work], now: Duration) {
        self.resting.retain(|_, until| *until > now);
        for work in too_long {
            let Work::Merge { runs, .. } = work else { continue };
            for run in runs {
                if self.resting.len() < RESTING_MAX {
                    self.resting.insert(run.ino, now.saturating_add(REST));
                }
            }
        }
    }

    /// One step of a pass.
    async fn look(&mut self, tenure: &Arc<Tenure>, now: Duration) -> Result<(), JobFault> {
        let begin = || Pass { at: At::FIRST, began: now, found: Fragmented::default(), last: None };
        let mut pass = self.pass.take().unwrap_or_else(begin);
        let after = i64::try_from(tenure.merging.after.as_nanos()).unwrap_or(i64::MAX);
        let before = Timestamp(tenure.clock.wall().0.saturating_sub(after));
        let (view, at) = (tenure.local()?, pass.at.clone());
        let read = move || scan::step(&*view.store, &at, ROWS_PER_STEP, before);
        let Step { found, next, rows } = tokio::task::spawn_blocking(read).await??;
        for run in found.iter().map(|candidate| candidate.run) {
            pass.found.files += u64::from(pass.last.replace(run.ino) != Some(run.ino));
            pass.found.extents += u64::from(run.extents);
        }
        self.found.extend(found.into_iter().filter(|c| !self.resting.contains_key(&c.run.ino)));
        match next {
            Some(at) => {
                let pause_us = (rows as u64).saturating_mul(1_000_000) / ROWS_PER_SECOND;
                self.look_at = now.saturating_add(Duration::from_micros(pause_us));
                self.pass = Some(Pass { at, ..pass });
            }
            None => {
                let rest = if std::mem::take(&mut self.again) { Duration::ZERO } else { LOOK };
                self.look_at = pass.began.saturating_add(rest).max(now);
                tenure.fragments.tell(pass.found);
            }
        }
        Ok(())
    }

    async fn begin(&mut self, tenure: &Arc<Tenure>, batch: Batch) -> Result<(), JobFault> {
        let Some(assignee) = choose(tenure, &batch.holders) else {
            // Everybody is full, or gone. What was found is found again.
            self.found.clear();
            return Ok(());
        };
        let Batch { runs, bytes, .. } = batch;
        let (count, extents) = (runs.len(), runs.iter().map(|run| u64::from(run.extents)).sum::<u64>());
        // Refused when none of them is there any more: it is seen at the next look.
        let command = Command::CreateMerge { assignee, runs };
        let Some(answer) = tenure.try_propose(command).await? else { return Ok(()) };
        tracing::info!(
            intent = ?answer.intent, node = %assignee, runs = count, extents, bytes, "small extents are merged"
        );
        metrics::counter!("cairn_meta_merges_total").increment(1);
        metrics::counter!("cairn_meta_merged_bytes").increment(bytes);
        self.errands.begun(tenure, answer.intent, bytes, tenure.merging.bytes_per_second);
        Ok(())
    }
}

/// The runs of one merge.
#[derive(Debug, Default)]
struct Batch {
    runs: Vec<ExtentRun>,
    bytes: u64,
    extents: usize,
    holders: BTreeMap<NodeId, u64>,
}

/// The next runs that fit into one pack and one entry; `None` when there are none.
fn next(found: &mut VecDeque<Candidate>) -> Option<Batch> {
    let mut batch = Batch::default();
    while let Some(candidate) = found.front() {
        let extents = batch.extents + usize::try_from(candidate.run.extents).unwrap_or(usize::MAX);
        let bytes = batch.bytes + candidate.run.length;
        if !batch.runs.is_empty() && (extents > MERGE_EXTENTS_MAX || bytes > PACK_BYTES_MAX) {
            break;
        }
        let Some(candidate) = found.pop_front() else { break };
        (batch.extents, batch.bytes) = (extents, bytes);
        batch.runs.push(candidate.run);
        for (node, held) in candidate.holders {
            *batch.holders.entry(node).or_default() += held;
        }
    }
    (!batch.runs.is_empty()).then_some(batch)
}

/// The data node that has most of the bytes, else one by chance; of those that live, stay and have room.
fn choose(tenure: &Tenure, holders: &BTreeMap<NodeId, u64>) -> Option<NodeId> {
    let has_room = |node: &NodeId| {
        let view = tenure.registry.get(*node).filter(View::takes_chunks);
        // Before its first heartbeat nobody knows.
        view.and_then(|view| view.heartbeat).is_some_and(|beat| beat.room_bytes >= ROOM_BYTES_MIN)
    };
    let able: Vec<NodeId> = intents::live_nodes(tenure).into_iter().filter(has_room).collect();
    let most = able.iter().filter(|node| holders.contains_key(node)).max_by_key(|node| holders[node]);
    most.copied().or_else(|| intents::pick(tenure, &able))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ino: u64, length: u64, extents: u32, holder: u64) -> Candidate {
        let run = ExtentRun { ino: InodeId(ino), offset: 0, length, extents };
        Candidate { run, holders: BTreeMap::from([(NodeId(holder), length)]) }
    }

    #[test]
    fn runs_share_a_merge_as_long_as_they_fit() {
        const MIB: u64 = 1 << 20;
        let mut found = VecDeque::from([
            candidate(1, 30 * MIB, 100, 101),
            candidate(2, 30 * MIB, 100, 102),
            candidate(3, MIB, 100, 102),
            candidate(4, 10 * MIB, 16, 101),
            candidate(5, MIB, 500, 101),
        ]);
        let batch = next(&mut found).expect("some");
        assert_eq!((batch.runs.len(), batch.bytes, batch.extents), (3, 61 * MIB, 300));
        assert_eq!(batch.holders, BTreeMap::from([(NodeId(101), 30 * MIB), (NodeId(102), 31 * MIB)]));
        assert_eq!(next(&mut found).map(|b| b.runs.len()), Some(1), "the next has too many extents");
        assert_eq!(next(&mut found).map(|b| b.extents), Some(500));
        assert!(next(&mut found).is_none());
    }
}
