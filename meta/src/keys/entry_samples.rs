//! One of each command and operation, for the golden bytes; `FsError::samples` has the refusals. The
//! matches without a wildcard make a new variant fail to compile until it has its sample.

use cairn_types::{
    Chain, ChunkId, ClusterId, DiskId, Epoch, Extent, ExtentSource, FeatureLevel, Generation, Incarnation,
    InodeId, IntentId, LockKind, LockMode, LockRange, LogIndex, MountId, NodeId, PackId, Sequence,
    SessionId, Timestamp, WriterId,
};

use super::chunks::PlacedReplica;
use super::contents::ContentId;
use super::mounts::MountSource;
use super::samples::{self, mark, object, policy};
use super::servers::DirectoryId;
use crate::namespace::check::Finding;
use crate::namespace::command::{
    ExtentRun, FoundObject, HoldAnswer, ImportedEntry, PersistedChunk, StrayPack,
};
use crate::namespace::facts::{ChunkFact, Fact};
use crate::namespace::{Command, Operation, Placement, Precondition, Target, TimeChange, Wanted, XattrMode};

fn request(operation: Operation) -> Command {
    let (session, sequence) = (SessionId(1), Sequence(2));
    Command::Request { session, sequence, acknowledged_below: Sequence(1), operation }
}

/// Every command, in the order of the format's numbers.
pub fn commands() -> Vec<(&'static str, Command)> {
    let (chunk, epoch, mtime, session) = (ChunkId(9), Epoch(2), Timestamp(5), SessionId(1));
    let (intent, node, chain) = (IntentId(3), NodeId(101), Chain(0xdead_beef));
    let entry = ImportedEntry {
        name: b"n".to_vec(),
        directory: false,
        size: 300,
        etag: "e".into(),
        mtime,
        key: b"p/n".to_vec(),
    };
    let place = PersistedChunk { chunk, offset: 64, length: 70_000, crc32c: 0xc0ff_ee00 };
    let all = vec![
        Command::InitCluster { cluster: ClusterId([0xcc; 16]), policy: policy() },
        Command::OpenSession { client: "c".into() },
        Command::CloseSession { session },
        Command::ExpireSession { session },
        Command::Acknowledge { session, below: Sequence(3) },
        request(Operation::Unlink { target: Target::path("/a") }),
        Command::RegisterNode {
            disk: DiskId([0xd1; 16]),
            address: "h:1".into(),
            incarnation: Incarnation(6),
            boot_id: [0xb0; 16],
            capacity_bytes: 1 << 40,
            version: "0.1.0".into(),
        },
        Command::RetireDisk { disk: DiskId([0xd1; 16]) },
        Command::BeginSeal { chunk, epoch },
        Command::FinishSeal {
            chunk,
            epoch,
            length: 70_000,
            chain,
            holders: vec![node],
            marks: vec![mark()],
            mtime,
        },
        Command::SealPlanned { chunk, epoch, length: 70_000, chain, marks: vec![mark()], mtime },
        Command::RenewGrant { chunk, epoch, grant_bytes: 1 << 21 },
        Command::CreateUpload { assignee: node, chunks: vec![chunk] },
        Command::Reassign { intent, node },
        Command::Persisted { intent, etag: "e".into(), places: vec![place], bytes: 70_064 },
        Command::FailIntent { intent, permanent: true, message: "m".into() },
        Command::StartImport { directory: InodeId(6), assignee: node },
        Command::ImportBatch {
            intent,
            directory: InodeId(6),
            start_after: b"a".to_vec(),
            end: b"z".to_vec(),
            entries: vec![entry],
        },
        Command::AddHolder { chunk, node },
        Command::DropReplica { chunk, node },
        Command::CreatePackDeletion { pack: PackId(4), assignee: node },
        Command::PackDeleted { intent },
        Command::Purge { ino: InodeId(7) },
        Command::AcceptLoss {
            chunk,
            epoch,
            length: 60_000,
            chain,
            holders: vec![node],
            marks: vec![mark()],
            mtime,
            heard: 70_000,
            answered: vec![node],
        },
        Command::PurgeContent { content: ContentId(7) },
        Command::RemoveNode { node, incarnation: Incarnation(6) },
        Command::StrikeReplicas { node, chunks: vec![chunk] },
        Command::EndRemoval { node },
        Command::OpenSessionAs { client: "c".into(), credentials: samples::credentials() },
        Command::PurgeTree { top: InodeId(6) },
        Command::AdmitServer { node: NodeId(4), directory: DirectoryId([0xd4; 16]) },
        Command::RetireServer { node: NodeId(2) },
        Command::Repair {
            seen: LogIndex(33),
            finding: Finding::LinkCount { ino: InodeId(7), version: 5, recorded: 2, counted: 1 },
        },
    ];
    let all =
        all.into_iter().chain(of_the_second_level(session, mtime)).chain(of_nodes_that_leave(node, chunk));
    let all = all.chain(of_what_is_collected()).chain(of_spares()).chain(of_the_fifth_level()).chain(of_the_sixth_level());
    all.map(|command| (command_name(&command), command)).collect()
}

