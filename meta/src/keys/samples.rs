//! One row of each table, for the golden bytes.

use cairn_types::{
    Ack, Chain, ChunkId, ClusterId, Credentials, DeviceNumber, DiskId, Epoch, ExtentSource, FileKind,
    Generation, Incarnation, Inode, InodeId, IntentId, LogIndex, MountId, NodeId, ObjectKey, PackId, Persist,
    Policy, Sequence, SessionId, TailRef, Timestamp, WriterId, WriterMark,
};

use super::chunks::{Activation, ChunkOwner, ChunkRecord, ChunkState, PackPlace, PlacedReplica, Sealed};
use super::contents::{ContentId, ContentRow, Part};
use super::counters::{ClusterRecord, Counts, NextIds};
use super::disks::{DiskRecord, Drain};
use super::events::{EventKind, EventRow, Site};
use super::intents::{IntentRecord, MergePiece, MergeRun, PackSource, PackedChunk, UploadChunk, Work};
use super::loads::{LoadId, LoadRecord};
use super::mount_counts::MountCounts;
use super::mount_modes::{BucketAccess, ConflictRule, EndpointAbilities, MountMode, MountRules};
use super::pending::PendingRow;
use super::pictures::{KeepRow, PictureRow, Piece, PieceSource};
use super::places::Place;
use super::removed::RemovedNode;
use super::servers::{DirectoryId, KnownServer, Servers};

pub fn servers() -> Servers {
    let server = |node, byte, removed| KnownServer { node, directory: DirectoryId([byte; 16]), removed };
    Servers { known: vec![server(NodeId(2), 0, true), server(NodeId(4), 0xd4, false)] }
}
use super::trees::{Branch, MayBeOpen, RemovedTree};
use crate::namespace::facts::Next;

pub fn policy() -> Policy {
    Policy {
        replicas: 3,
        min_replicas: 2,
        ack: Ack::Memory,
        persist: Persist::Sync,
        max_lag_ms: 1000,
        max_lag_bytes: 1 << 20,
    }
}

pub fn inode() -> Inode {
    Inode {
        ino: InodeId(7),
        kind: FileKind::File,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        nlink: 1,
        size: 4096,
        mtime: Timestamp(-1),
        ctime: Timestamp(2),
        atime: Timestamp(3),
        btime: Timestamp(1_700_000_000_000_000_000),
        version: 5,
        generation: Generation(1),
        tail: Some(TailRef { chunk: ChunkId(9), base: 4096 }),
        target: Some(b"to".to_vec()),
        policy: Some(policy()),
        mount: Some(MountId(2)),
    }
}

pub fn credentials() -> Credentials {
    Credentials { uid: 1000, gid: 100, groups: vec![4, 70_000] }
}

pub fn device() -> FileKind {
    FileKind::BlockDevice(DeviceNumber { major: 259, minor: 3 })
}

pub fn object() -> ExtentSource {
    let object = ObjectKey { mount: MountId(2), key: b"p/k".to_vec(), etag: "e".into() };
    ExtentSource::Object { object, offset: 300 }
}

pub fn mark() -> WriterMark {
    WriterMark { writer: WriterId(1 << 20), sequence: Sequence(4), offset: 70_000 }
}

pub fn chunk() -> ChunkRecord {
    ChunkRecord {
        chunk: ChunkId(9),
        state: ChunkState::Sealed,
        epoch: Epoch(2),
        replicas: vec![PlacedReplica {
            node: NodeId(101),
            disk: DiskId([0xd1; 16]),
            incarnation: Incarnation(6),
        }],
        primary: NodeId(101),
        policy: policy(),
        owner: ChunkOwner::Tail { ino: InodeId(7), base: 4096 },
        held: false,
        activation: Activation {
            log_index: LogIndex(33),
            time: Timestamp(2),
            generation: Generation(1),
            grant_bytes: 1 << 20,
            marks: vec![mark()],
        },
        sealed: Some(Sealed {
            length: 70_000,
            chain: Chain(0xdead_beef),
            holders: vec![NodeId(101)],
            marks: vec![mark()],
            mtime: Timestamp(5),
            at: Timestamp(6),
        }),
        live_bytes: 70_000,
        extent_end: 70_000,
        upload: Some(IntentId(3)),
        place: Some(PackPlace { pack: PackId(4), offset: 64, length: 70_000, crc32c: 0xc0ff_ee00 }),
    }
}

