//! A namespace with a written mount, its bucket, and what the leader and the data nodes do between them.

use std::collections::BTreeMap;

use cairn_meta::keys::contents::ContentId;
use cairn_meta::keys::intents::{IntentRecord, Work};
use cairn_meta::keys::mount_modes::{BucketAccess, ConflictRule, EndpointAbilities, MountRules};
use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::command::ImportedEntry;
use cairn_meta::namespace::mounting::{self, PieceSource};
use cairn_meta::namespace::{Answer, Command, Operation, Reply, Target, jobs, read};
use cairn_types::{
    ChunkId, Extent, ExtentSource, FsError, Inode, InodeId, IntentId, MountId, NodeId, Timestamp,
};

use super::bucket::Bucket;
use super::driver::{Driver, FIRST, SECOND, extent};

pub const MOUNT: MountId = MountId(1);

pub fn able() -> EndpointAbilities {
    EndpointAbilities {
        put_if_absent: true,
        put_if_match: true,
        complete_if_absent: true,
        complete_if_match: true,
        copy_if_absent: true,
        copy_if_match: true,
        copy_source_if_match: true,
        delete_if_match: true,
        part_copy: true,
        crc32c: true,
        crc64nvme: false,
        get_if_match: true,
        byte_order: true,
        writable: true,
    }
}

pub fn rules(on_conflict: ConflictRule) -> MountRules {
    MountRules { writable: true, object_lag_ms: 1000, on_conflict, sole_writer: false }
}

pub struct World {
    pub d: Driver,
    pub bucket: Bucket,
    pub chunks: BTreeMap<ChunkId, Vec<u8>>,
    pub root: InodeId,
    /// Objects that made way for others.
    pub aside: usize,
}

/// What a directory of the bucket held.
#[derive(Clone, Debug)]
pub struct Listing {
    directory: InodeId,
    intent: IntentId,
    entries: Vec<ImportedEntry>,
}

/// What becomes of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    /// It is done and told.
    Good,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// Whoever does it dies before.
    Dies,
}

impl World {
    pub fn new(on_conflict: ConflictRule) -> Self {
        let mut d = Driver::new();
        d.ok(Command::RaiseLevel { to: cairn_types::FEATURE_LEVEL });
        let source = MountSource {
            bucket: "b".into(),
            prefix: "p/".into(),
            refresh_ms: 60_000,
            ..MountSource::default()
        };
        let (target, access) = (Target::path("/m"), BucketAccess::default());
        let made = d.done(Operation::MountAddAs { target, source, access, rules: rules(on_conflict) });
        let root = made.inode.unwrap().ino;
        assert_eq!(made.mount, Some(MOUNT));
        let mut world = Self { d, bucket: Bucket::default(), chunks: BTreeMap::new(), root, aside: 0 };
        world.probe(able());
        world
    }

    pub fn probe(&mut self, abilities: EndpointAbilities) {
        let intent = self.d.ok(Command::CreateProbe { mount: MOUNT, assignee: FIRST }).intent.unwrap();
        self.d.ok(Command::MountProbed { intent, abilities });
    }

    /// Asks for something; directories that must be read first are.
    pub fn ask(&mut self, operation: Operation) -> Reply {
        for _ in 0..32 {
            self.d.now += 1_000_000;
            let reply = self.d.ask(operation.clone());
            match &reply {
                Err(FsError::Importing { intent }) if intent.0 != 0 && self.is_put(*intent) => {
                    let record = read::intent(&self.d.store, *intent).unwrap().unwrap();
                    self.execute(&record, Luck::Good);
                }
                Err(FsError::Importing { .. }) => self.read_all(),
                _ => return reply,
            }
        }
        panic!("{operation:?} waits for ever");
    }

    fn is_put(&self, intent: IntentId) -> bool {
        let record = read::intent(&self.d.store, intent).unwrap();
        record.is_some_and(|record| matches!(record.work, Work::PutObject { .. }))
    }

