//! Breadth-first exploration of every reachable state of a model.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;

use crate::fingerprint::fingerprint;
use crate::invariant::Invariant;
use crate::visited::Visited;

/// A protocol small enough that all its states can be visited.
pub trait Model {
    /// One state, a few dozen bytes, copied freely.
    type State: Copy + Hash;
    /// One atomic step; its `Display` is one line of a trace.
    type Step: Copy + fmt::Display;

    /// The state before anything has happened.
    fn start(&self) -> Self::State;

    /// Appends every step that can be taken from `state`, with the state it leads to, always in
    /// the same order.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Self::Step, Self::State)>);

    /// The representative of all states that differ only by a renaming of equals. Only the
    /// fingerprint is taken of it: exploration goes on from the state itself, so that names
    /// keep their meaning along a trace.
    fn canonical(&self, state: &Self::State) -> Self::State {
        *state
    }

    /// The first invariant that does not hold in this state.
    fn broken(&self, state: &Self::State) -> Option<Invariant>;

    /// A name for what this step has shown to be reachable, so that a test can tell a model
    /// that is safe from one in which nothing happens.
    fn landmark(&self, from: &Self::State, step: &Self::Step, to: &Self::State) -> Option<&'static str>;

    /// The state in one line, for a trace.
    fn describe(&self, state: &Self::State) -> String;
}

/// A broken invariant and the shortest way to it.
#[derive(Debug)]
pub struct Violation {
    /// What was broken.
    pub invariant: Invariant,
    /// One line a step, each followed by the state it led to.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} is broken after {} steps:", self.invariant, self.trace.len() - 1)?;
        self.trace.iter().try_for_each(|line| writeln!(out, "  {line}"))
    }
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    /// Different states visited, equals counted once.
    pub states: usize,
    /// Steps taken, those to known states included.
    pub steps: u64,
    /// Steps of the longest of the shortest ways to a state.
    pub depth: usize,
    /// No state was left unexplored: neither the bound nor a violation ended the run.
    pub complete: bool,
    /// What was shown to be reachable.
    pub landmarks: BTreeSet<&'static str>,
    /// The first violation met, which is one of the nearest.
    pub violation: Option<Violation>,
}

impl fmt::Display for Explored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (&self.violation, self.complete) {
            (Some(violation), _) => violation.invariant.to_string(),
            (None, true) => "complete, nothing broken".to_owned(),
            (None, false) => "STOPPED by the bound".to_owned(),
        };
        let Self { states, steps, depth, .. } = self;
        write!(out, "{states} states, {steps} steps, depth {depth}: {verdict}")
    }
}

/// How a state was first reached: from which state, by which of its steps.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    choice: u16,
}

/// Visits every state reachable in `model`, nearest first, until an invariant breaks, nothing
/// is left, or `states_max` states were met.
pub fn explore<M: Model>(model: &M, states_max: usize) -> Explored {
    let start = model.start();
    let mut visited = Visited::new();
    visited.insert(fingerprint(&model.canonical(&start)));
    let mut origins = vec![Origin { parent: 0, choice: 0 }];
    let mut level = vec![start];
    let mut level_first = 0;
    let mut found = Explored {
        states: 1,
        steps: 0,
        depth: 0,
        complete: false,
        landmarks: BTreeSet::new(),
        violation: None,
    };
    if let Some(invariant) = model.broken(&start) {
        found.violation = Some(Violation { invariant, trace: retrace(model, &origins, 0) });
        return found;
    }
    let mut choices = Vec::new();
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, state) in level.iter().enumerate() {
            choices.clear();
            model.steps(state, &mut choices);
            found.steps += choices.len() as u64;
            for (choice, (step, to)) in choices.iter().enumerate() {
                if !visited.insert(fingerprint(&model.canonical(to))) {
                    continue;
                }
                found.landmarks.extend(model.landmark(state, step, to));
                origins.push(Origin { parent: (level_first + at) as u32, choice: choice as u16 });
                next.push(*to);
                if let Some(invariant) = model.broken(to) {
                    let trace = retrace(model, &origins, origins.len() - 1);
                    found.violation = Some(Violation { invariant, trace });
                    return finish(found, origins.len());
                }
            }
            if origins.len() >= states_max.min(u32::MAX as usize) {
                return finish(found, origins.len());
            }
        }
        level_first += level.len();
        found.depth += usize::from(!next.is_empty());
        level = next;
    }
    found.complete = true;
    finish(found, origins.len())
}

fn finish(mut found: Explored, states: usize) -> Explored {
    found.states = states;
    found
}

/// Walks from the start to the state numbered `target`, taking the same choices again.
fn retrace<M: Model>(model: &M, origins: &[Origin], target: usize) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = target;
    while at != 0 {
        path.push(origins[at].choice as usize);
        at = origins[at].parent as usize;
    }
    let mut state = model.start();
    let mut lines = vec![format!("start{:35}{}", "", model.describe(&state))];
    for (number, choice) in path.into_iter().rev().enumerate() {
        let mut choices = Vec::new();
        model.steps(&state, &mut choices);
        let (step, to) = choices.swap_remove(choice);
        state = to;
        let step = step.to_string();
        lines.push(format!("{:2}. {step:36}{}", number + 1, model.describe(&state)));
    }
    lines
}