pub fn disk() -> DiskRecord {
    DiskRecord {
        disk: DiskId([0xd1; 16]),
        node: NodeId(101),
        address: "h:1".into(),
        incarnation: Incarnation(6),
        boot_id: [0xb0; 16],
        capacity_bytes: 1 << 40,
        version: "0.1.0".into(),
        retired: true,
        registered: Timestamp(8),
        zone: "z".into(),
        host: "h".into(),
        drain: Some(Drain { since: Timestamp(9), named: LogIndex(300), done: Some(Timestamp(10)) }),
    }
}

pub fn removed() -> RemovedNode {
    RemovedNode { disk: DiskId([0xd1; 16]), node: NodeId(101), at: Timestamp(8), struck: Some(Timestamp(9)) }
}

pub fn intent() -> IntentRecord {
    let chunks = vec![UploadChunk { chunk: ChunkId(9), length: 70_000, chain: Chain(0xdead_beef) }];
    IntentRecord {
        intent: IntentId(3),
        assignee: NodeId(101),
        work: Work::Upload { pack: PackId(4), key: "k".into(), chunks },
        created: Timestamp(9),
        assigned: Timestamp(10),
        failures: 1,
        message: "m".into(),
        failed: false,
    }
}

pub fn compaction() -> IntentRecord {
    let place = PackPlace { pack: PackId(2), offset: 64, length: 70_000, crc32c: 0xc0ff_ee00 };
    let (chunk, chain) = (ChunkId(9), Chain(0xdead_beef));
    let from = vec![PackSource { pack: PackId(2), key: "o".into() }];
    let chunks = vec![PackedChunk { chunk, chain, ino: InodeId(7), base: 4096, place }];
    let work = Work::Compact { pack: PackId(4), key: "k".into(), from, chunks };
    IntentRecord { work, ..intent() }
}

pub fn merge() -> IntentRecord {
    let pieces = vec![
        MergePiece { chunk: ChunkId(9), offset: 64, length: 300 },
        MergePiece { chunk: ChunkId(300), offset: 0, length: 70_000 },
    ];
    let runs = vec![MergeRun { chunk: ChunkId(301), ino: InodeId(7), base: 4096, pieces }];
    IntentRecord { work: Work::Merge { pack: PackId(4), key: "k".into(), runs }, ..intent() }
}

pub fn cluster() -> ClusterRecord {
    ClusterRecord {
        cluster: ClusterId([0xcc; 16]),
        time: Timestamp(11),
        next: NextIds {
            inode: InodeId(8),
            chunk: ChunkId(10),
            session: SessionId(2),
            node: NodeId(102),
            pack: PackId(5),
            mount: MountId(3),
            intent: IntentId(4),
        },
        counts: Counts {
            inodes: 1,
            chunks_open: 2,
            chunks_sealing: 3,
            chunks_sealed: 4,
            under_replicated: 5,
            unpersisted_bytes: 6,
            packs: 7,
            sessions: 8,
            intents: 9,
            extents_beyond_seal: 10,
        },
    }
}

pub fn content() -> ContentRow {
    let own = Part { from: 0, content: ContentId(7) };
    ContentRow { parts: vec![own, Part { from: 4096, content: ContentId::later(1) }] }
}

pub fn site() -> Site {
    Site { parent: InodeId(6), name: b"n".to_vec(), above: vec![InodeId(300), InodeId(1)] }
}

pub fn event(what: EventKind) -> EventRow {
    EventRow { ino: InodeId(7), kind: FileKind::File, version: 5, site: site(), what }
}

/// One of each kind of event, in the order of the format's numbers. The match makes a new kind fail
/// to compile until it has its sample.
pub fn events() -> Vec<EventRow> {
    let kinds = std::iter::successors(Some(EventKind::Created), |kind| {
        use EventKind as E;
        Some(match kind {
            E::Created => E::Removed { last: true },
            E::Removed { .. } => E::Renamed { to: site() },
            E::Renamed { .. } => E::Exchanged {
                to: site(),
                other: InodeId(8),
                other_kind: FileKind::Directory,
                other_version: 2,
            },
            E::Exchanged { .. } => E::Content,
            E::Content => E::Attributes,
            E::Attributes => E::Policy,
            E::Policy => E::MountAdded { mount: MountId(2) },
            E::MountAdded { .. } => E::MountRemoved { mount: MountId(2), fresh: InodeId(9) },
            E::MountRemoved { .. } => E::Imported,
            E::Imported => return None,
        })
    });
    kinds.map(event).collect()
}

