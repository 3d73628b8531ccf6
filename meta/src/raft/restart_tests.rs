//! What a crash may leave behind: a log that lacks what was not fsynced, a state ahead of it, a
//! half-received snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{FeatureLevels, SystemClock};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, StorageHelper};
use tokio::sync::watch;

use super::flusher::Flusher;
use super::log_disk::{LogDisk, RocksLog};
use super::log_store::{DurableMark, LogStore};
use super::machine::{Pace, StateMachine};
use super::record::{self, EntryRecord, LogIdRecord, PayloadRecord};
use super::snapshot::{Directory, Snapshots};
use super::state::StateDir;
use super::types::{Entry, LogId, Proposal, TypeConfig};
use crate::namespace::{self, Command};
use crate::store::{KeyRange, Table};

struct Opened {
    log: LogStore,
    machine: StateMachine,
    mark: DurableMark,
    closed: [watch::Receiver<()>; 2],
}

/// Closes both databases and waits until their files are free.
async fn close(opened: Opened) {
    let Opened { log, machine, closed, .. } = opened;
    drop((log, machine));
    for mut end in closed {
        while end.changed().await.is_ok() {}
    }
}

fn open(dir: &Path) -> Opened {
    let disk = Arc::new(RocksLog::open(&dir.join("raft")).unwrap());
    let clock = Arc::new(SystemClock);
    let (flusher, _) = Flusher::start(disk.clone(), clock.clone()).unwrap();
    let mark = DurableMark::default();
    let snapshots = Arc::new(Snapshots::open(&dir.join("snapshot")).unwrap());
    let state = StateDir::new(dir.join("state"), 16 << 20);
    let closed = [disk.closed(), state.closed()];
    let machine =
        StateMachine::open(state, snapshots, mark.clone(), clock, Pace::default(), FeatureLevels::default())
            .unwrap();
    let log = LogStore::open(disk, flusher, mark.clone()).unwrap();
    Opened { log, machine, mark, closed }
}

fn id(index: u64) -> LogId {
    LogIdRecord { term: 1, index }.into()
}

fn entry(index: u64) -> Entry {
    let command = Command::OpenSession { client: index.to_string() };
    let bytes = namespace::Entry { time: cairn_types::Timestamp(1), command }.to_bytes();
    Entry { log_id: id(index), payload: EntryPayload::Normal(Proposal(bytes.into())) }
}

