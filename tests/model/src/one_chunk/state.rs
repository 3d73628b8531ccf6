//! Everything there is to know about the chunk at one moment, in some sixty bytes.

use super::setup::OneChunk;
use crate::log::Log;

/// The chunk in the metadata's log (R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chunk {
    /// Taking appends, at the first epoch.
    #[default]
    Open,
    /// At the next epoch, its end not decided.
    Sealing,
    /// Its end decided.
    Sealed,
}

/// One replica and what was ever sent by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The records it has taken, on the disk or on the way there.
    pub log: Log,
    /// How many of them are safe by the chunk's policy.
    pub safe: u8,
    /// The most it ever confirmed to the primary: such a message may arrive at any time later.
    pub told: u8,
    /// One more than the position of the record that rotted; 0 when none did.
    pub rot: u8,
    /// The highest committed length it has heard (R9); the primary's own is `committed`.
    pub heard: u8,
    /// It has the chunk, if only as a fenced empty one.
    pub created: bool,
    /// It has promised the next epoch and refuses the first one (R4).
    pub fenced: bool,
    /// Its process restarted since the chunk was opened (R6).
    pub restarted: bool,
    /// What it lacks proves nothing: it restarted, and for `memory` lost its power.
    pub limbo: bool,
    /// A disk fault or, for `memory`, a loss of power took safe bytes from it. A ghost: nobody
    /// in the protocol can see it.
    pub lossy: bool,
    /// It knows the decided end (R5).
    pub learned: bool,
}

impl Replica {
    /// Its longest valid prefix.
    pub fn valid(&self) -> Log {
        if self.rot == 0 { self.log } else { self.log.prefix(self.rot - 1) }
    }
}

/// How far a fenced replica's answer can be trusted (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It never restarted: what it lacks was never acknowledged.
    Clean,
    /// It restarted: what it has is true, what it lacks proves nothing.
    Limbo,
    /// Something below a durable mark or a heard length is missing or bad.
    Damaged,
}

/// What a fenced replica answered (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// The length of its valid prefix.
    pub length: u8,
    /// How far that can be trusted.
    pub health: Health,
    /// The highest committed length it had heard.
    pub heard: u8,
}

/// One attempt of a leader to decide the end (R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round {
    /// The answers it has collected.
    pub answers: [Option<Answer>; 3],
    /// It counts the fresh node as a holder.
    pub fresh: bool,
}

/// The whole state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The replicas; the third is unused in a set of two.
    pub replicas: [Replica; 3],
    /// The seal rounds.
    pub rounds: [Round; 2],
    /// The metadata's view of the chunk.
    pub chunk: Chunk,
    /// The one sequence the primary has ordered: every forward ever sent is one of its records.
    pub ordered: Log,
    /// The records the primary has acknowledged, in order.
    pub committed: u8,
    /// For each value, one more than the offset acknowledged to its writer.
    pub acknowledged: [u8; 3],
    /// The decided content.
    pub sealed: Log,
    /// Bit i: replica i is a holder.
    pub holders: u8,
    /// The fresh node is a holder.
    pub fresh_holds: bool,
    /// What the fresh node was brought to.
    pub fresh: Log,
    /// The most that a reader was given.
    pub seen: Log,
    /// Restarts so far.
    pub crashes: u8,
    /// Losses of safe bytes so far.
    pub losses: u8,
    /// Rotten records so far.
    pub rots: u8,
    /// The highest committed length in the answers on which the end was decided.
    pub heard_at_seal: u8,
    /// A second, different end was decided.
    pub decided_twice: bool,
}

impl State {
    /// The least of the states that differ by the names of the secondaries and of the rounds.
    pub(super) fn canonical(&self, model: &OneChunk) -> Self {
        let named = self.rounds_in_order(model);
        if model.replicas < 3 {
            return named;
        }
        let mut swapped = *self;
        swapped.replicas.swap(1, 2);
        for round in &mut swapped.rounds {
            round.answers.swap(1, 2);
        }
        let (second, third) = (self.holders >> 1 & 1, self.holders >> 2 & 1);
        swapped.holders = self.holders & 1 | third << 1 | second << 2;
        named.min(swapped.rounds_in_order(model))
    }

    fn rounds_in_order(mut self, model: &OneChunk) -> Self {
        if model.rounds == 2 && self.rounds[0] > self.rounds[1] {
            self.rounds.swap(0, 1);
        }
        self
    }
}
