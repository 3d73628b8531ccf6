//! Transactions, and what moves no bytes: bounds, repeats, what a loser is told, what keeps a chunk.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::namespace::{Bounds, Command, Operation, Precondition, Reply, Target, Wanted, jobs, read};
use cairn_meta::store::{KeyRange, Row, Rows, Table};
use cairn_types::limits::{ROWS_PER_ENTRY_MAX, TRANSACTION_PARTS_MAX};
use cairn_types::{ChunkId, Extent, FoundInode, FsError, Inode, InodeId};
use driver::{Driver, create, extent};

fn at(path: &str) -> Target {
    Target::path(path)
}

fn mkdir(path: &str) -> Operation {
    Operation::Mkdir { target: at(path), mode: 0o755, uid: 0, gid: 0, parents: false }
}

fn rename(from: &str, to: &str, no_replace: bool) -> Operation {
    Operation::Rename { from: at(from), to: at(to), no_replace, exchange: false }
}

fn clone(from: &str, to: &str) -> Operation {
    Operation::Clone { from: at(from), to: at(to), uid: 0, gid: 0, replace: false, recursive: true }
}

fn absent(path: &str) -> Precondition {
    Precondition { target: at(path), wanted: Wanted::Absent }
}

fn present(path: &str, ino: Option<InodeId>, version: Option<u64>, length: Option<u64>) -> Precondition {
    Precondition { target: at(path), wanted: Wanted::Present { ino, version, length } }
}

fn transact(preconditions: Vec<Precondition>, operations: Vec<Operation>) -> Operation {
    Operation::Transact { preconditions, operations }
}

fn refused_at(reply: Reply) -> (u32, FsError) {
    match reply {
        Err(FsError::OperationRefused { index, why }) => (index, *why),
        other => panic!("not a refused operation: {other:?}"),
    }
}

/// Every row but those of the session and the time.
fn rows(d: &Driver) -> Vec<(Table, Vec<Row>)> {
    let moved = [Table::Replies, Table::Sessions, Table::Counters];
    let tables = Table::ALL.iter().filter(|table| !moved.contains(table));
    tables.map(|t| (*t, d.store.scan(*t, &KeyRange::default(), usize::MAX).unwrap())).collect()
}

fn extents_of(d: &Driver, path: &str) -> Vec<Extent> {
    read::extents(&d.store, &at(path), 0, u64::MAX).unwrap().extents
}

/// A file of so many extents that none joins its neighbour.
fn scattered(d: &mut Driver, path: &str, count: u64, chunk: ChunkId) -> InodeId {
    let ino = d.file(path);
    let all: Vec<Extent> = (0..count).map(|n| extent(2 * n, 1, chunk, n)).collect();
    for some in all.chunks(1_000) {
        d.done(Operation::Commit { ino, extents: some.to_vec(), expected_length: None });
    }
    ino
}

#[test]
fn later_operations_see_what_earlier_ones_made_and_each_tells_its_inode() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let steps = vec![
        mkdir("/t"),
        mkdir("/t/data"),
        create("/t/data/a", vec![extent(0, 10, chunk, 0)]),
        Operation::Link { from: at("/t/data/a"), to: at("/t/b") },
        rename("/t/data", "/t/moved", true),
        Operation::Unlink { target: at("/t/moved/a") },
        Operation::Rmdir { target: at("/t/moved") },
    ];
    let answer = d.done(transact(vec![absent("/t")], steps));
    let kinds: Vec<Option<bool>> = answer.steps.iter().map(|s| s.as_ref().map(Inode::is_dir)).collect();
    assert_eq!(kinds, [Some(true), Some(true), Some(false), Some(false), Some(true), None, None]);
    assert_eq!(answer.steps[3].as_ref().unwrap().nlink, 2, "as it was right after its operation");
    assert_eq!((d.stat("/t/b").unwrap().nlink, d.stat("/t/b").unwrap().size), (1, 10));
    assert_eq!(d.stat("/t/moved"), Err(FsError::NotFound));
    assert_eq!(d.chunk(chunk).live_bytes, 10);
    d.check();
}

