//! The rules of the append protocol, as one replica shows them.

use bytes::Bytes;
use cairn_types::{Chain, Epoch, Incarnation, ReplicaHealth, Sequence, WriterId, WriterMark};

use super::error::{ReadError, StoreError};
use super::scaffold::{Primary, memory, open, pattern};
use super::spec::{ReplicaPhase, SealedOutcome, SealedSpec};

#[test]
fn appended_records_are_read_back_and_listed() {
    let disk = memory();
    let (store, report) = open(&disk, 16);
    assert_eq!((report.incarnation, report.unsealed.len()), (Incarnation(1), 0));
    let mut primary = Primary::new(7, store.incarnation());
    let created = store.create(primary.spec.clone());
    let records: Vec<_> = (0..20).map(|i| primary.next(pattern(i, 1 + 777 * i as usize))).collect();
    let pending: Vec<_> = records.iter().map(|r| store.append(r.clone())).collect();
    created.wait().unwrap();
    for (record, completion) in records.iter().zip(pending) {
        assert_eq!(completion.wait().map(|d| d.length), Ok(record.end()));
    }
    let all = primary.bytes.len();
    let hidden = ReadError::NotVisible { chunk: primary.id(), visible: 0 };
    assert_eq!(store.read(primary.id(), 0, 1, 0), Err(hidden), "nothing is committed yet");
    store.note_committed(primary.id(), Epoch(1), 5000);
    assert_eq!(store.read(primary.id(), 10, 4990, 0).unwrap(), primary.bytes[10..5000]);
    assert_eq!(store.read(primary.id(), 0, all, all as u64).unwrap(), primary.bytes);
    assert!(store.read(primary.id(), 0, all + 1, u64::MAX).is_err());
    let mut found = Vec::new();
    while let Some(from) = found.last().map_or(Some(0), |r: &super::AppendRecord| Some(r.end())) {
        let more = store.records(primary.id(), from, u64::MAX, 10_000).unwrap();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    assert_eq!(found, records);
    let view = store.chunk(primary.id()).unwrap();
    assert_eq!((view.phase, view.accepts, view.health), (ReplicaPhase::Open, true, ReplicaHealth::Clean));
    assert_eq!((view.length, view.chain, view.heard_committed), (all as u64, primary.chain, 5000));
}

#[test]
fn a_record_that_does_not_follow_is_refused() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primary = Primary::new(7, store.incarnation());
    let chunk = primary.id();
    let first = primary.next("first");
    assert_eq!(store.append(first.clone()).wait(), Err(StoreError::UnknownChunk { chunk }));
    let other = Primary::new(7, Incarnation(9)).spec;
    let refused = StoreError::OtherIncarnation { chunk, wanted: Incarnation(9), actual: Incarnation(1) };
    assert_eq!(store.create(other).wait(), Err(refused));
    store.create(primary.spec.clone()).wait().unwrap();
    store.create(primary.spec.clone()).wait().unwrap();
    store.append(first.clone()).wait().unwrap();
    let again = StoreError::WrongOffset { chunk, length: 5, offset: 0 };
    assert_eq!(store.append(first).wait(), Err(again));
    let good = primary.next("second");
    let mut bad = good.clone();
    bad.epoch = Epoch(2);
    assert_eq!(store.append(bad).wait(), Err(StoreError::WrongEpoch { chunk, epoch: Epoch(1) }));
    let mut bad = good.clone();
    bad.previous_chain = Chain(1);
    assert_eq!(store.append(bad).wait(), Err(StoreError::WrongChain { chunk, offset: 5 }));
    let mut bad = good.clone();
    bad.payload = Bytes::from_static(b"secomd");
    assert_eq!(store.append(bad).wait(), Err(StoreError::BadRecord { chunk }));
    let mut bad = good.clone();
    bad.sequence = Sequence(4);
    bad.chain = bad.next_chain();
    let (last, sequence, writer) = (Sequence(1), Sequence(4), WriterId(5));
    assert_eq!(store.append(bad).wait(), Err(StoreError::SequenceGap { chunk, writer, last, sequence }));
    store.append(good).wait().unwrap();
    assert_eq!(store.chunk(chunk).unwrap().length, 11);
}

