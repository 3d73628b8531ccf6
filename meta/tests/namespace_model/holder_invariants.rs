//! Who may hold which unlinked file: denials ↔ sessions ↔ holders ↔ orphans.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys;
use cairn_meta::keys::holds::{Denial, Hold};
use cairn_meta::keys::orphans::Orphan;
use cairn_meta::keys::sessions::SessionRecord;
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{InodeId, LogIndex, SessionId};

/// Unlinked files that somebody may hold, and the entry that unlinked each.
pub fn kept(rows: &dyn Rows) -> BTreeMap<InodeId, LogIndex> {
    let all = keys::scan::<Orphan>(rows, &KeyRange::default(), usize::MAX).unwrap();
    all.into_iter().filter_map(|(_, o)| Some((o.inode.ino, o.since?))).collect()
}

pub fn check(rows: &dyn Rows) {
    let orphans = keys::scan::<Orphan>(rows, &KeyRange::default(), usize::MAX).unwrap();
    for (_, Orphan { inode, since }) in &orphans {
        assert!(
            since.is_none() || inode.is_file() && inode.nlink == 0 && inode.policy.is_some(),
            "{inode:?}"
        );
        assert!(rows.get(Table::Places, &keys::places::key(inode.ino)).unwrap().is_none(), "{inode:?}");
    }
    let kept = kept(rows);
    let sessions: BTreeSet<SessionId> = keys::scan::<SessionRecord>(rows, &KeyRange::default(), usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(_, record)| record.session)
        .collect();
    let mut denials: BTreeMap<SessionId, Denial> = BTreeMap::new();
    for (key, denial) in keys::scan::<Denial>(rows, &KeyRange::default(), usize::MAX).unwrap() {
        let session = SessionId(u64::from_be_bytes(key.try_into().unwrap()));
        assert!(sessions.contains(&session), "{session} has denied and is over");
        denials.insert(session, denial);
    }
    let (mut denied, mut undecided) = (BTreeMap::new(), BTreeSet::new());
    let (mut holders, mut turned) = (BTreeSet::new(), BTreeSet::new());
    for (key, _) in rows.scan(Table::Holds, &KeyRange::default(), usize::MAX).unwrap() {
        match Hold::parse(&key).unwrap() {
            Hold::Denied(upto, session) => {
                assert_eq!(denied.insert(session, upto), None, "{session} has denied twice");
            }
            Hold::Undecided(since, ino) => {
                assert_eq!(kept.get(&ino), Some(&since), "{ino} is undecided");
                undecided.insert(ino);
            }
            Hold::Holder(ino, session) => drop(holders.insert((ino, session))),
            Hold::Holding(session, ino) => drop(turned.insert((ino, session))),
        }
    }
    assert_eq!(denied, denials.iter().map(|(session, denial)| (*session, denial.upto)).collect());
    assert_eq!(holders, turned);
    for (session, denial) in &denials {
        let held = holders.iter().filter(|(_, by)| by == session).count();
        assert_eq!(held, denial.held as usize, "what {session} holds");
    }
    for (ino, by) in &holders {
        assert!(kept.contains_key(ino) && denials.contains_key(by), "{by} holds {ino}");
    }
    let least = denied.values().min();
    for (ino, since) in &kept {
        let held = holders.iter().any(|(file, _)| file == ino);
        assert!(held || undecided.contains(ino), "{ino} is forgotten");
        // What all have denied was decided on: tests never come to the bounds of an entry.
        assert!(held || least.is_some_and(|upto| upto < since), "{ino} is kept for nobody");
    }
}