async fn apply(machine: &mut StateMachine, indexes: std::ops::Range<u64>) {
    let entries = indexes.map(|index| Ok((entry(index), None)));
    machine.apply(futures::stream::iter(entries.collect::<Vec<_>>())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_lies_past_the_logs_end_is_kept_and_the_log_goes_on_after_it() {
    let temp = tempfile::tempdir().unwrap();
    // The state was flushed up to entry 9; of the log, only entries up to 4 had reached the disk.
    let mut before = open(temp.path());
    apply(&mut before.machine, 0..10).await;
    let made = before.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(made.meta.last_log_id, Some(id(9)));
    close(before).await;
    let disk = RocksLog::open(&temp.path().join("raft")).unwrap();
    let encoded: Vec<(u64, Bytes)> =
        (0..5).map(|i| (i, record::encode(&EntryRecord::from(&entry(i))))).collect();
    disk.append(&encoded).unwrap();
    disk.sync().unwrap();
    let mut closed = disk.closed();
    drop(disk);
    assert!(closed.changed().await.is_err());
    let mut after = open(temp.path());
    let state = StorageHelper::<TypeConfig, _, _>::new(&mut after.log, &mut after.machine)
        .with_id(1)
        .get_initial_state()
        .await
        .unwrap();
    assert_eq!(after.machine.applied_state().await.unwrap().0, Some(id(9)));
    let log = after.log.get_log_state().await.unwrap();
    assert_eq!((log.last_purged_log_id, log.last_log_id), (Some(id(9)), Some(id(9))));
    drop(state);
}

/// The files as they are at this moment: what a machine that loses its processes keeps.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_dir(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_past_the_last_flush_are_applied_again_from_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let (running, crashed) = (temp.path().join("running"), temp.path().join("crashed"));
    let mut before = open(&running);
    before.log.append((0..8).map(entry).collect::<Vec<_>>(), IOFlushed::noop()).await.unwrap();
    before.log.save_committed(Some(id(7))).await.unwrap();
    apply(&mut before.machine, 0..5).await;
    before.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    apply(&mut before.machine, 5..8).await;
    copy_dir(&running, &crashed);
    let mut after = open(&crashed);
    assert_eq!(after.machine.applied_state().await.unwrap().0, Some(id(4)), "the rest was in memory");
    assert_eq!(after.mark.get(), 4);
    StorageHelper::<TypeConfig, _, _>::new(&mut after.log, &mut after.machine)
        .with_id(1)
        .get_initial_state()
        .await
        .unwrap();
    assert_eq!(after.machine.applied_state().await.unwrap().0, Some(id(7)));
    let rows = |machine: &StateMachine| {
        let state = machine.view().current.get().unwrap();
        state.store().scan(Table::Sessions, &KeyRange::default(), 100).unwrap()
    };
    assert_eq!(rows(&after.machine), rows(&before.machine), "each entry was applied once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_not_purged_beyond_what_is_durable() {
    let temp = tempfile::tempdir().unwrap();
    let mut opened = open(temp.path());
    let entries: Vec<Entry> = (0..10).map(entry).collect();
    opened.log.append(entries, IOFlushed::noop()).await.unwrap();
    apply(&mut opened.machine, 0..10).await;
    opened.log.purge(id(5)).await.unwrap();
    assert_eq!(opened.log.get_log_state().await.unwrap().last_purged_log_id, None);
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    opened.log.purge(id(5)).await.unwrap();
    assert_eq!(opened.log.get_log_state().await.unwrap().last_purged_log_id, Some(id(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_snapshot_replaces_the_state_and_readers_of_the_old_one_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let (sender, receiver) = (temp.path().join("a"), temp.path().join("b"));
    let mut from = open(&sender);
    apply(&mut from.machine, 0..20).await;
    let made = from.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut to = open(&receiver);
    apply(&mut to.machine, 0..3).await;
    let old = to.machine.view().current.get().unwrap();
    // As received: a directory of its own.
    let incoming = receiver.join("incoming");
    fs::create_dir_all(&incoming).unwrap();
    for file in fs::read_dir(made.snapshot.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), incoming.join(file.file_name())).unwrap();
    }
    let received = Arc::new(Directory::doomed(incoming));
    to.machine.install_snapshot(&made.meta, received).await.unwrap();
    assert_eq!(to.machine.applied_state().await.unwrap().0, Some(id(19)));
    assert_eq!(old.applied().unwrap().applied.unwrap().index, 2, "the old state is still readable");
    drop(old);
    let databases = || fs::read_dir(receiver.join("state")).unwrap().count();
    assert_eq!(databases(), 2, "CURRENT and one database");
    let kept = to.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(kept.meta.last_log_id, Some(id(19)));
    drop(kept);
    close(to).await;
    let mut again = open(&receiver);
    assert_eq!(again.machine.applied_state().await.unwrap().0, Some(id(19)));
}

#[test]
fn entries_are_read_by_bytes_and_a_hole_is_found() {
    let temp = tempfile::tempdir().unwrap();
    let disk = RocksLog::open(temp.path()).unwrap();
    let bytes = |index: u64| {
        let payload = PayloadRecord::Command(vec![7; 1000]);
        (index, record::encode(&EntryRecord { id: LogIdRecord { term: 1, index }, payload }))
    };
    disk.append(&(1..=10).map(bytes).collect::<Vec<_>>()).unwrap();
    assert_eq!(disk.read(1..11, 2500).unwrap().len(), 2);
    assert_eq!(disk.read(1..11, 10).unwrap().len(), 1, "one at least");
    disk.truncate(8).unwrap();
    disk.append(&[bytes(9)]).unwrap();
    assert!(disk.read(1..11, usize::MAX).is_err());
    disk.purge(LogIdRecord { term: 1, index: 4 }).unwrap();
    let start = disk.load().unwrap();
    assert_eq!(start.purged, Some(LogIdRecord { term: 1, index: 4 }));
    assert_eq!(disk.read(0..8, usize::MAX).unwrap().first().unwrap().id.index, 5);
}
