//! Chunks, tails, queues, held chunks, packs, intents.

use cairn_meta::keys::chunks::{self, ChunkOwner, ChunkRecord, ChunkState, PackPlace, PlacedReplica};
use cairn_meta::keys::counters::{self, ClusterRecord};
use cairn_meta::keys::held;
use cairn_meta::keys::intents::{self, IntentRecord, Work};
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::keys::packs::{self, PackRecord};
use cairn_meta::keys::queues::{self, Queue};
use cairn_meta::keys::removed::{self, RemovedNode};
use cairn_meta::keys::spares::{self, SpareRow};
use cairn_meta::namespace::check::{Counter, Finding};
use cairn_meta::namespace::{jobs, read};
use cairn_meta::store::Table;
use cairn_types::{
    ChunkId, DiskId, Incarnation, IntentId, MountId, NodeId, PackId, SessionId, TailRef, Timestamp,
};

use crate::driver::FIRST;
use crate::names::inode;
use crate::world::{Edit, World};
use crate::{left, mended};

/// Plants damage: exactly `expected` is found, in that order.
fn found(plant: impl FnOnce(&World, &mut Edit<'_>), expected: impl FnOnce(&World) -> Vec<Finding>) {
    let mut world = World::new();
    world.plant(plant);
    assert_eq!(world.found(), expected(&world));
}

fn change(e: &mut Edit<'_>, chunk: ChunkId, change: impl FnOnce(&mut ChunkRecord)) {
    e.change(chunks::key(chunk), change);
}

fn counts(e: &mut Edit<'_>, change: impl FnOnce(&mut ClusterRecord)) {
    e.change(counters::KEY.to_vec(), change);
}

/// When the chunk that waits for S3 was sealed.
fn sealed_at(w: &World, chunk: ChunkId) -> Timestamp {
    w.d.chunk(chunk).sealed.unwrap().at
}

fn stray(queue: Queue, order: Timestamp, id: u64) -> Finding {
    Finding::StrayQueueRow { queue: queue as u8, order, id }
}

fn missing(queue: Queue, order: Timestamp, id: u64) -> Finding {
    Finding::MissingQueueRow { queue: queue as u8, order, id }
}

#[test]
fn a_sealed_chunk_without_its_end() {
    let at = sealed_at(&World::new(), World::new().waiting);
    found(
        |w, e| change(e, w.waiting, |chunk| chunk.sealed = None),
        |w| {
            let recorded = read::cluster(&w.d.store).unwrap().counts.unpersisted_bytes;
            vec![
                Finding::SealedUndecided { chunk: w.waiting },
                stray(Queue::Unpersisted, at, w.waiting.0),
                Finding::WrongCount { counter: Counter::UnpersistedBytes, recorded, counted: recorded - 100 },
            ]
        },
    );
}

#[test]
fn a_holder_that_is_no_replica() {
    let node = NodeId(103);
    left(
        |w, e| change(e, w.waiting, |chunk| chunk.sealed.as_mut().unwrap().holders.push(node)),
        |w| vec![Finding::HolderNotReplica { chunk: w.waiting, node }],
    );
}

#[test]
fn live_bytes_that_nobody_holds() {
    left(
        |w, e| {
            let record = w.d.chunk(w.waiting);
            let (opened, id) = (record.activation.time, record.chunk.0);
            change(e, w.waiting, |chunk| chunk.sealed.as_mut().unwrap().holders.clear());
            e.mark(Table::Queues, queues::key(Queue::Surplus, sealed_at(w, w.waiting), id));
            e.mark(Table::Queues, queues::key(Queue::UnderReplicated, opened, id));
            counts(e, |cluster| cluster.counts.under_replicated += 1);
        },
        |w| vec![Finding::NobodyHolds { chunk: w.waiting }],
    );
}

#[test]
fn a_removed_node_that_is_named() {
    let (node, disk) = (NodeId(77), DiskId([77; 16]));
    left(
        |w, e| {
            let struck = Some(Timestamp(2));
            e.put(removed::key(disk), &RemovedNode { disk, node, at: Timestamp(1), struck });
            let replica = PlacedReplica { node, disk, incarnation: Incarnation(1) };
            change(e, w.waiting, |chunk| chunk.replicas.push(replica));
            e.mark(Table::Queues, queues::key(Queue::Surplus, sealed_at(w, w.waiting), w.waiting.0));
        },
        |w| vec![Finding::NamesRemoved { chunk: w.waiting, node }],
    );
}

#[test]
fn a_tail_and_its_file_that_contradict_each_other() {
    let set = |w: &World, e: &mut Edit<'_>, tail| {
        e.change(nodes::key(w.a, b"log"), |row: &mut NodeRow| inode(row).tail = tail);
    };
    left(|w, e| set(w, e, None), |w| vec![Finding::WrongTail { ino: w.log, chunk: w.tail }]);
    left(
        |w, e| set(w, e, Some(TailRef { chunk: ChunkId(999), base: 0 })),
        |w| [ChunkId(999), w.tail].map(|chunk| Finding::WrongTail { ino: w.log, chunk }).to_vec(),
    );
}

