//! The rule for Cargo manifests: which crate may depend on which.

use super::rules::Fault;

/// Each crate's directory and the workspace crates it may depend on.
const ARROWS: [(&str, &[&str]); 10] = [
    ("types", &[]),
    ("proto", &["cairn-types"]),
    ("meta", &["cairn-types", "cairn-proto"]),
    ("datanode", &["cairn-types", "cairn-proto"]),
    ("client/sdk", &["cairn-types", "cairn-proto"]),
    ("cairn", &["cairn-types", "cairn-proto", "cairn-meta", "cairn-datanode", "cairn-sdk"]),
    ("tests/model", &[]),
    ("tests", &["cairn-types", "cairn-proto", "cairn-sdk", "cairn-model"]),
    ("jepsen", &["cairn-types", "cairn-sdk", "cairn-tests"]),
    ("xtask", &[]),
];

/// Front ends, whatever they are called, see the SDK alone.
const FRONT_END: &[&str] = &["cairn-sdk"];

/// Checks one member's manifest.
pub fn check(path: &str, text: &str) -> Vec<Fault> {
    let directory = path.trim_end_matches("/Cargo.toml");
    let allowed = match ARROWS.iter().find(|(known, _)| *known == directory) {
        Some((_, allowed)) => *allowed,
        None if directory.starts_with("client/") => FRONT_END,
        None => return vec![Fault::of_file(path, "a new crate: say in style_rules what it may depend on")],
    };
    let mut faults = Vec::new();
    for (line, dependency) in dependencies(text) {
        if dependency.starts_with("cairn-") && !allowed.contains(&dependency.as_str()) {
            faults.push(Fault::new(path, line, format!("{directory} may not depend on {dependency}")));
        }
        if dependency == "rocksdb" && directory != "meta" {
            faults.push(Fault::new(path, line, "rocksdb is linked by meta alone"));
        }
        if dependency == "openraft" && directory != "meta" {
            faults.push(Fault::new(path, line, "openraft is linked by meta alone"));
        }
    }
    faults
}

/// The names under `[dependencies]`, `[dev-dependencies]`, `[build-dependencies]` and their
/// `[target.….dependencies]`, with their lines.
fn dependencies(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_dependencies = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_dependencies = section.ends_with("dependencies");
            // `[dependencies.name]`
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                found.push((index + 1, name.to_owned()));
            }
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default().trim_matches('"');
        if is_dependencies && !name.is_empty() {
            found.push((index + 1, name.to_owned()));
        }
    }
    found
}
