//! Which sealed chunk is explored, and how it may look when its end is decided.

use super::Steps;
use super::state::{Life, Node, State};
use super::step::{Found, Step};
use crate::log::{Log, Record};
use crate::mutation::Mutation;

/// A bounded model of one sealed chunk.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// Replicas of its set, 2 or 3, and as many as the policy wants.
    pub replicas: usize,
    /// Nodes outside of the set, so that at most 4 are there in all. They have nothing at first.
    pub others: usize,
    /// Replicas of the set that may be anything but holders, at most `replicas` - 1.
    pub outsiders: usize,
    /// Orders to make a copy (R8).
    pub orders: u8,
    /// Restarts, with loss of what is not safe.
    pub crashes: u8,
    /// Disks that lose safe bytes: a tail, or everything.
    pub losses: u8,
    /// Records that rot on a disk.
    pub rots: u8,
    /// Objects that the store keeps otherwise than they were sent (R12).
    pub bad_puts: u8,
    /// It goes to S3 (R12).
    pub persists: bool,
    /// Its file is unlinked, while a restore point retains it (R12).
    pub unlinked: bool,
    /// The bug put in.
    pub mutation: Option<Mutation>,
}

impl Repair {
    /// The decided length.
    pub(super) const LENGTH: u8 = 2;
    /// The order by which a replica of the set was made.
    pub(super) const ORIGINAL: u8 = 1;

    /// A chunk on this many replicas, one node more, and no faults.
    pub fn new(replicas: usize) -> Self {
        Self {
            replicas,
            others: 1,
            outsiders: 1,
            orders: 1,
            crashes: 0,
            losses: 0,
            rots: 0,
            bad_puts: 0,
            persists: false,
            unlinked: false,
            mutation: None,
        }
    }

    /// The same chunk with a bug put in.
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn nodes(&self) -> usize {
        self.replicas + self.others
    }

    /// The decided content.
    pub(super) fn content() -> Log {
        log(&[1, 2])
    }
}

fn log(values: &[u8]) -> Log {
    values.iter().fold(Log::default(), |log, value| log.with(Record { value: *value, header: 0 }))
}

/// Every way in which the replicas of the set can be found at the seal (R5): the holders have the
/// content or more, the others anything.
pub(super) fn begin(model: &Repair, out: &mut Steps) {
    let mut found = vec![[Found::Nothing; 3]];
    for at in 0..model.replicas {
        let held_for_sure = at < model.replicas - model.outsiders;
        let ways = if held_for_sure { &Found::ALL[..2] } else { Found::ALL };
        let with = |before: &[Found; 3]| {
            let mut all = Vec::new();
            for way in ways {
                let mut next = *before;
                next[at] = *way;
                all.push(next);
            }
            all
        };
        found = found.iter().flat_map(with).collect();
    }
    out.extend(found.into_iter().map(|found| (Step::Begin(found), begun(model, found))));
}

fn begun(model: &Repair, found: [Found; 3]) -> State {
    let mut state = State { life: Life::Linked, ..State::default() };
    for (node, found) in state.nodes.iter_mut().zip(found).take(model.replicas) {
        let (holder, log) = match found {
            Found::Holder => (true, log(&[1, 2])),
            Found::LongHolder => (true, log(&[1, 2, 3])),
            Found::Whole => (false, log(&[1, 2])),
            Found::Longer => (false, log(&[1, 2, 3])),
            Found::Shorter => (false, log(&[1])),
            Found::Foreign => (false, log(&[1, 3])),
            Found::Nothing => (false, log(&[])),
        };
        *node = Node {
            log,
            present: true,
            safe: log.len(),
            order: Repair::ORIGINAL,
            holder,
            ordered: Repair::ORIGINAL,
            void: if holder { 0 } else { Repair::ORIGINAL },
            ..Node::default()
        };
        state.sealed_with += u8::from(holder);
    }
    state
}
