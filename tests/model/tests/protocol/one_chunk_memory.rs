//! One chunk under `memory`: it survives every crash, and decides nothing without a clean one.

use cairn_model::one_chunk::{OneChunk, Policy};

use crate::judge::{holds, holds_long};

const CLEAN: &str = "sealed by a clean one";
const ABOVE: &str = "sealed above the acknowledged";
const FRESH: &str = "sealed with a fresh holder";

fn two() -> OneChunk {
    OneChunk::new(2, Policy::Memory)
}

fn three() -> OneChunk {
    OneChunk::new(3, Policy::Memory)
}

#[test]
fn two_replicas_lose_their_power() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 2, ..two() };
    let model = OneChunk { fresh: 1, ..model };
    holds("memory, two replicas", model, &[CLEAN, ABOVE, FRESH]);
}

#[test]
fn two_replicas_lose_their_power_and_creates_come_late() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 2, late_creates: true, ..two() };
    holds("memory, two replicas, late creates", model, &[CLEAN, ABOVE]);
}

#[test]
fn two_replicas_rot() {
    let model = OneChunk { crashes: 2, rots: 1, fresh: 1, hears: true, reads: true, ..two() };
    holds("memory, two replicas, rot", model, &[CLEAN, FRESH]);
}

#[test]
fn three_replicas_two_rounds() {
    let model = OneChunk { records: 1, rounds: 2, crashes: 1, losses: 2, ..three() };
    holds("memory, three replicas, two rounds", model, &[CLEAN, ABOVE]);
}

#[test]
fn three_replicas_lose_their_power_under_readers() {
    let model = OneChunk { losses: 2, hears: true, reads: true, ..three() };
    holds("memory, three replicas, readers", model, &[CLEAN, ABOVE]);
}

#[test]
fn three_replicas_planned_roll() {
    let model = OneChunk { records: 1, crashes: 1, losses: 2, closes: true, ..three() };
    holds("memory, three replicas, planned roll", model, &[CLEAN, "planned roll"]);
}

#[test]
fn long_three_replicas_all_lose_their_power() {
    let model = OneChunk { losses: 3, hears: true, reads: true, ..three() };
    holds_long("memory, three replicas, all lose their power", model, &[CLEAN, ABOVE]);
}

#[test]
fn long_three_replicas() {
    let model = OneChunk { rounds: 2, crashes: 1, losses: 2, ..three() };
    holds_long("memory, three replicas, two rounds, two records", model, &[CLEAN, ABOVE]);
}