fn of_spares() -> Vec<Command> {
    let (chunk, epoch) = (ChunkId(9), Epoch(2));
    let replica = PlacedReplica { node: NodeId(101), disk: DiskId([0xd1; 16]), incarnation: Incarnation(6) };
    let placement = Placement { replicas: vec![replica], primary: NodeId(101) };
    let (chain, mtime, next) = (Chain(0xabcd_ef01), Timestamp(1_700_000_000_000_000_000), ChunkId(10));
    vec![
        Command::PrepareSpare { chunk, epoch, placement },
        Command::Roll { chunk, epoch, length: 70_000, chain, marks: vec![mark()], mtime, next },
    ]
}

fn of_the_second_level(session: SessionId, mtime: Timestamp) -> Vec<Command> {
    vec![
        Command::RaiseLevel { to: FeatureLevel(300) },
        Command::Probe,
        Command::OpenHolder { client: "c".into(), credentials: Some(samples::credentials()) },
        Command::Deny {
            answers: vec![HoldAnswer {
                session,
                number: 2,
                upto: LogIndex(300),
                held: vec![InodeId(7)],
                released: vec![InodeId(8), InodeId(9)],
            }],
        },
        Command::DecideUnlinked {},
        Command::BeginLoad { load: samples::load_id(), next: samples::next(), time: mtime },
        Command::LoadFacts {
            load: samples::load_id(),
            first: 300,
            facts: vec![
                None,
                Some(Fact::Chunk(ChunkFact::of(&samples::chunk()))),
                Some(Fact::Detached { content: ContentId(7), from: 300 }),
            ],
        },
        Command::EndLoad { load: samples::load_id() },
        Command::DiscardLoad,
    ]
}

fn of_nodes_that_leave(node: NodeId, chunk: ChunkId) -> Vec<Command> {
    vec![
        Command::RegisterNodeIn {
            disk: DiskId([0xd1; 16]),
            address: "h:1".into(),
            incarnation: Incarnation(6),
            boot_id: [0xb0; 16],
            capacity_bytes: 1 << 40,
            version: "0.1.0".into(),
            zone: "z".into(),
            host: "h".into(),
        },
        Command::DrainNode { node, needed: 2 },
        Command::UndrainNode { node },
        Command::ReleaseReplicas { node, chunks: vec![chunk] },
        Command::EndDrain { node, seen: LogIndex(300) },
    ]
}

fn of_what_is_collected() -> Vec<Command> {
    let (intent, assignee, chunk) = (IntentId(3), NodeId(101), ChunkId(9));
    let place = PersistedChunk { chunk, offset: 64, length: 70_000, crc32c: 0xc0ff_ee00 };
    vec![
        Command::CancelUpload { intent },
        Command::CondemnPacks { packs: vec![StrayPack { pack: PackId(4), etag: "e".into(), bytes: 70_064 }] },
        Command::CreateCompaction { assignee, chunks: vec![chunk] },
        Command::Compacted { intent, etag: "e".into(), places: vec![place], bytes: 70_064 },
    ]
}

fn of_the_fifth_level() -> Vec<Command> {
    let (intent, assignee, chunk) = (IntentId(3), NodeId(101), ChunkId(301));
    let place = PersistedChunk { chunk, offset: 64, length: 70_000, crc32c: 0xc0ff_ee00 };
    let run = ExtentRun { ino: InodeId(7), offset: 4096, length: 70_000, extents: 16 };
    vec![
        Command::CreateMerge { assignee, runs: vec![run] },
        Command::Merged { intent, etag: "e".into(), places: vec![place], bytes: 70_064 },
    ]
}

