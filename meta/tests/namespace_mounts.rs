//! Mounts: what a bucket's listing does to the tree.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::events::EventKind;
use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::command::ImportedEntry;
use cairn_meta::namespace::{Answer, Command, Operation, Target, events, jobs, read};
use cairn_types::{ExtentSource, FsError, InodeId, IntentId, LogIndex, MountId, Timestamp};
use driver::{Driver, FIRST};

fn mounted() -> (Driver, InodeId) {
    let mut d = Driver::new();
    let source =
        MountSource { bucket: "b".into(), prefix: "p/".into(), refresh_ms: 60_000, ..MountSource::default() };
    let root = d.done(Operation::MountAdd { target: Target::path("/m"), source }).inode.unwrap();
    assert_eq!(root.mount, Some(MountId(1)));
    (d, root.ino)
}

fn object(prefix: &str, name: &str, etag: &str, size: u64) -> ImportedEntry {
    let key = format!("{prefix}{name}").into_bytes();
    let (name, etag) = (name.as_bytes().to_vec(), etag.to_owned());
    ImportedEntry { name, directory: false, size, etag, mtime: Timestamp(77), key }
}

fn folder(prefix: &str, name: &str) -> ImportedEntry {
    ImportedEntry { directory: true, size: 0, ..object(prefix, name, "", 0) }
}

fn start(d: &mut Driver, directory: InodeId) -> IntentId {
    d.ok(Command::StartImport { directory, assignee: FIRST }).intent.unwrap()
}

/// One page; `(start_after, end]`.
fn page(
    d: &mut Driver,
    intent: IntentId,
    dir: InodeId,
    range: (&str, &str),
    entries: &[ImportedEntry],
) -> Answer {
    d.ok(Command::ImportBatch {
        intent,
        directory: dir,
        start_after: range.0.as_bytes().to_vec(),
        end: range.1.as_bytes().to_vec(),
        entries: entries.to_vec(),
    })
}

fn import(d: &mut Driver, directory: InodeId, entries: &[ImportedEntry]) {
    let intent = start(d, directory);
    assert_eq!(page(d, intent, directory, ("", ""), entries).resume_after, None);
    assert_eq!(read::intent(&d.store, intent).unwrap(), None, "done");
    d.check();
}

fn names(d: &Driver, directory: InodeId) -> Vec<String> {
    let listing = read::list(&d.store, directory, b"", 4096).unwrap();
    listing.entries.into_iter().map(|e| String::from_utf8(e.name).unwrap()).collect()
}

#[test]
fn objects_are_files_and_common_prefixes_are_directories() {
    let (mut d, root) = mounted();
    import(&mut d, root, &[object("p/", "a", "e1", 10), folder("p/", "d"), object("p/", "z", "e2", 0)]);
    assert_eq!(names(&d, root), ["a", "d", "z"]);
    let range = read::extents(&d.store, &Target::path("/m/a"), 0, 100).unwrap();
    let [extent] = &range.extents[..] else { panic!("{:?}", range.extents) };
    let ExtentSource::Object { object, offset: 0 } = &extent.source else { panic!("{extent:?}") };
    assert_eq!((object.key.as_slice(), object.etag.as_str(), extent.length), (&b"p/a"[..], "e1", 10));
    assert_eq!((range.mounts.len(), range.stat.inode.mtime), (1, Timestamp(77)));
    assert!(d.stat("/m/d").unwrap().is_dir());
    assert_eq!(d.stat("/m").unwrap().nlink, 3);
    let below = d.stat("/m/d").unwrap().ino;
    import(&mut d, below, &[object_below()]);
    assert_eq!(d.stat("/m/d/x").unwrap().size, 3);
}

fn object_below() -> ImportedEntry {
    object("p/d/", "x", "e3", 3)
}

#[test]
fn a_second_listing_changes_only_what_changed() {
    let (mut d, root) = mounted();
    import(
        &mut d,
        root,
        &[object("p/", "a", "1", 10), object("p/", "b", "1", 10), object("p/", "c", "1", 10)],
    );
    let before = [d.stat("/m/a").unwrap(), d.stat("/m/b").unwrap()];
    let newer = [object("p/", "a", "1", 10), object("p/", "b", "2", 20), object("p/", "n", "1", 5)];
    import(&mut d, root, &newer);
    assert_eq!(names(&d, root), ["a", "b", "n"]);
    assert_eq!(d.stat("/m/a").unwrap(), before[0], "untouched");
    let changed = d.stat("/m/b").unwrap();
    assert_eq!((changed.ino, changed.size, changed.version), (before[1].ino, 20, before[1].version + 1));
    let range = read::extents(&d.store, &Target::path("/m/b"), 0, 100).unwrap();
    assert_eq!(range.extents.len(), 1);
    assert_eq!(range.extents[0].length, 20);
}

/// What the last entry tells watchers.
fn told(d: &Driver) -> Vec<(InodeId, EventKind)> {
    let (after, applied) = (LogIndex(d.index - 1), LogIndex(d.index));
    let page = events::page(&d.store, after, applied, 100).unwrap();
    page.events.into_iter().map(|told| (told.event.ino, told.event.what)).collect()
}

