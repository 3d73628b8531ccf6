//! What a history is made of, and how it is drawn.

use proptest::prelude::*;

use super::SESSIONS;
use super::sharing::{Demand, Share};

pub type Path = (u64, Vec<u8>, bool);
/// (file offset, length, chunk, offset in it)
pub type Range = (u64, u64, u64, u64);

#[derive(Clone, Debug)]
pub enum Verb {
    Mkdir(Path, bool),
    Create(Path, bool, bool, Vec<Range>),
    Symlink(Path, Vec<u8>),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    RemoveTree(Path),
    Rename(Path, Path, bool, bool),
    SetAttr(Path, Option<u32>, Option<u64>, Option<i64>, Option<u64>),
    SetPolicy(Path, bool),
    Commit(u64, Vec<Range>, Option<u64>),
    OpenChunk(u64),
    OpenTail(u64, u64, u64),
    OpenExclusive(u64),
    Release(u64),
    MountAdd(Path),
    MountRemove(Path),
    Share(Share),
    Transact(Vec<Demand>, Vec<Verb>),
    /// Which files the session says that it holds, with the right number or not, and what it asks for.
    Holding(u64, bool, Box<Verb>),
    /// Which unlinked files the session says that it holds, and has closed; with a new number or not;
    /// how far it denies.
    Answer(u64, u64, bool, u8),
    BeginSeal(u64, u32),
    /// Which undecided chunk, by the right epoch or not, from the right state or not, length, sequence.
    Seal(u64, bool, bool, u64, u64),
    /// Ends the session; when it is over already, a new one takes its place.
    EndSession,
    /// The last request again.
    Repeat,
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Which of the clients.
    pub client: u64,
    pub time: i64,
    pub verb: Verb,
}

pub fn path() -> impl Strategy<Value = Path> {
    let name =
        prop_oneof![24 => Just("a"), 24 => Just("b"), 12 => Just("c"), 1 => Just(".."), 1 => Just(".")];
    let ino = prop_oneof![6 => Just(0u64), 2 => 1u64..12];
    let names = prop_oneof![
        1 => proptest::collection::vec(name.clone(), 0..1),
        6 => proptest::collection::vec(name.clone(), 1..2),
        4 => proptest::collection::vec(name.clone(), 2..3),
        1 => proptest::collection::vec(name, 3..5),
    ];
    (ino, names, prop::bool::weighted(0.2))
        .prop_map(|(ino, names, no_follow)| (ino, names.join("/").into_bytes(), no_follow))
}

/// A name in the root that little else uses.
pub fn spare() -> impl Strategy<Value = Path> {
    prop_oneof![Just("d"), Just("e")].prop_map(|name| (0, name.as_bytes().to_vec(), false))
}

/// Chunk 0 stands for the first that the session holds.
pub fn ranges() -> impl Strategy<Value = Vec<Range>> {
    let chunk = prop_oneof![12 => Just(0u64), 1 => 1u64..8];
    let length = prop_oneof![1 => Just(0u64), 30 => 1u64..12];
    proptest::collection::vec((0u64..24, length, chunk, 0u64..24), 0..4)
}

pub fn link_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just("a"), Just("/b"), Just("../a"), Just("b/c"), Just("/a/../c"), Just(".."), Just("")]
        .prop_map(|text| text.as_bytes().to_vec())
}

pub fn verb() -> impl Strategy<Value = Verb> {
    let ino = || 1u64..14;
    let few = |p: f64| prop::bool::weighted(p);
    prop_oneof![
        8 => (path(), few(0.3)).prop_map(|(p, all)| Verb::Mkdir(p, all)),
        10 => (path(), few(0.3), few(0.4), ranges()).prop_map(|(p, x, t, r)| Verb::Create(p, x, t, r)),
        4 => (path(), link_text()).prop_map(|(p, to)| Verb::Symlink(p, to)),
        6 => (path(), prop_oneof![path(), spare()]).prop_map(|(a, b)| Verb::Link(a, b)),
        4 => path().prop_map(Verb::Unlink),
        3 => path().prop_map(Verb::Rmdir),
        12 => (path(), path(), few(0.15), few(0.25)).prop_map(|(a, b, n, x)| Verb::Rename(a, b, n, x)),
        4 => (path(), prop::option::of(0u32..0o10002), prop::option::of(0u64..40), prop::option::of(0i64..99),
              prop::option::of(0u64..6)).prop_map(|(p, m, s, t, v)| Verb::SetAttr(p, m, s, t, v)),
        2 => (path(), any::<bool>()).prop_map(|(p, set)| Verb::SetPolicy(p, set)),
        8 => (ino(), ranges(), prop::option::weighted(0.2, 0u64..30)).prop_map(|(i, r, e)| Verb::Commit(i, r, e)),
        5 => prop_oneof![6 => Just(0u64), 1 => ino()].prop_map(Verb::OpenChunk),
        10 => (ino(), prop_oneof![12 => Just(0u64), 1 => Just(1), 2 => Just(2)], 0u64..3)
            .prop_map(|(i, g, w)| Verb::OpenTail(i, g, w)),
        2 => ino().prop_map(Verb::OpenExclusive),
        2 => (0u64..4).prop_map(Verb::Release),
        1 => prop_oneof![path(), spare()].prop_map(Verb::MountAdd),
        2 => prop_oneof![1 => path(), 2 => spare()].prop_map(Verb::MountRemove),
        4 => (1u64..10, 1u32..3).prop_map(|(c, e)| Verb::BeginSeal(c, e)),
        14 => (1u64..10, few(0.9), few(0.9), prop_oneof![1 => Just(0u64), 4 => 24u64..50], 0u64..9)
            .prop_map(|(c, right, planned, l, s)| Verb::Seal(c, right, planned, l, s)),
        1 => Just(Verb::EndSession),
        3 => Just(Verb::Repeat),
    ]
}

pub fn history() -> impl Strategy<Value = Vec<Step>> {
    // A tree of these few names goes in one entry; `namespace_trees` has those that do not.
    let verb = prop_oneof![60 => verb(), 1 => path().prop_map(Verb::RemoveTree)];
    let step = (0..SESSIONS, -5i64..20, verb).prop_map(|(client, time, verb)| Step { client, time, verb });
    proptest::collection::vec(step, 40..120)
}
