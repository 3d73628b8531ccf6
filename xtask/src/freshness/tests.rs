//! What is believed, case by case; then with cargo itself, on two clones of a small workspace that
//! share a target directory.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::*;

const OLD: u64 = 1_000;

fn source(content: &str) -> Source {
    Source { kind: Kind::File, content: Some(content.into()), modified_ns: 5 }
}

fn seen(content: &str) -> Seen {
    Seen { kind: Kind::File, content: content.into(), since_ns: OLD }
}

/// One package in `a/` with one unit, everything as it was recorded; and what then happens to it.
fn since_after(path: &str, change: impl FnOnce(&mut Sight, &mut Record)) -> Option<u64> {
    let texts = [("Cargo.toml", "top"), ("a/src/lib.rs", "text"), ("b/src/lib.rs", "text")];
    let unit = Unit::for_test("a", 7);
    let mut sight = Sight {
        root: "/clone".into(),
        sources: texts.map(|(path, text)| (path.into(), source(text))).into(),
        packages: [("a".into(), "a".to_owned()), ("b".into(), "b".to_owned())].into(),
        units: [("release/a-1".to_owned(), unit)].into(),
    };
    let mut record = Record {
        root: "/clone".into(),
        units: [("release/a-1".to_owned(), 7)].into(),
        sources: texts.map(|(path, text)| (path.into(), seen(text))).into(),
    };
    change(&mut sight, &mut record);
    let doubt = sight.doubt(&record);
    sight.since_ns(&record, &doubt, Path::new(path))
}

fn put(sight: &mut Sight, record: &mut Record, path: &str, now: Option<&str>, then: Option<&str>) {
    sight.sources.remove(Path::new(path));
    record.sources.remove(Path::new(path));
    sight.sources.extend(now.map(|text| (path.into(), source(text))));
    record.sources.extend(then.map(|text| (path.into(), seen(text))));
}

#[test]
fn what_is_as_it_was_keeps_its_time_wherever_it_is() {
    let lib = "a/src/lib.rs";
    assert_eq!(since_after(lib, |_, _| {}), Some(OLD));
    assert_eq!(since_after(lib, |sight, _| sight.root = "/other".into()), Some(OLD));
    assert_eq!(since_after(lib, |sight, record| put(sight, record, "a/x", Some("1"), Some("2"))), Some(OLD));
}

#[test]
fn what_changed_does_not() {
    let lib = "a/src/lib.rs";
    assert_eq!(since_after(lib, |sight, record| put(sight, record, lib, Some("1"), Some("2"))), None);
    assert_eq!(since_after(lib, |sight, record| put(sight, record, lib, Some("1"), None)), None);
    let too_large = |sight: &mut Sight, _: &mut Record| {
        sight.sources.insert(lib.into(), Source { content: None, ..source("") });
    };
    assert_eq!(since_after(lib, too_large), None);
    let other_kind = |sight: &mut Sight, _: &mut Record| {
        sight.sources.insert(lib.into(), Source { kind: Kind::Directory, ..source("text") });
    };
    assert_eq!(since_after(lib, other_kind), None);
}

#[test]
fn a_package_that_something_else_compiled_is_not_believed_and_the_others_are() {
    let touched = |sight: &mut Sight, _: &mut Record| {
        sight.units.insert("release/a-1".to_owned(), Unit::for_test("a", 8));
    };
    assert_eq!(since_after("a/src/lib.rs", touched), None);
    assert_eq!(since_after("b/src/lib.rs", touched), Some(OLD));
    let added = |sight: &mut Sight, _: &mut Record| {
        sight.units.insert("debug/a-2".to_owned(), Unit::for_test("a", 6));
    };
    assert_eq!(since_after("a/src/lib.rs", added), None);
    assert_eq!(since_after("b/src/lib.rs", added), Some(OLD));
}

