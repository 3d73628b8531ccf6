//! Listings of whole subtrees against a model that collects every key, sorts them as bytes and
//! applies prefix, delimiter and start as S3 says it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::command::ImportedEntry;
use cairn_meta::namespace::read::{self, ImportNeeded, Names};
use cairn_meta::namespace::subtree::{KeyFound, Next, Subtree, Wanted};
use cairn_meta::namespace::{Command, NamespaceError, Operation, Target};
use cairn_meta::store::{Rows, Snapshot, Store};
use cairn_types::{FsError, Inode, InodeId, Timestamp};
use driver::{Driver, FIRST};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

/// An entry: its key, or common prefix, whether it is one, and the inode's number.
type Entry = (Vec<u8>, bool, Option<InodeId>);

fn seen(found: KeyFound) -> Entry {
    (found.key, found.common_prefix, found.inode.map(|inode| inode.ino))
}

fn inode(rows: &dyn Rows, path: &str) -> Inode {
    read::resolve(rows, &Target::path(path)).unwrap()
}

/// All that a listing tells.
fn listed(rows: &dyn Rows, top: &Inode, wanted: Wanted) -> Vec<Entry> {
    let (mut subtree, mut entries) = (Subtree::new(top, wanted, None), Vec::new());
    loop {
        match subtree.next(rows, NOW).unwrap() {
            Next::Key(found) => entries.push(seen(found)),
            Next::End => return entries,
            Next::Import(needed) => panic!("{needed:?}"),
        }
    }
}

/// Every key below a directory, by one listing a directory.
fn all_keys(rows: &dyn Rows, directory: InodeId, above: &[u8]) -> Vec<(Vec<u8>, InodeId)> {
    let mut keys = Vec::new();
    for entry in read::list(rows, directory, b"", 4096).unwrap().entries {
        let mut key = [above, &entry.name].concat();
        if entry.inode.is_dir() {
            key.push(b'/');
            keys.extend(all_keys(rows, entry.inode.ino, &key));
        }
        keys.push((key, entry.inode.ino));
    }
    keys
}

fn find(text: &[u8], delimiter: &[u8]) -> Option<usize> {
    (0..text.len()).find(|at| text[*at..].starts_with(delimiter))
}

/// What S3 would tell of these keys.
fn expected(mut keys: Vec<(Vec<u8>, InodeId)>, wanted: &Wanted) -> Vec<Entry> {
    keys.sort();
    let mut entries: Vec<Entry> = Vec::new();
    for (key, ino) in keys {
        if !key.starts_with(&wanted.prefix) {
            continue;
        }
        let behind = &key[wanted.prefix.len()..];
        match find(behind, &wanted.delimiter).filter(|_| !wanted.delimiter.is_empty()) {
            None => entries.push((key, false, Some(ino))),
            Some(at) => {
                let common = key[..wanted.prefix.len() + at + wanted.delimiter.len()].to_vec();
                if entries.last().is_none_or(|last| last.0 != common) {
                    let own = (common == key).then_some(ino);
                    entries.push((common, true, own));
                }
            }
        }
    }
    entries.retain(|entry| wanted.start_after.is_empty() || entry.0 > wanted.start_after);
    entries
}

/// Names that are one another's beginnings, with bytes on both sides of the slash.
fn name() -> impl Strategy<Value = String> {
    let letter = prop_oneof![4 => Just('a'), 2 => Just('-'), 1 => Just('!'), 1 => Just('0'), 1 => Just('b'), 1 => Just('ÿ')];
    proptest::collection::vec(letter, 1..4).prop_map(|letters| letters.into_iter().collect())
}

fn path() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(name(), 1..4)
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![4 => name(), 3 => Just("/".to_owned()), 1 => Just(String::new())];
    prop_oneof![
        1 => Just(Vec::new()),
        4 => proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ]
}

fn delimiter() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(""), 5 => Just("/"), 1 => Just("-"), 1 => Just("a/"), 1 => Just("//")]
        .prop_map(|text| text.as_bytes().to_vec())
}

/// Makes directories (true) and files.
fn planted(paths: &[(Vec<String>, bool)]) -> Driver {
    let mut d = Driver::new();
    d.mkdir("/top");
    d.file("/top0");
    for (names, directory) in paths {
        let (last, above) = names.split_last().unwrap();
        let parent = format!("/top/{}", above.join("/"));
        let made = Operation::Mkdir {
            target: Target::path(parent.as_str()),
            mode: 0o755,
            uid: 0,
            gid: 0,
            parents: true,
        };
        // What is a file already stays one.
        if d.ask(made).is_ok() {
            let path = format!("{parent}/{last}");
            let _ = match directory {
                true => d.ask(Operation::Mkdir {
                    target: Target::path(path),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    parents: false,
                }),
                false => d.create(&path, Vec::new()),
            };
        }
    }
    d
}

