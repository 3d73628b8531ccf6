//! Random histories with the power cut at every call to the disk: what completed is there
//! afterwards, and nothing that was never submitted.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{Ack, ChunkId, Epoch};

use super::completion::Completion;
use super::engine::Engine;
use super::request::{CacheKey, Request};
use super::scaffold::{BOOT, Dice, Primary, Ticks, memory, options, pattern};
use super::spec::{ReplicaPhase, SealedSpec};
use crate::disk::MemoryDisk;
use crate::segments::{BlockSums, LogError, LogOptions};

fn open(disk: &MemoryDisk, segments: u32) -> Result<Engine, LogError> {
    let options = options(segments.into());
    let log = LogOptions {
        disk: options.disk,
        segment_bytes: options.segment_bytes,
        segments_max: segments,
        threads: false,
    };
    Engine::open(Arc::new(disk.clone()), Arc::new(Ticks::default()), log, BOOT).map(|(engine, _)| engine)
}

/// What is known of a chunk from completions alone.
#[derive(Default)]
struct Known {
    created: bool,
    /// Length of the last append that completed.
    acked: u64,
    fenced: Option<Epoch>,
    sealed: Option<SealedSpec>,
    /// A delete was submitted; and completed.
    delete: (bool, bool),
    /// It was told that the chunk is in S3: it may go.
    persisted: bool,
}

struct History {
    dice: Dice,
    primaries: Vec<Primary>,
    known: HashMap<ChunkId, Known>,
    /// Every byte that was submitted for a chunk, whether or not it completed.
    submitted: HashMap<ChunkId, (Vec<u8>, Ack)>,
    /// Fsyncs go on beside the next batch, now and then.
    beside: bool,
    /// What waits for the fsync that is under way.
    under_way: Vec<Waiting>,
}