#[test]
fn nothing_is_believed_when_all_may_be_concerned() {
    let lib = "a/src/lib.rs";
    assert_eq!(since_after(lib, |_, record| *record = Record::default()), None);
    assert_eq!(since_after(lib, |sight, _| sight.units.clear()), None);
    assert_eq!(
        since_after(lib, |sight, record| put(sight, record, "Cargo.toml", Some("1"), Some("2"))),
        None
    );
    assert_eq!(since_after(lib, |sight, record| put(sight, record, "clippy.toml", None, Some("2"))), None);
    let unread = |sight: &mut Sight, _: &mut Record| {
        sight.sources.insert("b/Cargo.toml".into(), Source { content: None, ..source("") });
    };
    assert_eq!(since_after(lib, unread), None);
    let led_elsewhere = |sight: &mut Sight, record: &mut Record| {
        sight.sources.insert("l".into(), Source { kind: Kind::Link, ..source("b") });
        record.sources.insert("l".into(), Seen { kind: Kind::Link, ..seen("c") });
    };
    assert_eq!(since_after(lib, led_elsewhere), None);
}

#[test]
fn what_has_the_clones_path_in_it_is_compiled_in_each() {
    for (path, text, is_bound) in [
        ("a/x.rs", "concat!(env!(\n  \"CARGO_MANIFEST_DIR\"), \"/x\")", true),
        ("a/x.rs", "option_env!(\"CARGO_MANIFEST_PATH\")", true),
        ("a/x.rs", "std::env::var(\"CARGO_MANIFEST_DIR\")", false),
        ("a/build.rs", "std::env::var(\"CARGO_MANIFEST_DIR\")", true),
        ("a/x.rs", "env!(\"CARGO_PKG_VERSION\")", false),
        ("xtask/x.rs", "env!(\"CARGO_MANIFEST_DIR\")", false),
    ] {
        let here = |sight: &mut Sight, record: &mut Record| put(sight, record, path, Some(text), Some(text));
        assert_eq!(since_after(path, here), Some(OLD), "{text}");
        let elsewhere = |sight: &mut Sight, record: &mut Record| {
            here(sight, record);
            sight.root = "/other".into();
        };
        assert_eq!(since_after(path, elsewhere), (!is_bound).then_some(OLD), "{text}");
    }
}

#[test]
fn only_what_our_call_of_cargo_can_have_compiled_is_vouched_for() {
    let known = [("debug/a-2".to_owned(), 3), ("release/a-3".to_owned(), 4)].into();
    let units = [("release/a-1", 9), ("debug/a-2", 9), ("release/a-3", 11), ("release/a-4", 11)];
    let units = units.map(|(name, newest)| (name.to_owned(), Unit::for_test("a", newest))).into();
    let wanted: BTreeMap<String, u64> =
        [("debug/a-2", 3), ("release/a-1", 9), ("release/a-3", 4)].map(|(n, at)| (n.to_owned(), at)).into();
    assert_eq!(sealed(&known, &units, 10), wanted);
}

/// Three packages (`base`, with a build script and included files; `middle`; `end`, a program that
/// tells what it was made of) in clones of one target directory.
struct Toy(PathBuf);

impl Toy {
    fn new(name: &str) -> Self {
        let toy = Self(std::env::temp_dir().join(format!("xtask-toy-{name}-{}", std::process::id())));
        toy.add_clone("a");
        toy
    }

