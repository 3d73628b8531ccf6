//! Chunks, tails, seals, sessions, packs: what each command promises.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::chunks::ChunkState;
use cairn_meta::keys::counters;
use cairn_meta::keys::intents::Work;
use cairn_meta::keys::queues::Queue;
use cairn_meta::namespace::command::PersistedChunk;
use cairn_meta::namespace::{Command, Operation, Target, jobs, read};
use cairn_meta::store::{Store, Table, WriteBatch};
use cairn_types::limits::GRANT_BYTES_FIRST;
use cairn_types::{
    ChunkId, Epoch, FsError, Generation, InodeId, NodeId, Persist, Policy, Sequence, Timestamp,
};
use driver::{Driver, FIRST, POLICY, SECOND, create, extent, placement};

fn waiting(d: &Driver, queue: Queue) -> Vec<u64> {
    jobs::queue(&d.store, queue, None, 100).unwrap().into_iter().map(|w| w.id).collect()
}

#[test]
fn a_planned_roll_commits_the_tail_and_carries_every_writer_s_sequence() {
    let mut d = Driver::new();
    let ino = d.file("/wal");
    let first = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    assert_eq!(d.open_tail(ino, 0, 2).unwrap().chunk.unwrap().chunk, first.chunk, "one tail for all writers");
    let marks = vec![d.mark(1, 5, 10), d.mark(2, 1, 60)];
    assert_eq!(d.close(first.chunk, 100, marks).state, ChunkState::Sealed);
    let inode = d.stat("/wal").unwrap();
    assert_eq!((inode.size, inode.tail), (100, None));
    // Writer 2 writes nothing in the second chunk, and is remembered over it.
    let second = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    let marks = vec![d.mark(1, 6, 100)];
    d.close(second.chunk, 20, marks);
    let third = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    assert_eq!(third.activation.marks, vec![d.mark(1, 6, 100), d.mark(2, 1, 60)]);
    assert_eq!(d.stat("/wal").unwrap().tail.unwrap().base, 120);
    d.check();
}

#[test]
fn open_exclusive_fences_every_earlier_generation() {
    let mut d = Driver::new();
    let ino = d.file("/wal");
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    let answer = d.done(Operation::OpenExclusive { ino });
    assert_eq!(answer.generation, Some(Generation(1)));
    let sealing = answer.chunk.unwrap();
    assert_eq!((sealing.state, sealing.epoch), (ChunkState::Sealing, Epoch(2)));
    // The tail is not decided yet: nobody opens the next one, the fenced writer learns it is.
    assert_eq!(d.open_tail(ino, 1, 2), Err(FsError::ChunkState { chunk: tail.chunk }));
    let fenced = FsError::Fenced { generation: Generation(1), last_sequence: Sequence(0) };
    assert_eq!(d.open_tail(ino, 0, 1), Err(fenced));
    d.finish(tail.chunk, 2, 10, vec![FIRST]).unwrap();
    let next = d.open_tail(ino, 1, 2).unwrap().chunk.unwrap();
    assert_eq!(next.activation.generation, Generation(1));
    d.check();
}

#[test]
fn the_first_decision_of_a_seal_wins() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    let state = FsError::ChunkState { chunk };
    assert_eq!(d.finish(chunk, 1, 5, vec![FIRST]), Err(state.clone()), "not sealing yet");
    assert_eq!(d.propose(Command::BeginSeal { chunk, epoch: Epoch(7) }), Err(state.clone()));
    d.ok(Command::BeginSeal { chunk, epoch: Epoch(1) });
    let again = d.ok(Command::BeginSeal { chunk, epoch: Epoch(1) }).chunk.unwrap();
    assert_eq!(again.epoch, Epoch(2), "a second begin changes nothing");
    assert_eq!(d.finish(chunk, 1, 5, vec![FIRST]), Err(state.clone()), "the old epoch");
    d.finish(chunk, 2, 5, vec![FIRST]).unwrap();
    assert_eq!(d.finish(chunk, 2, 6, vec![FIRST]), Err(state), "another length");
    assert!(d.finish(chunk, 2, 5, vec![FIRST]).is_ok(), "a repeat of the same decision");
    assert_eq!(d.stat("/f").unwrap().size, 5);
    assert_eq!(waiting(&d, Queue::UnderReplicated), vec![chunk.0]);
    d.ok(Command::AddHolder { chunk, node: NodeId(103) });
    assert_eq!(waiting(&d, Queue::UnderReplicated), Vec::<u64>::new());
    assert_eq!(waiting(&d, Queue::Surplus), vec![chunk.0], "the node that is no holder must delete");
    d.ok(Command::DropReplica { chunk, node: SECOND });
    assert_eq!(waiting(&d, Queue::Surplus), Vec::<u64>::new());
    let holder = d.propose(Command::DropReplica { chunk, node: FIRST });
    assert_eq!(holder, Err(FsError::ChunkState { chunk }), "a holder of live bytes keeps them");
    d.check();
}

