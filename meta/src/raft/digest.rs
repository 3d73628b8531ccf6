//! A rolling digest of the state, by which servers find out that they hold different ones.
//!
//! The digest is a chain of CRC32C over all that each entry wrote. It moves with every batch in a
//! row of [`Table::Meta`], so it goes with checkpoints and survives restarts. A difference stays:
//! equal entries later on do not make unequal digests equal again. What it does not see: bytes that
//! change on the disk after they were written (those have RocksDB's checksums).

use std::collections::{BTreeMap, VecDeque};

use bincode::{Decode, Encode};

use super::record;
use super::state::StateError;
use crate::store::{Rows, Table, WriteBatch};

/// The row of [`Table::Meta`].
const KEY: &[u8] = b"digest";
/// Every so many entries the digest is remembered, to be compared.
pub const MARK_EVERY: u64 = 64;
/// Marks that are remembered: a server may be so far behind another and still be compared with it.
pub const MARKS_MAX: usize = 256;

/// The digest at one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// The entry after which the chain began: 0, unless the state is older than digests are.
    pub since: u64,
    /// The last entry in it.
    pub index: u64,
    /// The chain there.
    pub digest: u32,
}

/// Reads the row; of a state that has none, a chain that begins after `applied`.
///
/// # Errors
/// [`StateError`] when it cannot be read, or tells of another entry than the last one applied.
pub fn read(rows: &dyn Rows, applied: u64) -> Result<Mark, StateError> {
    let Some(bytes) = rows.get(Table::Meta, KEY)? else {
        return Ok(Mark { since: applied, index: applied, digest: 0 });
    };
    let mark: Mark = record::decode(&bytes)?;
    if mark.index != applied {
        return Err(StateError::Digest { index: mark.index, applied });
    }
    Ok(mark)
}

/// Adds the row to a batch.
pub fn write(batch: &mut WriteBatch, mark: &Mark) {
    batch.put(Table::Meta, KEY, record::encode(mark));
}

/// The last marks, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Marks(VecDeque<Mark>);

impl Marks {
    /// Remembers a mark, the oldest one goes.
    pub fn push(&mut self, mark: Mark) {
        if self.0.len() == MARKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(mark);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.0.iter()
    }
}

impl FromIterator<Mark> for Marks {
    fn from_iter<I: IntoIterator<Item = Mark>>(marks: I) -> Self {
        let mut kept = Self::default();
        marks.into_iter().for_each(|mark| kept.push(mark));
        kept
    }
}

/// What a comparison of this server's marks with the voters' says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing differs, as far as it could be compared.
    Agreed,
    /// Two voters differ, and no majority agrees: which of them is right is not known.
    Undecided {
        /// The last entry at which they do.
        index: u64,
    },
    /// A majority of the voters agree on another state than this server's.
    Diverged {
        /// The last entry at which that is seen.
        index: u64,
        /// This server's digest.
        ours: u32,
        /// The majority's.
        theirs: u32,
    },
}

/// Compares `ours` with the marks of the other voters that answered, at the last entry that a
/// majority of all `voters` can be compared at, else at the last one that any can. This server's own
/// marks count among the voters' if `voting`.
#[must_use]
pub fn judge(ours: &Marks, others: &[Marks], voters: usize, voting: bool) -> Verdict {
    let mut undecided = None;
    for mark in ours.0.iter().rev() {
        let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
        if voting {
            votes.insert(mark.digest, 1);
        }
        let same = |m: &&Mark| (m.since, m.index) == (mark.since, mark.index);
        for other in others.iter().filter_map(|marks| marks.0.iter().find(same)) {
            *votes.entry(other.digest).or_default() += 1;
        }
        let leading = votes.iter().max_by_key(|(_, count)| **count).map(|(digest, count)| (*digest, *count));
        if let Some((theirs, count)) = leading
            && count * 2 > voters
        {
            let agreed = theirs == mark.digest;
            let diverged = Verdict::Diverged { index: mark.index, ours: mark.digest, theirs };
            return if agreed { settled(&votes, mark.index) } else { diverged };
        }
        let differ = votes.keys().any(|digest| *digest != mark.digest);
        if differ && undecided.is_none() {
            undecided = Some(mark.index);
        }
    }
    undecided.map_or(Verdict::Agreed, |index| Verdict::Undecided { index })
}

