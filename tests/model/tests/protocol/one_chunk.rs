//! One chunk under `fsync`, within what the protocol promises to survive.

use cairn_model::one_chunk::{OneChunk, Policy};

use crate::judge::{holds, holds_long};

fn one() -> OneChunk {
    OneChunk::new(1, Policy::Fsync)
}

fn two() -> OneChunk {
    OneChunk::new(2, Policy::Fsync)
}

fn three() -> OneChunk {
    OneChunk::new(3, Policy::Fsync)
}

const CLEAN: &str = "sealed by a clean one";
const LIMBO: &str = "sealed by those in limbo";
const ABOVE: &str = "sealed above the acknowledged";
const FRESH: &str = "sealed with a fresh holder";
const BROUGHT: &str = "replica brought up";
const LATE: &str = "acknowledged late";

/// What `cairn up` does without being asked for more: the one replica is all of them.
#[test]
fn one_replica() {
    let base = OneChunk { records: 3, two_writers: true, rounds: 2, crashes: 2, ..one() };
    let model = OneChunk { late_creates: true, hears: true, reads: true, ..base };
    holds("one replica", model, &[CLEAN, LIMBO, ABOVE]);
}

#[test]
fn two_replicas_two_rounds() {
    let model = OneChunk { rounds: 2, crashes: 2, losses: 1, leaves_out: true, ..two() };
    holds("two replicas, two rounds", model, &[CLEAN, LIMBO, ABOVE, BROUGHT, LATE]);
}

#[test]
fn two_replicas_three_records() {
    let model = OneChunk { records: 3, rounds: 2, crashes: 1, losses: 1, ..two() };
    holds("two replicas, three records", model, &[CLEAN, LIMBO, ABOVE, BROUGHT]);
}

#[test]
fn two_replicas_two_writers() {
    let model = OneChunk { records: 3, two_writers: true, crashes: 2, losses: 1, ..two() };
    holds("two replicas, two writers", model, &[CLEAN, LIMBO, ABOVE, BROUGHT]);
}

#[test]
fn two_replicas_late_creates() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 1, late_creates: true, ..two() };
    let model = OneChunk { fresh: 1, leaves_out: true, ..model };
    holds("two replicas, late creates", model, &[CLEAN, LIMBO, ABOVE, FRESH]);
}

#[test]
fn two_replicas_two_fresh_nodes() {
    let model = OneChunk { crashes: 2, losses: 1, fresh: 2, leaves_out: true, ..two() };
    let model = OneChunk { late_creates: true, ..model };
    holds("two replicas, two fresh nodes", model, &[CLEAN, LIMBO, FRESH]);
}

#[test]
fn two_replicas_one_holder_suffices() {
    let model = OneChunk { rounds: 2, crashes: 2, losses: 1, holders_min: 1, ..two() };
    holds("two replicas, one holder suffices", model, &[CLEAN, LIMBO]);
}

#[test]
fn two_replicas_readers() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 1, hears: true, reads: true, ..two() };
    holds("two replicas, readers", model, &[CLEAN, LIMBO, ABOVE]);
}

#[test]
fn two_replicas_planned_roll() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 1, closes: true, ..two() };
    holds("two replicas, planned roll", model, &["planned roll", CLEAN, LIMBO]);
}

#[test]
fn two_replicas_rot() {
    let model = OneChunk { rounds: 2, crashes: 2, rots: 1, fresh: 1, hears: true, ..two() };
    holds("two replicas, rot", model, &[CLEAN, FRESH, "sealed by all, one damaged"]);
}

#[test]
fn three_replicas_two_rounds() {
    let model = OneChunk { rounds: 2, crashes: 1, leaves_out: true, ..three() };
    holds("three replicas, two rounds", model, &[CLEAN, ABOVE, BROUGHT, LATE]);
}

#[test]
fn three_replicas_a_crash_and_a_lost_tail() {
    let model = OneChunk { crashes: 1, losses: 1, fresh: 1, leaves_out: true, ..three() };
    holds("three replicas, a crash and a lost tail", model, &[CLEAN, LIMBO, ABOVE, FRESH]);
}

#[test]
fn three_replicas_late_creates() {
    let model = OneChunk { crashes: 2, losses: 1, late_creates: true, ..three() };
    holds("three replicas, late creates", model, &[CLEAN, LIMBO, ABOVE, BROUGHT]);
}

#[test]
fn three_replicas_readers() {
    let model = OneChunk { crashes: 1, losses: 1, hears: true, reads: true, ..three() };
    holds("three replicas, readers", model, &[CLEAN, LIMBO, ABOVE]);
}

#[test]
fn three_replicas_planned_roll() {
    let model = OneChunk { crashes: 1, losses: 1, closes: true, ..three() };
    holds("three replicas, planned roll", model, &["planned roll", CLEAN, LIMBO]);
}

#[test]
fn three_replicas_rot_on_two() {
    let model = OneChunk { crashes: 1, rots: 2, hears: true, fresh: 1, ..three() };
    holds("three replicas, rot on two", model, &[CLEAN, FRESH, "sealed by all, one damaged"]);
}

#[test]
fn long_three_replicas_two_crashes() {
    let model = OneChunk { crashes: 2, losses: 1, fresh: 1, leaves_out: true, ..three() };
    holds_long("three replicas, two crashes", model, &[CLEAN, LIMBO, ABOVE, FRESH]);
}

#[test]
fn long_two_replicas_everything() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 1, late_creates: true, ..two() };
    let model = OneChunk { fresh: 1, leaves_out: true, hears: true, reads: true, ..model };
    let model = OneChunk { closes: true, ..model };
    holds_long("two replicas, everything", model, &[CLEAN, LIMBO, ABOVE, FRESH]);
}

#[test]
fn long_three_replicas_two_rounds_with_a_lost_tail() {
    let model = OneChunk { rounds: 2, crashes: 2, losses: 1, leaves_out: true, ..three() };
    holds_long("three replicas, two rounds, a lost tail", model, &[CLEAN, LIMBO, ABOVE, BROUGHT]);
}

#[test]
fn long_three_replicas_three_records() {
    let model = OneChunk { records: 3, two_writers: true, crashes: 3, losses: 1, ..three() };
    holds_long("three replicas, three records", model, &[CLEAN, LIMBO, ABOVE, BROUGHT]);
}
