//! [`State`]: the state while one entry is applied: the overlay, the time, the next ids, the counts.

use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{
    Credentials, FileKind, FsError, Generation, Inode, InodeId, IntentId, LogIndex, MountId, NodeId,
    SessionId, Timestamp,
};

use super::bounds::Bounds;
use super::error::{Outcome, refuse};
use super::holds::Claim;
use super::last_directory::LastDirectory;
use super::memory::Memory;
use super::mounted::Mounted;
use super::operation::Target;
use super::walk::{self, Dentry, End, LastLink, Walk};
use crate::keys::counters::{self, ClusterRecord};
use crate::keys::events::EventRow;
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places::{self, Place};
use crate::keys::{self, Record, RowFault};
use crate::store::{Table, Txn};

/// Writes that an entry may make for each row that it may touch.
const WRITES_PER_ROW: usize = 4;
/// Bytes that an entry may write: several times those of the largest message that asks for one.
const ENTRY_WRITES_MAX: usize = 16 << 20;

/// What a new inode starts with.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The state, seen by the entry at work.
pub(super) struct State<'t, 'a> {
    pub txn: &'t mut Txn<'a>,
    pub cluster: ClusterRecord,
    pub index: LogIndex,
    pub bounds: Bounds,
    /// Who asks, where the session said so: what it asks for is checked.
    pub caller: Option<Credentials>,
    /// What the session that asks says that it holds, where it said so.
    pub claim: Option<Claim>,
    /// What the entry at work has to tell watchers.
    pub events: Vec<EventRow>,
    /// The way to the directory that was asked for last, while no place is changed.
    pub last_way: Option<Way>,
    /// The directory that a path led to last: the next one mostly leads there too.
    pub last_directory: LastDirectory,
    /// What it knows of mounts.
    pub mounted: Mounted,
    stored: ClusterRecord,
}

/// Where a directory is.
pub(super) struct Way {
    pub dir: InodeId,
    pub place: Place,
    /// The directories above it, the nearest first; some of them where there are many.
    pub above: Vec<InodeId>,
}

impl<'t, 'a> State<'t, 'a> {
    /// Begins an entry stamped with `time`.
    pub fn begin(
        txn: &'t mut Txn<'a>,
        memory: &mut Memory,
        index: LogIndex,
        time: Timestamp,
        bounds: Bounds,
    ) -> Result<Self, RowFault> {
        let Memory { cluster, way, directory } = std::mem::take(memory);
        let stored = match cluster {
            Some(stored) => stored,
            None => keys::get(&*txn, counters::KEY)?.unwrap_or_default(),
        };
        let mut cluster = stored.clone();
        cluster.time = cluster.time.max(time);
        Ok(Self {
            txn,
            cluster,
            index,
            bounds,
            caller: None,
            claim: None,
            events: Vec::new(),
            last_way: way,
            last_directory: LastDirectory::new(directory),
            mounted: Mounted::default(),
            stored,
        })
    }

    /// Keeps what the entry did, and remembers what the next one may ask for.
    pub fn keep(mut self, memory: &mut Memory) -> Result<(), RowFault> {
        self.write_mounted();
        self.write_events()?;
        if self.cluster != self.stored {
            keys::put(self.txn, counters::KEY.to_vec(), &self.cluster);
        }
        self.txn.keep();
        let (way, directory) = (self.last_way, self.last_directory.into_known());
        *memory = Memory { cluster: Some(self.cluster), way, directory };
        Ok(())
    }

    /// Forgets what the operation did since the entry began, but for the time.
    pub fn forget(&mut self) {
        self.txn.discard();
        self.events.clear();
        self.mounted = Mounted::default();
        self.last_way = None;
        self.last_directory.forget();
        let time = self.cluster.time;
        self.cluster = self.stored.clone();
        self.cluster.time = time;
    }

    /// The state's time.
    pub fn now(&self) -> Timestamp {
        self.cluster.time
    }

    /// Reads a record.
    pub fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, RowFault> {
        keys::get(&*self.txn, key)
    }

