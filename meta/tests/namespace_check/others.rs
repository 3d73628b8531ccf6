//! Mounts, sessions, writers, counters.

use cairn_meta::keys::counters::{self, ClusterRecord, ContentCounter, Granted};
use cairn_meta::keys::holds::{self, Denial, Hold};
use cairn_meta::keys::imports::{self, ImportRecord};
use cairn_meta::keys::mounts::{self, MountRecord};
use cairn_meta::keys::objects::{self, ObjectRow};
use cairn_meta::keys::orphans::{self, Orphan};
use cairn_meta::keys::sessions::{self, SessionRecord};
use cairn_meta::keys::writers::{self, WriterRow};
use cairn_meta::namespace::check::{Counter, Finding};
use cairn_meta::namespace::{Answer, read, reply};
use cairn_meta::store::Table;
use cairn_types::{
    ChunkId, InodeId, IntentId, LogIndex, MountId, NodeId, PackId, Sequence, SessionId, Timestamp,
};

use crate::world::World;
use crate::{left, mended, mended_of};

const MOUNT: MountId = MountId(1);

#[test]
fn an_object_of_a_file_that_is_gone_goes() {
    mended(
        |_, e| {
            let row = ObjectRow { ino: InodeId(999), etag: "e".into(), size: 5 };
            e.put(objects::key(MOUNT, b"p/ghost"), &row);
        },
        |_| vec![Finding::StrayKey { mount: MOUNT, key: b"p/ghost".to_vec(), ino: InodeId(999) }],
    );
    mended(
        |w, e| {
            let row = ObjectRow { ino: w.mount_file, etag: "e".into(), size: 5 };
            e.put(objects::key(MOUNT, b"p/y"), &row);
        },
        |w| vec![Finding::StrayKey { mount: MOUNT, key: b"p/y".to_vec(), ino: w.mount_file }],
    );
}

#[test]
fn a_file_of_a_mount_without_its_object() {
    left(
        |_, e| e.delete(Table::Keys, objects::key(MOUNT, b"p/x")),
        |w| vec![Finding::MissingKey { ino: w.mount_file }],
    );
}

#[test]
fn an_import_of_what_is_no_directory_of_the_mount_goes() {
    mended(
        |w, e| {
            let prefix = b"p/".to_vec();
            let import = ImportRecord { mount: MOUNT, prefix, imported_at: Some(Timestamp(1)), intent: None };
            e.put(imports::key(w.data), &import);
        },
        |w| vec![Finding::StrayImport { ino: w.data }],
    );
}

#[test]
fn a_directory_of_a_mount_of_which_nothing_is_known() {
    let mut w = World::new();
    w.plant(|w, e| e.delete(Table::Imports, imports::key(w.mount_dir)));
    let missing = Finding::MissingImport { ino: w.mount_dir };
    assert_eq!(w.found(), [missing.clone(), Finding::StrayIntent { intent: w.import }]);
    assert!(!missing.is_repairable());
}

#[test]
fn a_mount_without_its_root() {
    left(
        |w, e| e.change(mounts::key(MOUNT), |mount: &mut MountRecord| mount.root = w.data),
        |w| vec![Finding::NoMountRoot { mount: MOUNT, ino: w.data }],
    );
}

fn replies(w: &World, recorded: u32, counted: u32) -> Finding {
    Finding::ReplyCount { session: w.d.session, recorded, counted }
}

#[test]
fn kept_replies_are_counted_and_acknowledged_ones_go() {
    let change = |count: u32, acknowledged: u64| {
        move |session: &mut SessionRecord| {
            session.replies += count;
            session.acknowledged_below.0 += acknowledged;
        }
    };
    mended(|w, e| e.change(sessions::key(w.d.session), change(8, 0)), |w| vec![replies(w, 9, 1)]);
    mended(|w, e| e.change(sessions::key(w.d.session), change(0, 100)), |w| vec![replies(w, 1, 1)]);
    mended(
        |w, e| e.delete(Table::Replies, sessions::reply_key(w.d.session, Sequence(w.d.sequence))),
        |w| vec![replies(w, 1, 0)],
    );
}

#[test]
fn replies_of_nobody_go() {
    mended(
        |_, e| {
            let bytes = reply::to_bytes(&Ok(Answer::default()));
            e.raw(Table::Replies, sessions::reply_key(SessionId(0), Sequence(1)), &bytes);
        },
        |_| vec![Finding::StrayReplies { session: SessionId(0) }],
    );
}

#[test]
fn a_writer_of_nothing_goes() {
    let ino = InodeId(999);
    mended(
        |w, e| {
            let writer = w.d.writer(5);
            e.put(writers::key(ino, writer), &WriterRow::default());
            e.mark(Table::Writing, writers::writing_key(writer, ino));
        },
        |w| vec![Finding::StrayWriter { ino, writer: w.d.writer(5) }],
    );
}

#[test]
fn a_writer_is_listed_and_what_is_none_is_not() {
    mended(
        |w, e| e.delete(Table::Writing, writers::writing_key(w.d.writer(1), w.log)),
        |w| vec![Finding::UnlistedWriter { ino: w.log, writer: w.d.writer(1) }],
    );
    mended(
        |w, e| e.mark(Table::Writing, writers::writing_key(w.d.writer(5), w.data)),
        |w| vec![Finding::StrayWriting { ino: w.data, writer: w.d.writer(5) }],
    );
}

