//! Unlinked files that are held: what goes on by their number, in which steps they go, the bounds, and
//! what a check finds of the rows that say who holds them.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::chunks::ChunkState;
use cairn_meta::keys::holds::{self, Denial, Hold};
use cairn_meta::keys::orphans::{self, Orphan};
use cairn_meta::keys::{self, Record};
use cairn_meta::namespace::check::{Check, CheckBounds, Finding};
use cairn_meta::namespace::command::HoldAnswer;
use cairn_meta::namespace::holds::{Kept, decidable, kept, question, undecided};
use cairn_meta::namespace::{Bounds, Command, NamespaceError, Operation, Target, XattrMode, jobs, read};
use cairn_meta::store::{KeyRange, Rows, Store, Table, WriteBatch};
use cairn_types::{FsError, Inode, InodeId, LogIndex, Policy, SessionId};
use driver::{Driver, extent};

fn holder(d: &mut Driver) -> SessionId {
    d.ok(Command::OpenHolder { client: "holder".into(), credentials: None }).session.unwrap()
}

fn by_number(d: &Driver, ino: InodeId) -> Result<Inode, FsError> {
    match read::stat(&d.store, &Target::ino(ino)) {
        Ok(stat) => Ok(stat.inode),
        Err(NamespaceError::Refused(error)) => Err(error),
        Err(fault) => panic!("{fault}"),
    }
}

/// An answer to all that the session is asked now.
fn answer(d: &mut Driver, session: SessionId, number: u64, held: &[InodeId], released: &[InodeId]) {
    let upto = LogIndex(d.index);
    let (held, released) = (held.to_vec(), released.to_vec());
    d.ok(Command::Deny { answers: vec![HoldAnswer { session, number, upto, held, released }] });
}

fn asked(d: &Driver, session: SessionId) -> Vec<InodeId> {
    let question = question(&d.store, session, LogIndex(d.index), 10_000).unwrap();
    question.into_iter().flat_map(|q| q.files).map(|file| file.ino).collect()
}

fn end(d: &mut Driver, session: SessionId) -> u64 {
    let mut entries = 1;
    while d.ok(Command::ExpireSession { session }).session.is_some() {
        entries += 1;
    }
    entries
}

fn rows(d: &Driver, table: Table) -> usize {
    d.store.scan(table, &KeyRange::default(), usize::MAX).unwrap().len()
}

