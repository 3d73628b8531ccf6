//! Where no file of a removed tree is kept: below the third feature level, and where a dump is loaded.

use super::*;

/// A history with a tree that goes in steps while a session says what it holds.
fn with_a_holder(level: u32) -> (Driver, Vec<InodeId>, Vec<InodeId>) {
    let mut d = at_level(level);
    holder(&mut d);
    let chunk = d.shared_chunk();
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for n in 0..4 {
        directories.push(d.mkdir(&format!("/t/{n}/d")).ino);
        let file = d.create(&format!("/t/{n}/d/f"), vec![extent(0, 5, chunk, 10 * n)]);
        files.push(file.unwrap().inode.unwrap().ino);
    }
    d.open_tail(files[3], 0, 1).unwrap();
    d.done(Operation::Link { from: Target::path("/t/1/d/f"), to: Target::path("/t/2/d/g") });
    one_at_a_time(&mut d);
    remove(&mut d, "/t");
    for _ in 0..6 {
        let top = trees(&d)[0].inode.ino;
        d.ok(Command::PurgeTree { top });
    }
    d.bounds = Bounds::default();
    d.check();
    (d, files, directories)
}

/// All rows, in short.
fn short(rows: &dyn Rows) -> u32 {
    Table::ALL.iter().fold(0, |crc, table| {
        let rows = rows.scan(*table, &KeyRange::default(), usize::MAX).unwrap();
        rows.iter()
            .fold(crc, |crc, (key, value)| crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value))
    })
}

#[test]
fn below_the_third_level_all_goes_as_servers_of_older_builds_have_it() {
    let (mut d, files, _) = with_a_holder(2);
    assert_eq!(trees(&d)[0].open, None);
    assert_eq!(short(&d.store), AS_BEFORE, "the state that builds of the second level come to");
    // Raised meanwhile, it goes on as it began.
    d.ok(Command::RaiseLevel { to: FeatureLevel::THIRD });
    assert_eq!(by_number(&d, files[3]), Err(FsError::Stale));
    purge(&mut d);
    assert_eq!((rows(&d, Table::Orphans), rows(&d, Table::Holds)), (0, 1));
    d.check();
}

/// What a build of the second level had after [`with_a_holder`].
const AS_BEFORE: u32 = 3_278_044_472;

#[test]
fn a_check_finds_nothing_at_any_time_and_a_load_keeps_nothing_for_anybody() {
    let (d, files, directories) = with_a_holder(3);
    assert_eq!(Check::all(&d.store, CheckBounds::default()).unwrap(), []);
    assert!(by_number(&d, files[3]).unwrap().nlink == 0 && rows(&d, Table::Branches) > 1);
    let store = MemoryStore::new();
    let mut loader = Loader::new(&dump(&d.store, 100));
    loader.all(&store, 100);
    let clean = |store: &MemoryStore| assert_eq!(Check::all(store, CheckBounds::default()).unwrap(), []);
    clean(&store);
    while decidable(&store).unwrap().is_some() {
        loader.propose(&store, Command::DecideUnlinked {}).unwrap();
    }
    for ino in files.iter().chain(&directories) {
        let found = read::stat(&store, &Target::ino(*ino)).map(|stat| stat.inode.nlink);
        // One of them has two names in the tree.
        let gone = matches!(found, Err(NamespaceError::Refused(FsError::Stale)));
        assert!(gone || *ino == files[1] && matches!(found, Ok(2)), "{ino}: {found:?}");
    }
    loader.propose(&store, Command::OpenHolder { client: "h".into(), credentials: None }).unwrap();
    while let Some(tree) = jobs::trees(&store, None, 1).unwrap().pop() {
        loader.propose(&store, Command::PurgeTree { top: tree.inode.ino }).unwrap();
        clean(&store);
    }
    while decidable(&store).unwrap().is_some() {
        loader.propose(&store, Command::DecideUnlinked {}).unwrap();
    }
    invariants::check(&store);
    let left = |table: Table| store.scan(table, &KeyRange::default(), 10).unwrap().len();
    assert_eq!((left(Table::Orphans), left(Table::Extents), left(Table::Branches)), (0, 0, 0));
    assert_eq!(read::cluster(&store).unwrap().counts.inodes, 1);
}
