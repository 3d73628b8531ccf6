//! Chunks made ahead: a roll seals one tail and activates the next in one entry, by what is so then; a
//! spare that is not rolled into leaves nothing behind. Histories against a model written independently.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use cairn_meta::namespace::{Command, Operation, Target};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{Chain, ChunkId, Epoch, FsError, Generation, InodeId, Policy, Timestamp, WriterMark};
use driver::{Driver, FIRST, POLICY, placement};
use proptest::prelude::*;

impl Driver {
    fn prepare(&mut self, tail: ChunkId) -> Result<ChunkRecord, FsError> {
        let epoch = self.chunk(tail).epoch;
        let placement = placement().unwrap();
        self.propose(Command::PrepareSpare { chunk: tail, epoch, placement }).map(|a| a.chunk.unwrap())
    }

    fn roll(
        &mut self,
        tail: ChunkId,
        length: u64,
        marks: Vec<WriterMark>,
        next: ChunkId,
    ) -> Result<ChunkRecord, FsError> {
        let (epoch, chain, mtime) = (Epoch(1), Chain(1), Timestamp(self.now));
        let roll = Command::Roll { chunk: tail, epoch, length, chain, marks, mtime, next };
        self.propose(roll).map(|answer| answer.chunk.unwrap())
    }

    /// A file with an open tail and its spare.
    fn with_spare(&mut self, path: &str) -> (InodeId, ChunkId, ChunkId) {
        let ino = self.file(path);
        let tail = self.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
        let spare = self.prepare(tail).unwrap().chunk;
        (ino, tail, spare)
    }

    fn spare_rows(&self) -> usize {
        self.store.scan(Table::Spares, &KeyRange::default(), usize::MAX).unwrap().len()
    }
}

#[test]
fn a_roll_seals_and_activates_in_one_entry() {
    let mut d = Driver::new();
    let (ino, tail, spare) = d.with_spare("/wal");
    let made = d.chunk(spare);
    assert_eq!((made.state, made.held, made.live_bytes), (ChunkState::Spare, false, 0));
    assert_eq!(d.prepare(tail).unwrap().chunk, spare, "asked again it is the same");
    assert_eq!(d.stat("/wal").unwrap().tail.unwrap().chunk, tail, "nobody knows of it");
    // A second writer joins after the spare was made.
    d.open_tail(ino, 0, 2).unwrap();
    let marks = vec![d.mark(1, 5, 0), d.mark(2, 1, 60)];
    let sealed = d.roll(tail, 100, marks.clone(), spare).unwrap();
    assert_eq!((sealed.chunk, sealed.state, sealed.sealed_length()), (tail, ChunkState::Sealed, Some(100)));
    let next = d.chunk(spare);
    assert_eq!((next.state, next.owner), (ChunkState::Open, ChunkOwner::Tail { ino, base: 100 }));
    assert_eq!(next.activation.marks, marks, "the sequences of every writer, as they are now");
    let inode = d.stat("/wal").unwrap();
    assert_eq!((inode.size, inode.tail.unwrap().chunk, inode.tail.unwrap().base), (100, spare, 100));
    assert_eq!(d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk, spare);
    assert_eq!(d.spare_rows(), 0);
    // Its answer was lost: asked again, nothing changes.
    assert_eq!(d.roll(tail, 100, Vec::new(), spare).unwrap(), sealed);
    assert_eq!(d.chunk(spare), next);
    d.check();
}

#[test]
fn the_generation_is_the_one_at_the_roll_and_a_tail_that_is_fenced_is_not_rolled() {
    let mut d = Driver::new();
    let (ino, tail, spare) = d.with_spare("/wal");
    d.done(Operation::OpenExclusive { ino });
    assert_eq!(d.chunk(spare).state, ChunkState::Sealing, "it is given up with its tail");
    let late = d.roll(tail, 10, Vec::new(), spare);
    assert_eq!(late, Err(FsError::ChunkState { chunk: tail }));
    d.finish(tail, 2, 10, vec![FIRST]).unwrap();
    let next = d.open_tail(ino, 1, 1).unwrap().chunk.unwrap();
    assert_ne!(next.chunk, spare);
    let spare = d.prepare(next.chunk).unwrap().chunk;
    d.roll(next.chunk, 5, Vec::new(), spare).unwrap();
    assert_eq!(d.chunk(spare).activation.generation, Generation(1));
    assert_eq!(d.chunk(spare).owner, ChunkOwner::Tail { ino, base: 15 });
    d.check();
}