#[test]
fn what_is_done_by_number_goes_on_and_live_bytes_are_exact_until_it_goes() {
    let mut d = Driver::new();
    let one = holder(&mut d);
    let chunk = d.shared_chunk();
    d.mkdir("/d");
    let policy = Policy { max_lag_ms: 7_000, ..driver::POLICY };
    d.done(Operation::SetPolicy { target: Target::path("/d"), policy: Some(policy) });
    let ino = d.create("/d/f", vec![extent(0, 100, chunk, 0)]).unwrap().inode.unwrap().ino;
    let name = b"user.n".to_vec();
    let target = Target::ino(ino);
    let set = Operation::SetXattr { target, name: name.clone(), value: b"v".to_vec(), mode: XattrMode::Any };
    d.done(set);
    let inodes = read::cluster(&d.store).unwrap().counts.inodes;
    d.unlink("/d/f");
    assert_eq!(read::cluster(&d.store).unwrap().counts.inodes, inodes - 1, "it has no name");
    d.done(Operation::Rmdir { target: Target::path("/d") });
    answer(&mut d, one, 1, &[ino], &[]);
    d.check();

    assert_eq!(read::stat(&d.store, &Target::ino(ino)).unwrap().policy, policy);
    let commit = Operation::Commit { ino, extents: vec![extent(50, 10, chunk, 200)], expected_length: None };
    assert_eq!(d.done(commit).inode.unwrap().nlink, 0);
    assert_eq!(d.chunk(chunk).live_bytes, 100);
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    assert_eq!(tail.policy, policy);
    d.close(tail.chunk, 30, vec![d.mark(1, 1, 100)]);
    let grown = by_number(&d, ino).unwrap();
    assert_eq!((grown.size, grown.tail, grown.nlink), (130, None, 0));
    let open = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    d.check();
    let shared = Operation::Clone {
        from: Target::ino(ino),
        to: Target::path("/clone"),
        uid: 0,
        gid: 0,
        replace: false,
        recursive: false,
    };
    assert_eq!(d.ask(shared.clone()), Err(FsError::TailOpen { chunk: open }));
    d.close(open, 0, vec![]);
    let clone = d.done(shared).inode.unwrap();
    assert_eq!((clone.nlink, clone.policy, clone.size), (1, None, 130));
    let last = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    for operation in [
        Operation::Link { from: Target::ino(ino), to: Target::path("/again") },
        Operation::Rename {
            from: Target::path("/d/f"),
            to: Target::path("/again"),
            no_replace: false,
            exchange: false,
        },
    ] {
        assert_eq!(d.ask(operation), Err(FsError::NotFound));
    }

    answer(&mut d, one, 2, &[], &[ino]);
    assert_eq!(by_number(&d, ino), Err(FsError::Stale));
    assert_eq!(d.chunk(last).state, ChunkState::Sealing, "nobody appends any more");
    assert_eq!((d.chunk(chunk).live_bytes, d.chunk(tail.chunk).live_bytes), (100, 30), "the clone's");
    assert_eq!((rows(&d, Table::Orphans), rows(&d, Table::Xattrs)), (0, 2), "the clone has its attributes");
    d.unlink("/clone");
    answer(&mut d, one, 3, &[], &[]);
    assert_eq!((d.chunk(chunk).live_bytes, d.chunk(tail.chunk).live_bytes), (0, 0));
    assert_eq!((rows(&d, Table::Holds), rows(&d, Table::Extents)), (1, 0));
    d.check();
}

#[test]
fn what_is_held_by_nobody_goes_at_once_and_a_removed_tree_with_all_that_is_open() {
    let mut d = Driver::new();
    let f = d.file("/f");
    d.unlink("/f");
    assert_eq!(by_number(&d, f), Err(FsError::Stale), "no session holds anything");
    let one = holder(&mut d);
    d.done(Operation::Symlink { target: Target::path("/l"), to: b"x".to_vec(), uid: 0, gid: 0 });
    d.unlink("/l");
    assert_eq!(rows(&d, Table::Orphans), 0);
    d.mkdir("/t");
    let inside = d.file("/t/f");
    d.done(Operation::RemoveTree { target: Target::path("/t") });
    assert_eq!(by_number(&d, inside), Err(FsError::Stale));
    assert!(asked(&d, one).is_empty());
    // Each part of a transaction is as alone; a refused one leaves nothing.
    let (g, h) = (d.file("/g"), d.file("/h"));
    let unlink = |path: &str| Operation::Unlink { target: Target::path(path) };
    let all = |operations| Operation::Transact { preconditions: vec![], operations };
    d.ask(all(vec![unlink("/g"), unlink("/none")])).unwrap_err();
    assert!(asked(&d, one).is_empty() && by_number(&d, g).unwrap().nlink == 1);
    d.done(all(vec![unlink("/g"), unlink("/h")]));
    assert_eq!(asked(&d, one), [g, h]);
    d.check();
}

