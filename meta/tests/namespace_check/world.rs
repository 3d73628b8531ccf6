//! A sound state with a row of every kind, damage planted into it, and what must be found then.

use cairn_meta::keys::mounts::MountSource;
use cairn_meta::keys::{self, Record};
use cairn_meta::namespace::check::{Check, CheckBounds, Finding};
use cairn_meta::namespace::command::{HoldAnswer, ImportedEntry, PersistedChunk};
use cairn_meta::namespace::{Bounds, Command, Operation, Reply, Target};
use cairn_meta::store::{Rows, Store, Table, WriteBatch};
use cairn_types::{ChunkId, InodeId, IntentId, LogIndex, PackId, SessionId, Timestamp};

use crate::driver::{Driver, FIRST, SECOND, extent};

/// The state, and the ids of what is in it.
pub struct World {
    pub d: Driver,
    /// Directories: /a, in it b, in that c, empty.
    pub a: InodeId,
    pub b: InodeId,
    pub c: InodeId,
    /// /a/data, in `packed`.
    pub data: InodeId,
    /// /a/f, also /a/b/g: a file with two names.
    pub linked: InodeId,
    /// /a/log, with an open tail.
    pub log: InodeId,
    pub tail: ChunkId,
    /// The open tail of /a/rolls, and the chunk that is to follow it.
    pub filling: ChunkId,
    pub spare: ChunkId,
    /// /a/cut: a file in two parts, 6 bytes of its own number and 2 of `later`.
    pub cut: InodeId,
    /// The mount's root, its directory d, and its file x.
    pub mount: InodeId,
    pub mount_dir: InodeId,
    pub mount_file: InodeId,
    /// Unlinked, with rows left.
    pub orphan: InodeId,
    /// Sealed, let go, in `pack`.
    pub packed: ChunkId,
    pub pack: PackId,
    /// Sealed, let go, waiting for S3.
    pub waiting: ChunkId,
    /// Sealed, let go, being uploaded by `upload`.
    pub uploading: ChunkId,
    pub upload: IntentId,
    /// Open, held by the session.
    pub held: ChunkId,
    /// A pack that nothing points into, being deleted by `deletion`.
    pub dead_pack: PackId,
    pub deletion: IntentId,
    /// The import under way of `mount_dir`.
    pub import: IntentId,
}

/// A session that says what it holds; it has not been asked of `undecided`, which is unlinked.
#[derive(Clone, Copy)]
pub struct Holder {
    pub session: SessionId,
    pub undecided: InodeId,
}

impl World {
    /// Builds it by entries alone.
    pub fn new() -> Self {
        let mut d = Driver::new();
        let (a, b, c) = (d.mkdir("/a").ino, d.mkdir("/a/b").ino, d.mkdir("/a/b/c").ino);
        let packed = d.shared_chunk();
        let data = d.create("/a/data", vec![extent(0, 100, packed, 0)]).unwrap().inode.unwrap().ino;
        seal(&mut d, packed, 100);
        let pack = persist(&mut d, packed, 100);
        let linked = d.file("/a/f");
        d.done(Operation::Link { from: Target::path("/a/f"), to: Target::path("/a/b/g") });
        let dead = d.shared_chunk();
        d.create("/a/dead", vec![extent(0, 10, dead, 0)]).unwrap();
        seal(&mut d, dead, 10);
        let dead_pack = persist(&mut d, dead, 10);
        d.unlink("/a/dead");
        let command = Command::CreatePackDeletion { pack: dead_pack, assignee: FIRST };
        let deletion = d.ok(command).intent.unwrap();
        let waiting = d.shared_chunk();
        let cut = cut(&mut d, waiting);
        let orphan = d.create("/a/gone", vec![extent(0, 5, waiting, 50), extent(9, 5, waiting, 60)]);
        let orphan = orphan.unwrap().inode.unwrap().ino;
        d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
        d.unlink("/a/gone");
        d.bounds = Bounds::default();
        seal(&mut d, waiting, 100);
        let uploading = d.shared_chunk();
        d.create("/a/up", vec![extent(0, 30, uploading, 0)]).unwrap();
        seal(&mut d, uploading, 30);
        let command = Command::CreateUpload { assignee: FIRST, chunks: vec![uploading] };
        let upload = d.ok(command).intent.unwrap();
        let held = d.shared_chunk();
        d.create("/a/open", vec![extent(0, 7, held, 0)]).unwrap();
        let log = d.file("/a/log");
        let tail = d.open_tail(log, 0, 1).unwrap().chunk.unwrap().chunk;
        let rolls = d.file("/a/rolls");
        let filling = d.open_tail(rolls, 0, 1).unwrap().chunk.unwrap().chunk;
        let placement = crate::driver::placement().unwrap();
        let command = Command::PrepareSpare { chunk: filling, epoch: cairn_types::Epoch(1), placement };
        let spare = d.ok(command).chunk.unwrap().chunk;
        let (mount, mount_dir, mount_file, import) = mounted(&mut d);
        Self {
            d,
            a,
            b,
            c,
            data,
            linked,
            log,
            tail,
            filling,
            spare,
            cut,
            mount,
            mount_dir,
            mount_file,
            orphan,
            packed,
            pack,
            waiting,
            uploading,
            upload,
            held,
            dead_pack,
            deletion,
            import,
        }
    }