#[test]
fn a_spare_that_may_not_follow_is_given_up_and_the_tail_sealed_all_the_same() {
    let mut d = Driver::new();
    // Another policy since.
    d.mkdir("/policy");
    let (_, tail, spare) = d.with_spare("/policy/f");
    let policy = Some(Policy { max_lag_ms: 77_000, ..POLICY });
    d.done(Operation::SetPolicy { target: Target::path("/policy"), policy });
    d.roll(tail, 10, Vec::new(), spare).unwrap();
    assert_eq!((d.chunk(spare).state, d.stat("/policy/f").unwrap().tail), (ChunkState::Sealing, None));
    // A spare that lost a node.
    let (_, tail, spare) = d.with_spare("/restarted");
    d.ok(Command::BeginSeal { chunk: spare, epoch: Epoch(1) });
    d.roll(tail, 10, Vec::new(), spare).unwrap();
    assert_eq!((d.chunk(spare).state, d.stat("/restarted").unwrap().tail), (ChunkState::Sealing, None));
    // One of another tail, and none at all.
    let (_, other, spare) = d.with_spare("/other");
    let (_, tail, own) = d.with_spare("/mine");
    d.roll(tail, 10, Vec::new(), spare).unwrap();
    assert_eq!((d.chunk(own).state, d.chunk(spare).state), (ChunkState::Sealing, ChunkState::Spare));
    assert_eq!((d.stat("/mine").unwrap().tail, d.chunk(other).state), (None, ChunkState::Open));
    // A file that is gone.
    d.unlink("/other");
    assert_eq!(d.chunk(spare).state, ChunkState::Sealing);
    d.check();
}

#[test]
fn a_spare_takes_no_grant_and_is_garbage_once_it_is_sealed() {
    let mut d = Driver::new();
    let (_, tail, spare) = d.with_spare("/f");
    let grants = |d: &Driver| cairn_meta::namespace::read::granted(&d.store).unwrap();
    let with_spare = grants(&d);
    d.close(tail, 10, Vec::new());
    assert_eq!(with_spare, cairn_types::limits::GRANT_BYTES_FIRST, "the tail's alone");
    assert_eq!(grants(&d), 0);
    let sealed = d.finish(spare, 2, 0, vec![FIRST]).unwrap().chunk.unwrap();
    assert!(sealed.is_dead(), "{sealed:?}");
    d.check();
}

#[test]
fn a_spare_is_made_by_the_primary_of_an_open_tail_alone() {
    let mut d = Driver::new();
    let shared = d.shared_chunk();
    assert_eq!(d.prepare(shared), Err(FsError::InvalidRequest));
    let (_, tail, spare) = d.with_spare("/f");
    let mut elsewhere = placement().unwrap();
    elsewhere.primary = elsewhere.replicas[1].node;
    let command = Command::PrepareSpare { chunk: tail, epoch: Epoch(1), placement: elsewhere };
    assert_eq!(d.propose(command), Err(FsError::InvalidRequest));
    let command = Command::PrepareSpare { chunk: tail, epoch: Epoch(2), placement: placement().unwrap() };
    assert_eq!(d.propose(command), Err(FsError::ChunkState { chunk: tail }));
    d.ok(Command::BeginSeal { chunk: tail, epoch: Epoch(1) });
    assert_eq!(d.prepare(tail), Err(FsError::ChunkState { chunk: tail }));
    assert_eq!(d.prepare(spare), Err(FsError::ChunkState { chunk: spare }), "no spare of a spare");
    // After a spare that lost a node there is another.
    let (_, tail, lost) = d.with_spare("/g");
    d.ok(Command::BeginSeal { chunk: lost, epoch: Epoch(1) });
    let another = d.prepare(tail).unwrap().chunk;
    assert_ne!(another, lost);
    d.roll(tail, 3, Vec::new(), another).unwrap();
    assert_eq!(d.stat("/g").unwrap().tail.unwrap().chunk, another);
    d.check();
}

/// What may happen to one file.
#[derive(Clone, Copy, Debug)]
enum Step {
    OpenTail(u64),
    Prepare,
    /// By the newest spare, with a length and whether writer 1 has a new sequence.
    Roll(u64, bool),
    LoseSpare,
    Exclusive,
    BeginSeal,
    Finish(u64),
    Close(u64),
    Policy(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..4_u64).prop_map(Step::OpenTail),
        3 => Just(Step::Prepare),
        4 => (0..50_u64, any::<bool>()).prop_map(|(length, wrote)| Step::Roll(length, wrote)),
        1 => Just(Step::LoseSpare),
        1 => Just(Step::Exclusive),
        1 => Just(Step::BeginSeal),
        3 => (0..50_u64).prop_map(Step::Finish),
        1 => (0..50_u64).prop_map(Step::Close),
        1 => (0..2_u64).prop_map(Step::Policy),
    ]
}

/// The file as one would explain it: what is sealed, the tail, and the chunk that is to follow it.
#[derive(Default)]
struct File {
    size: u64,
    generation: u64,
    policy: u64,
    /// (chunk, sealing)
    tail: Option<(ChunkId, bool)>,
    tail_policy: u64,
    /// (chunk, alive)
    spare: Option<(ChunkId, bool)>,
    /// Of writer 1.
    sequence: u64,
    given_up: Vec<ChunkId>,
}