pub fn removed_tree() -> RemovedTree {
    RemovedTree {
        inode: Inode { ino: InodeId(6), kind: FileKind::Directory, nlink: 2, tail: None, ..inode() },
        place: Place { parent: InodeId(1), name: b"name".to_vec() },
        removed: Timestamp(5),
        purged: 300,
        height: 2,
        open: Some(MayBeOpen::These(vec![InodeId(7)])),
    }
}

pub fn branch() -> Branch {
    Branch { directory: InodeId(6), after: b"last".to_vec(), policy: Some(policy()) }
}

pub fn load_id() -> LoadId {
    LoadId { cluster: ClusterId([0xcc; 16]), log_index: LogIndex(300), facts: 70_000, crc32c: 0xc0ff_ee00 }
}

pub fn load() -> LoadRecord {
    let root = Inode { ino: InodeId(1), kind: FileKind::Directory, nlink: 2, tail: None, ..inode() };
    LoadRecord {
        load: load_id(),
        loaded: 400,
        discarding: true,
        root,
        counts: cluster().counts,
        last: vec![19, 7],
    }
}

pub fn next() -> Next {
    Next {
        inode: InodeId(8),
        chunk: ChunkId(10),
        session: SessionId(2),
        pack: PackId(5),
        mount: MountId(3),
        intent: IntentId(4),
        contents: 1,
    }
}

pub fn rules() -> MountRules {
    MountRules { writable: true, object_lag_ms: 30_000, on_conflict: ConflictRule::Namespace, sole_writer: true }
}

pub fn access() -> BucketAccess {
    BucketAccess {
        profile: "p".into(),
        credentials_file: "/c".into(),
        requester_pays: true,
        sse: "aws:kms".into(),
        sse_kms_key: "k".into(),
        storage_class: "STANDARD_IA".into(),
    }
}

pub fn abilities() -> EndpointAbilities {
    EndpointAbilities { put_if_absent: true, copy_if_match: true, writable: true, ..EndpointAbilities::default() }
}

pub fn mount_mode() -> MountMode {
    let (rules, access, abilities) = (rules(), access(), Some(abilities()));
    MountMode { rules, access, abilities, refused: "r".into(), probe: Some(IntentId(3)) }
}

pub fn mount_counts() -> MountCounts {
    MountCounts {
        objects: 1,
        bytes: 300,
        directories: 2,
        unread_directories: 1,
        pending: 3,
        pending_bytes: 70_000,
        walking: 1,
        surplus: 4,
        conflicts: 1,
        conflicts_made: 2,
        failing: 1,
        last_error: "m".into(),
        last_sync: Timestamp(9),
    }
}

pub fn pending() -> PendingRow {
    PendingRow {
        since: Timestamp(9),
        changed: Timestamp(10),
        content: true,
        content_at: LogIndex(300),
        attributes_at: LogIndex(301),
        intent: Some(IntentId(3)),
        walk: Some(b"a".to_vec()),
        marker: true,
        bytes: 4096,
    }
}

pub fn picture() -> PictureRow {
    let piece = |source| Piece { offset: 300, length: 512, source };
    let object = PieceSource::Object { key: b"p/k".to_vec(), etag: "e".into(), size: 300 };
    PictureRow {
        pieces: vec![piece(PieceSource::Chunk(ChunkId(9))), piece(object), piece(PieceSource::Hole)],
        metadata: [("mode".to_owned(), "33188".to_owned())].into(),
        like: Some((b"p/k".to_vec(), "e".into())),
    }
}

pub fn keep() -> KeepRow {
    let contents = vec![ContentId::later(1), ContentId(7)];
    KeepRow { intent: IntentId(3), content: Some(ContentId::later(1)), next: 512, contents, frozen: false }
}

fn of_mount(work: Work) -> IntentRecord {
    IntentRecord { work, ..intent() }
}

pub fn put_object() -> IntentRecord {
    of_mount(Work::PutObject {
        mount: MountId(2),
        ino: InodeId(7),
        key: b"p/k".to_vec(),
        replaces: "e".into(),
        version: LogIndex(300),
        length: 70_000,
        temporary: true,
    })
}

pub fn delete_object() -> IntentRecord {
    of_mount(Work::DeleteObject { mount: MountId(2), key: b"p/k".to_vec(), etag: "e".into() })
}

pub fn probe_mount() -> IntentRecord {
    of_mount(Work::ProbeMount { mount: MountId(2), prefix: "p/".into(), write: true })
}
