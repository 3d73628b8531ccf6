//! A state in one line, and what a step has shown to be reachable.

use std::fmt::Write as _;

use super::decide::decision;
use super::setup::OneChunk;
use super::state::{Answer, Chunk, Health, Replica, State};
use super::step::Step;

/// `0[12 safe 1 fenced] 1[-] Sealing acked 1 ...`, as the README explains.
pub(super) fn line(model: &OneChunk, state: &State) -> String {
    let mut line = String::new();
    for (at, replica) in state.replicas[..model.replicas].iter().enumerate() {
        let _ = write!(line, "{at}[{}] ", replica_words(model, replica));
    }
    let _ = write!(line, "{:?} acked {}", state.chunk, state.committed);
    if state.chunk == Chunk::Sealed {
        let _ = write!(line, " content {:?} holders", state.sealed);
        let holders = (0..model.replicas).filter(|at| state.holders >> at & 1 == 1);
        holders.for_each(|at| {
            let _ = write!(line, " {at}");
        });
        line.push_str(if state.fresh_holds { " fresh" } else { "" });
    }
    if !state.fresh.is_empty() {
        let _ = write!(line, " fresh[{:?}]", state.fresh);
    }
    if !state.seen.is_empty() {
        let _ = write!(line, " read {:?}", state.seen);
    }
    for (number, round) in state.rounds[..model.rounds].iter().enumerate() {
        if round.answers.iter().any(Option::is_some) {
            let _ = write!(line, " round {number}{{");
            let answers = round.answers.iter().enumerate();
            answers.for_each(|(at, answer)| answer_words(&mut line, at, *answer));
            let _ = write!(line, "}}");
        }
    }
    line
}

fn replica_words(model: &OneChunk, replica: &Replica) -> String {
    let mut words = format!("{:?}", replica.log);
    if model.late_creates && !replica.created {
        words.push_str(" absent");
    }
    if replica.safe < replica.log.len() {
        let _ = write!(words, " safe {}", replica.safe);
    }
    if replica.rot != 0 {
        let _ = write!(words, " rot@{}", replica.rot - 1);
    }
    if replica.heard != 0 {
        let _ = write!(words, " heard {}", replica.heard);
    }
    let flags = [
        (replica.fenced && !replica.learned, " fenced"),
        (replica.limbo, " limbo"),
        (replica.restarted && !replica.limbo, " restarted"),
        (replica.learned, " sealed"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    words
}

fn answer_words(line: &mut String, at: usize, answer: Option<Answer>) {
    if let Some(Answer { length, health, .. }) = answer {
        let _ = write!(line, " {at}:{length} {health:?}");
    }
}

/// The way in which an end was decided, or what else is worth knowing to be reachable.
pub(super) fn landmark(model: &OneChunk, from: &State, step: &Step, to: &State) -> Option<&'static str> {
    match *step {
        Step::PlannedSeal => Some("planned roll"),
        Step::Extend(..) => Some("replica brought up"),
        Step::Seal(round) => {
            decision(model, &from.rounds[round])?;
            let answers = from.rounds[round].answers;
            let has = |health| answers.iter().flatten().any(|answer| answer.health == health);
            Some(match (has(Health::Clean), has(Health::Damaged)) {
                (false, true) => "sealed by all, one damaged",
                _ if to.fresh_holds => "sealed with a fresh holder",
                (false, false) => "sealed by those in limbo",
                _ if to.sealed.len() > to.committed => "sealed above the acknowledged",
                _ if to.sealed.is_empty() => "sealed empty",
                _ => "sealed by a clean one",
            })
        }
        Step::Commit if from.replicas[0].fenced => Some("acknowledged late"),
        _ => None,
    }
}
