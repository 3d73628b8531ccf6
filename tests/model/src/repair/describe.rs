//! A state in one line, and what a step has shown to be reachable.

use std::fmt::Write as _;

use super::setup::Repair;
use super::state::{Life, Node, Object, State};
use super::step::Step;

/// `0[12 holder kept] 1[1 order 2] 2[none void 1] Linked`, as the README explains.
pub(super) fn line(model: &Repair, state: &State) -> String {
    let mut line = String::new();
    for (at, node) in state.nodes[..model.nodes()].iter().enumerate() {
        let _ = write!(line, "{at}[{}] ", node_words(node));
    }
    let _ = write!(line, "{:?}", state.life);
    if state.object != Object::Absent {
        let _ = write!(line, " object {:?}", state.object);
    }
    line.push_str(if state.persisted { " persisted" } else { "" });
    line
}

fn node_words(node: &Node) -> String {
    let mut words = if node.present { format!("{:?}", node.log) } else { "none".to_owned() };
    if node.safe < node.log.len() {
        let _ = write!(words, " safe {}", node.safe);
    }
    if node.rot != 0 {
        let _ = write!(words, " rot@{}", node.rot - 1);
    }
    let numbers = [(node.order, "order"), (node.ordered, "ordered"), (node.void, "void")];
    for (number, word) in numbers.iter().filter(|(number, _)| *number > Repair::ORIGINAL) {
        let _ = write!(words, " {word} {number}");
    }
    let flags = [
        (node.holder, " holder"),
        (node.settled, " kept"),
        (node.doomed, " doomed"),
        (node.lossy, " lossy"),
        (node.reported > 0, " reported"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    words
}

/// What is worth knowing to be reachable.
pub(super) fn landmark(from: &State, step: &Step, to: &State) -> Option<&'static str> {
    match *step {
        Step::AddHolder(_) if from.losses > 0 => Some("a lost copy replaced"),
        Step::AddHolder(_) => Some("a copy made"),
        Step::Remove(_) => Some("moved, copy first"),
        Step::Delete(_) => Some("who is no holder deleted"),
        Step::Learn(at) if from.nodes[at].lossy => Some("a lost tail pulled again"),
        Step::Pull(at, _) if !to.nodes[at].log.begins(Repair::content()) => Some("foreign bytes pulled"),
        Step::FindRot(_) => Some("rot found"),
        Step::Persist => Some("persisted"),
        Step::Rename => Some("an object not believed"),
        Step::Release if to.life == Life::Dead => Some("released"),
        _ => None,
    }
}