fn of_the_sixth_level() -> Vec<Command> {
    let (mount, ino, intent, assignee) = (MountId(2), InodeId(7), IntentId(3), NodeId(101));
    let (key, mtime) = (b"p/a".to_vec(), Timestamp(1_700_000_000_000_000_000));
    let found = FoundObject { etag: "e".into(), size: 300, mtime };
    vec![
        Command::CreatePut { mount, ino, assignee },
        Command::CreateObjectDeletion { mount, key: key.clone(), assignee },
        Command::CreateProbe { mount, assignee },
        Command::ObjectWritten { intent, etag: "e".into(), size: 300, mtime },
        Command::ObjectGone { intent },
        Command::ObjectChanged { intent, key, found: Some(found) },
        Command::MountProbed { intent, abilities: samples::abilities() },
        Command::FollowMove { mount, directory: ino },
        Command::EndMove { mount, prefix: b"p/d/".to_vec() },
    ]
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::InitCluster { .. } => "init_cluster",
        Command::OpenSession { .. } => "open_session",
        Command::CloseSession { .. } => "close_session",
        Command::ExpireSession { .. } => "expire_session",
        Command::Acknowledge { .. } => "acknowledge",
        Command::Request { .. } => "request",
        Command::RegisterNode { .. } => "register_node",
        Command::RetireDisk { .. } => "retire_disk",
        Command::BeginSeal { .. } => "begin_seal",
        Command::FinishSeal { .. } => "finish_seal",
        Command::SealPlanned { .. } => "seal_planned",
        Command::RenewGrant { .. } => "renew_grant",
        Command::CreateUpload { .. } => "create_upload",
        Command::Reassign { .. } => "reassign",
        Command::Persisted { .. } => "persisted",
        Command::FailIntent { .. } => "fail_intent",
        Command::StartImport { .. } => "start_import",
        Command::ImportBatch { .. } => "import_batch",
        Command::AddHolder { .. } => "add_holder",
        Command::DropReplica { .. } => "drop_replica",
        Command::CreatePackDeletion { .. } => "create_pack_deletion",
        Command::PackDeleted { .. } => "pack_deleted",
        Command::Purge { .. } => "purge",
        Command::AcceptLoss { .. } => "accept_loss",
        Command::PurgeContent { .. } => "purge_content",
        Command::RemoveNode { .. } => "remove_node",
        Command::StrikeReplicas { .. } => "strike_replicas",
        Command::EndRemoval { .. } => "end_removal",
        Command::OpenSessionAs { .. } => "open_session_as",
        Command::PurgeTree { .. } => "purge_tree",
        Command::AdmitServer { .. } => "admit_server",
        Command::RetireServer { .. } => "retire_server",
        Command::RaiseLevel { .. } => "raise_level",
        Command::Probe => "probe",
        Command::Repair { .. } => "repair",
        Command::OpenHolder { .. } => "open_holder",
        Command::Deny { .. } => "deny",
        Command::DecideUnlinked {} => "decide_unlinked",
        Command::BeginLoad { .. } => "begin_load",
        Command::LoadFacts { .. } => "load_facts",
        Command::EndLoad { .. } => "end_load",
        Command::DiscardLoad => "discard_load",
        Command::RegisterNodeIn { .. } => "register_node_in",
        Command::DrainNode { .. } => "drain_node",
        Command::UndrainNode { .. } => "undrain_node",
        Command::ReleaseReplicas { .. } => "release_replicas",
        Command::EndDrain { .. } => "end_drain",
        Command::CancelUpload { .. } => "cancel_upload",
        Command::CondemnPacks { .. } => "condemn_packs",
        Command::CreateCompaction { .. } => "create_compaction",
        Command::Compacted { .. } => "compacted",
        Command::PrepareSpare { .. } => "prepare_spare",
        Command::Roll { .. } => "roll",
        Command::CreateMerge { .. } => "create_merge",
        Command::Merged { .. } => "merged",
        Command::CreatePut { .. } => "create_put",
        Command::CreateObjectDeletion { .. } => "create_object_deletion",
        Command::CreateProbe { .. } => "create_probe",
        Command::ObjectWritten { .. } => "object_written",
        Command::ObjectGone { .. } => "object_gone",
        Command::ObjectChanged { .. } => "object_changed",
        Command::MountProbed { .. } => "mount_probed",
        Command::FollowMove { .. } => "follow_move",
        Command::EndMove { .. } => "end_move",
    }
}