#[test]
fn an_accepted_loss_decides_once_and_the_file_goes_on_from_there() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    let state = FsError::ChunkState { chunk };
    assert_eq!(d.accept_loss(chunk, 1, 5, vec![FIRST]), Err(state.clone()), "open: nothing is waited for");
    let gone = ChunkId(99);
    assert_eq!(d.accept_loss(gone, 2, 5, vec![FIRST]), Err(FsError::ChunkGone { chunk: gone }));
    d.ok(Command::BeginSeal { chunk, epoch: Epoch(1) });
    assert_eq!(d.accept_loss(chunk, 1, 5, vec![FIRST]), Err(state.clone()), "the old epoch");
    assert_eq!(d.accept_loss(chunk, 2, 5, vec![]), Err(FsError::InvalidRequest), "somebody holds it");
    let sealed = d.accept_loss(chunk, 2, 5, vec![FIRST]).unwrap().chunk.unwrap();
    assert_eq!((sealed.state, sealed.sealed_length()), (ChunkState::Sealed, Some(5)));
    assert_eq!(d.stat("/f").unwrap().size, 5);
    assert!(d.accept_loss(chunk, 2, 5, vec![FIRST]).is_ok(), "a repeat of the same decision");
    assert_eq!(d.accept_loss(chunk, 2, 6, vec![FIRST]), Err(state.clone()), "another length");
    assert_eq!(d.finish(chunk, 2, 9, vec![SECOND]), Err(state), "a round that comes too late");
    let next = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    assert_ne!(next.chunk, chunk);
    assert_eq!(d.stat("/f").unwrap().tail.unwrap().base, 5);
    d.check();
}

#[test]
fn a_tail_of_which_nothing_is_left_is_garbage_and_a_fresh_node_stands_in() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    d.ok(Command::BeginSeal { chunk, epoch: Epoch(1) });
    let fresh = NodeId(103);
    let sealed = d.accept_loss(chunk, 2, 0, vec![fresh]).unwrap().chunk.unwrap();
    assert!(sealed.is_holder(fresh) && sealed.replicas.len() == 3);
    assert_eq!(d.stat("/f").unwrap().size, 0);
    assert_eq!(waiting(&d, Queue::Garbage), vec![chunk.0]);
    d.check();
}

#[test]
fn an_unlinked_file_s_tail_is_sealed_and_its_bytes_are_garbage() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    d.unlink("/f");
    assert_eq!(d.chunk(chunk).state, ChunkState::Sealing);
    assert_eq!(d.open_tail(ino, 0, 1), Err(FsError::Stale));
    d.finish(chunk, 2, 50, vec![FIRST, SECOND]).unwrap();
    assert_eq!(waiting(&d, Queue::Garbage), vec![chunk.0]);
    assert_eq!(waiting(&d, Queue::Unpersisted), Vec::<u64>::new());
    d.ok(Command::DropReplica { chunk, node: FIRST });
    d.check();
    d.ok(Command::DropReplica { chunk, node: SECOND });
    assert_eq!(read::chunk(&d.store, chunk).unwrap(), None);
    d.check();
}

