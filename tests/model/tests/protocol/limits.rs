//! Where the promise ends: faults that the rules do not claim to survive.

use cairn_model::one_chunk::{OneChunk, Policy};
use cairn_model::{Invariant, explore};

use crate::judge::holds;

/// With every replica rotten acknowledged bytes can be gone; what was heard still bounds the
/// decision, so that it stays undecided rather than below it.
#[test]
fn rot_everywhere_never_decides_below_what_was_heard() {
    let base = OneChunk { crashes: 2, rots: 2, hears: true, fresh: 1, ..fsync(2) };
    let model = OneChunk { beyond_promise: true, ..base };
    holds("two replicas, both rot", model, &["sealed by all, one damaged"]);
    let base = OneChunk { crashes: 1, rots: 3, hears: true, fresh: 1, ..fsync(3) };
    let model = OneChunk { beyond_promise: true, ..base };
    holds("three replicas, all rot", model, &["sealed by all, one damaged"]);
}

/// Two in limbo may decide, so two disks that both lost a synced tail decide wrongly while the
/// third, whole, is away. This is the price of R5, stated here so that nobody believes otherwise.
#[test]
fn two_lost_tails_of_three_are_one_too_many() {
    lost("two lost tails", OneChunk { losses: 2, ..fsync(3) });
}

/// The same with rot in the last record, which a restart takes for a torn tail and cuts.
#[test]
fn a_rotten_last_record_counts_as_a_lost_tail() {
    lost("a lost tail and a rotten one", OneChunk { losses: 1, crashes: 1, rots: 1, ..fsync(3) });
}

fn fsync(replicas: usize) -> OneChunk {
    OneChunk::new(replicas, Policy::Fsync)
}

fn lost(name: &str, model: OneChunk) {
    let found = explore(&model, 8_000_000);
    println!("{name}: {found}");
    let violation = found.violation.expect("beyond the promise");
    println!("{violation}");
    assert_eq!(violation.invariant, Invariant::AcknowledgedInsideSeal);
}
