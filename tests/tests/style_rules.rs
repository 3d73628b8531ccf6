//! The house's rules, kept as a test: it reads the tree and fails on what breaks one of them.
//!
//! Which rules there are, and their limits, is in `style_rules/rules.rs` (sources) and
//! `style_rules/manifests.rs` (Cargo manifests). Here they are run, and each is shown to fail on a
//! planted text.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "style_rules/manifests.rs"]
mod manifests;
#[path = "style_rules/rules.rs"]
mod rules;
#[path = "style_rules/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Fault;
use source::Source;

fn root() -> PathBuf {
    Path::new("..").canonicalize().unwrap()
}

/// All files below `directory` with this ending, without what is built or hidden.
fn files(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Every file of the tree with this ending: path from the top, and text.
fn tree(ending: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    files(&root, ending, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    found.into_iter().map(read).collect()
}

/// Every source, with the files of `#[cfg(test)] mod name;` known as tests.
fn sources() -> Vec<Source> {
    let sources: Vec<Source> = tree(".rs").iter().map(|(path, text)| Source::new(path, text)).collect();
    let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &str| {
        let inside =
            |module: &String| path.strip_prefix(module.as_str()).map(|rest| rest.starts_with(['.', '/']));
        test_modules.iter().filter_map(inside).any(|is_inside| is_inside)
    };
    let marked =
        sources.into_iter().map(|source| if is_test(&source.path) { source.into_test() } else { source });
    marked.collect()
}

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("  {}: {}\n", fault.place, fault.what)).collect()
}

#[test]
fn sources_follow_the_rules() {
    let sources = sources();
    assert!(sources.len() > 20, "found {} sources only: looked in the wrong place", sources.len());
    let warnings: Vec<Fault> = sources.iter().flat_map(rules::warn).collect();
    println!("{} near a limit:\n{}", warnings.len(), listed(&warnings));
    let faults: Vec<Fault> = sources.iter().flat_map(rules::check).collect();
    assert!(faults.is_empty(), "{} break a rule:\n{}", faults.len(), listed(&faults));
}

#[test]
fn dependencies_point_one_way() {
    let manifests = tree("Cargo.toml");
    let members = manifests.iter().filter(|(path, _)| path != "Cargo.toml");
    let faults: Vec<Fault> = members.flat_map(|(path, text)| manifests::check(path, text)).collect();
    assert!(faults.is_empty(), "{} arrows run the wrong way:\n{}", faults.len(), listed(&faults));
    assert!(manifests.len() > 8, "found {} manifests only", manifests.len());
}

/// What the rules say about a planted source.
fn planted(path: &str, text: &str) -> Vec<String> {
    let faults = rules::check(&Source::new(path, text));
    faults.into_iter().map(|fault| fault.what).collect()
}

/// The one thing that is wrong with a planted source says this.
fn caught(path: &str, text: &str, wanted: &str) {
    let faults = planted(path, text);
    assert!(faults.len() == 1 && faults[0].contains(wanted), "{path}: wanted '{wanted}', got {faults:?}");
}

fn clean(path: &str, text: &str) {
    assert_eq!(planted(path, text), [""; 0], "{path}");
}

#[test]
fn long_files_and_functions_are_caught() {
    clean("meta/src/x.rs", &"\n".repeat(800));
    caught("meta/src/x.rs", &"\n".repeat(801), "801 lines");
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    clean("meta/src/x.rs", &function(100));
    caught("meta/src/x.rs", &function(101), "fn f has 101 lines");
    caught("tests/tests/x.rs", &function(101), "fn f has 101 lines");
    let warned = rules::warn(&Source::new("meta/src/x.rs", &function(71)));
    assert_eq!(warned.len(), 1);
    assert_eq!(rules::warn(&Source::new("meta/src/x.rs", &"\n".repeat(401))).len(), 1);
}

#[test]
fn empty_names_are_caught() {
    for name in ["util", "common", "helper", "helpers", "manager", "inner", "disk_util"] {
        caught(&format!("meta/src/{name}.rs"), "", name);
        caught(&format!("meta/src/{name}/file.rs"), "", name);
        caught("meta/src/x.rs", &format!("mod {name} {{}}"), name);
    }
    clean("meta/src/winner.rs", "mod commonly; fn helper() {}");
}