enum Waiting {
    Created(ChunkId, Completion<()>),
    Appended(ChunkId, Completion<super::Durable>),
    Fenced(ChunkId, Epoch, Completion<super::FenceAnswer>),
    Sealed(SealedSpec, Completion<super::SealedOutcome>),
    Deleted(ChunkId, Completion<()>),
    Other(Completion<()>),
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed * 7919 + 13),
            primaries: Vec::new(),
            known: HashMap::new(),
            submitted: HashMap::new(),
            beside: false,
            under_way: Vec::new(),
        }
    }

    fn beside(seed: u64) -> Self {
        Self { beside: true, ..Self::new(seed) }
    }

    /// One batch of random requests; answers whether the store still lives.
    fn batch(&mut self, engine: &mut Engine, next_chunk: &mut u64) -> bool {
        let mut waiting = Vec::new();
        for _ in 0..=self.dice.roll(5) {
            let (request, completion) = self.request(engine, next_chunk);
            engine.accept(request);
            waiting.push(completion);
        }
        let batch = engine.batch;
        match self.beside && self.dice.roll(4) > 0 {
            true => engine.commit_beside(),
            false => engine.commit(),
        }
        engine.recycle_some();
        let mut ended = std::mem::take(&mut self.under_way);
        match engine.is_syncing() {
            false => ended.append(&mut waiting),
            // This batch's is under way, which means that the one before has ended.
            true if engine.batch > batch => self.under_way = waiting,
            // There was nothing in this one.
            true => {
                ended.append(&mut waiting);
                self.under_way = std::mem::take(&mut ended);
            }
        }
        for completion in ended {
            self.note(completion);
        }
        engine.table().retired().is_none()
    }

    fn request(&mut self, engine: &Engine, next_chunk: &mut u64) -> (Request, Waiting) {
        let choice = self.dice.roll(20);
        if self.primaries.is_empty() || (choice == 0 && self.primaries.len() < 6) {
            *next_chunk += 1;
            let mut primary = Primary::new(*next_chunk, engine.incarnation());
            if self.dice.roll(3) == 0 {
                primary.spec.ack = Ack::Memory;
            }
            let (callback, completion) = Completion::pair();
            let chunk = primary.id();
            let request = Request::Create(primary.spec.clone(), callback);
            self.known.entry(chunk).or_default();
            self.submitted.insert(chunk, (Vec::new(), primary.spec.ack));
            self.primaries.push(primary);
            return (request, Waiting::Created(chunk, completion));
        }
        let index = self.dice.roll(self.primaries.len() as u64) as usize;
        let length = 1 + self.dice.roll(6000) as usize;
        match choice {
            5 => return self.persist(),
            6 | 7 => {
                let key = CacheKey { object: 9, block: self.dice.roll(40) };
                let block = Bytes::from(pattern(key.block, length));
                let (callback, completion) = Completion::pair();
                let sums = BlockSums::of(&block);
                return (Request::CachePut(key, block, sums, callback), Waiting::Other(completion));
            }
            _ => {}
        }
        let primary = &mut self.primaries[index];
        let chunk = primary.id();
        match choice {
            1 => {
                let (callback, completion) = Completion::pair();
                let fence = primary.fence(2);
                (Request::Fence(fence, callback), Waiting::Fenced(chunk, Epoch(2), completion))
            }
            2 | 3 => {
                let (callback, completion) = Completion::pair();
                let sealed = primary.sealed(3);
                self.primaries.remove(index);
                (Request::Sealed(sealed, callback), Waiting::Sealed(sealed, completion))
            }
            4 => {
                let (callback, completion) = Completion::pair();
                self.primaries.remove(index);
                self.known.entry(chunk).or_default().delete.0 = true;
                (Request::Delete(chunk, callback), Waiting::Deleted(chunk, completion))
            }
            _ => {
                let (callback, completion) = Completion::pair();
                // A fenced chunk takes it as an extension.
                let fenced = self.known.get(&chunk).and_then(|k| k.fenced);
                let record = primary.next(pattern(primary.length, length));
                let sums = BlockSums::of(&record.payload);
                if let Some((bytes, _)) = self.submitted.get_mut(&chunk) {
                    bytes.extend_from_slice(&record.payload);
                }
                (Request::Append(record, sums, fenced, callback), Waiting::Appended(chunk, completion))
            }
        }
    }

    /// Says of a chunk whose seal completed that it is in S3.
    fn persist(&mut self) -> (Request, Waiting) {
        let (callback, completion) = Completion::pair();
        let mut sealed: Vec<ChunkId> =
            self.known.iter().filter(|(_, k)| k.sealed.is_some()).map(|(c, _)| *c).collect();
        sealed.sort_unstable();
        let Some(count) = Some(sealed.len() as u64).filter(|n| *n > 0) else {
            return (Request::Flush(callback), Waiting::Other(completion));
        };
        let chunk = sealed[self.dice.roll(count) as usize];
        self.known.entry(chunk).or_default().persisted = true;
        let place = Bytes::from_static(b"s3");
        (Request::Persisted(chunk, place, callback), Waiting::Other(completion))
    }

    fn note(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Created(chunk, completion) => {
                self.known.entry(chunk).or_default().created |= completion.wait().is_ok();
            }
            Waiting::Appended(chunk, completion) => match completion.wait() {
                Ok(durable) => {
                    let known = self.known.entry(chunk).or_default();
                    assert!(durable.length > known.acked);
                    known.acked = durable.length;
                }
                // The primary of a refused record has gone ahead: it is not used again.
                Err(_) => self.primaries.retain(|p| p.id() != chunk),
            },
            Waiting::Fenced(chunk, epoch, completion) => {
                if completion.wait().is_ok() {
                    self.known.entry(chunk).or_default().fenced = Some(epoch);
                }
            }
            Waiting::Sealed(sealed, completion) => {
                if completion.wait() == Ok(super::SealedOutcome::Holder) {
                    self.known.entry(sealed.chunk).or_default().sealed = Some(sealed);
                }
            }
            // It may be refused; what it says is checked by what is there.
            Waiting::Other(completion) => drop(completion.wait()),
            Waiting::Deleted(chunk, completion) => {
                self.known.entry(chunk).or_default().delete.1 |= completion.wait().is_ok();
            }
        }
    }

    /// What completed is there; what is there was submitted.
    fn check(&self, engine: &Engine) {
        let live: u64 = engine.log.slots.iter().map(|slot| slot.live_bytes).sum();
        assert_eq!(engine.log.live_bytes(), live, "the sum is kept up");
        let table = engine.table();
        for (chunk, known) in &self.known {
            let view = table.view(*chunk);
            if known.delete.1 {
                assert!(view.is_none(), "{chunk} was deleted");
                continue;
            }
            let Some(view) = view else {
                assert!(!known.created || known.delete.0 || known.persisted, "{chunk} is gone");
                continue;
            };
            let (expected, ack) = &self.submitted[chunk];
            assert_ne!(view.health, cairn_types::ReplicaHealth::Damaged, "{chunk}");
            assert!(
                view.length >= known.acked || *ack == Ack::Memory,
                "{chunk} {} {}",
                view.length,
                known.acked
            );
            let records = table.records(*chunk, 0, u64::MAX, usize::MAX).unwrap();
            let found: Vec<u8> = records.iter().flat_map(|r| r.payload.to_vec()).collect();
            assert_eq!(found.len() as u64, view.length);
            assert!(expected.starts_with(&found), "{chunk} holds what was never submitted");
            assert!(known.fenced.is_none_or(|epoch| view.epoch >= epoch), "{chunk} forgot its fence");
            if let Some(sealed) = known.sealed {
                let sealed = (ReplicaPhase::Sealed, sealed.length, sealed.chain);
                assert_eq!((view.phase, view.length, view.chain), sealed, "{chunk}");
            }
        }
        for block in 0..40 {
            let found = table.cache_get(CacheKey { object: 9, block }).unwrap().unwrap_or_default();
            assert_eq!(found, pattern(block, found.len()));
        }
        for view in table.views() {
            assert!(self.known.contains_key(&view.chunk));
        }
    }
}