/// Every operation, as the request that carries it, in the order of the format's numbers.
pub fn operations() -> Vec<(&'static str, Command)> {
    let target = Target::path("/a");
    let (mode, uid, gid, ino, chunk) = (0o644, 1000, 100, InodeId(7), ChunkId(9));
    let in_chunk = ExtentSource::Chunk { chunk, offset: 64 };
    let extents = vec![
        Extent { file_offset: 0, length: 512, source: in_chunk },
        Extent { file_offset: 512, length: 1, source: object() },
    ];
    let replica = PlacedReplica { node: NodeId(101), disk: DiskId([0xd1; 16]), incarnation: Incarnation(6) };
    let placement = Some(Placement { replicas: vec![replica], primary: NodeId(101) });
    let source = MountSource {
        bucket: "b".into(),
        prefix: "p/".into(),
        endpoint: "http://h".into(),
        region: "r".into(),
        refresh_ms: 60_000,
        force_path_style: true,
    };
    let range = LockRange { start: 5, last: 4095 };
    let all = vec![
        Operation::Mkdir { target: target.clone(), mode, uid, gid, parents: true },
        Operation::Create {
            target: target.clone(),
            mode,
            uid,
            gid,
            exclusive: true,
            truncate: false,
            extents: extents.clone(),
        },
        Operation::Symlink { target: target.clone(), to: b"to".to_vec(), uid, gid },
        Operation::Link { from: target.clone(), to: Target::under(ino, "b") },
        Operation::Unlink { target: target.clone() },
        Operation::Rmdir { target: target.clone().no_follow() },
        Operation::Rename { from: target.clone(), to: target.clone(), no_replace: true, exchange: false },
        Operation::SetAttr {
            target: target.clone(),
            mode: Some(mode),
            uid: None,
            gid: Some(gid),
            size: Some(300),
            mtime: Some(Timestamp(-1)),
            atime: None,
            expected_version: Some(5),
        },
        Operation::SetPolicy { target: target.clone(), policy: Some(policy()) },
        Operation::Commit { ino, extents, expected_length: Some(0) },
        Operation::OpenChunk { policy_of: InodeId::ROOT, placement: placement.clone() },
        Operation::OpenTail { ino, generation: Generation(1), writer: WriterId(1 << 20), placement },
        Operation::OpenExclusive { ino },
        Operation::ReleaseChunk { chunk },
        Operation::MountAdd { target: target.clone(), source: source.clone() },
        Operation::MountRemove { target: target.clone() },
        Operation::RenewGrant { chunk, epoch: Epoch(1), grant_bytes: 1 << 21 },
    ];
    let last = vec![
        Operation::Lock {
            ino,
            kind: LockKind::Range,
            owner: 300,
            range,
            mode: LockMode::Exclusive,
            wait: true,
        },
        Operation::Unlock { ino, kind: LockKind::Flock, owner: 300, range: LockRange::WHOLE },
        Operation::CancelLock { ino, kind: LockKind::Range, owner: 300, wait: LogIndex(33) },
        Operation::RemoveTree { target: target.clone() },
        Operation::Holding {
            number: 2,
            inos: vec![InodeId(7), InodeId(300)],
            operation: Box::new(Operation::Unlink { target: target.clone() }),
        },
    ];
    let all = [all, of_attributes(), shares(&target), last, of_mounts(&target, source)].concat();
    all.into_iter().map(|operation| (operation_name(&operation), request(operation))).collect()
}

fn of_mounts(target: &Target, source: MountSource) -> Vec<Operation> {
    let (access, rules) = (samples::access(), samples::rules());
    let target = target.clone();
    vec![
        Operation::MountAddAs { target: target.clone(), source, access: access.clone(), rules },
        Operation::MountSet { target: target.clone(), refresh_ms: 60_000, access, rules },
        Operation::MountRemoveWith { target, abandon: true },
        Operation::ConflictDismiss { mount: MountId(2), conflict: 300 },
    ]
}

