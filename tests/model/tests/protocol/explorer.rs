//! The explorer itself: it visits all, stops at its bound, and finds the shortest way.

use std::fmt;

use cairn_model::one_chunk::{Chunk, OneChunk, Policy, State};
use cairn_model::{Invariant, Log, Model, Record, explore, fingerprint};

/// A walker on a square of `size` by `size` crossings, who must not meet a hole.
struct Walk {
    size: u8,
    hole: Option<(u8, u8)>,
}

#[derive(Clone, Copy)]
enum Way {
    East,
    North,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if matches!(self, Self::East) { "east" } else { "north" })
    }
}

impl Model for Walk {
    type State = (u8, u8);
    type Step = Way;

    fn start(&self) -> (u8, u8) {
        (0, 0)
    }

    fn steps(&self, &(east, north): &(u8, u8), out: &mut Vec<(Way, (u8, u8))>) {
        if east + 1 < self.size {
            out.push((Way::East, (east + 1, north)));
        }
        if north + 1 < self.size {
            out.push((Way::North, (east, north + 1)));
        }
    }

    fn broken(&self, state: &(u8, u8)) -> Option<Invariant> {
        (self.hole == Some(*state)).then_some(Invariant::OnceOnly)
    }

    fn landmark(&self, _: &(u8, u8), _: &Way, to: &(u8, u8)) -> Option<&'static str> {
        (*to == (self.size - 1, self.size - 1)).then_some("the far corner")
    }

    fn describe(&self, state: &(u8, u8)) -> String {
        format!("{state:?}")
    }
}

#[test]
fn visits_every_state_once() {
    let found = explore(&Walk { size: 100, hole: None }, 1_000_000);
    assert!(found.complete);
    assert_eq!((found.states, found.steps, found.depth), (10_000, 19_800, 198));
    assert!(found.landmarks.contains("the far corner"));
}

#[test]
fn stops_at_its_bound_and_says_so() {
    let found = explore(&Walk { size: 100, hole: None }, 500);
    assert!(!found.complete && found.violation.is_none());
    assert!(found.states >= 500 && found.states < 510);
}

#[test]
fn shows_the_shortest_way() {
    let found = explore(&Walk { size: 100, hole: Some((2, 1)) }, 1_000_000);
    let violation = found.violation.expect("the hole is met");
    assert_eq!(violation.trace.len(), 4);
    assert_eq!(violation.trace.iter().filter(|line| line.contains("east")).count(), 2);
    assert!(violation.trace[3].ends_with("(2, 1)"));
}

#[test]
fn states_that_differ_in_any_field_differ_in_their_fingerprint() {
    let start = State::default();
    let mut others = vec![start];
    others.push(State { chunk: Chunk::Sealing, ..start });
    others.push(State { chunk: Chunk::Sealed, ..start });
    others.push(State { holders: 1, ..start });
    others.push(State { decided_twice: true, ..start });
    others.push(State { ordered: Log::default().with(Record { value: 1, header: 0 }), ..start });
    let mut prints: Vec<u64> = others.iter().map(fingerprint).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), others.len());
}

#[test]
fn secondaries_and_rounds_that_swap_names_are_one_state() {
    let model = OneChunk { rounds: 2, ..OneChunk::new(3, Policy::Fsync) };
    let mut one = State { holders: 0b010, ..State::default() };
    one.replicas[1].fenced = true;
    one.rounds[0].fresh = true;
    let mut other = State { holders: 0b100, ..State::default() };
    other.replicas[2].fenced = true;
    other.rounds[1].fresh = true;
    assert!(model.canonical(&one) == model.canonical(&other));
    other.holders = 0b010;
    assert!(model.canonical(&one) != model.canonical(&other));
}

#[test]
fn a_log_gives_back_what_it_took() {
    let first = Record { value: 2, header: 3 };
    let second = Record { value: 1, header: 0 };
    let log = Log::default().with(first).with(second);
    assert_eq!((log.len(), log.get(0), log.get(1), log.get(2)), (2, Some(first), Some(second), None));
    assert_eq!(log.prefix(1), Log::default().with(first));
    assert!(log.prefix(1).begins(log) && !log.begins(log.prefix(1)));
    assert!(!Log::default().with(second).begins(log));
    assert_eq!((log.find(1), log.find(3)), (Some(1), None));
    let full = log.with(first).with(second);
    assert_eq!((full.len(), full.prefix(9)), (Log::RECORDS_MAX, full));
}