    pub fn done(&mut self, operation: Operation) -> Answer {
        let shown = format!("{operation:?}");
        self.ask(operation).unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// Bytes in a chunk of their own, as an extent at an offset of a file.
    pub fn bytes(&mut self, at: u64, data: &[u8]) -> Vec<Extent> {
        if data.is_empty() {
            return Vec::new();
        }
        let chunk = self.d.shared_chunk();
        self.chunks.insert(chunk, data.to_vec());
        vec![extent(at, data.len() as u64, chunk, 0)]
    }

    /// The session lets go of the chunks of extents, and they are sealed.
    pub fn seal(&mut self, extents: &[Extent]) {
        for extent in extents {
            let ExtentSource::Chunk { chunk, .. } = extent.source else { continue };
            self.d.done(Operation::ReleaseChunk { chunk });
            let (epoch, length) = (self.d.chunk(chunk).epoch, self.chunks[&chunk].len() as u64);
            self.d.finish(chunk, epoch.0, length, vec![FIRST, SECOND]).unwrap();
        }
    }

    /// Makes or replaces a file.
    pub fn write(&mut self, path: &str, data: &[u8]) -> Result<Inode, FsError> {
        let extents = self.bytes(0, data);
        let operation = Operation::Create {
            target: Target::path(path),
            mode: 0o644,
            uid: 0,
            gid: 0,
            exclusive: false,
            truncate: true,
            extents: extents.clone(),
        };
        let reply = self.ask(operation);
        self.seal(&extents);
        reply.map(|answer| answer.inode.unwrap())
    }

    /// Lays bytes over a file.
    pub fn write_at(&mut self, path: &str, at: u64, data: &[u8]) -> Result<Inode, FsError> {
        let ino = self.stat(path)?.ino;
        let extents = self.bytes(at, data);
        let reply = self.ask(Operation::Commit { ino, extents: extents.clone(), expected_length: None });
        self.seal(&extents);
        reply.map(|answer| answer.inode.unwrap())
    }

    pub fn append(&mut self, path: &str, data: &[u8]) -> Result<Inode, FsError> {
        let size = self.stat(path)?.size;
        self.write_at(path, size, data)
    }

    pub fn truncate(&mut self, path: &str, size: u64) -> Reply {
        self.ask(Operation::SetAttr {
            target: Target::path(path),
            mode: None,
            uid: None,
            gid: None,
            size: Some(size),
            mtime: None,
            atime: None,
            expected_version: None,
        })
    }

    pub fn chmod(&mut self, path: &str, mode: u32) -> Reply {
        self.ask(Operation::SetAttr {
            target: Target::path(path),
            mode: Some(mode),
            uid: None,
            gid: None,
            size: None,
            mtime: None,
            atime: None,
            expected_version: None,
        })
    }

    pub fn unlink(&mut self, path: &str) -> Reply {
        self.ask(Operation::Unlink { target: Target::path(path) })
    }

    pub fn rmdir(&mut self, path: &str) -> Reply {
        self.ask(Operation::Rmdir { target: Target::path(path) })
    }

    pub fn mkdir(&mut self, path: &str) -> Reply {
        self.ask(Operation::Mkdir { target: Target::path(path), mode: 0o755, uid: 0, gid: 0, parents: false })
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Reply {
        self.rename_as(from, to, false)
    }

    pub fn rename_as(&mut self, from: &str, to: &str, exchange: bool) -> Reply {
        let (from, to) = (Target::path(from), Target::path(to));
        self.ask(Operation::Rename { from, to, no_replace: false, exchange })
    }

    pub fn stat(&self, path: &str) -> Result<Inode, FsError> {
        self.d.stat(path)
    }

    pub fn pending(&self) -> Vec<InodeId> {
        let rows = mounting::pending_after(&self.d.store, MOUNT, None, usize::MAX).unwrap();
        rows.into_iter().map(|(ino, _)| ino).collect()
    }

    pub fn conflicts(&self) -> usize {
        mounting::conflicts_after(&self.d.store, MOUNT, 0, usize::MAX).unwrap().len()
    }

    /// What an inode's bytes are, by what the metadata says of them; `None`: the bucket has not that version.
    pub fn content(&self, ino: InodeId) -> Option<Vec<u8>> {
        let range = read::extents(&self.d.store, &Target::ino(ino), 0, u64::MAX >> 1).unwrap();
        assert!(!range.more);
        let mut out = vec![0; range.stat.inode.size as usize];
        for extent in range.extents {
            let source = match &extent.source {
                ExtentSource::Chunk { chunk, offset } => {
                    let data = &self.chunks[chunk];
                    data[*offset as usize..(*offset + extent.length) as usize].to_vec()
                }
                ExtentSource::Object { object, offset } => {
                    let there = self.bucket.objects.get(&object.key)?;
                    if there.etag != object.etag {
                        return None;
                    }
                    there.data[*offset as usize..(*offset + extent.length) as usize].to_vec()
                }
            };
            let at = extent.file_offset as usize;
            out[at..at + source.len()].copy_from_slice(&source);
        }
        Some(out)
    }

    pub fn text(&self, path: &str) -> String {
        let ino = self.stat(path).unwrap_or_else(|error| panic!("{path}: {error:?}")).ino;
        String::from_utf8(self.content(ino).unwrap_or_else(|| panic!("{path}: another version"))).unwrap()
    }

    /// Every file and directory of the mount, by its path below the root.
    pub fn tree(&self) -> BTreeMap<String, Inode> {
        let mut found = BTreeMap::new();
        let mut left = vec![(self.root, String::new())];
        while let Some((dir, above)) = left.pop() {
            for entry in read::list(&self.d.store, dir, b"", 4096).unwrap().entries {
                let path = format!("{above}{}", String::from_utf8(entry.name).unwrap());
                if entry.inode.is_dir() {
                    left.push((entry.inode.ino, format!("{path}/")));
                }
                found.insert(path, entry.inode);
            }
        }
        found
    }

    /// Reads a directory from the bucket.
    pub fn import(&mut self, dir: InodeId) {
        if let Some(listing) = self.list(dir) {
            self.tell(&listing);
        }
    }

    /// Lists a directory, and does not tell yet.
    pub fn list(&mut self, dir: InodeId) -> Option<Listing> {
        let started = self.d.propose(Command::StartImport { directory: dir, assignee: FIRST }).ok()?;
        let intent = started.intent.unwrap();
        let record = read::intent(&self.d.store, intent).unwrap().unwrap();
        let Work::Import { prefix, .. } = record.work else { panic!("{record:?}") };
        Some(Listing { directory: dir, intent, entries: self.listing(&prefix) })
    }

    /// Tells what was listed. An import that has ended meanwhile hears nothing of it.
    pub fn tell(&mut self, listing: &Listing) {
        let Listing { directory, intent, entries } = listing.clone();
        let mut start_after = Vec::new();
        loop {
            let page = Command::ImportBatch {
                intent,
                directory,
                start_after: start_after.clone(),
                end: Vec::new(),
                entries: entries.clone(),
            };
            match self.d.propose(page) {
                Ok(Answer { resume_after: Some(name), .. }) => start_after = name,
                Ok(_) | Err(FsError::NotFound | FsError::InvalidRequest) => return,
                Err(error) => panic!("{directory}: {error:?}"),
            }
        }
    }

    /// A listing as the data node makes names of it.
    fn listing(&self, prefix: &[u8]) -> Vec<ImportedEntry> {
        let mut objects: BTreeMap<Vec<u8>, ImportedEntry> = BTreeMap::new();
        let mut directories: BTreeMap<Vec<u8>, ImportedEntry> = BTreeMap::new();
        for (key, object) in self.bucket.objects.range(prefix.to_vec()..) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let found = object.found();
            let entry = |name: &[u8], directory, key: Vec<u8>| ImportedEntry {
                name: name.to_vec(),
                directory,
                size: if directory { 0 } else { found.size },
                etag: if directory { String::new() } else { found.etag.clone() },
                mtime: Timestamp(77),
                key,
            };
            match rest.iter().position(|byte| *byte == b'/') {
                Some(at) => {
                    let name = &rest[..at];
                    let below = [prefix, name, b"/"].concat();
                    directories.insert(name.to_vec(), entry(name, true, below));
                }
                None if rest.is_empty() => {}
                None => drop(objects.insert(rest.to_vec(), entry(rest, false, key.clone()))),
            }
        }
        let mut all = directories;
        for (name, mut object) in objects {
            let mut name = name;
            if all.get(&name).is_some_and(|known| known.directory) {
                name.extend_from_slice(b".cairn-object");
                object.name = name.clone();
            }
            all.entry(name).or_insert(object);
        }
        all.into_values().collect()
    }

    pub fn directories(&self) -> Vec<InodeId> {
        let below = self.tree().into_values().filter(Inode::is_dir).map(|dir| dir.ino);
        [self.root].into_iter().chain(below).collect()
    }

    /// Reads all directories that were never read.
    pub fn read_all(&mut self) {
        loop {
            let unread: Vec<InodeId> = self
                .directories()
                .into_iter()
                .filter(|dir| mounting::unread(&self.d.store, *dir).unwrap().is_some())
                .collect();
            if unread.is_empty() {
                return;
            }
            unread.into_iter().for_each(|dir| self.import(dir));
        }
    }

    /// Reads all directories.
    pub fn sync(&mut self) {
        for dir in self.directories() {
            self.import(dir);
        }
        self.read_all();
    }

    pub fn intents(&self) -> Vec<IntentRecord> {
        let all = jobs::intents(&self.d.store, None, usize::MAX).unwrap();
        let of_objects = |record: &IntentRecord| {
            !record.failed && matches!(record.work, Work::PutObject { .. } | Work::DeleteObject { .. })
        };
        all.into_iter().filter(of_objects).collect()
    }

    /// Does a piece of work as a data node does.
    pub fn execute(&mut self, record: &IntentRecord, luck: Luck) {
        if luck == Luck::Dies {
            return;
        }
        let intent = record.intent;
        let report = match &record.work {
            Work::PutObject { key, .. } => self.put(record, key),
            Work::DeleteObject { key, etag, .. } => match self.bucket.delete_if(key, etag) {
                Ok(()) => Command::ObjectGone { intent },
                Err(()) => self.changed(intent, key),
            },
            other => panic!("{other:?}"),
        };
        if luck == Luck::Good {
            self.d.ok(report.clone());
            assert!(self.d.propose(report).is_err(), "told twice");
        }
    }

    fn changed(&self, intent: IntentId, key: &[u8]) -> Command {
        let found = self.bucket.objects.get(key).map(super::bucket::Object::found);
        Command::ObjectChanged { intent, key: key.to_vec(), found }
    }

    fn put(&mut self, record: &IntentRecord, key: &[u8]) -> Command {
        let intent = record.intent;
        let picture = mounting::picture(&self.d.store, record).unwrap().unwrap();
        if let Some(there) = self.bucket.objects.get(key)
            && there.intent == Some(intent.0)
        {
            // The answer was lost.
            return written(intent, &there.etag, picture.length);
        }
        let mut data = Vec::new();
        for piece in &picture.pieces {
            let (from, until) = (piece.offset as usize, (piece.offset + piece.length) as usize);
            match &piece.source {
                PieceSource::Hole => data.resize(data.len() + piece.length as usize, 0),
                PieceSource::Chunk(chunk) => {
                    let bytes =
                        self.chunks.get(chunk).unwrap_or_else(|| panic!("{record:?}: {chunk} is gone"));
                    data.extend_from_slice(&bytes[from..until]);
                }
                PieceSource::Object { key: source, etag, size } => {
                    match self.bucket.objects.get(source).filter(|object| object.etag == *etag) {
                        Some(object) => {
                            assert_eq!(*size, object.data.len() as u64, "{record:?}");
                            data.extend_from_slice(&object.data[from..until]);
                        }
                        None => return self.changed(intent, source),
                    }
                }
            }
        }
        assert_eq!(data.len() as u64, picture.length, "{record:?}");
        self.aside += usize::from(key.starts_with(b"p/.cairn-temporary/"));
        let marked = (intent.0, picture.metadata.clone());
        match self.bucket.put_if(key, &picture.replaces, data, marked) {
            Ok(etag) => written(intent, &etag, picture.length),
            Err(()) => self.changed(intent, key),
        }
    }

    /// One turn of the leader over everything that is to be done: what is begun. Answers whether something was.
    pub fn turn(&mut self) -> bool {
        let before = self.d.index;
        let node: NodeId = FIRST;
        for (directory, row) in mounting::pending_after(&self.d.store, MOUNT, None, 10_000).unwrap() {
            if row.walk.is_some() {
                self.follow(directory);
            } else if row.intent.is_none() {
                let put = Command::CreatePut { mount: MOUNT, ino: directory, assignee: node };
                let _ = self.d.propose(put);
            }
        }
        for (key, row) in mounting::surplus_after(&self.d.store, MOUNT, None, 10_000).unwrap() {
            if row.intent.is_none() {
                let _ = self.d.propose(Command::CreateObjectDeletion { mount: MOUNT, key, assignee: node });
            }
        }
        for (prefix, _) in mounting::moves_after(&self.d.store, MOUNT, None, 10_000).unwrap() {
            let _ = self.d.propose(Command::EndMove { mount: MOUNT, prefix });
        }
        self.collect();
        self.d.index > before
    }

    pub fn follow(&mut self, directory: InodeId) {
        match self.d.propose(Command::FollowMove { mount: MOUNT, directory }) {
            Err(FsError::Importing { .. }) => self.import(directory),
            Err(error) => panic!("{directory} cannot follow: {error:?}"),
            Ok(_) => {}
        }
    }

    /// What is not named any more goes, and so do the bytes of chunks that are dead.
    pub fn collect(&mut self) {
        for content in jobs::detached(&self.d.store, None::<ContentId>, 1000).unwrap() {
            self.d.ok(Command::PurgeContent { content });
        }
        for ino in jobs::orphans(&self.d.store, None, 1000).unwrap() {
            self.d.ok(Command::Purge { ino });
        }
        let dead = |chunk: &ChunkId| {
            read::chunk(&self.d.store, *chunk)
                .unwrap()
                .is_none_or(|record| record.sealed.is_some() && record.live_bytes == 0 && !record.held)
        };
        let gone: Vec<ChunkId> = self.chunks.keys().copied().filter(dead).collect();
        gone.iter().for_each(|chunk| drop(self.chunks.remove(chunk)));
    }

    /// Works until nothing is left to be done.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.d.now += 1_000_000;
            self.turn();
            let left = self.intents();
            if left.is_empty() && self.is_settled() {
                return;
            }
            for record in left {
                if read::intent(&self.d.store, record.intent).unwrap().is_some() {
                    self.execute(&record, Luck::Good);
                }
            }
        }
        panic!("it does not settle: {}", self.rest());
    }

    pub fn is_settled(&self) -> bool {
        let counts = mounting::figures(&self.d.store, MOUNT).unwrap().counts;
        let moves = mounting::moves_after(&self.d.store, MOUNT, None, 1).unwrap();
        counts.pending == 0 && counts.surplus == 0 && moves.is_empty()
    }

    /// What is left to be done, for people.
    pub fn rest(&self) -> String {
        let paths: Vec<String> =
            self.tree().into_iter().map(|(path, inode)| format!("{path}={}", inode.ino)).collect();
        format!(
            "pending {:#?}\nsurplus {:#?}\nmoves {:?}\nintents {:#?}\ntree {paths:?}\nbucket {:?}",
            mounting::pending_after(&self.d.store, MOUNT, None, 100).unwrap(),
            mounting::surplus_after(&self.d.store, MOUNT, None, 100).unwrap(),
            mounting::moves_after(&self.d.store, MOUNT, None, 100).unwrap(),
            jobs::intents(&self.d.store, None, 100).unwrap(),
            self.bucket.keys(),
        )
    }

    /// Works and reads until bucket and namespace say the same, and sees to it that they do.
    pub fn converge(&mut self) {
        for _ in 0..64 {
            self.settle();
            let before = (self.tree(), self.bucket.objects.clone());
            self.sync();
            self.settle();
            if (self.tree(), self.bucket.objects.clone()) == before {
                return self.compare();
            }
        }
        panic!("it does not converge: {}", self.rest());
    }

    /// Bucket and namespace are equal.
    pub fn compare(&self) {
        self.d.check();
        super::rows::check(&self.d.store);
        let mut objects = self.bucket.objects.clone();
        let tree = self.tree();
        for (path, inode) in &tree {
            let key = format!("p/{path}").into_bytes();
            if inode.is_dir() {
                let marker = objects.remove(&[key.as_slice(), b"/"].concat());
                let holds_some = tree.keys().any(|other| other.starts_with(&format!("{path}/")));
                assert!(holds_some || marker.is_some(), "{path}/ is not in the bucket: {}", self.rest());
                continue;
            }
            let shadowed = path.strip_suffix(".cairn-object").map(|path| format!("p/{path}").into_bytes());
            let there = objects.remove(&key).or_else(|| objects.remove(&shadowed?));
            let there = there.unwrap_or_else(|| panic!("{path} is not in the bucket: {}", self.rest()));
            assert_eq!(self.content(inode.ino), Some(there.data), "{path}");
        }
        let left: Vec<String> = objects.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        assert_eq!(left, Vec::<String>::new(), "objects that are no files: {}", self.rest());
    }
}

fn written(intent: IntentId, etag: &str, size: u64) -> Command {
    Command::ObjectWritten { intent, etag: etag.to_owned(), size, mtime: Timestamp(78) }
}