    /// A clone as git makes it: every file is new.
    fn add_clone(&self, clone: &str) {
        let package = |name: &str, rest: &str| {
            format!("[package]\nname = \"toy-{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}")
        };
        let build = "fn main() {
            println!(\"cargo:rerun-if-changed=proto\");
            let out = std::env::var(\"OUT_DIR\").unwrap();
            std::fs::copy(\"proto/p.txt\", format!(\"{out}/p.txt\")).unwrap();
        }";
        let base = "pub const DATA: &str = include_str!(\"../data.txt\");
            pub const PROTO: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/p.txt\"));
            pub const SHARED: &str = include_str!(\"../../shared.txt\");";
        let middle = "pub fn tell() -> String {
            format!(\"{} {} {} text1\", toy_base::DATA, toy_base::PROTO, toy_base::SHARED)
        }";
        let end = "fn main() { println!(\"{} {}\", toy_middle::tell(), env!(\"CARGO_MANIFEST_DIR\")) }";
        let top = "[workspace]\nresolver = \"2\"\nmembers = [\"base\", \"middle\", \"end\"]\n\
            [profile.release]\nopt-level = 0\n";
        let on = |name: &str| format!("[dependencies]\ntoy-{name} = {{ path = \"../{name}\" }}\n");
        for (path, text) in [
            ("Cargo.toml", top),
            ("shared.txt", "shared1"),
            ("base/Cargo.toml", &package("base", "")),
            ("base/build.rs", build),
            ("base/proto/p.txt", "proto1"),
            ("base/data.txt", "data1"),
            ("base/src/lib.rs", base),
            ("middle/Cargo.toml", &package("middle", &on("base"))),
            ("middle/src/lib.rs", middle),
            ("end/Cargo.toml", &package("end", &on("middle"))),
            ("end/src/main.rs", end),
        ] {
            let path = self.0.join(clone).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn workspace(&self, clone: &str) -> Workspace {
        Workspace { root: self.0.join(clone), target: self.0.join("target") }
    }

    /// Writes a file with a time long past, as some tools that copy trees do.
    fn write_as_if_old(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::write(&path, text).unwrap();
        sources::set_modified(&path, OLD).unwrap();
    }

    fn command(&self, clone: &str) -> Command {
        let mut command = self.workspace(clone).cargo();
        command.args(["build", "--release", "--workspace", "--offline"]);
        command
    }

    /// Builds as cargo alone would.
    fn build_by_hand(&self, clone: &str) -> Result<String, String> {
        let output = self.command(clone).stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            return Err(text);
        }
        let compiled = text.lines().filter_map(|line| line.trim().strip_prefix("Compiling toy-"));
        let compiled: Vec<&str> = compiled.filter_map(|line| line.split(' ').next()).collect();
        Ok(compiled.join(" "))
    }

    /// Builds as xtask does: which packages were compiled.
    fn build(&self, clone: &str) -> Result<String, String> {
        Freshness::new(&self.workspace(clone))?.build(|| self.build_by_hand(clone))
    }

    /// What the program says, and which clone it was made in.
    fn says(&self) -> String {
        let output = Command::new(self.0.join("target/release/toy-end")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().replace(&format!("{}/", self.0.display()), "").replace("/end", "")
    }

    /// Builds in a clone, and wants the program to be made of that one.
    fn expect(&self, clone: &str, compiled: &str, says: &str) {
        assert_eq!(self.build(clone).as_deref(), Ok(compiled));
        assert_eq!(self.says(), says);
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_new_clone_compiles_only_what_differs_and_clones_may_take_turns() {
    let toy = Toy::new("turns");
    toy.expect("a", "base middle end", "data1 proto1 shared1 text1 a");
    toy.expect("a", "", "data1 proto1 shared1 text1 a");
    toy.add_clone("b");
    // `base` includes a file outside its package, `end` has its clone's path in it.
    toy.expect("b", "base middle end", "data1 proto1 shared1 text1 b");
    for clone in ["a", "b"] {
        toy.write_as_if_old(&format!("{clone}/base/src/lib.rs"), "pub const DATA: &str = include_str!(\"../data.txt\");\n\
            pub const PROTO: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/p.txt\"));\npub const SHARED: &str = \"none\";");
    }
    toy.expect("b", "base middle end", "data1 proto1 none text1 b");
    toy.expect("a", "end", "data1 proto1 none text1 a");
    toy.add_clone("c");
    fs::copy(toy.0.join("a/base/src/lib.rs"), toy.0.join("c/base/src/lib.rs")).unwrap();
    toy.expect("c", "end", "data1 proto1 none text1 c");

    toy.write_as_if_old("b/base/data.txt", "data2");
    toy.expect("b", "base middle end", "data2 proto1 none text1 b");
    toy.expect("a", "base middle end", "data1 proto1 none text1 a");
    toy.write_as_if_old("b/base/data.txt", "data1");
    toy.write_as_if_old("b/base/proto/p.txt", "proto2");
    toy.expect("b", "base middle end", "data1 proto2 none text1 b");
    toy.expect("a", "base middle end", "data1 proto1 none text1 a");
    fs::remove_dir_all(toy.0.join("a")).unwrap();
    toy.expect("c", "end", "data1 proto1 none text1 c");
}

#[test]
fn a_build_that_fails_or_is_cut_off_or_is_done_by_hand_misleads_nobody() {
    let toy = Toy::new("broken");
    toy.add_clone("b");
    toy.expect("a", "base middle end", "data1 proto1 shared1 text1 a");

    // In b, base is compiled from other text, then middle fails.
    let middle = fs::read_to_string(toy.0.join("b/middle/src/lib.rs")).unwrap();
    toy.write_as_if_old("b/base/data.txt", "data2");
    toy.write_as_if_old("b/middle/src/lib.rs", "no");
    toy.build("b").unwrap_err();
    toy.expect("a", "base middle end", "data1 proto1 shared1 text1 a");

    // In b, cargo is called by hand: it compiles what is younger, and nobody records it.
    toy.write_as_if_old("b/middle/src/lib.rs", &middle.replace("text1", "text2"));
    sources::set_modified(&toy.0.join("b/middle/src/lib.rs"), nanoseconds(SystemTime::now())).unwrap();
    toy.build_by_hand("b").unwrap();
    assert!(toy.says().contains("text2"), "{}", toy.says());
    toy.expect("a", "middle end", "data1 proto1 shared1 text1 a");

    // In b, xtask is killed when cargo is done, or in its midst: there is no seal.
    let freshness = Freshness::new(&toy.workspace("b")).unwrap();
    freshness.shared.as_ref().unwrap().prepare().unwrap();
    toy.build_by_hand("b").unwrap();
    assert!(toy.says().starts_with("data2 proto1 shared1 text2"), "{}", toy.says());
    drop(freshness);
    toy.expect("a", "base middle end", "data1 proto1 shared1 text1 a");

    // In a, a file is edited while cargo runs, and what was there before is put back.
    let freshness = Freshness::new(&toy.workspace("a")).unwrap();
    let built = freshness.build(|| {
        fs::write(toy.0.join("a/middle/src/lib.rs"), middle.replace("text1", "text3")).unwrap();
        let built = toy.build_by_hand("a");
        fs::write(toy.0.join("a/middle/src/lib.rs"), &middle).unwrap();
        built
    });
    assert_eq!(built.as_deref(), Ok("middle end"));
    assert!(toy.says().contains("text3"), "{}", toy.says());
    drop(freshness);
    toy.expect("a", "middle end", "data1 proto1 shared1 text1 a");
    toy.expect("a", "", "data1 proto1 shared1 text1 a");
}

#[test]
fn a_clone_with_a_target_directory_of_its_own_is_left_alone() {
    let toy = Toy::new("own");
    let workspace = Workspace { root: toy.0.join("a"), target: toy.0.join("a/target") };
    toy.write_as_if_old("a/base/data.txt", "data1");
    Freshness::new(&workspace).unwrap().build(|| Ok(())).unwrap();
    let modified = fs::metadata(toy.0.join("a/base/data.txt")).unwrap();
    assert_eq!(sources::modified_ns(&modified), OLD);
    assert!(!workspace.target.join("freshness").exists());

    // Another clone builds there: it is shared from now on.
    toy.add_clone("b");
    let other = Workspace { root: toy.0.join("b"), ..workspace.clone() };
    Freshness::new(&other).unwrap().build(|| Ok(())).unwrap();
    Freshness::new(&workspace).unwrap().build(|| Ok(())).unwrap();
    let modified = fs::metadata(toy.0.join("a/base/data.txt")).unwrap();
    assert_ne!(sources::modified_ns(&modified), OLD);
}

#[test]
fn a_second_xtask_waits_for_the_first() {
    let toy = Toy::new("lock");
    let (sender, receiver) = std::sync::mpsc::channel();
    let first = Freshness::new(&toy.workspace("a")).unwrap();
    let workspace = toy.workspace("a");
    let second = std::thread::spawn(move || {
        let second = Freshness::new(&workspace).unwrap();
        sender.send(()).unwrap();
        second
    });
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
    drop(first);
    receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    second.join().unwrap();
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}