#[test]
fn a_page_is_one_event_of_its_directory_and_none_when_nothing_changed() {
    let (mut d, root) = mounted();
    let mount = MountId(1);
    assert!(told(&d).contains(&(root, EventKind::MountAdded { mount })));
    let listed = [object("p/", "a", "1", 10), object("p/", "b", "1", 10)];
    import(&mut d, root, &listed);
    assert_eq!(told(&d), [(root, EventKind::Imported)]);
    import(&mut d, root, &listed);
    assert_eq!(told(&d), [], "nothing changed");
    import(&mut d, root, &[object("p/", "a", "1", 10), object("p/", "b", "2", 10)]);
    assert_eq!(told(&d), [(root, EventKind::Imported)], "an object is another");
    import(&mut d, root, &[object("p/", "a", "1", 10)]);
    assert_eq!(told(&d), [(root, EventKind::Imported)], "a name is gone");
    let fresh = d.done(Operation::MountRemove { target: Target::path("/m") }).inode.unwrap().ino;
    assert_eq!(told(&d), [(root, EventKind::MountRemoved { mount, fresh })]);
}

#[test]
fn a_page_speaks_for_its_range_only() {
    let (mut d, root) = mounted();
    let all: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| object("p/", n, "1", 1)).collect();
    import(&mut d, root, &all);
    let intent = start(&mut d, root);
    assert_eq!(start(&mut d, root), intent, "one import at a time");
    page(&mut d, intent, root, ("", "b"), &[object("p/", "a", "1", 1)]);
    assert_eq!(names(&d, root), ["a", "c", "d"]);
    d.check();
    page(&mut d, intent, root, ("b", ""), &[object("p/", "d", "1", 1)]);
    assert_eq!(names(&d, root), ["a", "d"]);
    d.check();
}

#[test]
fn a_directory_that_vanished_goes_once_it_is_empty() {
    let (mut d, root) = mounted();
    import(&mut d, root, &[folder("p/", "d")]);
    let below = d.stat("/m/d").unwrap().ino;
    import(&mut d, below, &[object("p/d/", "x", "1", 1)]);
    import(&mut d, root, &[]);
    assert_eq!(names(&d, root), ["d"], "it holds a name still");
    let needed = read::import_needed(&d.store, &Target::path("/m/d"), true, Timestamp(d.now)).unwrap();
    assert_eq!(needed.map(|n| n.directory), Some(below), "and must be read anew");
    import(&mut d, below, &[]);
    import(&mut d, root, &[]);
    assert_eq!(names(&d, root), Vec::<String>::new());
    assert_eq!(d.stat("/m").unwrap().nlink, 2);
}

#[test]
fn what_cannot_be_a_name_is_left_out() {
    let (mut d, root) = mounted();
    let long = "x".repeat(256);
    let odd = [object("p/", "", "1", 1), object("p/", "..", "1", 1), object("p/", &long, "1", 1)];
    import(&mut d, root, &odd);
    assert_eq!(names(&d, root), Vec::<String>::new());
    import(&mut d, root, &[object("p/", "a", "1", 1), folder("p/", "a")]);
    assert!(d.stat("/m/a").unwrap().is_dir(), "a directory hides an object of its name");
}

#[test]
fn reads_say_when_the_bucket_must_be_asked() {
    let (mut d, root) = mounted();
    let needed = |d: &Driver, path: &str, contents| {
        read::import_needed(&d.store, &Target::path(path), contents, Timestamp(d.now)).unwrap()
    };
    assert_eq!(needed(&d, "/m", false), None, "the root of a mount is known");
    assert_eq!(needed(&d, "/m", true).map(|n| n.directory), Some(root));
    assert_eq!(needed(&d, "/m/a/b", false).map(|n| n.directory), Some(root));
    assert_eq!(needed(&d, "/other", true), None);
    let intent = start(&mut d, root);
    assert_eq!(needed(&d, "/m/a", false).and_then(|n| n.under_way), Some(intent));
    d.ok(Command::FailIntent { intent, permanent: true, message: "AccessDenied".into() });
    assert_eq!(needed(&d, "/m/a", false).and_then(|n| n.under_way), None);
    assert!(read::intent(&d.store, intent).unwrap().unwrap().failed, "kept for those who wait");
    import(&mut d, root, &[object("p/", "a", "1", 1)]);
    assert_eq!(read::intent(&d.store, intent).unwrap(), None, "the failed one is gone");
    assert_eq!(needed(&d, "/m/a", false), None);
    d.now += 61_000_000_000;
    assert_eq!(needed(&d, "/m/a", false).map(|n| n.directory), Some(root), "older than refresh_ms");
}