#[test]
fn too_few_nodes_open_no_chunk() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let none = Operation::OpenChunk { policy_of: InodeId::ROOT, placement: None };
    assert_eq!(d.ask(none), Err(FsError::TooFewNodes { available: 0, needed: 2 }));
    let mut one = placement().unwrap();
    one.replicas.truncate(1);
    let writer = d.writer(1);
    let tail = Operation::OpenTail { ino, generation: Generation(0), writer, placement: Some(one) };
    assert_eq!(d.ask(tail), Err(FsError::TooFewNodes { available: 1, needed: 2 }));
}

#[test]
fn a_request_is_applied_once() {
    let mut d = Driver::new();
    let first = d.ask_at(5, create("/f", Vec::new()));
    let inode = first.clone().unwrap().inode.unwrap();
    d.unlink_at(6, "/f");
    assert_eq!(d.ask_at(5, create("/f", Vec::new())), Err(FsError::StaleSequence { sequence: Sequence(5) }));
    let second = d.ask_at(7, create("/f", Vec::new()));
    assert_ne!(second.clone().unwrap().inode.unwrap().ino, inode.ino);
    assert_eq!(d.ask_at(7, create("/f", Vec::new())), second, "the kept reply");
    assert_eq!(read::cluster(&d.store).unwrap().counts.inodes, 2);
    d.check();
}

#[test]
fn a_session_keeps_1024_replies_and_no_more() {
    let mut d = Driver::new();
    let request = |d: &mut Driver, sequence: u64, below: u64| {
        d.propose(Command::Request {
            session: d.session,
            sequence: Sequence(sequence),
            acknowledged_below: Sequence(below),
            operation: Operation::Unlink { target: Target::path("/none") },
        })
    };
    for sequence in 1..=1024 {
        assert_eq!(request(&mut d, sequence, 1), Err(FsError::NotFound));
    }
    assert_eq!(request(&mut d, 1025, 1), Err(FsError::TooManyReplies));
    assert_eq!(request(&mut d, 1024, 1), Err(FsError::NotFound), "a kept one is answered still");
    d.check();
    assert_eq!(request(&mut d, 1025, 2), Err(FsError::NotFound));
    d.ok(Command::Acknowledge { session: d.session, below: Sequence(1000) });
    assert_eq!(request(&mut d, 999, 1), Err(FsError::StaleSequence { sequence: Sequence(999) }));
    d.check();
}

#[test]
fn the_end_of_a_session_seals_what_it_alone_wrote() {
    let mut d = Driver::new();
    let shared = d.shared_chunk();
    let (alone, both) = (d.file("/alone"), d.file("/both"));
    let own = d.open_tail(alone, 0, 1).unwrap().chunk.unwrap().chunk;
    let common = d.open_tail(both, 0, 1).unwrap().chunk.unwrap().chunk;
    let first = d.session;
    d.session = d.ok(Command::OpenSession { client: "other".into() }).session.unwrap();
    d.sequence = 0;
    d.open_tail(both, 0, 1).unwrap();
    assert_eq!(d.ok(Command::ExpireSession { session: first }).session, None, "done in one step");
    assert_eq!(d.chunk(shared).state, ChunkState::Sealing);
    assert!(!d.chunk(shared).held);
    assert_eq!(d.chunk(own).state, ChunkState::Sealing);
    assert_eq!(d.chunk(common).state, ChunkState::Open, "another session writes it still");
    d.session = first;
    assert_eq!(d.create("/x", Vec::new()), Err(FsError::SessionExpired));
    d.check();
}

#[test]
fn a_session_with_many_chunks_ends_in_steps() {
    let mut d = Driver::new();
    for _ in 0..600 {
        d.shared_chunk();
    }
    let session = d.session;
    let mut steps = 1;
    while d.ok(Command::CloseSession { session }).session.is_some() {
        d.check();
        assert_eq!(d.create("/x", Vec::new()), Err(FsError::SessionExpired), "it is over at once");
        steps += 1;
    }
    assert_eq!(steps, 3);
    assert_eq!(read::cluster(&d.store).unwrap().counts.chunks_sealing, 600);
    d.check();
}