#[test]
fn what_is_missing_in_a_queue_is_put_there() {
    mended(
        |w, e| {
            let key = queues::key(Queue::Unpersisted, sealed_at(w, w.waiting), w.waiting.0);
            e.delete(Table::Queues, key);
        },
        |w| vec![missing(Queue::Unpersisted, sealed_at(w, w.waiting), w.waiting.0)],
    );
}

#[test]
fn what_does_not_belong_into_a_queue_goes() {
    for queue in [Queue::Open, Queue::Garbage, Queue::DeadPacks] {
        mended(
            |w, e| e.mark(Table::Queues, queues::key(queue, Timestamp(5), w.waiting.0)),
            |w| vec![stray(queue, Timestamp(5), w.waiting.0)],
        );
    }
}

#[test]
fn a_dead_pack_that_nobody_deletes_waits_again() {
    let w = mended(
        |w, e| e.change(packs::key(w.dead_pack), |pack: &mut PackRecord| pack.deletion = None),
        |w| {
            let order = jobs::pack(&w.d.store, w.dead_pack).unwrap().unwrap().created;
            let waits = missing(Queue::DeadPacks, order, w.dead_pack.0);
            vec![waits, Finding::StrayIntent { intent: w.deletion }]
        },
    );
    assert_eq!(jobs::queue(&w.d.store, Queue::DeadPacks, None, 10).unwrap().len(), 1);
}

#[test]
fn a_held_chunk_is_listed_and_what_is_not_held_is_not() {
    mended(
        |w, e| e.delete(Table::Held, held::key(w.d.session, w.held)),
        |w| vec![Finding::MissingHeld { session: w.d.session, chunk: w.held }],
    );
    mended(
        |w, e| e.mark(Table::Held, held::key(w.d.session, w.waiting)),
        |w| vec![Finding::StrayHeld { session: w.d.session, chunk: w.waiting }],
    );
}

#[test]
fn a_spare_that_follows_nothing_is_given_up() {
    let w = mended(
        |w, e| e.delete(Table::Spares, spares::key(w.filling)),
        |w| vec![Finding::LostSpare { chunk: w.spare }],
    );
    assert_eq!(w.d.chunk(w.spare).state, ChunkState::Sealing);
    let w = mended(
        |w, e| e.put(spares::key(w.waiting), &SpareRow { chunk: w.packed }),
        |w| vec![Finding::StraySpare { tail: w.waiting }],
    );
    assert_eq!(w.d.chunk(w.packed).state, ChunkState::Sealed);
}

#[test]
fn a_chunk_held_for_nobody_is_let_go() {
    let session = SessionId(999);
    let w = mended(
        |w, e| {
            change(e, w.held, |chunk| chunk.owner = ChunkOwner::Session(session));
            e.delete(Table::Held, held::key(w.d.session, w.held));
            e.mark(Table::Held, held::key(session, w.held));
        },
        |w| vec![Finding::HeldForNobody { session, chunk: w.held }],
    );
    assert!(!w.d.chunk(w.held).held);
}