#[test]
fn what_is_refused_changes_nothing_and_says_which_part_it_was() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/there");
    let before = rows(&d);
    let made = vec![mkdir("/a"), create("/a/f", vec![extent(0, 9, chunk, 0)]), mkdir("/there")];
    assert_eq!(refused_at(d.ask(transact(vec![], made))), (2, FsError::Exists));
    let found = FoundInode { ino, version: 1, length: 0 };
    let failed =
        d.ask(transact(vec![present("/there", None, None, None), absent("/there")], vec![mkdir("/a")]));
    assert_eq!(failed, Err(FsError::PreconditionFailed { index: 1, found: Some(found) }));
    let failed = d.ask(transact(vec![present("/none", None, Some(1), None)], vec![mkdir("/a")]));
    assert_eq!(failed, Err(FsError::PreconditionFailed { index: 0, found: None }));
    for opens in [
        Operation::OpenExclusive { ino },
        Operation::SetPolicy { target: at("/there"), policy: None },
        transact(vec![], vec![mkdir("/b")]),
    ] {
        let all = vec![mkdir("/a"), opens];
        assert_eq!(refused_at(d.ask(transact(vec![], all))), (1, FsError::InvalidRequest));
    }
    assert_eq!(d.ask(transact(vec![], vec![])), Err(FsError::InvalidRequest));
    assert_eq!(rows(&d), before);
    // Numbers go on as if nothing had been asked.
    assert_eq!(d.file("/next").0, ino.0 + 1);
    d.check();
}

#[test]
fn of_two_that_race_for_the_next_version_one_wins_and_the_other_is_told_what_changed() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    d.mkdir("/t");
    d.done(create("/t/current", vec![extent(0, 2, chunk, 0)]));
    let seen = d.stat("/t/current").unwrap();
    let next = |offset| {
        let same = present("/t/current", Some(seen.ino), Some(seen.version), Some(2));
        let point = Operation::Create {
            target: at("/t/current"),
            mode: 0o644,
            uid: 0,
            gid: 0,
            exclusive: false,
            truncate: true,
            extents: vec![extent(0, 3, chunk, offset)],
        };
        let content = vec![extent(0, 100, chunk, offset)];
        transact(vec![same, absent("/t/v2")], vec![create("/t/v2", content), point])
    };
    let won = d.done(next(1_000));
    let now = won.steps[1].clone().unwrap();
    let found = FoundInode { ino: seen.ino, version: now.version, length: 3 };
    assert_eq!(d.ask(next(2_000)), Err(FsError::PreconditionFailed { index: 0, found: Some(found) }));
    assert_eq!(extents_of(&d, "/t/v2"), [extent(0, 100, chunk, 1_000)]);
    assert_eq!(d.chunk(chunk).live_bytes, 103);
    // Another file under the same name may have the same version: its number tells.
    d.done(create("/t/new", vec![extent(0, 2, chunk, 0)]));
    d.done(rename("/t/new", "/t/current", false));
    let new = d.stat("/t/current").unwrap();
    let other = present("/t/current", Some(seen.ino), Some(new.version), None);
    let found = FoundInode { ino: new.ino, version: new.version, length: 2 };
    let failed = FsError::PreconditionFailed { index: 0, found: Some(found) };
    assert_eq!(d.ask(transact(vec![other], vec![mkdir("/x")])), Err(failed));
    d.check();
}

#[test]
fn a_repeated_transaction_is_done_once_and_answers_the_same() {
    let mut d = Driver::new();
    let asked = transact(vec![absent("/a")], vec![mkdir("/a"), mkdir("/a/b")]);
    let first = d.ask(asked.clone());
    let again = d.ask_at(d.sequence, asked.clone());
    assert_eq!(again, first);
    assert_eq!(first.unwrap().steps.len(), 2);
    let refused = d.ask(asked.clone());
    assert!(matches!(refused, Err(FsError::PreconditionFailed { .. })), "{refused:?}");
    d.done(Operation::Rmdir { target: at("/a/b") });
    let sequence = d.sequence - 1;
    // Its reply is acknowledged by now; one that is kept stays what it was.
    assert_eq!(
        d.ask_at(sequence, asked.clone()),
        Err(FsError::StaleSequence { sequence: cairn_types::Sequence(sequence) })
    );
    let refused = d.ask(asked.clone());
    d.sequence += 1;
    assert_eq!(d.ask_at(d.sequence - 1, asked), refused);
    d.check();
}