impl File {
    fn end(&mut self, length: u64) {
        self.size += length;
        self.tail = None;
        if let Some((spare, _)) = self.spare.take() {
            self.given_up.push(spare);
        }
    }
}

fn takes(d: &mut Driver, ino: InodeId, file: &mut File, step: Step) {
    match step {
        Step::OpenTail(writer) => {
            let answer = d.open_tail(ino, file.generation, writer);
            match file.tail {
                Some((chunk, true)) => assert_eq!(answer, Err(FsError::ChunkState { chunk })),
                Some((chunk, false)) => assert_eq!(answer.unwrap().chunk.unwrap().chunk, chunk),
                None => {
                    file.tail = Some((answer.unwrap().chunk.unwrap().chunk, false));
                    file.tail_policy = file.policy;
                }
            }
        }
        Step::Prepare => {
            let Some((tail, sealing)) = file.tail else { return };
            let answer = d.prepare(tail);
            match (sealing, file.spare) {
                (true, _) => assert_eq!(answer, Err(FsError::ChunkState { chunk: tail })),
                (false, Some((spare, true))) => assert_eq!(answer.unwrap().chunk, spare),
                (false, before) => {
                    file.given_up.extend(before.map(|(lost, _)| lost));
                    file.spare = Some((answer.unwrap().chunk, true));
                }
            }
        }
        Step::Roll(length, wrote) => {
            let (Some((tail, sealing)), Some((spare, alive))) = (file.tail, file.spare) else { return };
            assert!(!sealing, "with its seal a tail has lost its spare");
            let marks = if wrote { vec![d.mark(1, file.sequence + 1, file.size)] } else { Vec::new() };
            d.roll(tail, length, marks, spare).unwrap();
            file.sequence += u64::from(wrote);
            let follows = alive && file.tail_policy == file.policy;
            if follows {
                file.spare = None;
            }
            file.end(length);
            if follows {
                file.tail = Some((spare, false));
            }
        }
        Step::LoseSpare => {
            if let Some((spare, alive)) = &mut file.spare {
                d.ok(Command::BeginSeal { chunk: *spare, epoch: d.chunk(*spare).epoch });
                *alive = false;
            }
        }
        Step::Exclusive | Step::BeginSeal => {
            match (step, file.tail) {
                (Step::Exclusive, _) => {
                    d.done(Operation::OpenExclusive { ino });
                    file.generation += 1;
                }
                (_, Some((tail, _))) => {
                    drop(d.ok(Command::BeginSeal { chunk: tail, epoch: d.chunk(tail).epoch }))
                }
                _ => return,
            }
            file.tail = file.tail.map(|(tail, _)| (tail, true));
            file.given_up.extend(file.spare.take().map(|(spare, _)| spare));
        }
        Step::Finish(length) => {
            if let Some((tail, true)) = file.tail {
                d.finish(tail, 2, length, vec![FIRST]).unwrap();
                file.end(length);
            }
        }
        Step::Close(length) => {
            if let Some((tail, false)) = file.tail {
                d.close(tail, length, Vec::new());
                file.end(length);
            }
        }
        Step::Policy(policy) => {
            let wanted = Some(Policy { max_lag_ms: 60_000 + policy, ..POLICY });
            d.done(Operation::SetPolicy { target: Target::path("/d"), policy: wanted });
            file.policy = policy;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_file_has_one_tail_and_spares_leave_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let mut d = Driver::new();
        d.mkdir("/d");
        let ino = d.file("/d/f");
        let mut file = File::default();
        takes(&mut d, ino, &mut file, Step::Policy(0));
        for step in steps {
            takes(&mut d, ino, &mut file, step);
            let inode = d.stat("/d/f").unwrap();
            prop_assert_eq!(inode.size, file.size);
            prop_assert_eq!(inode.tail.map(|tail| tail.chunk), file.tail.map(|(tail, _)| tail));
            if let Some((tail, sealing)) = file.tail {
                let record = d.chunk(tail);
                let state = if sealing { ChunkState::Sealing } else { ChunkState::Open };
                prop_assert_eq!(record.state, state);
                prop_assert_eq!(record.owner, ChunkOwner::Tail { ino, base: file.size });
                let mark = record.activation.marks.iter().find(|mark| mark.writer == d.writer(1));
                prop_assert_eq!(mark.map_or(0, |mark| mark.sequence.0), file.sequence);
            }
            if let Some((spare, true)) = file.spare {
                prop_assert_eq!(d.chunk(spare).state, ChunkState::Spare);
            }
            for gone in &file.given_up {
                prop_assert_eq!(d.chunk(*gone).state, ChunkState::Sealing);
            }
            prop_assert_eq!(d.spare_rows(), usize::from(file.spare.is_some()));
        }
        d.check();
        prop_assert_eq!(driver::every_row(&d.store), driver::replayed_in_rocks(&d.log));
    }
}
