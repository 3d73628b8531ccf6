//! The bytes of one row of each table are pinned in golden.txt: a change of format must be meant,
//! raise the record's format byte, and be told in docs/FORMAT.md.

use cairn_types::{
    ChunkId, DiskId, ExtentSource, FileKind, FsError, InodeId, IntentId, LockKind, LockMode, LockOwner,
    LogIndex, MountId, NodeId, PackId, Sequence, SessionId, Timestamp, WriterId,
};

use super::contents::ContentId;
use super::mounts::{MountRecord, MountSource};
use super::queues::Queue;
use super::samples::{chunk, cluster, content, disk, inode, intent, mark, object};
use super::*;
use crate::namespace::reply::LockAnswer;
use crate::namespace::{Answer, reply};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares with the line `name key value` of golden.txt, where `-` is no bytes.
fn pinned(name: &str, key: &[u8], value: &[u8]) {
    let shown = |bytes: &[u8]| if bytes.is_empty() { "-".to_owned() } else { hex(bytes) };
    let line = format!("{name} {} {}", shown(key), shown(value));
    let text = std::fs::read_to_string("src/keys/golden.txt").unwrap();
    let known = text.lines().find(|l| l.split(' ').next() == Some(name));
    assert_eq!(Some(line.as_str()), known);
}

fn by() -> LockOwner {
    LockOwner { session: SessionId(1), owner: 9 }
}

/// A reply as it was written before there were locks.
#[test]
fn a_reply_of_the_format_before_is_read() {
    let text = std::fs::read_to_string("src/keys/replies-before-locks.txt").unwrap();
    let bytes = |name: &str| -> Vec<u8> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
    };
    let answer = Answer { inode: Some(inode()), node: Some(NodeId(300)), ..Answer::default() };
    assert_eq!(reply::from_bytes(&bytes("replies ")), Ok(Ok(answer)));
    assert_eq!(
        reply::from_bytes(&bytes("replies_refused ")),
        Ok(Err(FsError::TailOpen { chunk: ChunkId(9) }))
    );
}

macro_rules! golden {
    ($($name:ident: $key:expr, $value:expr;)*) => {
        $(#[test]
        fn $name() {
            let (key, value): (Vec<u8>, Vec<u8>) = ($key, $value);
            pinned(stringify!($name), &key, &value);
        })*
    };
}