/// This server is with the majority: the others end by themselves, and are told here as well.
fn settled(votes: &BTreeMap<u32, usize>, index: u64) -> Verdict {
    if votes.len() > 1 { Verdict::Undecided { index } } else { Verdict::Agreed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(of: &[(u64, u32)]) -> Marks {
        of.iter().map(|(index, digest)| Mark { since: 0, index: *index, digest: *digest }).collect()
    }

    #[test]
    fn a_majority_is_right() {
        let (good, bad) = (marks(&[(64, 1), (128, 2)]), marks(&[(64, 1), (128, 9)]));
        let both = [good.clone(), good.clone()];
        assert_eq!(judge(&good, &both, 3, true), Verdict::Agreed);
        let diverged = Verdict::Diverged { index: 128, ours: 9, theirs: 2 };
        assert_eq!(judge(&bad, &both, 3, true), diverged);
        assert_eq!(judge(&good, &[good.clone(), bad.clone()], 3, true), Verdict::Undecided { index: 128 });
        assert_eq!(judge(&bad, &both, 2, false), diverged, "a learner has no vote");
        assert_eq!(judge(&bad, &both[..1], 1, false), diverged);
    }

    #[test]
    fn without_a_majority_nobody_is_right() {
        let (a, b) = (marks(&[(64, 1)]), marks(&[(64, 2)]));
        assert_eq!(judge(&a, std::slice::from_ref(&b), 3, true), Verdict::Undecided { index: 64 });
        assert_eq!(judge(&a, std::slice::from_ref(&b), 2, true), Verdict::Undecided { index: 64 });
        assert_eq!(judge(&a, &[b, marks(&[(64, 3)])], 3, true), Verdict::Undecided { index: 64 });
    }

    #[test]
    fn what_cannot_be_compared_is_no_difference() {
        let ours = marks(&[(64, 1), (128, 2)]);
        assert_eq!(judge(&ours, &[], 3, true), Verdict::Agreed);
        assert_eq!(judge(&ours, &[marks(&[(192, 7)]), Marks::default()], 3, true), Verdict::Agreed);
        let younger: Marks = [Mark { since: 100, index: 128, digest: 5 }].into_iter().collect();
        assert_eq!(judge(&ours, &[younger.clone(), younger], 3, true), Verdict::Agreed);
        // One that lags is compared at an older entry.
        let lagging = marks(&[(64, 8)]);
        let diverged = Verdict::Diverged { index: 64, ours: 8, theirs: 1 };
        assert_eq!(judge(&lagging, &[ours.clone(), ours.clone()], 3, true), diverged);
    }

    #[test]
    fn only_the_last_marks_are_kept() {
        let many: Marks =
            (1..=MARKS_MAX as u64 + 1).map(|i| Mark { since: 0, index: i * MARK_EVERY, digest: 0 }).collect();
        assert_eq!(many.iter().count(), MARKS_MAX);
        assert_eq!(many.iter().next().map(|m| m.index), Some(2 * MARK_EVERY));
    }

    #[test]
    fn the_row_goes_with_what_is_applied() {
        let store = crate::store::MemoryStore::new();
        assert_eq!(read(&store, 7).unwrap(), Mark { since: 7, index: 7, digest: 0 });
        let mark = Mark { since: 7, index: 9, digest: 0xaabb_ccdd };
        let mut batch = WriteBatch::default();
        write(&mut batch, &mark);
        crate::store::Store::write(&store, batch).unwrap();
        assert_eq!(read(&store, 9).unwrap(), mark);
        assert!(matches!(read(&store, 8), Err(StateError::Digest { index: 9, applied: 8 })));
        assert_eq!(record::encode(&mark)[..], [1, 7, 9, 252, 0xdd, 0xcc, 0xbb, 0xaa]);
    }
}