#[test]
fn a_growing_file_answers_that_its_tail_is_open() {
    let mut d = Driver::new();
    let ino = d.file("/log");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    let tail = FsError::TailOpen { chunk };
    let asked = vec![mkdir("/a")];
    for precondition in [present("/log", None, Some(2), None), present("/log", None, None, Some(0))] {
        let refused = d.ask(transact(vec![absent("/a"), precondition], asked.clone()));
        assert_eq!(refused, Err(FsError::PreconditionRefused { index: 1, why: Box::new(tail.clone()) }));
    }
    // That it is there, and which one, does not depend on its length.
    d.done(transact(vec![present("/log", Some(ino), None, None)], asked));
    let from = || vec![at("/log")];
    d.file("/to");
    let length = Some(1);
    for operation in [
        clone("/log", "/copy"),
        Operation::Concat { target: at("/to"), from: from() },
        Operation::Concat { target: at("/log"), from: vec![at("/to")] },
        Operation::CopyRange { from: at("/log"), from_offset: 0, to: at("/to"), to_offset: 0, length },
        Operation::PunchHole { target: at("/log"), offset: 0, length: 1, keep_size: true },
        Operation::Allocate { target: at("/log"), offset: 0, length: 1, keep_size: false },
    ] {
        assert_eq!(d.ask(operation), Err(tail.clone()));
    }
    d.close(chunk, 50, vec![d.mark(1, 1, 0)]);
    d.done(transact(vec![present("/log", None, None, Some(50))], vec![clone("/log", "/copy")]));
    assert_eq!(d.chunk(chunk).live_bytes, 100);
    d.check();
}

#[test]
fn a_transaction_has_so_many_parts_and_touches_so_many_rows() {
    let mut d = Driver::new();
    let many = |count: usize| (0..count).map(|n| mkdir(&format!("/d{n}"))).collect::<Vec<_>>();
    assert_eq!(d.ask(transact(vec![], many(TRANSACTION_PARTS_MAX + 1))), Err(FsError::TooLarge));
    let demands = vec![absent("/none"); TRANSACTION_PARTS_MAX + 1];
    assert_eq!(d.ask(transact(demands, many(1))), Err(FsError::TooLarge));
    let demands = vec![absent("/none"); TRANSACTION_PARTS_MAX];
    assert_eq!(d.done(transact(demands, many(TRANSACTION_PARTS_MAX))).steps.len(), TRANSACTION_PARTS_MAX);
    // Rows count over all operations together, and the one that is too much is named.
    let chunk = d.shared_chunk();
    scattered(&mut d, "/f", 1_500, chunk);
    let before = rows(&d);
    let three = vec![clone("/f", "/1"), clone("/f", "/2"), clone("/f", "/3")];
    assert_eq!(refused_at(d.ask(transact(vec![], three))), (2, FsError::TooLarge));
    assert_eq!(rows(&d), before);
    d.done(transact(vec![], vec![clone("/f", "/1"), clone("/f", "/2")]));
    assert_eq!(d.chunk(chunk).live_bytes, 4_500);
    d.check();
}

#[test]
fn more_extents_than_an_entry_may_touch_are_refused_and_done_in_ranges() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let count = ROWS_PER_ENTRY_MAX as u64 + 1;
    scattered(&mut d, "/f", count, chunk);
    d.file("/to");
    let before = rows(&d);
    assert_eq!(d.ask(clone("/f", "/copy")), Err(FsError::TooLarge));
    assert_eq!(d.ask(Operation::Concat { target: at("/to"), from: vec![at("/f")] }), Err(FsError::TooLarge));
    let hole = |offset, length| Operation::PunchHole { target: at("/f"), offset, length, keep_size: true };
    assert_eq!(d.ask(hole(0, 2 * count - 2)), Err(FsError::TooLarge), "in the middle of the file");
    assert_eq!(rows(&d), before);
    let size = d.stat("/f").unwrap().size;
    for from_offset in (0..size).step_by(2_000) {
        let (to_offset, length) = (from_offset, Some(2_000.min(size - from_offset)));
        let (from, to) = (at("/f"), at("/to"));
        d.done(Operation::CopyRange { from, from_offset, to, to_offset, length });
    }
    assert_eq!(d.stat("/to").unwrap().size, size);
    assert_eq!(d.chunk(chunk).live_bytes, 2 * count);
    // A hole up to the end takes any number, as a cut does.
    d.done(hole(1, size));
    assert_eq!((d.stat("/f").unwrap().size, extents_of(&d, "/f")), (size, vec![extent(0, 1, chunk, 0)]));
    d.check();
}