#[test]
fn what_is_decided_on_goes_in_steps_of_files_and_of_rows() {
    let mut d = Driver::new();
    let one = holder(&mut d);
    let chunk = d.shared_chunk();
    let mut inos = Vec::new();
    for n in 0..5 {
        let extents = vec![extent(0, 3, chunk, 10 * n), extent(9, 3, chunk, 10 * n + 5)];
        inos.push(d.create(&format!("/{n}"), extents).unwrap().inode.unwrap().ino);
        d.unlink(&format!("/{n}"));
    }
    assert_eq!(decidable(&d.store).unwrap(), None);
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
    answer(&mut d, one, 1, &[inos[2]], &[]);
    let mut entries = 0;
    while decidable(&d.store).unwrap().is_some() {
        d.ok(Command::DecideUnlinked {});
        entries += 1;
    }
    assert_eq!(entries, 4);
    assert_eq!(jobs::orphans(&d.store, None, 10).unwrap().len(), 4, "each has an extent left");
    assert_eq!(d.propose(Command::Purge { ino: inos[2] }), Err(FsError::NotFound), "it is held");
    while let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
        assert_eq!(by_number(&d, ino), Err(FsError::Stale));
        d.ok(Command::Purge { ino });
    }
    assert_eq!(d.chunk(chunk).live_bytes, 6);
    assert_eq!(by_number(&d, inos[2]).unwrap().nlink, 0);
    d.check();
}

#[test]
fn a_session_holds_so_many_and_denies_nothing_beyond_and_its_end_lets_all_go_in_steps() {
    let mut d = Driver::new();
    let one = holder(&mut d);
    let mut inos = Vec::new();
    for n in 0..4097 {
        inos.push(d.file(&format!("/{n}")));
        d.unlink(&format!("/{n}"));
    }
    let denial = |d: &Driver| keys::get::<Denial>(&d.store, &holds::denial_key(one)).unwrap().unwrap();
    for (number, some) in (1..).zip(inos[..4096].chunks(256)) {
        let since = keys::get::<Orphan>(&d.store, &orphans::key(some[255])).unwrap().unwrap().since;
        let (held, released, upto) = (some.to_vec(), vec![], since.unwrap());
        d.ok(Command::Deny { answers: vec![HoldAnswer { session: one, number, upto, held, released }] });
    }
    let full = denial(&d);
    assert_eq!(full.held, 4096);
    answer(&mut d, one, 17, &[inos[4096]], &[]);
    assert_eq!(denial(&d), Denial { number: 17, ..full }, "it denies nothing further");
    assert_eq!(asked(&d, one), [inos[4096]]);
    assert!(by_number(&d, inos[4096]).is_ok());
    answer(&mut d, one, 18, &[inos[4096]], &inos[..2]);
    assert_eq!((denial(&d).held, asked(&d, one).len()), (4095, 0));
    assert_eq!(by_number(&d, inos[0]), Err(FsError::Stale));
    let entries = end(&mut d, one);
    assert!(entries > 10, "{entries}");
    while decidable(&d.store).unwrap().is_some() {
        d.ok(Command::DecideUnlinked {});
    }
    assert_eq!((rows(&d, Table::Orphans), rows(&d, Table::Holds), rows(&d, Table::Denials)), (0, 0, 0));
    d.check();
}

#[test]
fn what_is_kept_is_counted_and_no_further_than_is_said() {
    let (mut d, [one, two], [held, waits]) = world();
    let counted = |d: &Driver, limit| {
        let Kept { files, held, more } = kept(&d.store, limit).unwrap();
        (files, held, more)
    };
    assert_eq!(counted(&d, 10), (2, 1, false));
    assert_eq!((undecided(&d.store, 10).unwrap(), undecided(&d.store, 0).unwrap()), (1, 0));
    // Held by both, it is one; held and not decided on, too.
    let again = d.file("/again");
    d.unlink("/again");
    answer(&mut d, one, 2, &[waits, again], &[]);
    assert_eq!(counted(&d, 10), (3, 3, false));
    assert_eq!(counted(&d, 3), (3, 3, false));
    assert_eq!(counted(&d, 2), (3, 2, true), "at least");
    answer(&mut d, two, 2, &[waits], &[]);
    assert_eq!(counted(&d, 10), (3, 3, false));
    answer(&mut d, one, 3, &[], &[held, waits, again]);
    assert_eq!(counted(&d, 10), (1, 1, false));
    answer(&mut d, two, 3, &[], &[waits]);
    assert_eq!(counted(&d, 10), (0, 0, false));
}