#[test]
fn a_fence_drains_answers_and_outlives_a_restart() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primary = Primary::new(7, store.incarnation());
    let chunk = primary.id();
    primary.spec.marks = vec![WriterMark { writer: WriterId(2), sequence: Sequence(8), offset: 12 }];
    store.create(primary.spec.clone()).wait().unwrap();
    let accepted: Vec<_> = (0..5).map(|i| store.append(primary.next(pattern(i, 100)))).collect();
    store.note_committed(chunk, Epoch(1), 300);
    let fenced = store.fence(primary.fence(2));
    let late = store.append(primary.clone().next("late"));
    for completion in accepted {
        completion.wait().unwrap();
    }
    let answer = fenced.wait().unwrap();
    assert_eq!(late.wait(), Err(StoreError::Fenced { chunk, epoch: Epoch(2) }));
    assert_eq!((answer.length, answer.chain), (500, primary.chain));
    assert_eq!((answer.health, answer.epoch), (ReplicaHealth::Clean, Epoch(2)));
    assert!(answer.heard_committed <= 300);
    let own = WriterMark { writer: WriterId(5), sequence: Sequence(5), offset: 1400 };
    assert_eq!(answer.marks, [primary.spec.marks[0], own]);
    assert_eq!(store.fence(primary.fence(2)).wait().unwrap().length, 500);
    store.fence(primary.fence(3)).wait().unwrap();
    assert_eq!(store.fence(primary.fence(2)).wait(), Err(StoreError::Fenced { chunk, epoch: Epoch(3) }));
    store.close();
    disk.power_loss(|| false);
    let (store, report) = open(&disk, 16);
    assert_eq!(report.unsealed.len(), 1);
    assert_eq!(store.create(primary.spec.clone()).wait(), Err(StoreError::Fenced { chunk, epoch: Epoch(3) }));
    let answer = store.fence(primary.fence(3)).wait().unwrap();
    assert_eq!((answer.length, answer.health), (500, ReplicaHealth::Limbo));
    assert_eq!(answer.marks, [primary.spec.marks[0], own]);
}

#[test]
fn a_fence_of_a_chunk_that_is_not_here_makes_it_fenced_and_empty() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let primary = Primary::new(7, store.incarnation());
    let chunk = primary.id();
    let answer = store.fence(primary.fence(2)).wait().unwrap();
    assert_eq!((answer.length, answer.health), (0, ReplicaHealth::Clean));
    let fenced = StoreError::Fenced { chunk, epoch: Epoch(2) };
    assert_eq!(store.create(primary.spec.clone()).wait(), Err(fenced), "a late create");
    let restarted = Primary::new(8, Incarnation(77));
    assert_eq!(store.fence(restarted.fence(2)).wait().unwrap().health, ReplicaHealth::Limbo);
}

#[test]
fn a_replica_is_only_extended_between_fence_and_seal() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primary = Primary::new(7, store.incarnation());
    let chunk = primary.id();
    store.create(primary.spec.clone()).wait().unwrap();
    store.append(primary.next("one")).wait().unwrap();
    let rest = [primary.next("two"), primary.next("three")];
    let early = store.extend(Epoch(2), rest[0].clone()).wait();
    assert_eq!(early, Err(StoreError::NotFenced { chunk }));
    store.fence(primary.fence(2)).wait().unwrap();
    assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(SealedOutcome::Short { length: 3 }));
    let gap = StoreError::WrongOffset { chunk, length: 3, offset: 6 };
    assert_eq!(store.extend(Epoch(2), rest[1].clone()).wait(), Err(gap));
    for record in rest {
        store.extend(Epoch(2), record).wait().unwrap();
    }
    assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(SealedOutcome::Holder));
    assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(SealedOutcome::Holder));
    let sealed = StoreError::Sealed { chunk, length: 11 };
    assert_eq!(store.extend(Epoch(2), primary.clone().next("x")).wait(), Err(sealed.clone()));
    assert_eq!(store.fence(primary.fence(4)).wait(), Err(sealed));
    assert_eq!(store.read(chunk, 0, 11, 0).unwrap(), "onetwothree");
}