    /// With a session that holds an unlinked file, and another unlinked file.
    pub fn holding() -> (Self, Holder) {
        let mut world = Self::new();
        let d = &mut world.d;
        let opened = d.ok(Command::OpenHolder { client: "holder".into(), credentials: None });
        let (session, kept) = (opened.session.unwrap(), d.file("/a/kept"));
        d.unlink("/a/kept");
        let (held, released, upto) = (vec![kept], vec![], LogIndex(d.index));
        d.ok(Command::Deny { answers: vec![HoldAnswer { session, number: 1, upto, held, released }] });
        let undecided = d.file("/a/undecided");
        d.unlink("/a/undecided");
        (world, Holder { session, undecided })
    }

    /// What a check finds, whatever it reads and holds at once.
    pub fn found(&self) -> Vec<Finding> {
        found(&self.d.store)
    }

    /// Mends a finding of a check of the present state.
    pub fn repair(&mut self, finding: &Finding) -> Reply {
        let seen = LogIndex(self.d.index);
        self.d.propose(Command::Repair { seen, finding: finding.clone() })
    }

    /// Writes rows behind the state machine's back.
    pub fn plant(&mut self, plant: impl FnOnce(&World, &mut Edit<'_>)) {
        let mut edit = Edit { rows: &self.d.store, batch: WriteBatch::default() };
        plant(self, &mut edit);
        let batch = edit.batch;
        self.d.store.write(batch).unwrap();
    }
}

/// What a check finds, whatever it reads and holds at once.
pub fn found(rows: &dyn Rows) -> Vec<Finding> {
    let bounds = |rows_per_step, sums_at_once| CheckBounds { rows_per_step, sums_at_once };
    let findings = Check::all(rows, CheckBounds::default()).unwrap();
    for bounds in [bounds(1, 1), bounds(2, 3), bounds(5, 2)] {
        assert_eq!(Check::all(rows, bounds).unwrap(), findings, "{bounds:?}");
    }
    findings
}

/// Rows that are to be planted.
pub struct Edit<'s> {
    rows: &'s dyn Rows,
    batch: WriteBatch,
}

impl Edit<'_> {
    pub fn get<R: Record>(&self, key: &[u8]) -> R {
        keys::get(self.rows, key).unwrap().unwrap()
    }

    pub fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.batch.put(R::TABLE, key, record.to_bytes());
    }

    /// Changes a row that is there.
    pub fn change<R: Record>(&mut self, key: Vec<u8>, change: impl FnOnce(&mut R)) {
        let mut record = self.get(&key);
        change(&mut record);
        self.put(key, &record);
    }

    pub fn mark(&mut self, table: Table, key: Vec<u8>) {
        self.batch.put(table, key, keys::PRESENT);
    }

    pub fn raw(&mut self, table: Table, key: Vec<u8>, value: &[u8]) {
        self.batch.put(table, key, value);
    }

    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        assert!(self.rows.get(table, &key).unwrap().is_some(), "there is a row to delete");
        self.batch.delete(table, key);
    }
}

fn seal(d: &mut Driver, chunk: ChunkId, length: u64) {
    d.done(Operation::ReleaseChunk { chunk });
    d.finish(chunk, 2, length, vec![FIRST, SECOND]).unwrap();
}

fn persist(d: &mut Driver, chunk: ChunkId, length: u64) -> PackId {
    let intent = d.ok(Command::CreateUpload { assignee: FIRST, chunks: vec![chunk] }).intent.unwrap();
    let places = vec![PersistedChunk { chunk, offset: 0, length, crc32c: 1 }];
    d.ok(Command::Persisted { intent, etag: "e".into(), places, bytes: length });
    d.chunk(chunk).place.unwrap().pack
}

/// A file that was cut where too many extents lay, and written on.
fn cut(d: &mut Driver, chunk: ChunkId) -> InodeId {
    let extents = (0..5).map(|n| extent(4 * n, 3, chunk, 4 * n)).collect();
    let ino = d.create("/a/cut", extents).unwrap().inode.unwrap().ino;
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
    d.done(Operation::SetAttr {
        target: Target::path("/a/cut"),
        mode: None,
        uid: None,
        gid: None,
        size: Some(7),
        mtime: None,
        atime: None,
        expected_version: None,
    });
    d.bounds = Bounds::default();
    let extents = vec![extent(10, 2, chunk, 40)];
    d.done(Operation::Commit { ino, extents, expected_length: None });
    ino
}

fn mounted(d: &mut Driver) -> (InodeId, InodeId, InodeId, IntentId) {
    let source = MountSource { bucket: "b".into(), prefix: "p/".into(), ..MountSource::default() };
    let root = d.done(Operation::MountAdd { target: Target::path("/m"), source }).inode.unwrap().ino;
    let intent = d.ok(Command::StartImport { directory: root, assignee: FIRST }).intent.unwrap();
    let entry = |name: &str, directory, size| ImportedEntry {
        name: name.as_bytes().to_vec(),
        directory,
        size,
        etag: "e".into(),
        mtime: Timestamp(7),
        key: format!("p/{name}").into_bytes(),
    };
    d.ok(Command::ImportBatch {
        intent,
        directory: root,
        start_after: Vec::new(),
        end: Vec::new(),
        entries: vec![entry("d", true, 0), entry("x", false, 5)],
    });
    let (dir, file) = (d.stat("/m/d").unwrap().ino, d.stat("/m/x").unwrap().ino);
    let import = d.ok(Command::StartImport { directory: dir, assignee: FIRST }).intent.unwrap();
    (root, dir, file, import)
}