/// A held file, one that is to be decided on, and two sessions that say what they hold.
fn world() -> (Driver, [SessionId; 2], [InodeId; 2]) {
    let mut d = Driver::new();
    let sessions = [holder(&mut d), holder(&mut d)];
    let chunk = d.shared_chunk();
    let held = d.create("/held", vec![extent(0, 5, chunk, 0)]).unwrap().inode.unwrap().ino;
    let waits = d.create("/waits", vec![extent(0, 5, chunk, 5)]).unwrap().inode.unwrap().ino;
    d.unlink("/held");
    answer(&mut d, sessions[0], 1, &[held], &[]);
    answer(&mut d, sessions[1], 1, &[], &[]);
    d.open_tail(held, 0, 1).unwrap();
    d.unlink("/waits");
    d.check();
    (d, sessions, [held, waits])
}

fn found(d: &Driver) -> Vec<Finding> {
    Check::all(&d.store, CheckBounds::default()).unwrap()
}

fn mend(d: &mut Driver) {
    for _ in 0..8 {
        let seen = LogIndex(d.index);
        let mut mended = false;
        for finding in found(d) {
            mended |= d.propose(Command::Repair { seen, finding }).is_ok();
        }
        if !mended {
            return;
        }
    }
    panic!("there is no end of it: {:?}", found(d));
}

#[test]
fn each_row_about_holders_is_missed_and_mended_and_what_is_held_stays() {
    let (d, ..) = world();
    let all = [Table::Denials, Table::Holds].into_iter().flat_map(|table| {
        let rows = d.store.scan(table, &KeyRange::default(), usize::MAX).unwrap();
        rows.into_iter().map(move |(key, _)| (table, key))
    });
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 2 + 2 + 1 + 2);
    for (table, key) in all {
        let (mut d, [one, two], [held, waits]) = world();
        let mut batch = WriteBatch::default();
        batch.delete(table, key.clone());
        d.store.write(batch).unwrap();
        assert!(!found(&d).is_empty(), "{table:?} {key:02x?}");
        mend(&mut d);
        assert_eq!(found(&d), [], "{table:?} {key:02x?}");
        assert!(by_number(&d, held).is_ok() && by_number(&d, waits).is_ok(), "{table:?} {key:02x?}");
        // They go as ever.
        answer(&mut d, one, 7, &[], &[held]);
        answer(&mut d, two, 7, &[], &[]);
        end(&mut d, one);
        end(&mut d, two);
        d.ok(Command::DecideUnlinked {});
        assert_eq!(rows(&d, Table::Orphans), 0, "{table:?} {key:02x?}");
    }
}

#[test]
fn what_no_other_row_bears_out_is_found_and_goes() {
    let (mut d, [one, _], [held, waits]) = world();
    let mut batch = WriteBatch::default();
    let nobody = SessionId(99);
    let strays = [
        Hold::Denied(LogIndex(1), one),
        Hold::Undecided(LogIndex(3), held),
        Hold::Holder(InodeId(77), one),
        Hold::Holding(nobody, waits),
        Hold::Denied(LogIndex(2), nobody),
    ];
    for stray in strays {
        batch.put(Table::Holds, stray.key(), keys::PRESENT.to_vec());
    }
    batch.put(Table::Denials, holds::denial_key(nobody), Denial::default().to_bytes());
    batch.put(Table::Holds, vec![9; 17], keys::PRESENT.to_vec());
    d.store.write(batch).unwrap();
    let kinds: Vec<&str> = found(&d).iter().map(Finding::kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "stray_hold").count(), 5, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "wrong_denial").count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "undecodable").count(), 1, "{kinds:?}");
    mend(&mut d);
    assert_eq!(found(&d).iter().map(Finding::kind).collect::<Vec<_>>(), ["undecodable"]);
    let mut batch = WriteBatch::default();
    batch.delete(Table::Holds, vec![9; 17]);
    d.store.write(batch).unwrap();
    d.check();
}