fn some_paths() -> impl Strategy<Value = Vec<(Vec<String>, bool)>> {
    proptest::collection::vec((path(), prop::bool::weighted(0.3)), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The cursor tells what a list of all keys, sorted as bytes, says.
    #[test]
    fn a_subtree_is_listed_as_s3_would(
        paths in some_paths(),
        wanted in proptest::collection::vec((text(), delimiter(), text()), 1..12),
    ) {
        let d = planted(&paths);
        let top = inode(&d.store, "/top");
        let keys = all_keys(&d.store, top.ino, b"");
        for (prefix, delimiter, start_after) in wanted {
            let wanted = Wanted { prefix, delimiter, start_after };
            let expected = expected(keys.clone(), &wanted);
            prop_assert_eq!(listed(&d.store, &top, wanted.clone()), expected, "{:?}", wanted);
        }
    }

    /// A listing that begins anew after any entry is the rest of the whole one.
    #[test]
    fn a_listing_goes_on_behind_any_entry(paths in some_paths(), prefix in text(), delimiter in delimiter()) {
        let d = planted(&paths);
        let top = inode(&d.store, "/top");
        let wanted = Wanted { prefix, delimiter, start_after: Vec::new() };
        let whole = listed(&d.store, &top, wanted.clone());
        for (n, entry) in whole.iter().enumerate() {
            let rest = listed(&d.store, &top, Wanted { start_after: entry.0.clone(), ..wanted.clone() });
            prop_assert_eq!(&rest, &whole[n + 1..], "after {:?}", entry.0);
        }
    }

    /// Names of one directory, by prefix and up to a last one.
    #[test]
    fn names_are_listed_in_ranges(names in proptest::collection::btree_set(name(), 0..30), prefix in name(), bounds: [bool; 3], from in name(), until in name()) {
        let mut d = Driver::new();
        d.mkdir("/top");
        for name in &names {
            d.file(&format!("/top/{name}"));
        }
        let chosen = |text: &String, on: bool| if on { text.clone().into_bytes() } else { Vec::new() };
        let (prefix, from, until) = (chosen(&prefix, bounds[0]), chosen(&from, bounds[1]), chosen(&until, bounds[2]));
        let wanted = Names { start_after: &from, until: &until, prefix: &prefix };
        let top = inode(&d.store, "/top").ino;
        let found: Vec<Vec<u8>> =
            read::list_some(&d.store, top, wanted, 100).unwrap().entries.into_iter().map(|e| e.name).collect();
        let mut expected: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
        expected.sort();
        expected.retain(|n| {
            n.starts_with(&prefix) && (from.is_empty() || *n > from) && (until.is_empty() || *n <= until)
        });
        prop_assert_eq!(found, expected);
    }
}

/// A store that counts the rows that are read of it.
struct Counting {
    rows: Snapshot,
    read: std::cell::Cell<usize>,
}

impl Rows for Counting {
    fn get(
        &self,
        table: cairn_meta::store::Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, cairn_meta::store::StoreFault> {
        self.read.set(self.read.get() + 1);
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: cairn_meta::store::Table,
        range: &cairn_meta::store::KeyRange,
        limit: usize,
    ) -> Result<Vec<cairn_meta::store::Row>, cairn_meta::store::StoreFault> {
        let found = self.rows.scan(table, range, limit)?;
        self.read.set(self.read.get() + found.len());
        Ok(found)
    }

    fn last_before(
        &self,
        table: cairn_meta::store::Table,
        from: &[u8],
        before: &[u8],
    ) -> Result<Option<cairn_meta::store::Row>, cairn_meta::store::StoreFault> {
        self.read.set(self.read.get() + 1);
        self.rows.last_before(table, from, before)
    }
}

#[test]
fn the_first_keys_cost_a_few_rows_and_all_cost_hardly_more_than_there_are() {
    let mut d = Driver::new();
    for n in 0..30 {
        d.mkdir(&format!("/top/d{n:02}"));
        for m in 0..100 {
            d.file(&format!("/top/d{n:02}/f{m:03}"));
        }
    }
    let top = inode(&d.store, "/top");
    let rows = Counting { rows: d.store.snapshot(), read: std::cell::Cell::new(0) };
    let mut subtree = Subtree::new(&top, Wanted::default(), None);
    assert!(matches!(subtree.next(&rows, NOW).unwrap(), Next::Key(found) if found.key == b"d00/"));
    assert!(rows.read.get() <= 32, "{} rows before the first key", rows.read.get());
    let mut keys = 1;
    while let Next::Key(_) = subtree.next(&rows, NOW).unwrap() {
        keys += 1;
    }
    assert_eq!(keys, 30 * 101);
    assert!(rows.read.get() <= 2 * keys, "{} rows for {keys} keys", rows.read.get());
    // One level of it, as a listing with a delimiter asks for it, is told without what lies below.
    rows.read.set(0);
    let wanted = Wanted { delimiter: b"/".to_vec(), ..Wanted::default() };
    let level = listed(&rows, &top, wanted);
    assert!(level.len() == 30 && level.iter().all(|e| e.1 && e.2.is_some()));
    assert!(rows.read.get() <= 30 * 40, "{} rows for 30 prefixes", rows.read.get());
}

#[test]
fn a_path_longer_than_any_ends_the_listing_with_a_refusal() {
    let mut d = Driver::new();
    let top = d.mkdir("/top");
    let mut at = top.ino;
    for _ in 0..20 {
        let target = Target::under(at, "d".repeat(250));
        let made = Operation::Mkdir { target, mode: 0o755, uid: 0, gid: 0, parents: false };
        at = d.done(made).inode.unwrap().ino;
    }
    let mut subtree = Subtree::new(&top, Wanted::default(), None);
    let mut keys = 0;
    let error = loop {
        match subtree.next(&d.store, NOW) {
            Ok(Next::Key(_)) => keys += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, NamespaceError::Refused(FsError::NameTooLong)), "{error}");
    assert_eq!(keys, 16);
}

/// The keys up to where a directory must be read from S3.
fn until_import(d: &Driver, after: &str) -> (Vec<String>, Option<ImportNeeded>) {
    let top = inode(&d.store, "/");
    let wanted = Wanted { start_after: after.as_bytes().to_vec(), ..Wanted::default() };
    let mut subtree = Subtree::new(&top, wanted, None);
    let mut keys = Vec::new();
    loop {
        match subtree.next(&d.store, Timestamp(d.now)).unwrap() {
            Next::Key(found) => keys.push(String::from_utf8(found.key).unwrap()),
            Next::End => return (keys, None),
            Next::Import(needed) => return (keys, Some(needed)),
        }
    }
}

#[test]
fn a_directory_of_a_mount_is_read_from_s3_before_its_keys_are_told() {
    let mut d = Driver::new();
    let source = MountSource { bucket: "b".into(), refresh_ms: 60_000, ..MountSource::default() };
    d.done(Operation::MountAdd { target: Target::path("/m"), source });
    d.file("/z");
    let root = inode(&d.store, "/m").ino;
    let (keys, needed) = until_import(&d, "");
    assert_eq!((keys, needed.unwrap().directory), (vec!["m/".to_owned()], root));
    let import = |d: &mut Driver, directory, names: &[(&str, bool)]| {
        let intent = d.ok(Command::StartImport { directory, assignee: FIRST }).intent.unwrap();
        let entries = names.iter().map(|(name, directory)| ImportedEntry {
            name: name.as_bytes().to_vec(),
            directory: *directory,
            size: 1,
            etag: "e".into(),
            mtime: Timestamp(1),
            key: name.as_bytes().to_vec(),
        });
        let (start_after, end, entries) = (Vec::new(), Vec::new(), entries.collect());
        d.ok(Command::ImportBatch { intent, directory, start_after, end, entries });
    };
    import(&mut d, root, &[("a", false), ("sub", true)]);
    let (keys, needed) = until_import(&d, "m/");
    let sub = inode(&d.store, "/m/sub").ino;
    assert_eq!((keys, needed.unwrap().directory), (vec!["m/a".to_owned(), "m/sub/".to_owned()], sub));
    import(&mut d, sub, &[("x", false)]);
    let (keys, needed) = until_import(&d, "m/sub/");
    assert_eq!((keys, needed), (vec!["m/sub/x".to_owned(), "z".to_owned()], None));
    // It has grown old by now: those above need not be read again, in the middle of it.
    d.now += 61_000_000_000;
    let (keys, needed) = until_import(&d, "m/sub/");
    assert_eq!((keys, needed.unwrap().directory), (Vec::new(), sub));
}
