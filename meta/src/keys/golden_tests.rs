//! The bytes of one row of each table are pinned in golden.txt: a change of format must be meant,
//! raise the record's format byte, and be told in docs/FORMAT.md.

use cairn_types::{
    ChunkId, DiskId, ExtentSource, FileKind, FsError, InodeId, IntentId, LogIndex, MountId, NodeId, PackId,
    Sequence, SessionId, Timestamp, WriterId,
};

use super::contents::ContentId;
use super::mounts::{MountRecord, MountSource};
use super::queues::Queue;
use super::samples::{chunk, cluster, content, disk, inode, intent, mark, object};
use super::*;
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
    places: places::key(InodeId(7)), places::Place { parent: InodeId(1), name: b"name".to_vec() }.to_bytes();
    links: links::key(InodeId(7), InodeId(1), b"l"), PRESENT.to_vec();
    orphans: orphans::key(InodeId(7)), orphans::Orphan { inode: inode() }.to_bytes();
    extents: extents::key(InodeId(7), 4096), extents::ExtentRow {
        length: 512, source: ExtentSource::Chunk { chunk: ChunkId(9), offset: 64 } }.to_bytes();
    extents_object: extents::key(InodeId(7), 0), extents::ExtentRow { length: 1, source: object() }.to_bytes();
    chunks: chunks::key(ChunkId(9)), chunk().to_bytes();
    queues: queues::key(Queue::Unpersisted, Timestamp(-1), 9), PRESENT.to_vec();
    held: held::key(SessionId(1), ChunkId(9)), PRESENT.to_vec();
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
        replies: 2, closing: true }.to_bytes();
    replies: sessions::reply_key(SessionId(1), Sequence(4)),
        reply::to_bytes(&Ok(Answer { inode: Some(inode()), node: Some(NodeId(300)), ..Answer::default() }));
    replies_refused: sessions::reply_key(SessionId(1), Sequence(5)),
        reply::to_bytes(&Err(FsError::TailOpen { chunk: ChunkId(9) }));
    writers: writers::key(InodeId(7), WriterId(1 << 20)),
        writers::WriterRow { sequence: mark().sequence, offset: mark().offset }.to_bytes();
    writing: writers::writing_key(WriterId(1 << 20), InodeId(7)), PRESENT.to_vec();
    intents: intents::key(IntentId(3)), intent().to_bytes();
    counters: counters::KEY.to_vec(), cluster().to_bytes();
    counters_contents: counters::CONTENTS_KEY.to_vec(), counters::ContentCounter { made: 2 }.to_bytes();
    counters_granted: counters::GRANTED_KEY.to_vec(), counters::Granted { bytes: 1 << 20 }.to_bytes();
    counters_repaired: counters::repaired_key("inodes"), counters::Repaired { at: LogIndex(33) }.to_bytes();
    contents: contents::key(InodeId(7)), content().to_bytes();
    detached: contents::detached_key(ContentId(7)), contents::DetachedRow { from: 4096 }.to_bytes();
}