/// Runs a history until it ends or the power does; answers how many segments were begun.
fn run(history: &mut History, disk: &MemoryDisk, (segments, batches): (u32, u32)) -> u64 {
    let mut next_chunk = 0;
    let Ok(mut engine) = open(disk, segments) else { return 0 };
    if history.beside {
        engine.beside_bytes = 0;
        engine.log.whole_pages_bytes = 2_000;
    }
    for _ in 0..batches {
        if !history.batch(&mut engine, &mut next_chunk) {
            break;
        }
    }
    engine.log.next_segment - 1
}

/// Answers how many segments the uncut history began.
fn cut_everywhere(history: fn(u64) -> History, seed: u64, size: (u32, u32)) -> u64 {
    let disk = memory();
    let begun = run(&mut history(seed), &disk, size);
    let calls = disk.calls();
    assert!(calls > 20);
    for cut in 0..calls {
        let disk = memory();
        disk.power_off_after(cut);
        let mut history = history(seed);
        run(&mut history, &disk, size);
        let mut dice = Dice(seed + cut * 31 + 1);
        disk.power_loss(|| dice.roll(2) == 0);
        let engine = open(&disk, size.0).unwrap();
        history.check(&engine);
        drop(engine);
        // And once more: recovery itself must not lose anything.
        disk.power_loss(|| dice.roll(2) == 0);
        history.check(&open(&disk, size.0).unwrap());
    }
    begun
}

#[test]
fn what_completed_survives_a_power_cut_at_every_call() {
    for seed in 1..=6 {
        assert!(cut_everywhere(History::new, seed, (40, 40)) > 3);
    }
}

#[test]
fn it_survives_on_a_disk_that_is_recycled_all_the_time() {
    for seed in 11..=13 {
        assert!(cut_everywhere(History::new, seed, (9, 120)) > 14);
    }
}

#[test]
fn what_completed_survives_when_the_next_batch_is_written_beside_the_fsync() {
    for seed in 31..=34 {
        assert!(cut_everywhere(History::beside, seed, (40, 40)) > 3);
    }
    assert!(cut_everywhere(History::beside, 35, (9, 120)) > 14);
}