const COUNTED: [Counter; 10] = [
    Counter::Inodes,
    Counter::ChunksOpen,
    Counter::ChunksSealing,
    Counter::ChunksSealed,
    Counter::UnderReplicated,
    Counter::UnpersistedBytes,
    Counter::Packs,
    Counter::Sessions,
    Counter::Intents,
    Counter::GrantedBytes,
];

/// The counts in that order.
fn counts(cluster: &mut ClusterRecord) -> [&mut u64; 9] {
    let counts = &mut cluster.counts;
    [
        &mut counts.inodes,
        &mut counts.chunks_open,
        &mut counts.chunks_sealing,
        &mut counts.chunks_sealed,
        &mut counts.under_replicated,
        &mut counts.unpersisted_bytes,
        &mut counts.packs,
        &mut counts.sessions,
        &mut counts.intents,
    ]
}

#[test]
fn counts_become_what_there_is() {
    let mut sound = read::cluster(&World::new().d.store).unwrap();
    let mut counted: Vec<u64> = counts(&mut sound).map(|count| *count).to_vec();
    counted.push(read::granted(&World::new().d.store).unwrap());
    mended(
        |_, e| {
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| {
                counts(cluster).into_iter().for_each(|count| *count += 3);
            });
            e.change(counters::GRANTED_KEY.to_vec(), |granted: &mut Granted| granted.bytes += 3);
        },
        |_| {
            let wrong = |(counter, counted): (Counter, u64)| Finding::WrongCount {
                counter,
                recorded: counted + 3,
                counted,
            };
            COUNTED.into_iter().zip(counted).map(wrong).collect()
        },
    );
}

#[test]
fn a_count_is_mended_while_what_is_counted_comes_and_goes_and_once() {
    let mut w = World::new();
    w.plant(|_, e| {
        e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| cluster.counts.inodes += 9);
    });
    let found = w.found();
    let [finding] = &found[..] else { panic!("{found:?}") };
    let seen = cairn_types::LogIndex(w.d.index);
    w.d.file("/a/new");
    let command = cairn_meta::namespace::Command::Repair { seen, finding: finding.clone() };
    w.d.ok(command.clone());
    w.d.unlink("/a/new");
    w.d.unlink("/a/data");
    assert_eq!(w.d.propose(command), Err(cairn_types::FsError::NotFound), "once");
    assert_eq!(w.found(), []);
    w.d.check();
}

#[test]
fn the_next_ids_are_beyond_those_in_use() {
    let sound = read::cluster(&World::new().d.store).unwrap().next;
    mended(
        |_, e| {
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| {
                let next = &mut cluster.next;
                next.inode = InodeId(3);
                next.chunk = ChunkId(1);
                next.session = SessionId(1);
                next.node = NodeId(102);
                next.pack = PackId(2);
                next.mount = MountId(1);
                next.intent = IntentId(1);
            });
            e.put(counters::CONTENTS_KEY.to_vec(), &ContentCounter { made: 0 });
        },
        |_| {
            let all = [
                (Counter::Inodes, 3, sound.inode.0 - 1),
                (Counter::Chunks, 1, sound.chunk.0 - 1),
                (Counter::Sessions, 1, 1),
                (Counter::Nodes, 102, 103),
                (Counter::Packs, 2, sound.pack.0 - 1),
                (Counter::Mounts, 1, 1),
                (Counter::Intents, 1, sound.intent.0 - 1),
                (Counter::Contents, 1, 1),
            ];
            all.map(|(counter, next, used)| Finding::NextId { counter, next, used }).to_vec()
        },
    );
}

#[test]
fn a_number_far_off_is_no_id() {
    let mut w = World::new();
    let finding = Finding::NextId { counter: Counter::Chunks, next: 9, used: 1 << 60 };
    assert_eq!(w.repair(&finding), Err(cairn_types::FsError::InvalidRequest));
}

#[test]
fn what_is_said_of_unlinked_files_fits_together() {
    let (world, holder) = World::holding();
    assert_eq!(world.found(), []);
    world.d.check();
    mended_of(
        world,
        |_, e| {
            let since = e.get::<Orphan>(&orphans::key(holder.undecided)).since.unwrap();
            e.delete(Table::Holds, Hold::Undecided(since, holder.undecided).key());
        },
        |_| vec![Finding::ForgottenOrphan { ino: holder.undecided }],
    );
    let (world, holder) = World::holding();
    mended_of(
        world,
        |_, e| e.change(holds::denial_key(holder.session), |denial: &mut Denial| denial.held += 1),
        |_| vec![Finding::WrongDenial { session: holder.session }],
    );
    let (world, _) = World::holding();
    let key = Hold::Undecided(LogIndex(1), InodeId(9_999)).key();
    mended_of(
        world,
        |_, e| e.mark(Table::Holds, key.clone()),
        |_| vec![Finding::StrayHold { key: key.clone() }],
    );
}
