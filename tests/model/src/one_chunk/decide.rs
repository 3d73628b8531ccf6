//! Deciding the end: the rule, bringing replicas up, the entry (R5).

use super::Steps;
use super::setup::{OneChunk, Policy};
use super::state::{Answer, Chunk, Health, Round, State};
use super::step::Step;
use crate::log::Log;
use crate::mutation::Mutation;

pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    if state.chunk == Chunk::Open {
        return;
    }
    for round in 0..model.rounds {
        let Some(length) = decision(model, &state.rounds[round]) else { continue };
        for at in 0..model.replicas {
            extend(model, state, at, round, length, out);
            cut_early(model, state, at, round, length, out);
        }
        extend_fresh(model, state, round, length, out);
        seal(model, state, round, length, out);
    }
}

/// R5: one clean answer; or under `fsync` all, or two in limbo; the longest valid prefix; never
/// below a committed length that anyone has heard.
pub(super) fn decision(model: &OneChunk, round: &Round) -> Option<u8> {
    let answers = || round.answers.iter().flatten();
    let count = |health| answers().filter(|answer| answer.health == health).count();
    let limbo = count(Health::Limbo);
    let all = answers().count() == model.replicas;
    let enough = match model.policy {
        Policy::Fsync => all || limbo >= 2,
        Policy::Memory => false,
    } || count(Health::Clean) >= 1
        || (model.has(Mutation::LoneLimboDecides) && limbo >= 1)
        || (model.has(Mutation::TwoLimboDecideMemory) && limbo >= 2)
        || (model.has(Mutation::AllLimboDecideMemory) && limbo == model.replicas)
        || (model.has(Mutation::DamagedDecides) && count(Health::Damaged) >= 1);
    let usable = answers().map(|answer| answer.length);
    let length = if model.has(Mutation::SealShortest) { usable.min() } else { usable.max() }.unwrap_or(0);
    let floor = answers().map(|answer| answer.heard).max().unwrap_or(0);
    let kept = length >= floor || model.has(Mutation::DecideBelowHeard);
    (enough && kept).then_some(length)
}

/// An answer that counts its replica among the holders.
fn holds(answer: Option<Answer>, length: u8) -> bool {
    answer.is_some_and(|answer| answer.length >= length && answer.health != Health::Damaged)
}

/// The content a round copies from: any replica, or the fresh node, that has enough of it.
fn source(model: &OneChunk, state: &State, length: u8) -> Option<Log> {
    let replicas = state.replicas[..model.replicas].iter().map(|replica| replica.valid());
    let mut sources = replicas.chain([state.fresh]);
    sources.find(|log| log.len() >= length).map(|log| log.prefix(length))
}

/// R5: a fenced replica is extended, durably by the policy before it counts, never cut. Who has
/// learned of the seal refuses.
fn extend(model: &OneChunk, state: &State, at: usize, round: usize, length: u8, out: &mut Steps) {
    let Some(answer) = state.rounds[round].answers[at] else { return };
    let replica = &state.replicas[at];
    let refuses = replica.learned && !model.has(Mutation::ExtendAfterSealed);
    let short = answer.length < length && answer.health != Health::Damaged;
    if !short || replica.rot != 0 || !replica.fenced || refuses {
        return;
    }
    let Some(content) = source(model, state, length) else { return };
    let mut next = *state;
    let brought = &mut next.replicas[at];
    if brought.log.len() < length {
        if !brought.log.begins(content) {
            return;
        }
        brought.log = content;
    }
    if !model.has(Mutation::BringUpNotSafe) {
        brought.safe = brought.safe.max(length);
    }
    next.rounds[round].answers[at] = Some(Answer { length, ..answer });
    out.push((Step::Extend(at, round), next));
}

/// R5: a fresh node takes the place of one that cannot be brought up.
fn extend_fresh(model: &OneChunk, state: &State, round: usize, length: u8, out: &mut Steps) {
    if model.fresh == 0 || state.rounds[round].fresh || state.chunk == Chunk::Sealed {
        return;
    }
    let Some(content) = source(model, state, length) else { return };
    let mut next = *state;
    if next.fresh.len() < length {
        next.fresh = content;
    }
    next.rounds[round].fresh = true;
    out.push((Step::ExtendFresh(round), next));
}

/// The bug: what is longer is cut before the end is decided.
fn cut_early(model: &OneChunk, state: &State, at: usize, round: usize, length: u8, out: &mut Steps) {
    let replica = &state.replicas[at];
    let longer = replica.fenced && replica.log.len() > length;
    if !model.has(Mutation::CutBeforeSealed) || !longer || state.chunk != Chunk::Sealing {
        return;
    }
    let mut next = *state;
    next.replicas[at].log = replica.log.prefix(length);
    next.replicas[at].safe = replica.safe.min(length);
    out.push((Step::CutEarly(at, round), next));
}

/// R5: at least min(2, replicas) holders, then compare-and-set: the first entry wins.
fn seal(model: &OneChunk, state: &State, round: usize, length: u8, out: &mut Steps) {
    let late = state.chunk == Chunk::Sealed;
    if late && !model.has(Mutation::SealWithoutCompare) {
        return;
    }
    let answers = &state.rounds[round].answers;
    let able: u8 =
        (0..model.replicas).filter(|at| holds(answers[*at], length)).fold(0, |mask, at| mask | 1 << at);
    let fresh_holds = state.rounds[round].fresh && state.fresh.len() >= length;
    let fresh = if fresh_holds { u32::from(model.fresh) } else { 0 };
    let mut next = *state;
    let content = state.ordered.prefix(length);
    next.decided_twice = late && content != state.sealed;
    next.chunk = Chunk::Sealed;
    next.sealed = content;
    next.fresh_holds = fresh_holds;
    let heard = answers.iter().flatten().map(|answer| answer.heard);
    next.heard_at_seal = heard.max().unwrap_or(0);
    for holders in 0..=able {
        let chosen = holders == able || (model.leaves_out && holders & !able == 0);
        let enough =
            holders.count_ones() + fresh >= model.holders_min || model.has(Mutation::SealBelowHolders);
        next.holders = holders;
        if chosen && enough && next != *state {
            out.push((Step::Seal(round), next));
        }
    }
}