#[test]
fn clients_change_nothing_under_a_mount() {
    let (mut d, root) = mounted();
    import(&mut d, root, &[object("p/", "a", "1", 1)]);
    let refused = Err(FsError::ReadOnlyMount { mount: MountId(1) });
    assert_eq!(d.create("/m/new", Vec::new()), refused);
    assert_eq!(d.ask(Operation::Unlink { target: Target::path("/m/a") }), refused);
    assert_eq!(d.ask(Operation::Rmdir { target: Target::path("/m") }), Err(FsError::IsMountRoot));
    let rename = |from: &str, to: &str| Operation::Rename {
        from: Target::path(from),
        to: Target::path(to),
        no_replace: false,
        exchange: false,
    };
    assert_eq!(d.ask(rename("/m/a", "/a")), Err(FsError::CrossMount));
    assert_eq!(d.ask(rename("/m/a", "/m/b")), refused);
    assert_eq!(d.ask(rename("/m", "/n")), Err(FsError::IsMountRoot));
    d.check();
}

#[test]
fn a_page_too_large_for_one_entry_goes_on_in_the_next() {
    let (mut d, root) = mounted();
    let all: Vec<_> = (0..3000).map(|i| object("p/", &format!("{i:05}"), "1", 1)).collect();
    let intent = start(&mut d, root);
    let mut after = String::new();
    let mut entries = 1;
    while let Some(cut) = page(&mut d, intent, root, (&after, ""), &all).resume_after {
        after = String::from_utf8(cut).unwrap();
        entries += 1;
    }
    assert!(entries > 2, "{entries} entries");
    assert_eq!(names(&d, root).len(), 3000);
    assert_eq!(read::intent(&d.store, intent).unwrap(), None);
    d.check();
}

#[test]
fn a_removed_mount_leaves_an_empty_directory_and_is_purged_in_steps() {
    let (mut d, root) = mounted();
    let files: Vec<_> = (0..400).map(|i| object("p/", &format!("f{i}"), "1", 1)).collect();
    import(&mut d, root, &[files, vec![folder("p/", "d")]].concat());
    let below = d.stat("/m/d").unwrap().ino;
    import(&mut d, below, &[object("p/d/", "x", "1", 1), folder("p/d/", "e")]);
    start(&mut d, below);
    d.done(Operation::MountRemove { target: Target::path("/m") });
    let fresh = d.stat("/m").unwrap();
    assert_eq!((fresh.mount, names(&d, fresh.ino).len()), (None, 0));
    assert_eq!(read::mounts(&d.store).unwrap(), vec![]);
    assert!(d.create("/m/native", Vec::new()).is_ok());
    let mut steps = 0;
    while let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
        d.check();
        d.ok(Command::Purge { ino });
        steps += 1;
        assert!(steps < 20, "the purge comes to its end");
    }
    let counts = read::cluster(&d.store).unwrap().counts;
    assert_eq!((counts.inodes, counts.intents), (3, 0));
    let again = Operation::MountRemove { target: Target::path("/m") };
    assert_eq!(d.ask(again), Err(FsError::NoSuchMount));
    d.check();
}

#[test]
fn an_import_of_a_removed_mount_is_refused() {
    let (mut d, root) = mounted();
    let intent = start(&mut d, root);
    d.done(Operation::MountRemove { target: Target::path("/m") });
    let batch = Command::ImportBatch {
        intent,
        directory: root,
        start_after: Vec::new(),
        end: Vec::new(),
        entries: vec![object("p/", "a", "1", 1)],
    };
    assert_eq!(d.propose(batch), Err(FsError::NotFound));
    d.check();
}

#[test]
fn a_tree_as_deep_as_keys_allow_is_purged() {
    const DEPTH: usize = 511;
    let (mut d, root) = mounted();
    let mut directory = root;
    for _ in 0..DEPTH {
        let intent = start(&mut d, directory);
        page(&mut d, intent, directory, ("", ""), &[folder("p/", "a")]);
        directory = read::list(&d.store, directory, b"", 1).unwrap().entries[0].inode.ino;
    }
    d.done(Operation::MountRemove { target: Target::path("/m") });
    let mut steps = 0;
    while let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
        d.ok(Command::Purge { ino });
        steps += 1;
        assert!(steps < 10, "the purge comes to its end");
    }
    assert_eq!(read::cluster(&d.store).unwrap().counts.inodes, 2);
    d.check();
}

#[test]
fn imports_under_way_end_with_their_mount_however_many_there_are() {
    let (mut d, root) = mounted();
    let folders: Vec<_> = (0..2100).map(|i| folder("p/", &format!("{i:05}"))).collect();
    let intent = start(&mut d, root);
    let mut after = String::new();
    while let Some(cut) = page(&mut d, intent, root, (&after, ""), &folders).resume_after {
        after = String::from_utf8(cut).unwrap();
    }
    let listing = read::list(&d.store, root, b"", 4096).unwrap();
    assert_eq!(listing.entries.len(), 2100);
    for entry in listing.entries {
        start(&mut d, entry.inode.ino);
    }
    d.done(Operation::MountRemove { target: Target::path("/m") });
    assert!(read::cluster(&d.store).unwrap().counts.intents > 0, "more than one entry ends");
    while let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
        d.ok(Command::Purge { ino });
    }
    assert_eq!(read::cluster(&d.store).unwrap().counts.intents, 0);
    d.check();
}