golden! {
    nodes: nodes::key(InodeId(1), b"name"), nodes::NodeRow::Inode(inode()).to_bytes();
    nodes_link: nodes::key(InodeId(1), b"l"),
        nodes::NodeRow::Link { ino: InodeId(7), kind: FileKind::Symlink }.to_bytes();
    nodes_device: nodes::key(InodeId(1), b"d"),
        nodes::NodeRow::Link { ino: InodeId(7), kind: samples::device() }.to_bytes();
    nodes_fifo: nodes::key(InodeId(1), b"p"),
        nodes::NodeRow::Link { ino: InodeId(7), kind: FileKind::Fifo }.to_bytes();
    xattrs: xattrs::key(InodeId(7), b"user.n"), xattrs::XattrRow { value: b"v".to_vec() }.to_bytes();
    xattrs_totals: xattrs::totals_key(InodeId(7)), xattrs::XattrTotals { count: 1, bytes: 300 }.to_bytes();
    places: places::key(InodeId(7)), places::Place { parent: InodeId(1), name: b"name".to_vec() }.to_bytes();
    links: links::key(InodeId(7), InodeId(1), b"l"), PRESENT.to_vec();
    orphans: orphans::key(InodeId(7)), orphans::Orphan { inode: inode(), since: Some(LogIndex(300)) }.to_bytes();
    denials: holds::denial_key(SessionId(1)), holds::Denial { number: 2, upto: LogIndex(300), held: 1 }.to_bytes();
    holds_denied: holds::Hold::Denied(LogIndex(300), SessionId(1)).key(), PRESENT.to_vec();
    holds_undecided: holds::Hold::Undecided(LogIndex(300), InodeId(7)).key(), PRESENT.to_vec();
    holds_holder: holds::Hold::Holder(InodeId(7), SessionId(1)).key(), PRESENT.to_vec();
    holds_holding: holds::Hold::Holding(SessionId(1), InodeId(7)).key(), PRESENT.to_vec();
    extents: extents::key(InodeId(7), 4096), extents::ExtentRow {
        length: 512, source: ExtentSource::Chunk { chunk: ChunkId(9), offset: 64 } }.to_bytes();
    extents_object: extents::key(InodeId(7), 0), extents::ExtentRow { length: 1, source: object() }.to_bytes();
    chunks: chunks::key(ChunkId(9)), chunk().to_bytes();
    queues: queues::key(Queue::Unpersisted, Timestamp(-1), 9), PRESENT.to_vec();
    held: held::key(SessionId(1), ChunkId(9)), PRESENT.to_vec();
    spares: spares::key(ChunkId(9)), spares::SpareRow { chunk: ChunkId(300) }.to_bytes();
    chunks_spare: chunks::key(ChunkId(9)), chunks::ChunkRecord {
        state: chunks::ChunkState::Spare, sealed: None, upload: None, place: None, ..chunk() }.to_bytes();
    packs: packs::key(PackId(4)), packs::PackRecord {
        pack: PackId(4), key: "k".into(), etag: "e".into(), bytes: 70_064, live_chunks: 1, live_bytes: 70_000,
        created: Timestamp(6), deletion: Some(IntentId(5)) }.to_bytes();
    mounts: mounts::key(MountId(2)), MountRecord {
        mount: MountId(2), root: InodeId(6), created: Timestamp(1), source: MountSource {
            bucket: "b".into(), prefix: "p/".into(), endpoint: "http://h".into(), region: "r".into(),
            refresh_ms: 60_000, force_path_style: true } }.to_bytes();
    keys: objects::key(MountId(2), b"p/k"),
        objects::ObjectRow { ino: InodeId(7), etag: "e".into(), size: 1 }.to_bytes();
    imports: imports::key(InodeId(6)), imports::ImportRecord {
        mount: MountId(2), prefix: b"p/".to_vec(), imported_at: Some(Timestamp(3)), intent: Some(IntentId(6)),
        }.to_bytes();
    disks: disks::key(DiskId([0xd1; 16])), disk().to_bytes();
    removed: removed::key(DiskId([0xd1; 16])), samples::removed().to_bytes();
    sessions: sessions::key(SessionId(1)), sessions::SessionRecord {
        session: SessionId(1), client: "c".into(), opened: Timestamp(1), acknowledged_below: Sequence(3),
        replies: 2, closing: true, checked: true }.to_bytes();
    credentials: credentials::key(SessionId(1)), samples::credentials().to_bytes();
    replies: sessions::reply_key(SessionId(1), Sequence(4)),
        reply::to_bytes(&Ok(Answer { inode: Some(inode()), node: Some(NodeId(300)), ..Answer::default() }));
    replies_locked: sessions::reply_key(SessionId(1), Sequence(6)),
        reply::to_bytes(&Ok(Answer { lock: Some(LockAnswer::Held { fence: LogIndex(300) }), ..Answer::default() }));
    replies_refused: sessions::reply_key(SessionId(1), Sequence(5)),
        reply::to_bytes(&Err(FsError::TailOpen { chunk: ChunkId(9) }));
    replies_steps: sessions::reply_key(SessionId(1), Sequence(6)),
        reply::to_bytes(&Ok(Answer { steps: vec![Some(inode()), None], ..Answer::default() }));
    writers: writers::key(InodeId(7), WriterId(1 << 20)),
        writers::WriterRow { sequence: mark().sequence, offset: mark().offset }.to_bytes();
    writing: writers::writing_key(WriterId(1 << 20), InodeId(7)), PRESENT.to_vec();
    intents: intents::key(IntentId(3)), intent().to_bytes();
    intents_compact: intents::key(IntentId(3)), samples::compaction().to_bytes();
    intents_merge: intents::key(IntentId(3)), samples::merge().to_bytes();
    counters: counters::KEY.to_vec(), cluster().to_bytes();
    counters_contents: counters::CONTENTS_KEY.to_vec(), counters::ContentCounter { made: 2 }.to_bytes();
    counters_granted: counters::GRANTED_KEY.to_vec(), counters::Granted { bytes: 1 << 20 }.to_bytes();
    counters_servers: servers::KEY.to_vec(), samples::servers().to_bytes();
    counters_level: levels::KEY.to_vec(),
        levels::ClusterLevel { level: cairn_types::FeatureLevel(300) }.to_bytes();
    counters_repaired: counters::repaired_key("inodes"), counters::Repaired { at: LogIndex(33) }.to_bytes();
    counters_load: loads::KEY.to_vec(), samples::load().to_bytes();
    contents: contents::key(InodeId(7)), content().to_bytes();
    events_created: events::key(LogIndex(300), 2), samples::events()[0].to_bytes();
    events_removed: events::key(LogIndex(300), 2), samples::events()[1].to_bytes();
    events_renamed: events::key(LogIndex(300), 2), samples::events()[2].to_bytes();
    events_exchanged: events::key(LogIndex(300), 2), samples::events()[3].to_bytes();
    events_content: events::key(LogIndex(300), 2), samples::events()[4].to_bytes();
    events_attributes: events::key(LogIndex(300), 2), samples::events()[5].to_bytes();
    events_policy: events::key(LogIndex(300), 2), samples::events()[6].to_bytes();
    events_mount_added: events::key(LogIndex(300), 2), samples::events()[7].to_bytes();
    events_mount_removed: events::key(LogIndex(300), 2), samples::events()[8].to_bytes();
    events_imported: events::key(LogIndex(300), 2), samples::events()[9].to_bytes();
    counters_events: counters::EVENTS_KEY.to_vec(),
        counters::EventCounter { first: LogIndex(300), first_number: 2, kept: 1000 }.to_bytes();
    locks: locks::key(InodeId(7), LockKind::Range, 5, by()), locks::LockRecord {
        last: u64::MAX, mode: LockMode::Exclusive, fence: LogIndex(300) }.to_bytes();
    lock_waits: locks::wait_key(InodeId(7), LockKind::Flock, LogIndex(301)), locks::WaitRecord {
        by: by(), start: 0, last: 4095, mode: LockMode::Shared }.to_bytes();
    lockers: locks::locker_key(SessionId(1)), locks::LockerRecord { locks: 1, waits: 1 }.to_bytes();
    lockers_held: locks::part_key(locks::Part::Held, by(), LockKind::Range, InodeId(7), 5), PRESENT.to_vec();
    lockers_waiting: locks::part_key(locks::Part::Waiting, by(), LockKind::Flock, InodeId(7), 301),
        PRESENT.to_vec();
    counters_trees: counters::TREES_KEY.to_vec(), counters::Trees { pending: 1, purged: 300 }.to_bytes();
    trees: trees::key(InodeId(6)), samples::removed_tree().to_bytes();
    branches: trees::branch_key(InodeId(6), 1), samples::branch().to_bytes();
    detached: contents::detached_key(ContentId(7)), contents::DetachedRow { from: 4096 }.to_bytes();
    mount_modes: mount_modes::key(MountId(2)), samples::mount_mode().to_bytes();
    mount_counts: mount_counts::key(MountId(2)), samples::mount_counts().to_bytes();
    homes: homes::key(InodeId(7)), homes::Home { mount: MountId(2), key: b"p/k".to_vec() }.to_bytes();
    pending: pending::key(MountId(2), InodeId(7)), samples::pending().to_bytes();
    pending_since: pending::since_key(MountId(2), Timestamp(-1), InodeId(7)), PRESENT.to_vec();
    surplus: surplus::key(MountId(2), b"p/k"),
        surplus::SurplusRow { since: Timestamp(9), intent: Some(IntentId(3)) }.to_bytes();
    moves: moves::key(MountId(2), b"p/d/"), moves::MoveRow { directory: InodeId(6) }.to_bytes();
    readings: readings::key(MountId(2), b"p/", IntentId(3)), PRESENT.to_vec();
    shields: readings::shield(IntentId(3), b"p/k"), PRESENT.to_vec();
    claims: claims::key(MountId(2), b"p/k"), claims::ClaimRow { intent: IntentId(3) }.to_bytes();
    pictures: pictures::key(IntentId(3)), samples::picture().to_bytes();
    keeps: pictures::keep_key(InodeId(7)), samples::keep().to_bytes();
    keeps_content: pictures::kept_key(ContentId(7)), PRESENT.to_vec();
    conflicts: conflicts::key(MountId(2), 300), conflicts::ConflictRow {
        key: b"p/k".to_vec(), time: Timestamp(9), expected_etag: "e".into(), found_etag: "f".into(),
        kept: Some(InodeId(8)), rule: mount_modes::ConflictRule::Bucket, what: "w".into() }.to_bytes();
    intents_put_object: intents::key(IntentId(3)), samples::put_object().to_bytes();
    intents_delete_object: intents::key(IntentId(3)), samples::delete_object().to_bytes();
    intents_probe_mount: intents::key(IntentId(3)), samples::probe_mount().to_bytes();
}