    /// Writes a record.
    pub fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.forget_ways(R::TABLE);
        keys::put(self.txn, key, record);
    }

    /// Writes the place of an inode that had none: no way leads over it.
    pub fn put_new_place(&mut self, ino: InodeId, place: &Place) {
        keys::put(self.txn, places::key(ino), place);
    }

    /// Forgets the ways that were read from a table that changes.
    fn forget_ways(&mut self, table: Table) {
        if table == Table::Places {
            self.last_way = None;
        }
        if LastDirectory::is_of(table) {
            self.last_directory.forget();
        }
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.forget_ways(table);
        self.txn.delete(table, key);
    }

    /// Writes a row that says all in its key.
    pub fn mark(&mut self, table: Table, key: Vec<u8>) {
        self.txn.put(table, key, keys::PRESENT.to_vec());
    }

    /// Refuses an entry that touches more rows than one may, writes the same ones again and again, or
    /// more bytes than one may; two rows are kept for the reply, and those of its events.
    pub fn check_rows(&self) -> Result<(), FsError> {
        let rows = self.txn.rows_touched() + self.rows_of_events() + 2;
        let writes = self.txn.writes() / WRITES_PER_ROW;
        let fits = rows.max(writes) <= ROWS_PER_ENTRY_MAX && self.txn.bytes_written() <= ENTRY_WRITES_MAX;
        if fits { Ok(()) } else { Err(FsError::TooLarge) }
    }

    /// The inode, or [`FsError::Stale`].
    pub fn inode(&self, ino: InodeId) -> Outcome<Inode> {
        walk::inode_named(&*self.txn, ino)
    }

    /// Writes a changed inode at its primary link, with a new version and ctime.
    pub fn change_inode(&mut self, inode: &mut Inode) -> Outcome<()> {
        inode.ctime = self.now();
        self.note_inode(inode)
    }

    /// Writes an inode of which nothing changed that POSIX knows: a new version, the same ctime.
    pub fn note_inode(&mut self, inode: &mut Inode) -> Outcome<()> {
        inode.version += 1;
        let Some((place, _)) = walk::inode(&*self.txn, inode.ino)? else { return refuse(FsError::Stale) };
        if inode.nlink == 0 && orphans::since(&place).is_none() {
            // Seen without a name, since it is in a removed tree: the row counts the one that the tree's
            // purge has yet to take.
            self.put_at(&place, &Inode { nlink: 1, ..inode.clone() });
        } else {
            self.put_at(&place, inode);
        }
        Ok(())
    }

    /// Writes an inode at a primary link that is known.
    pub fn put_at(&mut self, place: &Place, inode: &Inode) {
        if let Some(since) = orphans::since(place) {
            self.put(orphans::key(inode.ino), &Orphan { inode: inode.clone(), since: Some(since) });
            return;
        }
        // No way leads over a file.
        if inode.kind != FileKind::File {
            self.forget_ways(Table::Nodes);
        }
        keys::put(self.txn, nodes::key(place.parent, &place.name), &NodeRow::Inode(inode.clone()));
    }

    /// A new inode, not yet in any table.
    pub fn new_inode(&mut self, birth: &Birth, mount: Option<MountId>) -> Inode {
        let now = self.now();
        let ino = self.cluster.next.inode;
        self.cluster.next.inode = ino.next();
        Inode {
            ino,
            kind: birth.kind,
            mode: birth.mode & 0o7777,
            uid: birth.uid,
            gid: birth.gid,
            nlink: if birth.kind == FileKind::Directory { 2 } else { 1 },
            size: 0,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            version: 1,
            generation: Generation(0),
            tail: None,
            target: None,
            policy: None,
            mount,
        }
    }

    /// Resolves a target.
    pub fn walk(&self, target: &Target, last: LastLink) -> Outcome<Walk> {
        self.last_directory.walk(&*self.txn, target, last, self.caller.as_ref())
    }

    /// Resolves a target to its inode, following a last symlink unless it says otherwise.
    pub fn resolve(&self, target: &Target) -> Outcome<Inode> {
        let last = if target.no_follow { LastLink::Stop } else { LastLink::Follow };
        Ok(self.walk(target, last)?.inode()?)
    }

    /// Resolves a target to a name in a directory, a last symlink not followed.
    ///
    /// A path without a last name is refused: `of_root` for the root, else `InvalidRequest`.
    pub fn dentry(&self, target: &Target, of_root: FsError) -> Outcome<Dentry> {
        match self.walk(target, LastLink::Stop)?.end {
            End::Dentry(dentry) if dentry.parent.is_dir() => Ok(dentry),
            End::Dentry(_) => refuse(FsError::NotDirectory),
            End::Inode(inode) if inode.ino == InodeId::ROOT => refuse(of_root),
            End::Inode(_) => refuse(FsError::InvalidRequest),
        }
    }

    /// Makes an intent.
    pub fn new_intent(&mut self, assignee: NodeId, work: Work) -> IntentId {
        let intent = self.cluster.next.intent;
        self.cluster.next.intent = intent.next();
        self.cluster.counts.intents += 1;
        let record = IntentRecord::new(intent, assignee, work, self.now());
        self.put(intents::key(intent), &record);
        intent
    }

    /// The intent, or [`FsError::NotFound`].
    pub fn intent(&self, intent: IntentId) -> Outcome<IntentRecord> {
        match self.get(&intents::key(intent))? {
            Some(record) => Ok(record),
            None => refuse(FsError::NotFound),
        }
    }

    /// Removes an intent that is done, or given up.
    pub fn end_intent(&mut self, intent: IntentId) {
        self.cluster.counts.intents = self.cluster.counts.intents.saturating_sub(1);
        self.delete(Table::Intents, intents::key(intent));
    }

    /// True while the session lives.
    pub fn session_lives(&self, session: SessionId) -> Result<bool, RowFault> {
        let record: Option<keys::sessions::SessionRecord> = self.get(&keys::sessions::key(session))?;
        Ok(record.is_some_and(|s| !s.closing))
    }
}

/// Refuses what is no regular file.
pub(super) fn regular(inode: &Inode) -> Result<(), FsError> {
    match inode.kind {
        FileKind::Directory => Err(FsError::IsDirectory),
        FileKind::File => Ok(()),
        _ => Err(FsError::NotFile),
    }
}

/// Refuses what is no regular file that a new content could be given to.
pub(super) fn replaceable(inode: &Inode) -> Result<(), FsError> {
    match inode.kind {
        // As open(2) with O_NOFOLLOW.
        FileKind::Symlink => Err(FsError::TooManySymlinks),
        _ => regular(inode),
    }
}
