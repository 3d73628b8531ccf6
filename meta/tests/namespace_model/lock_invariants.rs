//! What must hold of the rows of locks: nobody holds what excludes another, and the indices say what
//! the locks say.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::locks::{LockRecord, LockerRecord, WaitRecord};
use cairn_meta::keys::orphans::Orphan;
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::LockMode;

use super::{all, number, raw};

/// A lock of a file: its first and last byte, its session and owner, its mode.
type Lock = (u64, u64, (u64, u64), LockMode);

pub fn check(rows: &dyn Rows) {
    let mut files: BTreeMap<(u64, u8), Vec<Lock>> = BTreeMap::new();
    let mut parts: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut counts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    // Session, part, kind, owner, ino, first byte or number.
    let part = |session: u64, tag: u8, kind: u8, rest: [u64; 3]| {
        let rest = rest.iter().flat_map(|n| n.to_be_bytes());
        session.to_be_bytes().into_iter().chain([tag, kind]).chain(rest).collect::<Vec<u8>>()
    };
    for (key, lock) in all::<LockRecord>(rows) {
        let (ino, kind, start) = (number(&key, 0), key[8], number(&key, 9));
        let (session, owner) = (number(&key, 17), number(&key, 25));
        assert!(start <= lock.last, "{lock:?}");
        assert!(kind == 0 || (start, lock.last) == (0, u64::MAX), "a flock of a part: {lock:?}");
        files.entry((ino, kind)).or_default().push((start, lock.last, (session, owner), lock.mode));
        parts.insert(part(session, 1, kind, [owner, ino, start]));
        counts.entry(session).or_default().0 += 1;
    }
    for (key, wait) in all::<WaitRecord>(rows) {
        let (ino, kind, at) = (number(&key, 0), key[8], number(&key, 9));
        let session = wait.by.session.0;
        assert!(files.contains_key(&(ino, kind)), "a wait for what nobody holds: {wait:?}");
        parts.insert(part(session, 2, kind, [wait.by.owner, ino, at]));
        counts.entry(session).or_default().1 += 1;
    }
    for ((ino, kind), locks) in &files {
        let place = rows.get(Table::Places, &ino.to_be_bytes()).unwrap();
        let orphaned = all::<Orphan>(rows).iter().any(|(_, o)| o.inode.ino.0 == *ino);
        assert!(place.is_some() || orphaned, "locks of ino {ino}, which is gone");
        check_file(locks, *kind);
    }
    let stored = raw(rows, Table::Lockers);
    let (records, found): (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) =
        stored.into_iter().partition(|key| key.len() == 8);
    assert_eq!(found, parts, "the locks by session");
    let counted: BTreeMap<u64, (u64, u64)> = records
        .iter()
        .map(|key| {
            let range = KeyRange { from: key.clone(), until: Some([key.as_slice(), &[0]].concat()) };
            let rows = cairn_meta::keys::scan::<LockerRecord>(rows, &range, 1).unwrap();
            (number(key, 0), (rows[0].1.locks, rows[0].1.waits))
        })
        .collect();
    assert_eq!(counted, counts, "how many locks each session has");
    for session in counts.keys() {
        assert!(rows.get(Table::Sessions, &session.to_be_bytes()).unwrap().is_some(), "of no session");
    }
}

fn check_file(locks: &[Lock], kind: u8) {
    for (n, a) in locks.iter().enumerate() {
        for b in &locks[n + 1..] {
            let meets = a.0 <= b.1 && b.0 <= a.1;
            if a.2 == b.2 {
                assert!(!meets, "one owner's locks overlap: {a:?}, {b:?}");
                let adjoins = a.1.checked_add(1) == Some(b.0) || b.1.checked_add(1) == Some(a.0);
                assert!(!(adjoins && a.3 == b.3), "not merged: {a:?}, {b:?}");
                assert!(kind == 0, "two flocks of one owner");
            } else {
                let shared = (a.3, b.3) == (LockMode::Shared, LockMode::Shared);
                assert!(!meets || shared, "both hold it: {a:?}, {b:?}");
            }
        }
    }
}
