//! Has the live chunks of sparse packs written into new ones, so that the old ones die.
//!
//! One compaction at a time, so many bytes a second. Its intent holds nothing: a chunk that dies or moves
//! meanwhile stays what it is, and the last entry moves only those that are where they were found. A new
//! leader finds the intent and goes on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, FeatureLevel, PackId};

use super::errands::Errands;
use super::group::{PACK_BYTES_MAX, PACK_CHUNKS_MAX};
use super::intents;
use super::sparse::{self, Sparse};
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::keys::intents::Work;
use crate::namespace::{Command, jobs};

/// Sparse packs that are looked for at once, at most.
const SPARSE_MAX: usize = 256;
/// How often sparse packs are looked for, when nobody asks.
const LOOK: Duration = Duration::from_secs(60);
/// How long the packs of one that was given up are left alone.
const REST: Duration = Duration::from_secs(3_600);

/// When packs are compacted, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacting {
    /// Packs of which less than that is alive, in percent; 0: none.
    pub below_percent: u32,
    /// Bytes written again in a second, on the average.
    pub bytes_per_second: u64,
}

impl Default for Compacting {
    fn default() -> Self {
        Self { below_percent: 50, bytes_per_second: 16 << 20 }
    }
}

/// What the job keeps between turns.
struct Job {
    errands: Errands,
    found: VecDeque<Sparse>,
    looked: Duration,
    /// Packs that are left alone, until when.
    resting: HashMap<PackId, Duration>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "compact", Duration::from_secs(1));
    let now = tenure.clock.boottime();
    let errands = Errands::of(|work| matches!(work, Work::Compact { .. }));
    let mut job = Job { errands, found: VecDeque::new(), looked: now, resting: HashMap::new() };
    while turns.next().await {
        turns.ended(job.turn(&tenure).await);
    }
}

impl Job {
    async fn turn(&mut self, tenure: &Arc<Tenure>) -> Result<(), JobFault> {
        let level = jobs::level(&*tenure.local()?.store)?;
        if tenure.compacting.below_percent == 0 || level < FeatureLevel::FOURTH {
            return Ok(());
        }
        let too_long = self.errands.look_after(tenure).await?;
        let now = tenure.clock.boottime();
        for work in too_long {
            let Work::Compact { from, .. } = work else { continue };
            self.resting.extend(from.iter().map(|source| (source.pack, now + REST)));
        }
        if !self.errands.may_begin(now) {
            return Ok(());
        }
        if self.found.is_empty() && (tenure.gc.take_hastened() || now.saturating_sub(self.looked) >= LOOK) {
            self.look(tenure, now).await?;
        }
        match next(&mut self.found) {
            Some((chunks, bytes)) => self.begin(tenure, chunks, bytes).await,
            None => Ok(()),
        }
    }

    async fn look(&mut self, tenure: &Arc<Tenure>, now: Duration) -> Result<(), JobFault> {
        self.looked = now;
        self.resting.retain(|_, until| *until > now);
        let (view, percent, resting) =
            (tenure.local()?, tenure.compacting.below_percent, self.resting.clone());
        let find =
            move || sparse::find(&*view.store, percent, SPARSE_MAX, &|pack| resting.contains_key(&pack));
        self.found = tokio::task::spawn_blocking(find).await??.into();
        metrics::gauge!("cairn_meta_sparse_packs_count").set(self.found.len() as f64);
        Ok(())
    }

    async fn begin(
        &mut self,
        tenure: &Arc<Tenure>,
        chunks: Vec<ChunkId>,
        bytes: u64,
    ) -> Result<(), JobFault> {
        let Some(assignee) = intents::pick(tenure, &intents::live_nodes(tenure)) else { return Ok(()) };
        let count = chunks.len();
        let command = Command::CreateCompaction { assignee, chunks };
        // Refused when a chunk has died since: the packs are looked at again.
        let Some(answer) = tenure.try_propose(command).await? else { return Ok(()) };
        tracing::info!(intent = ?answer.intent, node = %assignee, chunks = count, bytes, "packs are compacted");
        metrics::counter!("cairn_meta_compactions_total").increment(1);
        metrics::counter!("cairn_meta_compacted_bytes").increment(bytes);
        self.errands.begun(tenure, answer.intent, bytes, tenure.compacting.bytes_per_second);
        Ok(())
    }
}

/// The chunks of the next packs that fit into one, and their bytes; `None` when there are none.
fn next(found: &mut VecDeque<Sparse>) -> Option<(Vec<ChunkId>, u64)> {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while let Some(sparse) = found.front() {
        let fits = bytes + sparse.live_length <= PACK_BYTES_MAX
            && chunks.len() + sparse.chunks.len() <= PACK_CHUNKS_MAX;
        if !fits && !chunks.is_empty() {
            break;
        }
        let Some(sparse) = found.pop_front() else { break };
        if fits {
            bytes += sparse.live_length;
            chunks.extend(sparse.chunks);
        }
    }
    (!chunks.is_empty()).then_some((chunks, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(pack: u64, chunks: std::ops::Range<u64>, live_length: u64) -> Sparse {
        let chunks = chunks.map(ChunkId).collect();
        Sparse { pack: PackId(pack), bytes: PACK_BYTES_MAX, chunks, live_length }
    }

    #[test]
    fn packs_are_taken_whole_as_long_as_they_fit_into_one() {
        const MIB: u64 = 1 << 20;
        let mut found =
            VecDeque::from([sparse(1, 0..2, 30 * MIB), sparse(2, 2..3, 30 * MIB), sparse(3, 3..5, 30 * MIB)]);
        let (chunks, bytes) = next(&mut found).expect("some");
        assert_eq!((chunks.len(), bytes), (3, 60 * MIB));
        assert_eq!(next(&mut found).map(|(chunks, _)| chunks), Some(vec![ChunkId(3), ChunkId(4)]));
        assert_eq!(next(&mut found), None);
        let mut found = VecDeque::from([sparse(1, 0..400, MIB), sparse(2, 400..700, MIB)]);
        assert_eq!(next(&mut found).map(|(chunks, _)| chunks.len()), Some(400));
        let too_large = sparse(4, 0..1, 2 * PACK_BYTES_MAX);
        let mut found = VecDeque::from([too_large, sparse(5, 1..2, MIB)]);
        assert_eq!(next(&mut found).map(|(chunks, _)| chunks), Some(vec![ChunkId(1)]), "it is passed over");
    }
}
