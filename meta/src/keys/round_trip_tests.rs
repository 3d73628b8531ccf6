//! What is written is read back; what is cut or garbled is refused and never a panic.

use cairn_types::{
    ChunkId, Epoch, ExtentSource, FileKind, Inode, InodeId, IntentId, LockKind, LockMode, LockOwner,
    LogIndex, MountId, Name, NodeId, PackId, Sequence, SessionId, Timestamp, WriterId,
};
use proptest::prelude::*;

use super::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use super::intents::{IntentRecord, Work};
use super::nodes::NodeRow;
use super::queues::Queue;
use super::*;
use crate::namespace::{Answer, Command, Entry, reply};

fn back<R: Record + PartialEq + std::fmt::Debug>(record: &R) {
    let bytes = record.to_bytes();
    assert_eq!(R::from_bytes(b"k", &bytes).unwrap(), *record);
    for cut in 0..bytes.len() {
        assert!(R::from_bytes(b"k", &bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
    }
    let other = [vec![R::FORMAT + 1], bytes[1..].to_vec()].concat();
    assert!(R::from_bytes(b"k", &other).is_err(), "another format byte");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn inodes(numbers: [u64; 6], mode in 0u32..0o10000, times: [i64; 4], text: Option<Vec<u8>>, flags: [bool; 3]) {
        let mut inode = samples::inode();
        inode.ino = InodeId(numbers[0]);
        (inode.size, inode.version, inode.mode) = (numbers[1], numbers[2], mode);
        [inode.mtime, inode.ctime, inode.atime, inode.btime] = times.map(Timestamp);
        inode.target = text;
        inode.tail = inode.tail.filter(|_| flags[0]);
        inode.policy = inode.policy.filter(|_| flags[1]);
        inode.mount = inode.mount.filter(|_| flags[2]);
        back(&orphans::Orphan { inode: inode.clone(), since: flags[0].then_some(LogIndex(numbers[3])) });
        back(&holds::Denial { number: numbers[3], upto: LogIndex(numbers[4]), held: mode });
        back(&NodeRow::Link { ino: inode.ino, kind: inode.kind });
        let device = cairn_types::DeviceNumber { major: mode, minor: mode };
        for kind in [FileKind::Fifo, FileKind::Socket, FileKind::CharacterDevice(device), samples::device()] {
            back(&NodeRow::Link { ino: inode.ino, kind });
            back(&NodeRow::Inode(Inode { kind, ..inode.clone() }));
        }
        back(&NodeRow::Inode(inode));
    }

    #[test]
    fn chunk_records(n: [u64; 6], epoch: u32, phase in 0usize..4, flags: [bool; 5]) {
        let state = [ChunkState::Open, ChunkState::Sealing, ChunkState::Sealed, ChunkState::Spare][phase];
        let sample = samples::chunk();
        let owner = if flags[0] { ChunkOwner::Session(SessionId(n[0])) } else { sample.owner };
        let record = ChunkRecord {
            chunk: ChunkId(n[1]), epoch: Epoch(epoch), state, owner, held: flags[1], live_bytes: n[2],
            extent_end: n[3], sealed: sample.sealed.filter(|_| flags[2]), upload: sample.upload.filter(|_| flags[3]),
            place: sample.place.filter(|_| flags[4]), primary: NodeId(n[4]), ..sample
        };
        back(&record);
        back(&spares::SpareRow { chunk: ChunkId(n[1]) });
    }

    #[test]
    fn small_records(n: [u64; 4], bytes: Vec<u8>, text: String, flag: bool, time: i64) {
        let time = Timestamp(time);
        back(&places::Place { parent: InodeId(n[0]), name: bytes.clone() });
        back(&xattrs::XattrRow { value: bytes.clone() });
        back(&xattrs::XattrTotals { count: 7, bytes: n[0] });
        back(&extents::ExtentRow { length: n[0], source: ExtentSource::Chunk { chunk: ChunkId(n[1]), offset: n[2] } });
        back(&extents::ExtentRow { length: n[0], source: samples::object() });
        back(&objects::ObjectRow { ino: InodeId(n[0]), etag: text.clone(), size: n[1] });
        back(&writers::WriterRow { sequence: Sequence(n[0]), offset: n[1] });
        back(&imports::ImportRecord {
            mount: MountId(7), prefix: bytes, imported_at: flag.then_some(time), intent: flag.then_some(IntentId(n[3])),
        });
        back(&sessions::SessionRecord {
            session: SessionId(n[0]), client: text.clone(), opened: time, acknowledged_below: Sequence(n[1]),
            replies: 9, closing: flag, checked: !flag,
        });
        let groups = n.map(|n| n as u32).to_vec();
        back(&cairn_types::Credentials { uid: n[0] as u32, gid: n[1] as u32, groups });
        back(&packs::PackRecord {
            pack: PackId(n[0]), key: text.clone(), etag: text.clone(), bytes: n[1], live_chunks: 3, live_bytes: n[2],
            created: time, deletion: flag.then_some(IntentId(n[3])),
        });
        let source = mounts::MountSource { bucket: text.clone(), refresh_ms: n[0], force_path_style: flag, ..Default::default() };
        back(&mounts::MountRecord { mount: MountId(1), root: InodeId(n[1]), source, created: time });
        back(&disks::DiskRecord { address: text.clone(), capacity_bytes: n[0], retired: flag, ..samples::disk() });
        let (zone, drain) = if flag { (text.clone(), None) } else { (String::new(), samples::disk().drain) };
        back(&disks::DiskRecord { zone, host: text.clone(), drain, ..samples::disk() });
        let struck = flag.then_some(time);
        back(&removed::RemovedNode { node: NodeId(n[0]), at: time, struck, ..samples::removed() });
        let sample = samples::intent();
        back(&IntentRecord { message: text, failed: flag, assigned: time, ..sample.clone() });
        back(&IntentRecord { work: Work::DeletePack { pack: PackId(n[0]), key: "k".into() }, ..sample.clone() });
        let work = Work::Import { mount: MountId(1), directory: InodeId(n[0]), prefix: vec![1], start_after: vec![] };
        back(&IntentRecord { work, ..sample });
        back(&IntentRecord { assigned: time, ..samples::compaction() });
        back(&counters::ClusterRecord { time, ..samples::cluster() });
        back(&counters::ContentCounter { made: n[0] });
        back(&counters::Granted { bytes: n[0] });
        let known = servers::KnownServer { node: NodeId(n[0]), directory: servers::DirectoryId([7; 16]), removed: flag };
        back(&servers::Servers { known: vec![known; usize::try_from(n[1] % 5).unwrap()] });
        back(&levels::ClusterLevel { level: cairn_types::FeatureLevel(n[0] as u32) });
        back(&counters::Repaired { at: LogIndex(n[0]) });
        back(&loads::LoadRecord { loaded: n[0], discarding: flag, ..samples::load() });
        let part = contents::Part { from: n[1], content: contents::ContentId::later(n[2]) };
        back(&contents::ContentRow { parts: vec![part; usize::try_from(n[3] % 5).unwrap()] });
        back(&contents::DetachedRow { from: n[0] });
        back(&counters::EventCounter { first: LogIndex(n[0]), first_number: 7, kept: n[1] });
        let above = n[..usize::try_from(n[3] % 4).unwrap()].iter().copied().map(InodeId).collect();
        let site = events::Site { parent: InodeId(n[0]), name: samples::inode().target.unwrap(), above };
        for sample in samples::events() {
            back(&events::EventRow { ino: InodeId(n[1]), version: n[2], site: site.clone(), ..sample });
        }
        let mode = if flag { LockMode::Exclusive } else { LockMode::Shared };
        back(&locks::LockRecord { last: n[0], mode, fence: LogIndex(n[1]) });
        let by = LockOwner { session: SessionId(n[2]), owner: n[3] };
        back(&locks::WaitRecord { by, start: n[0], last: n[1], mode });
        back(&locks::LockerRecord { locks: n[0], waits: n[1] });
        back(&counters::Trees { pending: n[0], purged: n[1] });
        back(&trees::RemovedTree { removed: time, purged: n[0], height: n[1], ..samples::removed_tree() });
        back(&trees::Branch { directory: InodeId(n[0]), ..samples::branch() });
    }

    /// The order of keys is the order of what they say.
    #[test]
    fn keys_order_as_what_they_say(a: (u64, u64), b: (u64, u64), t: (i64, i64), x: Vec<u8>, y: Vec<u8>) {
        let (first, second) = (Name::new(x), Name::new(y));
        if let (Ok(x), Ok(y)) = (first, second) {
            let key = |n: u64, name: &Name| nodes::key(InodeId(n), name.as_bytes());
            prop_assert_eq!(key(a.0, &x).cmp(&key(b.0, &y)), (a.0, &x).cmp(&(b.0, &y)));
            let of_key = key(a.0, &x);
            prop_assert_eq!(nodes::name(&of_key), x.as_bytes());
            let link = links::key(InodeId(a.0), InodeId(a.1), x.as_bytes());
            let place = places::Place { parent: InodeId(a.1), name: x.into_bytes() };
            prop_assert_eq!(links::place(&link).unwrap(), place);
        }
        let event = |n: (u64, u64)| events::key(LogIndex(n.0), n.1 as u16);
        prop_assert_eq!(event(a).cmp(&event(b)), (a.0, a.1 as u16).cmp(&(b.0, b.1 as u16)));
        prop_assert_eq!(events::parse(&event(a)).unwrap(), (LogIndex(a.0), a.1 as u16));
        let extent = |n: (u64, u64)| extents::key(InodeId(n.0), n.1);
        prop_assert_eq!(extent(a).cmp(&extent(b)), a.cmp(&b));
        let queued = |t: i64, id: u64| queues::key(Queue::Open, Timestamp(t), id);
        prop_assert_eq!(queued(t.0, a.0).cmp(&queued(t.1, b.0)), (t.0, a.0).cmp(&(t.1, b.0)));
        prop_assert_eq!(queues::parse(&queued(t.0, a.0)).unwrap(), (Timestamp(t.0), a.0));
        prop_assert_eq!(held::chunk(&held::key(SessionId(a.0), ChunkId(a.1))).unwrap(), ChunkId(a.1));
        let by = LockOwner { session: SessionId(a.1), owner: b.1 };
        let lock = |n: (u64, u64)| locks::key(InodeId(n.0), LockKind::Range, n.1, by);
        prop_assert_eq!(lock(a).cmp(&lock(b)), a.cmp(&b));
        prop_assert_eq!(locks::parse(&lock(a)).unwrap(), (a.1, by));
        let part = locks::part_key(locks::Part::Waiting, by, LockKind::Flock, InodeId(a.0), b.0);
        prop_assert_eq!(locks::parse_part(&part).unwrap(), (InodeId(a.0), LockKind::Flock, b.0));
        let wait = locks::wait_key(InodeId(a.0), LockKind::Range, LogIndex(a.1));
        prop_assert_eq!(locks::wait(&wait).unwrap(), LogIndex(a.1));
        let writing = writers::writing_key(WriterId(a.0), InodeId(a.1));
        prop_assert_eq!(writers::parse_writing(&writing).unwrap(), (WriterId(a.0), InodeId(a.1)));
    }

    #[test]
    fn a_session_s_writers_are_one_range(session in 1u64..1 << 43, number in 0u64..1 << 20, other in 1u64..1 << 43) {
        let writer = WriterId::of(SessionId(session), number).unwrap();
        let key = writers::writing_key(writer, InodeId(u64::MAX));
        let holds = |s: u64| {
            let range = writers::writing_of(SessionId(s));
            range.from <= key && range.until.is_none_or(|until| key < until)
        };
        prop_assert!(holds(session));
        prop_assert_eq!(holds(other), other == session);
    }

    #[test]
    fn garbage_is_refused(bytes: Vec<u8>) {
        let _ = reply::from_bytes(&[vec![2], bytes.clone()].concat());
        let bytes = [vec![1], bytes].concat();
        let _ = NodeRow::from_bytes(b"k", &bytes);
        let _ = ChunkRecord::from_bytes(b"k", &bytes);
        let _ = IntentRecord::from_bytes(b"k", &bytes);
        let _ = Entry::from_bytes(&bytes);
        let _ = reply::from_bytes(&bytes);
    }
}

#[test]
fn entries_and_replies_come_back() {
    let command = Command::DropReplica { chunk: ChunkId(1), node: NodeId(2) };
    let entry = Entry { time: Timestamp(-7), command };
    assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry));
    let answer = Ok(Answer { chunk: Some(samples::chunk()), ..Answer::default() });
    assert_eq!(reply::from_bytes(&reply::to_bytes(&answer)), Ok(answer));
    let steps = Ok(Answer { steps: vec![None, Some(samples::inode())], ..Answer::default() });
    let bytes = reply::to_bytes(&steps);
    assert_eq!(reply::from_bytes(&bytes), Ok(steps));
    assert!((0..bytes.len()).all(|end| reply::from_bytes(&bytes[..end]).is_err()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_of_written_mounts(numbers: [u64; 4], text: String, key: Vec<u8>, some: bool) {
        let mut pending = samples::pending();
        (pending.content_at, pending.bytes, pending.content) = (LogIndex(numbers[0]), numbers[1], some);
        pending.walk = pending.walk.filter(|_| some);
        back(&pending);
        back(&homes::Home { mount: MountId(2), key: key.clone() });
        back(&surplus::SurplusRow { since: Timestamp(numbers[0] as i64), intent: some.then_some(IntentId(numbers[1])) });
        back(&moves::MoveRow { directory: InodeId(numbers[2]) });
        back(&claims::ClaimRow { intent: IntentId(numbers[3]) });
        back(&mount_modes::MountMode { refused: text.clone(), ..samples::mount_mode() });
        back(&mount_counts::MountCounts { pending: numbers[3], last_error: text.clone(), ..samples::mount_counts() });
        back(&pictures::PictureRow { like: some.then_some((key.clone(), text.clone())), ..samples::picture() });
        back(&pictures::KeepRow { next: numbers[0], frozen: some, ..samples::keep() });
        back(&conflicts::ConflictRow {
            key, time: Timestamp(numbers[1] as i64), expected_etag: text.clone(), found_etag: String::new(),
            kept: some.then_some(InodeId(numbers[2])), rule: mount_modes::ConflictRule::KeepBoth, what: text });
        for record in [samples::put_object(), samples::delete_object(), samples::probe_mount()] {
            back(&record);
        }
    }
}