#[test]
fn a_clone_keeps_its_chunk_when_session_and_first_file_are_gone() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.create("/f", vec![extent(0, 100, chunk, 0)]).unwrap().inode.unwrap().ino;
    d.done(clone("/f", "/copy"));
    assert_eq!(d.chunk(chunk).live_bytes, 200);
    d.unlink("/f");
    // Even while nobody but its session holds it a range of it may be shared.
    d.done(Operation::CopyRange {
        from: at("/copy"),
        from_offset: 10,
        to: at("/copy"),
        to_offset: 500,
        length: Some(20),
    });
    assert_eq!(d.chunk(chunk).live_bytes, 120);
    d.close(chunk, 100, Vec::new());
    d.done(Operation::ReleaseChunk { chunk });
    assert!(!d.chunk(chunk).is_dead() && d.stat("/copy").unwrap().ino != ino);
    let session = d.session;
    d.ok(Command::ExpireSession { session });
    assert!(!d.chunk(chunk).is_dead());
    assert_eq!(extents_of(&d, "/copy"), [extent(0, 100, chunk, 0), extent(500, 20, chunk, 10)]);
    d.session = d.ok(Command::OpenSession { client: "again".into() }).session.unwrap();
    d.sequence = 0;
    d.unlink("/copy");
    assert!(d.chunk(chunk).is_dead());
    d.check();
}

#[test]
fn a_file_that_was_cut_is_cloned_as_it_is_and_a_clone_is_removed_in_steps() {
    let mut d = Driver::new();
    d.bounds = Bounds { rows_at_once: 2, ..Bounds::default() };
    let chunk = d.shared_chunk();
    scattered(&mut d, "/f", 20, chunk);
    let hole = Operation::PunchHole { target: at("/f"), offset: 10, length: 100, keep_size: false };
    d.done(hole);
    assert_eq!(d.stat("/f").unwrap().size, 110);
    d.check();
    d.done(clone("/f", "/copy"));
    assert_eq!(extents_of(&d, "/copy"), extents_of(&d, "/f"));
    assert_eq!(extents_of(&d, "/f").len(), 5);
    d.unlink("/f");
    d.unlink("/copy");
    let mut steps = 0;
    loop {
        d.check();
        if let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
            d.ok(Command::Purge { ino });
        } else if let Some(content) = jobs::detached(&d.store, None, 1).unwrap().pop() {
            d.ok(Command::PurgeContent { content });
        } else {
            break;
        }
        steps += 1;
    }
    assert!(steps > 5);
    assert_eq!(d.chunk(chunk).live_bytes, 0);
}

#[test]
fn a_tree_is_cloned_whole_up_to_what_an_entry_holds() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    d.mkdir("/from/sub/empty");
    for n in 0..800u64 {
        d.create(&format!("/from/sub/{n:04}"), vec![extent(0, 5, chunk, 5 * n)]).unwrap();
    }
    d.done(Operation::Link { from: at("/from/sub/0000"), to: at("/from/linked") });
    d.done(Operation::Symlink { target: at("/from/link"), to: b"sub".to_vec(), uid: 0, gid: 0 });
    let top = d.done(clone("/from", "/to")).inode.unwrap();
    assert_eq!(top, d.stat("/to").unwrap());
    let linked = d.stat("/to/linked").unwrap();
    assert_eq!((linked.nlink, linked.ino), (2, d.stat("/to/sub/0000").unwrap().ino));
    assert_eq!(d.stat("/to/link/0799").unwrap().size, 5);
    assert_eq!(d.chunk(chunk).live_bytes, 2 * 5 * 800);
    d.check();
    assert_eq!(d.ask(clone("/from", "/from/sub/x")), Err(FsError::IntoItself));
    assert_eq!(d.ask(clone("/from", "/to")), Err(FsError::Exists));
    for n in 800..900u64 {
        d.create(&format!("/from/sub/{n:04}"), vec![extent(0, 5, chunk, 5 * n)]).unwrap();
    }
    let before = rows(&d);
    assert_eq!(d.ask(clone("/from", "/again")), Err(FsError::TooLarge));
    assert_eq!(rows(&d), before);
    d.check();
}
