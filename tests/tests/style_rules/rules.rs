//! The rules for sources. Each takes one [`Source`] and tells what is wrong with it.

use super::source::Source;

/// Something that may not be, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// `path:line`, or the path alone.
    pub place: String,
    pub what: String,
}

impl Fault {
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), what: what.into() }
    }

    pub fn of_file(path: &str, what: impl Into<String>) -> Self {
        Self { place: path.to_owned(), what: what.into() }
    }
}

pub const FILE_LINES_MAX: usize = 800;
pub const FILE_LINES_WARN: usize = 400;
pub const FUNCTION_LINES_MAX: usize = 100;
pub const FUNCTION_LINES_WARN: usize = 70;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "inner"];

/// The layers of a crate, from the wire down. A layer may use those below it, never those above.
const LAYERS: [(&str, &[&str]); 2] = [
    ("meta/src/", &["service", "node", "raft", "namespace", "keys", "store"]),
    ("datanode/src/", &["service", "chunk", "segments", "disk"]),
];

/// Every rule for a single source.
pub fn check(source: &Source) -> Vec<Fault> {
    let rules = [
        long_files,
        long_functions,
        empty_names,
        unwraps,
        unfinished_code,
        real_clocks,
        unseeded_randomness,
        impure_namespace,
        openraft_outside_raft,
        rocksdb_outside_its_rooms,
        upward_imports,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// What is not forbidden yet, but near it.
pub fn warn(source: &Source) -> Vec<Fault> {
    let lines = source.lines();
    let mut warnings = Vec::new();
    if (FILE_LINES_WARN + 1..=FILE_LINES_MAX).contains(&lines) {
        warnings.push(Fault::of_file(&source.path, format!("{lines} lines, more than {FILE_LINES_WARN}")));
    }
    warnings.extend(functions_of(source, FUNCTION_LINES_WARN + 1, FUNCTION_LINES_MAX));
    warnings
}

fn long_files(source: &Source) -> Vec<Fault> {
    let lines = source.lines();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![Fault::of_file(&source.path, format!("{lines} lines, more than {FILE_LINES_MAX}"))]
}

fn long_functions(source: &Source) -> Vec<Fault> {
    functions_of(source, FUNCTION_LINES_MAX + 1, usize::MAX)
}

fn functions_of(source: &Source, lines_min: usize, lines_max: usize) -> Vec<Fault> {
    let functions = source.functions().into_iter();
    functions
        .filter(|function| (lines_min..=lines_max).contains(&function.lines))
        .map(|function| {
            let what = format!("fn {} has {} lines", function.name, function.lines);
            Fault::new(&source.path, function.first_line, what)
        })
        .collect()
}

fn empty_names(source: &Source) -> Vec<Fault> {
    let path_names = source.path.trim_end_matches(".rs").split('/').map(str::to_owned);
    let names = path_names.chain(source.declared_modules());
    let mut faults: Vec<Fault> = names
        .filter(|name| name.split('_').any(|word| EMPTY_NAMES.contains(&word)))
        .map(|name| Fault::of_file(&source.path, format!("'{name}' says nothing as a module's name")))
        .collect();
    faults.dedup();
    faults
}

fn unwraps(source: &Source) -> Vec<Fault> {
    forbid(source, &[".unwrap()"], "unwrap outside tests: handle it, or expect() with the invariant")
}

fn unfinished_code(source: &Source) -> Vec<Fault> {
    forbid(source, &["todo!", "unimplemented!"], "unfinished code")
}

fn is_in_simulated_crate(source: &Source) -> bool {
    ["types/", "meta/", "datanode/"].iter().any(|prefix| source.path.starts_with(prefix))
}

fn real_clocks(source: &Source) -> Vec<Fault> {
    if !is_in_simulated_crate(source) || source.path == "types/src/clock.rs" {
        return Vec::new();
    }
    let words = ["SystemTime::now", "Instant::now", "clock_gettime"];
    forbid(source, &words, "reads a real clock: take a Clock (types/src/clock.rs)")
}

fn unseeded_randomness(source: &Source) -> Vec<Fault> {
    if !is_in_simulated_crate(source) || source.path == "types/src/random.rs" {
        return Vec::new();
    }
    let words = ["rand::rng", "rand::random", "rand::make_rng", "getrandom"];
    forbid(source, &words, "unseeded randomness: take a Random (types/src/random.rs)")
}

fn impure_namespace(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("meta/src/namespace/") {
        return Vec::new();
    }
    let words = ["tokio", "tonic", "rocksdb", "std::time", "rand"];
    forbid(source, &words, "namespace/ is a pure function: no async, network, store, clock or randomness")
}

fn openraft_outside_raft(source: &Source) -> Vec<Fault> {
    if source.path.starts_with("meta/src/raft/") {
        return Vec::new();
    }
    forbid(source, &["openraft"], "openraft is named in meta/src/raft/ alone")
}

fn rocksdb_outside_its_rooms(source: &Source) -> Vec<Fault> {
    if ["meta/src/raft/", "meta/src/store/"].iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    forbid(source, &["rocksdb"], "rocksdb is named in meta/src/store/ and meta/src/raft/ alone")
}

fn upward_imports(source: &Source) -> Vec<Fault> {
    let Some((krate, layers)) = LAYERS.iter().find(|(krate, _)| source.path.starts_with(krate)) else {
        return Vec::new();
    };
    let below_crate = &source.path[krate.len()..];
    let own = below_crate.split(['/', '.']).next().unwrap_or_default();
    let Some(depth) = layers.iter().position(|layer| *layer == own) else {
        return Vec::new();
    };
    let above = layers[..depth].iter();
    above
        .flat_map(|layer| {
            let what = format!("{own}/ is below {layer}/ and may not use it");
            forbid(source, &[&format!("crate::{layer}")], &what)
        })
        .collect()
}

/// One fault for each line of shipped code that has one of these words.
fn forbid(source: &Source, words: &[&str], why: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for word in words {
        for line in source.shipped_lines_with(word) {
            faults.push(Fault::new(&source.path, line, format!("{word}: {why}")));
        }
    }
    faults
}