#[test]
fn bytes_are_committed_only_to_chunks_that_the_session_holds() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    d.create("/a", vec![extent(0, 10, chunk, 0)]).unwrap();
    let gone = ChunkId(99);
    assert_eq!(d.create("/b", vec![extent(0, 1, gone, 0)]), Err(FsError::ChunkGone { chunk: gone }));
    assert_eq!(d.stat("/b"), Err(FsError::NotFound), "a refused entry leaves nothing");
    d.close(chunk, 10, Vec::new());
    assert!(d.create("/c", vec![extent(0, 10, chunk, 0)]).is_ok(), "it may share sealed bytes it holds");
    assert_eq!(d.create("/d", vec![extent(0, 11, chunk, 0)]), Err(FsError::ChunkState { chunk }));
    d.unlink("/a");
    d.unlink("/c");
    assert_eq!(waiting(&d, Queue::Garbage), Vec::<u64>::new(), "held: not collected");
    d.done(Operation::ReleaseChunk { chunk });
    assert_eq!(waiting(&d, Queue::Garbage), vec![chunk.0]);
    assert_eq!(d.create("/e", vec![extent(0, 1, chunk, 0)]), Err(FsError::ChunkGone { chunk }));
    d.check();
}

#[test]
fn an_extent_beyond_the_decided_length_is_counted() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    d.create("/lie", vec![extent(0, 10, chunk, 0)]).unwrap();
    d.close(chunk, 4, Vec::new());
    assert_eq!(read::cluster(&d.store).unwrap().counts.extents_beyond_seal, 1);
}

#[test]
fn chunks_go_to_s3_as_a_pack_and_the_pack_goes_with_its_last_chunk() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    d.create("/a", vec![extent(0, 10, chunk, 0)]).unwrap();
    let upload = Command::CreateUpload { assignee: FIRST, chunks: vec![chunk] };
    assert_eq!(d.propose(upload.clone()), Err(FsError::ChunkState { chunk }), "open");
    d.close(chunk, 10, Vec::new());
    d.done(Operation::ReleaseChunk { chunk });
    let counts = read::cluster(&d.store).unwrap().counts;
    assert_eq!((counts.unpersisted_bytes, waiting(&d, Queue::Unpersisted)), (10, vec![chunk.0]));
    let intent = d.ok(upload.clone()).intent.unwrap();
    assert_eq!(d.propose(upload.clone()), Err(FsError::ChunkState { chunk }), "one upload at a time");
    assert_eq!(waiting(&d, Queue::Unpersisted), Vec::<u64>::new());
    d.ok(Command::FailIntent { intent, permanent: false, message: "away".into() });
    assert_eq!(read::intent(&d.store, intent).unwrap().unwrap().message, "away");
    d.ok(Command::FailIntent { intent, permanent: true, message: "no".into() });
    assert_eq!(waiting(&d, Queue::Unpersisted), vec![chunk.0], "it waits for another upload");
    let left = jobs::intents_of(&d.store, FIRST, 10).unwrap();
    assert_eq!(left.len(), 1);
    assert!(matches!(left[0].work, Work::DeletePack { .. }), "the object may be there: {left:?}");
    assert_ne!(left[0].intent, intent, "a late report of the upload finds nothing");
    d.check();
    d.ok(Command::PackDeleted { intent: left[0].intent });
    d.check();
    let intent = d.ok(upload).intent.unwrap();
    d.ok(Command::Reassign { intent, node: SECOND });
    assert_eq!(jobs::intents_of(&d.store, SECOND, 10).unwrap().len(), 1);
    let Work::Upload { pack, .. } = read::intent(&d.store, intent).unwrap().unwrap().work else { panic!() };
    let place = PersistedChunk { chunk, offset: 0, length: 10, crc32c: 1 };
    let persisted = |length| Command::Persisted {
        intent,
        etag: "e".into(),
        places: vec![PersistedChunk { length, ..place }],
        bytes: 10,
    };
    assert_eq!(d.propose(persisted(9)), Err(FsError::InvalidRequest), "not the chunk's length");
    d.ok(persisted(10));
    assert_eq!(d.propose(persisted(10)), Err(FsError::NotFound), "the intent is done");
    assert_eq!(d.chunk(chunk).place.unwrap().pack, pack);
    assert_eq!(read::unpersisted(&d.store, d.stat("/a").unwrap().ino).unwrap().0, 0);
    assert_eq!(read::cluster(&d.store).unwrap().counts.unpersisted_bytes, 0);
    d.check();
    let deletion = Command::CreatePackDeletion { pack, assignee: FIRST };
    assert_eq!(d.propose(deletion.clone()), Err(FsError::InvalidRequest), "live");
    d.unlink("/a");
    assert_eq!(waiting(&d, Queue::DeadPacks), vec![pack.0]);
    let intent = d.ok(deletion).intent.unwrap();
    assert_eq!(waiting(&d, Queue::DeadPacks), Vec::<u64>::new());
    d.check();
    d.ok(Command::PackDeleted { intent });
    assert_eq!(jobs::pack(&d.store, pack).unwrap(), None);
    d.check();
}