#[test]
fn unwrap_and_unfinished_code_are_caught() {
    caught("cairn/src/x.rs", "fn f() { g().unwrap() }", "unwrap");
    clean("cairn/src/x.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }");
    clean("cairn/tests/x.rs", "fn f() { g().unwrap() }");
    clean("cairn/src/x.rs", "// .unwrap()\nfn f() { g(\".unwrap() todo!()\").unwrap_or(1) }");
    caught("cairn/src/x.rs", "fn f() { todo!() }", "todo!");
    caught("cairn/src/x.rs", "fn f() { unimplemented!() }", "unimplemented!");
}

#[test]
fn clocks_and_randomness_are_caught() {
    for call in ["SystemTime::now()", "std::time::Instant::now()", "tokio::time::Instant::now()"] {
        let text = format!("fn f() {{ {call}; }}");
        for krate in ["types", "meta", "datanode"] {
            caught(&format!("{krate}/src/x.rs"), &text, "real clock");
        }
        clean("cairn/src/x.rs", &text);
        clean("types/src/clock.rs", &text);
    }
    caught("meta/src/x.rs", "fn f() { rand::rng(); }", "unseeded");
    caught("datanode/src/x.rs", "fn f() { rustix::rand::getrandom(); }", "unseeded");
    clean("types/src/random.rs", "fn f() { rustix::rand::getrandom(); }");
}

#[test]
fn an_impure_namespace_is_caught() {
    for import in ["tokio::sync::mpsc", "tonic::Status", "std::time::Duration", "rand::Rng"] {
        let text = format!("use {import};");
        caught("meta/src/namespace/ops/rename.rs", &text, "pure function");
        clean("meta/src/service/x.rs", &text);
    }
    let rocks = planted("meta/src/namespace/x.rs", "use rocksdb::DB;");
    assert!(rocks.iter().any(|what| what.contains("pure function")));
}

#[test]
fn foreign_names_outside_their_rooms_are_caught() {
    caught("meta/src/node.rs", "use openraft::Raft;", "openraft");
    clean("meta/src/raft/node.rs", "use openraft::Raft;");
    clean("meta/tests/raft.rs", "use openraft::Raft;");
    caught("meta/src/service/x.rs", "use rocksdb::DB;", "rocksdb");
    clean("meta/src/store/rocks.rs", "use rocksdb::DB;");
}

#[test]
fn upward_imports_are_caught() {
    caught("meta/src/store/memory.rs", "use crate::namespace::Command;", "store/ is below namespace/");
    caught("meta/src/node.rs", "use crate::service::Server;", "node/ is below service/");
    caught("datanode/src/segments/x.rs", "use crate::chunk::Chunk;", "segments/ is below chunk/");
    clean("meta/src/namespace/x.rs", "use crate::keys::Node; use crate::store::Store;");
    clean("datanode/src/upload/x.rs", "use crate::chunk::Chunk;");
}

#[test]
fn wrong_arrows_are_caught() {
    let broken = |path: &str, text: &str, wanted: &str| {
        let faults = manifests::check(path, text);
        assert!(faults.len() == 1 && faults[0].what.contains(wanted), "{path} {text}: {faults:?}");
    };
    broken("types/Cargo.toml", "[dependencies]\ncairn-proto.workspace = true", "cairn-proto");
    broken("proto/Cargo.toml", "[dev-dependencies]\ncairn-sdk.workspace = true", "cairn-sdk");
    broken("meta/Cargo.toml", "[dependencies]\ncairn-datanode = { path = \"x\" }", "cairn-datanode");
    broken("datanode/Cargo.toml", "[dependencies.cairn-meta]\nworkspace = true", "cairn-meta");
    broken("client/sdk/Cargo.toml", "[build-dependencies]\ncairn-meta.workspace = true", "cairn-meta");
    broken("client/fuse/Cargo.toml", "[dependencies]\ncairn-proto.workspace = true", "cairn-proto");
    broken("cairn/Cargo.toml", "[dependencies]\nrocksdb.workspace = true", "rocksdb");
    broken("jepsen/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nopenraft = \"1\"", "openraft");
    broken("surprise/Cargo.toml", "[dependencies]", "a new crate");
    let good =
        "[package]\nname = \"cairn-meta\"\n[dependencies]\ncairn-types.workspace = true\nrocksdb = \"1\"\n";
    assert_eq!(manifests::check("meta/Cargo.toml", good), []);
}
