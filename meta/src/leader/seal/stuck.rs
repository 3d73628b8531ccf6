//! [`Stuck`]: the chunks whose end no answer of their replicas decides, for the status. In memory: a
//! new leader finds them again with its first rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{ChunkId, Clock};

use super::decide::{self, Answer, Undecided};
use crate::keys::chunks::{ChunkOwner, ChunkRecord};

/// Chunks that are remembered, at most.
const CHUNKS_MAX: usize = 65_536;

/// A chunk that waits for a replica, or for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Whose bytes it takes.
    pub owner: ChunkOwner,
    /// When this leader found it so first, by its boot clock.
    pub since: Duration,
    /// What the last round lacked.
    pub why: Undecided,
    /// The longest valid prefix answered, in bytes.
    pub length: u64,
    /// The highest committed length that a replica had heard of.
    pub heard: u64,
    /// Replicas that answered the last round.
    pub answered: usize,
    /// Replicas of the chunk.
    pub replicas: usize,
}

/// The chunks of one term that are stuck.
pub struct Stuck {
    clock: Arc<dyn Clock>,
    // Guards: nothing beyond the map itself. Never held across an await.
    chunks: Mutex<BTreeMap<ChunkId, StuckChunk>>,
}

impl Stuck {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, chunks: Mutex::new(BTreeMap::new()) }
    }

    fn chunks(&self) -> std::sync::MutexGuard<'_, BTreeMap<ChunkId, StuckChunk>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a round that decided nothing. Since when it is so stays as it was.
    pub fn note(&self, record: &ChunkRecord, answers: &[Answer], why: Undecided) {
        let now = self.clock.boottime();
        let mut chunks = self.chunks();
        let before = chunks.get(&record.chunk).map(|c| c.since);
        if before.is_none() && chunks.len() >= CHUNKS_MAX {
            return;
        }
        let stuck = StuckChunk {
            chunk: record.chunk,
            owner: record.owner,
            since: before.unwrap_or(now),
            why,
            length: answers.iter().map(|a| a.length).max().unwrap_or(0),
            heard: decide::heard(answers),
            answered: answers.len(),
            replicas: record.replicas.len(),
        };
        chunks.insert(record.chunk, stuck);
    }

    /// The chunk can be decided, or is.
    pub fn forget(&self, chunk: ChunkId) {
        self.chunks().remove(&chunk);
    }

    /// How many there are, and the first `limit` of them by id.
    #[must_use]
    pub fn first(&self, limit: usize) -> (usize, Vec<StuckChunk>) {
        let chunks = self.chunks();
        (chunks.len(), chunks.values().take(limit).cloned().collect())
    }

    /// For how long a chunk has been stuck, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, stuck: &StuckChunk) -> u64 {
        let age = self.clock.boottime().saturating_sub(stuck.since);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::samples;
    use crate::leader::hand_clock::HandClock;

    #[test]
    fn a_stuck_chunk_ages_from_its_first_round_and_is_forgotten_when_decided() {
        let clock = Arc::new(HandClock::default());
        let stuck = Stuck::new(clock.clone());
        let record = samples::chunk();
        stuck.note(&record, &[], Undecided::NoProof);
        clock.advance(Duration::from_secs(5));
        let why = Undecided::BelowHeard { heard: 9, longest: 3 };
        stuck.note(&record, &[], why);
        let other = ChunkRecord { chunk: record.chunk.next(), ..record.clone() };
        stuck.note(&other, &[], why);
        let (count, first) = stuck.first(1);
        assert_eq!((count, first.len()), (2, 1));
        assert_eq!((first[0].chunk, first[0].why, stuck.age_ms(&first[0])), (record.chunk, why, 5000));
        assert_eq!((first[0].answered, first[0].replicas), (0, record.replicas.len()));
        stuck.forget(record.chunk);
        let (count, first) = stuck.first(10);
        assert_eq!((count, first[0].chunk), (1, other.chunk));
    }
}
