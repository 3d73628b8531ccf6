//! A state in one line, and what a step has shown to be reachable.

use std::fmt::Write as _;

use super::setup::File;
use super::state::{Extent, Phase, State};
use super::step::Step;

/// `gen 1 | 0 Open g1 A1.A2 | 1 ...`: the dot stands after what is committed.
pub(super) fn line(model: &File, state: &State) -> String {
    let mut line = format!("gen {}", state.generation);
    for (at, chunk) in state.chunks[..model.chunks].iter().enumerate() {
        if chunk.extent == Extent::Absent {
            continue;
        }
        let _ = write!(line, " | {at} {:?} g{} [", chunk.extent, chunk.generation);
        for (position, record) in (0_u8..).zip(chunk.log.records()) {
            let dot = if position == chunk.committed { "." } else { "" };
            let writer = char::from(b'A' + record.header);
            let _ = write!(line, "{dot}{writer}{}", record.value);
        }
        let _ = write!(line, "] carries {:?}", chunk.carried);
        let flags = [
            (!chunk.arrived, " not arrived"),
            (chunk.fenced && chunk.extent != Extent::Sealed, " fenced"),
            (chunk.closing, " closing"),
        ];
        line.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    }
    for (name, writer) in ['A', 'B', 'C'].iter().zip(&state.writers) {
        if writer.phase != Phase::Idle {
            let _ = write!(line, " | {name} {:?} g{}", writer.phase, writer.generation);
        }
    }
    line
}

/// What is worth knowing to be reachable.
pub(super) fn landmark(from: &State, step: &Step, to: &State) -> Option<&'static str> {
    let count = |state: &State, phase| state.writers.iter().filter(|writer| writer.phase == phase).count();
    match *step {
        _ if count(to, Phase::Fenced) > count(from, Phase::Fenced) => Some("rival fenced"),
        _ if count(to, Phase::Writing) > count(from, Phase::Writing) => Some("exclusive opened"),
        Step::Decide(at, _) | Step::PlannedRoll(at) if usize::from(to.asked) == at + 1 => {
            Some("sealed before its length was answered")
        }
        Step::Prepare(at) if from.chunks[at - 1].closing => Some("made ahead while its tail closes"),
        Step::Prepare(_) => Some("made ahead"),
        Step::PlannedRoll(_) => Some("planned roll"),
        Step::Decide(at, length) if length > from.chunks[at].committed => {
            Some("sealed above the acknowledged")
        }
        Step::Decide(at, _) if !from.chunks[at].arrived => Some("sealed before its activation arrived"),
        Step::Take { writer, chunk, .. } if from.chunks[chunk].carried[writer] > 0 => {
            Some("writer went on in a new chunk")
        }
        _ => None,
    }
}