fn of_attributes() -> Vec<Operation> {
    let (mode, uid, gid) = (0o644, 1000, 100);
    vec![
        Operation::Mknod { target: Target::path("/a"), kind: samples::device(), mode, uid, gid },
        Operation::SetXattr {
            target: Target::path("/a"),
            name: b"user.n".to_vec(),
            value: b"v".to_vec(),
            mode: XattrMode::Replace,
        },
        Operation::RemoveXattr { target: Target::path("/a"), name: b"user.n".to_vec() },
        Operation::SetAttrNow {
            target: Target::path("/a"),
            mode: Some(mode),
            uid: None,
            gid: Some(gid),
            size: Some(300),
            mtime: Some(TimeChange::At(Timestamp(-1))),
            atime: Some(TimeChange::Now),
            expected_version: Some(5),
        },
    ]
}

/// Transactions, and what moves no bytes.
fn shares(target: &Target) -> Vec<Operation> {
    let (target, to) = (target.clone(), Target::path("/b"));
    let present = Wanted::Present { ino: Some(InodeId(7)), version: None, length: Some(300) };
    vec![
        Operation::Transact {
            preconditions: vec![
                Precondition { target: to.clone(), wanted: Wanted::Absent },
                Precondition { target: target.clone(), wanted: present },
            ],
            operations: vec![
                Operation::Unlink { target: target.clone() },
                Operation::Rmdir { target: to.clone() },
            ],
        },
        Operation::Clone {
            from: target.clone(),
            to: to.clone(),
            uid: 1000,
            gid: 100,
            replace: false,
            recursive: true,
        },
        Operation::CopyRange {
            from: target.clone(),
            from_offset: 1,
            to: to.clone(),
            to_offset: 300,
            length: Some(64),
        },
        Operation::Concat { target: target.clone(), from: vec![to.clone(), to] },
        Operation::PunchHole { target: target.clone(), offset: 64, length: 300, keep_size: true },
        Operation::Allocate { target, offset: 64, length: 300, keep_size: false },
    ]
}

fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Mkdir { .. } => "mkdir",
        Operation::Create { .. } => "create",
        Operation::Symlink { .. } => "symlink",
        Operation::Link { .. } => "link",
        Operation::Unlink { .. } => "unlink",
        Operation::Rmdir { .. } => "rmdir",
        Operation::Rename { .. } => "rename",
        Operation::SetAttr { .. } => "set_attr",
        Operation::SetPolicy { .. } => "set_policy",
        Operation::Commit { .. } => "commit",
        Operation::OpenChunk { .. } => "open_chunk",
        Operation::OpenTail { .. } => "open_tail",
        Operation::OpenExclusive { .. } => "open_exclusive",
        Operation::ReleaseChunk { .. } => "release_chunk",
        Operation::MountAdd { .. } => "mount_add",
        Operation::MountRemove { .. } => "mount_remove",
        Operation::RenewGrant { .. } => "renew_grant",
        Operation::Mknod { .. } => "mknod",
        Operation::SetXattr { .. } => "set_xattr",
        Operation::RemoveXattr { .. } => "remove_xattr",
        Operation::SetAttrNow { .. } => "set_attr_now",
        Operation::Transact { .. } => "transact",
        Operation::Clone { .. } => "clone",
        Operation::CopyRange { .. } => "copy_range",
        Operation::Concat { .. } => "concat",
        Operation::PunchHole { .. } => "punch_hole",
        Operation::Allocate { .. } => "allocate",
        Operation::Lock { .. } => "lock",
        Operation::Unlock { .. } => "unlock",
        Operation::CancelLock { .. } => "cancel_lock",
        Operation::RemoveTree { .. } => "remove_tree",
        Operation::Holding { .. } => "holding",
        Operation::MountAddAs { .. } => "mount_add_as",
        Operation::MountSet { .. } => "mount_set",
        Operation::MountRemoveWith { .. } => "mount_remove_with",
        Operation::ConflictDismiss { .. } => "conflict_dismiss",
    }
}