#[test]
fn a_longer_replica_is_cut_and_a_diverged_one_dropped() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    for chunk in [7, 8, 9] {
        let mut primary = Primary::new(chunk, store.incarnation());
        store.create(primary.spec.clone()).wait().unwrap();
        store.append(primary.next("kept")).wait().unwrap();
        let sealed = primary.sealed(2);
        store.append(primary.next("beyond")).wait().unwrap();
        let (told, expected) = match chunk {
            7 => (sealed, SealedOutcome::Holder),
            8 => (SealedSpec { chain: Chain(1), ..sealed }, SealedOutcome::Diverged),
            _ => (SealedSpec { holder: false, ..sealed }, SealedOutcome::Dropped),
        };
        assert_eq!(store.learn_sealed(told).wait(), Ok(expected));
        assert_eq!(store.chunk(primary.id()).is_some(), chunk == 7);
    }
    let check = |store: &super::ChunkStore| {
        let view = store.chunk(7.into()).unwrap();
        assert_eq!((view.phase, view.length), (ReplicaPhase::Sealed, 4));
        assert_eq!(store.read(7.into(), 0, 4, 0).unwrap(), "kept");
        assert!(store.read(7.into(), 0, 5, 100).is_err());
        assert_eq!(store.list().len(), 1);
    };
    check(&store);
    store.close();
    disk.power_loss(|| false);
    let (store, report) = open(&disk, 16);
    assert_eq!((report.unsealed.len(), report.damaged.len()), (0, 0));
    check(&store);
}

#[test]
fn a_close_record_ends_the_chunk_and_leaves_its_chain() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primary = Primary::new(7, store.incarnation());
    let chunk = primary.id();
    store.create(primary.spec.clone()).wait().unwrap();
    store.append(primary.next("all")).wait().unwrap();
    store.append(primary.close()).wait().unwrap();
    assert_eq!(store.append(primary.clone().next("x")).wait(), Err(StoreError::Closed { chunk }));
    assert_eq!(store.chunk(chunk).unwrap().phase, ReplicaPhase::Closed);
    store.close();
    let (store, _) = open(&disk, 16);
    let view = store.chunk(chunk).unwrap();
    assert_eq!((view.phase, view.chain), (ReplicaPhase::Closed, primary.chain));
    assert_eq!(store.learn_sealed(primary.sealed(1)).wait(), Ok(SealedOutcome::Holder));
}

#[test]
fn after_a_restart_nothing_goes_on_and_memory_chunks_are_clean_under_the_same_boot() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primaries = [Primary::new(7, store.incarnation()), Primary::memory(8, store.incarnation())];
    for primary in &mut primaries {
        store.create(primary.spec.clone()).wait().unwrap();
        store.append(primary.next("bytes")).wait().unwrap();
    }
    store.close();
    let (store, report) = open(&disk, 16);
    assert_eq!(store.incarnation(), Incarnation(2));
    assert!(report.unsealed.iter().all(|view| !view.accepts && view.length == 5));
    for (primary, health) in primaries.iter_mut().zip([ReplicaHealth::Limbo, ReplicaHealth::Clean]) {
        let chunk = primary.id();
        let refused = store.append(primary.clone().next("more")).wait();
        assert_eq!(refused, Err(StoreError::Restarted { chunk }));
        assert_eq!(store.fence(primary.fence(2)).wait().unwrap().health, health);
        assert_eq!(store.chunk(chunk).unwrap().record, "record");
    }
}

#[test]
fn only_persisted_replicas_are_evicted() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    for chunk in [7, 8] {
        let mut primary = Primary::new(chunk, store.incarnation());
        store.create(primary.spec.clone()).wait().unwrap();
        store.append(primary.next("bytes")).wait().unwrap();
        let early = store.persisted(primary.id(), Bytes::from_static(b"place")).wait();
        assert_eq!(early, Err(StoreError::NotSealed { chunk: primary.id() }));
        store.learn_sealed(primary.sealed(1)).wait().unwrap();
    }
    store.persisted(7.into(), Bytes::from_static(b"place")).wait().unwrap();
    assert_eq!(store.chunk(7.into()).unwrap().place, Some(Bytes::from_static(b"place")));
    assert_eq!(store.stats().pinned_bytes, 5);
    assert_eq!(store.evict(Some(8.into())).wait(), Ok(0));
    assert_eq!(store.evict(None).wait(), Ok(5));
    assert!(store.chunk(7.into()).is_none());
    store.close();
    let (store, _) = open(&disk, 16);
    let left: Vec<_> = store.list().iter().map(|view| view.chunk.0).collect();
    assert_eq!(left, [8]);
}
