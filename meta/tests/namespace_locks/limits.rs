//! The bounds of locks: what is one too many is refused, what is much goes in steps.

use cairn_meta::keys::locks::{self, LockRecord};
use cairn_meta::namespace::reply::LockAnswer;
use cairn_meta::namespace::{Command, Operation, Reply};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::limits::{LOCK_WAITS_PER_FILE_MAX, LOCKS_PER_FILE_MAX, LOCKS_PER_SESSION_MAX};
use cairn_types::{FsError, InodeId, LockKind, LockMode, LockRange, SessionId};

use crate::driver::Driver;

const MAX: u64 = LOCKS_PER_FILE_MAX as u64;
const WAITS: u64 = LOCK_WAITS_PER_FILE_MAX as u64;

fn byte(n: u64) -> LockRange {
    LockRange { start: n, last: n }
}

fn lock(ino: InodeId, owner: u64, range: LockRange, mode: LockMode, wait: bool) -> Operation {
    Operation::Lock { ino, kind: LockKind::Range, owner, range, mode, wait }
}

fn unlock(ino: InodeId, owner: u64, range: LockRange) -> Operation {
    Operation::Unlock { ino, kind: LockKind::Range, owner, range }
}

/// Asks in another session than the driver's own.
fn ask_as(d: &mut Driver, session: SessionId, operation: Operation) -> Reply {
    let own = std::mem::replace(&mut d.session, session);
    let reply = d.ask(operation);
    d.session = own;
    reply
}

fn open(d: &mut Driver) -> SessionId {
    d.ok(Command::OpenSession { client: "other".into() }).session.unwrap()
}

fn held(d: &Driver, ino: InodeId) -> usize {
    let range = KeyRange::prefix(&locks::on(ino, LockKind::Range));
    cairn_meta::keys::scan::<LockRecord>(&d.store, &range, usize::MAX).unwrap().len()
}

#[test]
fn a_file_has_so_many_locks_and_no_more() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    for n in 0..MAX {
        d.done(lock(ino, 1, byte(2 * n), LockMode::Exclusive, false));
    }
    let more = lock(ino, 1, byte(2 * MAX), LockMode::Exclusive, false);
    assert_eq!(d.ask(more.clone()).map(drop), Err(FsError::TooManyLocks));
    // What joins two needs no room, and makes some.
    d.done(lock(ino, 1, byte(1), LockMode::Exclusive, false));
    d.done(more);
    // In the middle of a lock of three bytes: one would become two.
    assert_eq!(d.ask(unlock(ino, 1, byte(1))).map(drop), Err(FsError::TooManyLocks));
    assert_eq!(held(&d, ino), LOCKS_PER_FILE_MAX);
    // The other kind counts by itself.
    let (kind, mode) = (LockKind::Flock, LockMode::Exclusive);
    d.done(Operation::Lock { ino, kind, owner: 1, range: LockRange::WHOLE, mode, wait: false });
    d.done(unlock(ino, 1, LockRange::WHOLE));
    assert_eq!(held(&d, ino), 0);
    d.check();
}

#[test]
fn so_many_wait_and_no_more_and_all_are_granted_by_one_entry() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    d.done(lock(ino, 0, LockRange::WHOLE, LockMode::Exclusive, false));
    for owner in 1..=WAITS {
        let answer = d.done(lock(ino, owner, LockRange::WHOLE, LockMode::Shared, true));
        assert!(matches!(answer.lock, Some(LockAnswer::Waiting { .. })), "{answer:?}");
    }
    let more = lock(ino, WAITS + 1, LockRange::WHOLE, LockMode::Shared, true);
    assert_eq!(d.ask(more).map(drop), Err(FsError::TooManyLocks));
    d.check();
    d.done(unlock(ino, 0, LockRange::WHOLE));
    assert_eq!(held(&d, ino), LOCK_WAITS_PER_FILE_MAX);
    d.check();
}

/// The most that one entry can do: each of as many sessions as may wait is granted a part out of the
/// middle of what it has.
#[test]
fn the_most_that_can_be_granted_at_once_is_no_more_than_an_entry_may_touch() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let first = d.session;
    // Sessions with three shared bytes each, of which the middle one will be exclusive.
    for n in 0..WAITS {
        let session = open(&mut d);
        let range = LockRange { start: 10 * n, last: 10 * n + 2 };
        ask_as(&mut d, session, lock(ino, 1, range, LockMode::Shared, false)).unwrap();
        let blocker = lock(ino, 1, byte(10 * n + 1), LockMode::Shared, false);
        ask_as(&mut d, first, blocker).unwrap();
        if n < MAX / 4 {
            let asked = lock(ino, 1, byte(10 * n + 1), LockMode::Exclusive, true);
            let answer = ask_as(&mut d, session, asked);
            let full = answer == Err(FsError::TooManyLocks);
            let queued = matches!(answer, Ok(ref a) if matches!(a.lock, Some(LockAnswer::Waiting { .. })));
            assert!(full || queued, "{answer:?}");
        }
    }
    d.done(unlock(ino, 1, LockRange::WHOLE));
    assert!(held(&d, ino) > 3 * 200, "{}", held(&d, ino));
    assert!(d.store.scan(Table::LockWaits, &KeyRange::default(), 1).unwrap().is_empty());
    d.check();
}

