//! What a test asks of an exploration.

use std::time::Instant;

use cairn_model::{Explored, Invariant, Model, explore};

/// More states than any run of the default suite has.
const STATES_MAX: usize = 8_000_000;
/// More states than any run of the long suite has; they would take some 4 GiB.
const STATES_MAX_LONG: usize = 150_000_000;

/// The model is explored to its end, nothing breaks, and what it is there for was reached.
pub fn holds<M: Model>(name: &str, model: M, reaches: &[&str]) {
    judge(name, &model, reaches, STATES_MAX);
}

/// As [`holds`], for a run of minutes: only with `CAIRN_LONG=1`.
pub fn holds_long<M: Model>(name: &str, model: M, reaches: &[&str]) {
    if std::env::var_os("CAIRN_LONG").is_some_and(|set| set == "1") {
        judge(name, &model, reaches, STATES_MAX_LONG);
    } else {
        println!("{name}: left out, CAIRN_LONG=1 runs it");
    }
}

fn judge<M: Model>(name: &str, model: &M, reaches: &[&str], states_max: usize) {
    let found = explored(name, model, states_max);
    if let Some(violation) = &found.violation {
        panic!("{name}: {violation}");
    }
    assert!(found.complete, "{name}: the bound of {states_max} states stopped it");
    for landmark in reaches {
        let reached = found.landmarks.contains(landmark);
        assert!(reached, "{name}: never {landmark}, only {:?}", found.landmarks);
    }
}

/// Explores, and prints what came of it and how long it took.
fn explored<M: Model>(name: &str, model: &M, states_max: usize) -> Explored {
    let began = Instant::now();
    let found = explore(model, states_max);
    println!("{name}: {found} ({:.2} s)", began.elapsed().as_secs_f64());
    found
}

/// With its bug the model breaks this invariant; without it the same model holds.
pub fn catches<M: Model>(name: &str, right: M, wrong: M, expected: Invariant) {
    judge(&format!("{name}, without the bug"), &right, &[], STATES_MAX);
    let found = explored(name, &wrong, STATES_MAX);
    match found.violation {
        Some(violation) => {
            println!("{violation}");
            assert_eq!(violation.invariant, expected, "{name}: {violation}");
        }
        None => panic!("{name}: the bug was not caught in {} states", found.states),
    }
}

/// One test a bug, and the list of them all.
#[macro_export]
macro_rules! bugs {
    ($($name:ident: $mutation:ident in $model:expr => $invariant:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let right = $model;
                let wrong = right.with(cairn_model::Mutation::$mutation);
                let expected = cairn_model::Invariant::$invariant;
                $crate::judge::catches(stringify!($name), right, wrong, expected);
            }
        )*

        /// Each bug that a test here plants, and what it breaks.
        pub const CAUGHT: &[(cairn_model::Mutation, cairn_model::Invariant)] = &[
            $((cairn_model::Mutation::$mutation, cairn_model::Invariant::$invariant)),*
        ];
    };
}