#[test]
fn an_fsync_beside_the_next_batch_is_told_once_it_is_done() {
    let disk = memory();
    let mut engine = open(&disk, 40).unwrap();
    engine.beside_bytes = 0;
    let mut primary = Primary::new(1, engine.incarnation());
    engine.accept(Request::Create(primary.spec.clone(), Completion::pair().0));
    engine.commit();
    let mut append = |engine: &mut Engine| {
        let record = primary.next(pattern(primary.length, 700));
        let sums = BlockSums::of(&record.payload);
        let (callback, completion) = Completion::pair();
        engine.accept(Request::Append(record, sums, None, callback));
        engine.commit_beside();
        completion
    };
    let seen = |engine: &Engine| engine.table().view(ChunkId(1)).unwrap().length;
    let first = append(&mut engine);
    assert_eq!((engine.is_syncing(), seen(&engine)), (true, 0), "nobody sees what is not durable");
    let second = append(&mut engine);
    assert_eq!((first.wait().unwrap().length, seen(&engine)), (700, 700));
    // What looks at the chunk waits for what it has accepted.
    let (callback, sealed) = Completion::pair();
    engine.accept(Request::Sealed(primary.sealed(2), callback));
    assert_eq!((second.wait().unwrap().length, engine.is_syncing()), (1400, false));
    engine.commit();
    assert_eq!(sealed.wait(), Ok(super::SealedOutcome::Holder));
    // The power goes in the middle: nothing of the batch is acknowledged.
    let mut primary = Primary::new(2, engine.incarnation());
    engine.accept(Request::Create(primary.spec.clone(), Completion::pair().0));
    engine.commit();
    let record = primary.next("lost");
    let sums = BlockSums::of(&record.payload);
    let (callback, lost) = Completion::pair();
    engine.accept(Request::Append(record, sums, None, callback));
    engine.commit_beside();
    assert!(engine.is_syncing());
    disk.power_off_after(0);
    engine.end_sync();
    assert!(lost.wait().is_err());
    assert!(engine.table().retired().is_some());
}

/// Two histories; with `CAIRN_LONG` (`cargo xtask test --long`) a sweep of eighty, which takes minutes.
#[test]
fn many_histories_survive_a_power_cut_at_every_call() {
    let seeds = if std::env::var_os("CAIRN_LONG").is_some() { 40 } else { 1 };
    for seed in 100..100 + seeds {
        for history in [History::new, History::beside] {
            cut_everywhere(history, seed, (40, 40));
            cut_everywhere(history, seed, (8 + seed as u32 % 3, 120));
        }
    }
}

#[test]
fn a_batch_of_many_chunks_costs_one_write_and_one_fsync() {
    let disk = memory();
    let mut engine = open(&disk, 40).unwrap();
    let mut primaries: Vec<_> = (1..9).map(|chunk| Primary::new(chunk, engine.incarnation())).collect();
    let mut step = |engine: &mut Engine, request: &mut dyn FnMut(&mut Primary) -> Request| {
        let before = disk.calls();
        for primary in &mut primaries {
            engine.accept(request(primary));
        }
        engine.commit();
        assert_eq!(disk.calls() - before, 2);
    };
    step(&mut engine, &mut |p| Request::Create(p.spec.clone(), Completion::pair().0));
    step(&mut engine, &mut |p| {
        let record = p.next(pattern(1, 500));
        let sums = BlockSums::of(&record.payload);
        Request::Append(record, sums, None, Completion::pair().0)
    });
    step(&mut engine, &mut |p| Request::Fence(p.fence(2), Completion::pair().0));
    step(&mut engine, &mut |p| Request::Sealed(p.sealed(2), Completion::pair().0));
    step(&mut engine, &mut |p| Request::Delete(p.id(), Completion::pair().0));
    assert!(engine.table().views().is_empty());
}

#[test]
fn a_fence_and_an_extension_in_one_batch_are_seen_in_their_order() {
    let disk = memory();
    let mut engine = open(&disk, 40).unwrap();
    let mut primary = Primary::memory(1, engine.incarnation());
    engine.accept(Request::Create(primary.spec.clone(), Completion::pair().0));
    engine.commit();
    engine.accept(Request::Fence(primary.fence(2), Completion::pair().0));
    let record = primary.next("extension");
    let sums = BlockSums::of(&record.payload);
    engine.accept(Request::Append(record, sums, Some(Epoch(2)), Completion::pair().0));
    engine.commit();
    let view = engine.table().view(primary.id()).unwrap();
    assert_eq!((view.phase, view.length, view.chain), (ReplicaPhase::Fenced, 9, primary.chain));
}
