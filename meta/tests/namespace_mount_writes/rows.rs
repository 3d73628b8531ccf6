//! What must hold of the rows of a mount that is written to.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::claims::ClaimRow;
use cairn_meta::keys::homes::Home;
use cairn_meta::keys::imports::ImportRecord;
use cairn_meta::keys::intents::{IntentRecord, Work};
use cairn_meta::keys::mount_counts::{self, MountCounts};
use cairn_meta::keys::objects::{NOBODY, ObjectRow};
use cairn_meta::keys::pending::{self, PendingRow};
use cairn_meta::keys::pictures::{KeepRow, PictureRow};
use cairn_meta::keys::surplus::SurplusRow;
use cairn_meta::keys::{self, Record};
use cairn_meta::namespace::{Target, read};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::InodeId;

use super::world::MOUNT;

fn all<R: Record>(rows: &dyn Rows) -> BTreeMap<Vec<u8>, R> {
    keys::scan(rows, &KeyRange::default(), usize::MAX).unwrap().into_iter().collect()
}

fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key[..8].try_into().unwrap())
}

/// Panics, saying which rows contradict each other.
pub fn check(rows: &dyn Rows) {
    let objects = all::<ObjectRow>(rows);
    let surplus = all::<SurplusRow>(rows);
    let ownerless: BTreeSet<_> = objects.iter().filter(|(_, row)| row.ino == NOBODY).map(|(key, _)| key).collect();
    assert_eq!(surplus.keys().collect::<BTreeSet<_>>(), ownerless, "surplus");
    for (key, home) in all::<Home>(rows) {
        let ino = InodeId(number(&key));
        assert!(read::stat(rows, &Target::ino(ino)).is_ok(), "{ino} is gone and has a home");
        let at = keys::objects::key(home.mount, &home.key);
        assert_eq!(objects.get(&at).map(|row| row.ino), Some(ino), "the home of {ino}");
    }
    for (key, row) in objects.iter().filter(|(_, row)| row.ino != NOBODY) {
        assert!(read::stat(rows, &Target::ino(row.ino)).is_ok(), "{key:?} is {}'s, which is gone", row.ino);
    }
    let pending = all::<PendingRow>(rows);
    let by_age: BTreeSet<Vec<u8>> = pending
        .iter()
        .map(|(key, row)| pending::since_key(MOUNT, row.since, pending::ino(key).unwrap()))
        .collect();
    let found = rows.scan(Table::PendingSince, &KeyRange::default(), usize::MAX).unwrap();
    assert_eq!(found.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>(), by_age, "pending by age");
    check_intents(rows);
    let imports = all::<ImportRecord>(rows);
    let counts: MountCounts = keys::get(rows, &mount_counts::key(MOUNT)).unwrap().unwrap();
    let counted = MountCounts {
        objects: objects.len() as u64,
        bytes: objects.values().map(|row| row.size).sum(),
        directories: imports.len() as u64,
        unread_directories: imports.values().filter(|import| import.imported_at.is_none()).count() as u64,
        pending: pending.len() as u64,
        pending_bytes: pending.values().filter(|row| row.content).map(|row| row.bytes).sum(),
        walking: pending.values().filter(|row| row.walk.is_some()).count() as u64,
        surplus: surplus.len() as u64,
        ..counts.clone()
    };
    assert_eq!(counts, counted, "counts");
}

/// Claims, pictures and what is kept are an unfinished intent's.
fn check_intents(rows: &dyn Rows) {
    let intents = all::<IntentRecord>(rows);
    let unfinished = |id: cairn_types::IntentId| {
        intents.get(&keys::intents::key(id)).is_some_and(|record| !record.failed)
    };
    for (key, claim) in all::<ClaimRow>(rows) {
        assert!(unfinished(claim.intent), "{key:?} is used by {}, which is over", claim.intent);
    }
    let pictures = all::<PictureRow>(rows);
    let puts: BTreeSet<&Vec<u8>> = intents
        .iter()
        .filter(|(_, record)| !record.failed && matches!(record.work, Work::PutObject { .. }))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(pictures.keys().collect::<BTreeSet<_>>(), puts, "pictures");
    for (key, bytes) in rows.scan(Table::Keeps, &KeyRange::default(), usize::MAX).unwrap() {
        if key.len() == 8 {
            let keep = KeepRow::from_bytes(&key, &bytes).unwrap();
            assert!(unfinished(keep.intent), "{key:?} is kept for {}, which is over", keep.intent);
        }
    }
}