#[test]
fn a_session_has_so_many_locks_and_its_end_frees_them_in_steps() {
    let mut d = Driver::new();
    let session = open(&mut d);
    // Few a file: each lock reads all that its file has.
    let each = 64;
    let files: Vec<InodeId> =
        (0..LOCKS_PER_SESSION_MAX / each).map(|file| d.file(&format!("/{file}"))).collect();
    for ino in &files {
        for n in 0..each {
            ask_as(&mut d, session, lock(*ino, 1, byte(2 * n), LockMode::Exclusive, false)).unwrap();
        }
    }
    let last = d.file("/last");
    let over = ask_as(&mut d, session, lock(last, 1, byte(0), LockMode::Exclusive, false));
    assert_eq!(over.map(drop), Err(FsError::TooManyLocks));
    ask_as(&mut d, session, unlock(files[0], 1, LockRange::WHOLE)).unwrap();
    ask_as(&mut d, session, lock(last, 1, byte(0), LockMode::Exclusive, false)).unwrap();
    // Another waits for the whole of a file that is freed in the end.
    let waits = lock(last, 2, LockRange::WHOLE, LockMode::Exclusive, true);
    assert!(matches!(d.done(waits).lock, Some(LockAnswer::Waiting { .. })));
    let mut steps = 1;
    while d.ok(Command::ExpireSession { session }).session.is_some() {
        steps += 1;
        assert!(steps < 400);
    }
    // Two rows a lock, and a little over 512 rows a step.
    assert!(steps > 2 * LOCKS_PER_SESSION_MAX / 1_024, "{steps} steps");
    assert_eq!(held(&d, last), 1);
    assert!(d.store.scan(Table::LockWaits, &KeyRange::default(), 1).unwrap().is_empty());
    d.check();
}

/// What is asked for again by whoever holds it goes before those who wait for it.
#[test]
fn a_reader_that_asks_again_does_not_wait_for_the_writer_that_waits_for_it() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    d.done(lock(ino, 1, LockRange { start: 0, last: 9 }, LockMode::Shared, false));
    d.done(lock(ino, 2, LockRange::WHOLE, LockMode::Exclusive, true));
    // A newcomer waits behind the writer; the reader does not, for what it has.
    let newcomer = lock(ino, 3, byte(0), LockMode::Shared, false);
    assert!(matches!(d.ask(newcomer), Err(FsError::Locked { owner: 2, .. })));
    d.done(lock(ino, 1, byte(3), LockMode::Shared, false));
    d.done(lock(ino, 1, byte(4), LockMode::Exclusive, false));
    // More than it has it can only have after the writer, who waits for it.
    let more = lock(ino, 1, byte(10), LockMode::Shared, true);
    assert_eq!(d.ask(more).map(drop), Err(FsError::Deadlock));
    d.check();
}

/// Each waits for the next, in a ring of files: the one who would close it is refused, however long
/// it is, and so is one whose search is too long.
#[test]
fn a_long_ring_is_found() {
    let mut d = Driver::new();
    let ring = 200;
    let files: Vec<InodeId> = (0..ring).map(|n| d.file(&format!("/{n}"))).collect();
    for (owner, ino) in files.iter().enumerate() {
        d.done(lock(*ino, owner as u64, LockRange::WHOLE, LockMode::Exclusive, false));
    }
    for owner in 0..ring - 1 {
        let next = lock(files[owner + 1], owner as u64, byte(5), LockMode::Shared, true);
        assert!(matches!(d.done(next).lock, Some(LockAnswer::Waiting { .. })));
    }
    let close = lock(files[0], ring as u64 - 1, byte(0), LockMode::Exclusive, true);
    assert_eq!(d.ask(close.clone()).map(drop), Err(FsError::Deadlock));
    // Broken anywhere, it is none.
    d.done(unlock(files[77], 77, LockRange::WHOLE));
    assert!(matches!(d.done(close).lock, Some(LockAnswer::Waiting { .. })));
    d.check();
}