#[test]
fn granted_bytes_are_the_sum_over_open_chunks_that_will_be_persisted() {
    let mut d = Driver::new();
    let granted = |d: &Driver| read::granted(&d.store).unwrap() / GRANT_BYTES_FIRST;
    assert_eq!(granted(&d), 0);
    let shared = d.shared_chunk();
    let ino = d.file("/f");
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    assert_eq!(granted(&d), 2);
    let (epoch, grant_bytes) = (Epoch(1), 8 * GRANT_BYTES_FIRST);
    d.ok(Command::RenewGrant { chunk: tail, epoch, grant_bytes });
    assert_eq!(granted(&d), 9);
    d.check();
    // A state that was written by a build that kept no sum.
    let mut batch = WriteBatch::default();
    batch.delete(Table::Counters, counters::GRANTED_KEY);
    d.store.write(batch).unwrap();
    d.close(tail, 100, Vec::new());
    assert_eq!(granted(&d), 1, "the seal returns what was granted");
    d.check();
    let policy = Some(Policy { persist: Persist::Never, ..POLICY });
    d.done(Operation::SetPolicy { target: Target::path("/"), policy });
    d.open_tail(ino, 0, 1).unwrap();
    assert_eq!(granted(&d), 1, "what is never persisted is no lag");
    d.done(Operation::ReleaseChunk { chunk: shared });
    assert_eq!(granted(&d), 0);
    d.check();
}

#[test]
fn a_file_of_many_extents_is_purged_in_steps() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    for batch in 0..4 {
        let extents = (0..200).map(|i| extent(2 * (batch * 200 + i), 1, chunk, batch * 200 + i)).collect();
        d.done(Operation::Commit { ino, extents, expected_length: None });
    }
    d.unlink("/f");
    assert_eq!(d.stat("/f"), Err(FsError::NotFound));
    assert_eq!(jobs::orphans(&d.store, None, 10).unwrap(), vec![ino]);
    let mut steps = 0;
    while !jobs::orphans(&d.store, None, 10).unwrap().is_empty() {
        d.check();
        d.ok(Command::Purge { ino });
        steps += 1;
    }
    assert!((2..=3).contains(&steps), "{steps} steps");
    assert_eq!(d.chunk(chunk).live_bytes, 0);
    d.check();
}

#[test]
fn a_disk_keeps_its_node_and_its_retirement() {
    let mut d = Driver::new();
    let again = d.ok(driver::register(FIRST));
    assert_eq!(again.node, Some(FIRST));
    d.ok(Command::RetireDisk { disk: driver::replica(FIRST).disk });
    d.ok(driver::register(FIRST));
    let nodes = jobs::nodes(&d.store).unwrap();
    assert!(nodes.iter().find(|n| n.node == FIRST).unwrap().retired);
    assert_eq!(nodes.len(), 3);
}

#[test]
fn time_never_goes_back() {
    let mut d = Driver::new();
    let before = d.mkdir("/a").mtime;
    d.now -= 500;
    assert_eq!(d.mkdir("/b").mtime, before);
    d.now += 900;
    assert_eq!(d.mkdir("/c").mtime, Timestamp(before.0 + 400));
}

impl Driver {
    fn unlink_at(&mut self, sequence: u64, path: &str) {
        self.ask_at(sequence, Operation::Unlink { target: Target::path(path) }).unwrap();
    }
}