fn pack_counts(w: &World, recorded: (u32, u64), counted: (u32, u64), chunks: Vec<ChunkId>) -> Finding {
    Finding::PackCounts {
        pack: w.pack,
        recorded_chunks: recorded.0,
        recorded_bytes: recorded.1,
        counted_chunks: counted.0,
        counted_bytes: counted.1,
        chunks,
    }
}

#[test]
fn a_chunk_in_a_pack_that_is_gone() {
    found(
        |w, e| {
            change(e, w.packed, |chunk| {
                chunk.place = chunk.place.map(|place| PackPlace { pack: PackId(999), ..place });
            });
        },
        |w| {
            let none = pack_counts(w, (1, 100), (0, 0), Vec::new());
            vec![none, Finding::NoPack { chunk: w.packed, pack: PackId(999) }]
        },
    );
}

#[test]
fn a_pack_s_counts_become_the_sums_of_its_chunks() {
    mended(
        |w, e| {
            e.change(packs::key(w.pack), |pack: &mut PackRecord| {
                (pack.live_chunks, pack.live_bytes) = (0, 5);
            });
        },
        |w| {
            let order = jobs::pack(&w.d.store, w.pack).unwrap().unwrap().created;
            let wrong = pack_counts(w, (0, 5), (1, 100), vec![w.packed]);
            vec![wrong, missing(Queue::DeadPacks, order, w.pack.0)]
        },
    );
}

#[test]
fn a_chunk_that_waits_for_an_upload_that_is_over_waits_for_another() {
    mended(
        |w, e| change(e, w.waiting, |chunk| chunk.upload = Some(IntentId(999))),
        |w| {
            let gone = Finding::UploadGone { chunk: w.waiting, intent: IntentId(999) };
            vec![gone, stray(Queue::Unpersisted, sealed_at(w, w.waiting), w.waiting.0)]
        },
    );
}

#[test]
fn a_pack_that_waits_for_a_deletion_that_is_over_waits_for_another() {
    mended(
        |w, e| {
            e.delete(Table::Intents, intents::key(w.deletion));
            counts(e, |cluster| cluster.counts.intents -= 1);
        },
        |w| vec![Finding::DeletionGone { pack: w.dead_pack, intent: w.deletion }],
    );
}

#[test]
fn an_intent_that_nothing_waits_for_ends() {
    let mut made = IntentId(0);
    mended(
        |w, e| {
            made = read::cluster(&w.d.store).unwrap().next.intent;
            let work = Work::Import {
                mount: MountId(1),
                directory: w.data,
                prefix: Vec::new(),
                start_after: Vec::new(),
            };
            let known: IntentRecord = e.get(&intents::key(w.import));
            e.put(intents::key(made), &IntentRecord { intent: made, work, ..known });
            counts(e, |cluster| {
                cluster.counts.intents += 1;
                cluster.next.intent = made.next();
            });
        },
        |w| vec![Finding::StrayIntent { intent: w.import.next() }],
    );
    // An upload: what it may have left in S3 is deleted.
    let w = mended(
        |w, e| change(e, w.uploading, |chunk| chunk.upload = None),
        |w| {
            let waits = missing(Queue::Unpersisted, sealed_at(w, w.uploading), w.uploading.0);
            vec![waits, Finding::StrayIntent { intent: w.upload }]
        },
    );
    let left = jobs::intents_of(&w.d.store, FIRST, 10).unwrap();
    assert_eq!(left.iter().filter(|i| matches!(i.work, Work::DeletePack { .. })).count(), 2);
}

#[test]
fn a_pack_that_would_be_deleted_then_is_left() {
    left(
        |w, e| {
            e.change(packs::key(w.dead_pack), |pack: &mut PackRecord| {
                (pack.live_chunks, pack.live_bytes) = (2, 20);
            });
        },
        |w| {
            vec![Finding::PackCounts {
                pack: w.dead_pack,
                recorded_chunks: 2,
                recorded_bytes: 20,
                counted_chunks: 0,
                counted_bytes: 0,
                chunks: jobs::queue(&w.d.store, Queue::Garbage, None, 9)
                    .unwrap()
                    .into_iter()
                    .map(|waiting| ChunkId(waiting.id))
                    .collect(),
            }]
        },
    );
}
