//! `chunks` ↔ tails ↔ `queues` ↔ `held`; `packs`.

use std::collections::BTreeSet;

use cairn_types::{ChunkId, DiskId, Inode, InodeId, IntentId, PackId, SessionId, TailRef, Timestamp};

use super::look::{Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::chunks::{self, ChunkOwner, ChunkRecord, ChunkState};
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::packs::{self, PackRecord};
use crate::keys::queues::{self, Queue};
use crate::keys::removed::RemovedNode;
use crate::keys::spares::{self, SpareRow};
use crate::keys::{held, sessions};
use crate::namespace::chunks::{granted, too_few_copies, waits_for_s3, waits_in};
use crate::store::{KeyRange, StoreFault, Table};

/// Removed nodes that are looked at, at most.
const NODES_MAX: usize = 10_000;

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Chunks { cursor: Cursor::all(Table::Chunks), left: None }),
        Box::new(Packs(Cursor::all(Table::Packs))),
        Box::new(Queues(Cursor::all(Table::Queues))),
        Box::new(Held(Cursor::all(Table::Held))),
        Box::new(Spares(Cursor::all(Table::Spares))),
    ]
}

/// A file's tail is a chunk of its own that is not sealed, behind all that the file has.
pub(super) fn tail_of(look: &mut Look<'_>, inode: &Inode, tail: TailRef) -> Result<(), StoreFault> {
    let owner = ChunkOwner::Tail { ino: inode.ino, base: tail.base };
    let record = look.at::<ChunkRecord>(&chunks::key(tail.chunk))?;
    let fits = record.holds_readable(|r| r.owner == owner && r.state != ChunkState::Sealed);
    if !fits || !inode.is_file() || inode.size > tail.base {
        look.found(Finding::WrongTail { ino: inode.ino, chunk: tail.chunk });
    }
    Ok(())
}

struct Chunks {
    cursor: Cursor,
    /// The disks of removed nodes that no chunk may name.
    left: Option<BTreeSet<DiskId>>,
}

impl Pass for Chunks {
    fn name(&self) -> &'static str {
        "chunks"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        if self.left.is_none() {
            let rows = look.rows.scan(Table::Removed, &KeyRange::default(), NODES_MAX)?;
            let removed = rows.iter().filter_map(|(k, v)| crate::keys::Record::from_bytes(k, v).ok());
            self.left = Some(removed.filter(|r: &RemovedNode| r.struck.is_some()).map(|r| r.disk).collect());
        }
        let (rows, ended) = self.cursor.next(look)?;
        for (key, bytes) in rows {
            let Some(record) = look.read::<ChunkRecord>(&key, &bytes) else { continue };
            if key != chunks::key(record.chunk) {
                look.unreadable(Table::Chunks, &key);
                continue;
            }
            count(look, &record);
            waiting(look, &record)?;
            owned(look, &record)?;
            stored(look, &record, self.left.as_ref())?;
        }
        Ok(ended)
    }
}

fn count(look: &mut Look<'_>, record: &ChunkRecord) {
    let state = match record.state {
        ChunkState::Open | ChunkState::Spare => Counter::ChunksOpen,
        ChunkState::Sealing => Counter::ChunksSealing,
        ChunkState::Sealed => Counter::ChunksSealed,
    };
    look.tally.id(Counter::Chunks, record.chunk.0);
    look.tally.add(state, 1);
    look.tally.add(Counter::UnderReplicated, u64::from(too_few_copies(record)));
    look.tally.add(Counter::GrantedBytes, granted(record));
    if waits_for_s3(record) {
        look.tally.add(Counter::UnpersistedBytes, record.sealed_length().unwrap_or(0));
    }
}

/// It is in the queues where it belongs, and what it waits for is under way.
fn waiting(look: &mut Look<'_>, record: &ChunkRecord) -> Result<(), StoreFault> {
    let (chunk, id) = (record.chunk, record.chunk.0);
    if record.state == ChunkState::Sealed && record.sealed.is_none() {
        look.found(Finding::SealedUndecided { chunk });
    }
    for (queue, order) in waits_in(record) {
        if !look.has(Table::Queues, &queues::key(queue, order, id))? {
            look.found(Finding::MissingQueueRow { queue: queue as u8, order, id });
        }
    }
    if let Some(intent) = record.upload
        && !uploads(look, intent, chunk)?
    {
        look.found(Finding::UploadGone { chunk, intent });
    }
    Ok(())
}

/// True when an intent uploads a chunk.
fn uploads(look: &Look<'_>, intent: IntentId, chunk: ChunkId) -> Result<bool, StoreFault> {
    let uploads = |work: Work| match work {
        Work::Upload { chunks, .. } => chunks.iter().any(|upload| upload.chunk == chunk),
        _ => false,
    };
    let intent = look.at::<IntentRecord>(&intents::key(intent))?;
    Ok(intent.holds_readable(|intent| uploads(intent.work)))
}

/// True when an intent deletes a pack.
fn deletes(look: &Look<'_>, intent: IntentId, pack: PackId) -> Result<bool, StoreFault> {
    let deletes = |work: Work| matches!(work, Work::DeletePack { pack: of, .. } if of == pack);
    let intent = look.at::<IntentRecord>(&intents::key(intent))?;
    Ok(intent.holds_readable(|intent| deletes(intent.work)))
}

/// Whose it is knows of it.
fn owned(look: &mut Look<'_>, record: &ChunkRecord) -> Result<(), StoreFault> {
    let chunk = record.chunk;
    match record.owner {
        ChunkOwner::Session(session) if record.held => {
            if !look.has(Table::Held, &held::key(session, chunk))? {
                look.found(Finding::MissingHeld { session, chunk });
            }
            if !look.has(Table::Sessions, &sessions::key(session))? {
                look.found(Finding::HeldForNobody { session, chunk });
            }
        }
        ChunkOwner::Session(_) => {}
        ChunkOwner::Tail { ino, .. } => {
            let inode = look.reachable(ino)?;
            let is_tail = |inode: &Inode| inode.tail.is_some_and(|tail| tail.chunk == chunk);
            let fits = inode.holds_readable(|inode| is_tail(&inode));
            // A tail that is one for its file was looked at there.
            if record.held || record.state == ChunkState::Open && !fits {
                look.found(Finding::WrongTail { ino, chunk });
            }
            if record.state == ChunkState::Spare && !follows(look, ino, chunk)? {
                look.found(Finding::LostSpare { chunk });
            }
        }
    }
    Ok(())
}

/// Where its bytes are.
fn stored(
    look: &mut Look<'_>,
    record: &ChunkRecord,
    left: Option<&BTreeSet<DiskId>>,
) -> Result<(), StoreFault> {
    let chunk = record.chunk;
    for replica in &record.replicas {
        if left.is_some_and(|left| left.contains(&replica.disk)) {
            look.found(Finding::NamesRemoved { chunk, node: replica.node });
        }
    }
    if let Some(sealed) = &record.sealed {
        for node in &sealed.holders {
            if record.replicas.iter().all(|r| r.node != *node) {
                look.found(Finding::HolderNotReplica { chunk, node: *node });
            }
        }
        let needed = record.live_bytes > 0 && record.place.is_none() && sealed.length > 0;
        if needed && sealed.holders.is_empty() {
            look.found(Finding::NobodyHolds { chunk });
        }
    }
    if let Some(place) = record.place.filter(|_| !record.is_dead())
        && !look.has(Table::Packs, &packs::key(place.pack))?
    {
        look.found(Finding::NoPack { chunk, pack: place.pack });
    }
    Ok(())
}

struct Packs(Cursor);

impl Pass for Packs {
    fn name(&self) -> &'static str {
        "packs"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(record) = look.read::<PackRecord>(&key, &bytes) else { continue };
            let pack = record.pack;
            if key != packs::key(pack) {
                look.unreadable(Table::Packs, &key);
                continue;
            }
            look.tally.add(Counter::Packs, 1);
            look.tally.id(Counter::Packs, pack.0);
            let (order, id) = (record.created, pack.0);
            let dead = queues::key(Queue::DeadPacks, order, id);
            if is_dead(&record) && !look.has(Table::Queues, &dead)? {
                look.found(Finding::MissingQueueRow { queue: Queue::DeadPacks as u8, order, id });
            }
            if let Some(intent) = record.deletion
                && !deletes(look, intent, pack)?
            {
                look.found(Finding::DeletionGone { pack, intent });
            }
        }
        Ok(ended)
    }
}

/// True when a pack waits for its deletion.
fn is_dead(record: &PackRecord) -> bool {
    record.live_chunks == 0 && record.deletion.is_none()
}

struct Queues(Cursor);

impl Pass for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, _) in rows {
            let (Some(queue), Ok((order, id))) = (key.first().copied(), queues::parse(&key)) else {
                look.unreadable(Table::Queues, &key);
                continue;
            };
            if !belongs(look, queue, order, id)? {
                look.found(Finding::StrayQueueRow { queue, order, id });
            }
        }
        Ok(ended)
    }
}

fn belongs(look: &Look<'_>, queue: u8, order: Timestamp, id: u64) -> Result<bool, StoreFault> {
    if queue == Queue::DeadPacks as u8 {
        let pack = look.at::<PackRecord>(&packs::key(PackId(id)))?;
        return Ok(pack.holds_readable(|record| is_dead(&record) && record.created == order));
    }
    let chunk = look.at::<ChunkRecord>(&chunks::key(ChunkId(id)))?;
    Ok(chunk.holds_readable(|record| waits_in(&record).iter().any(|(q, o)| *q as u8 == queue && *o == order)))
}

struct Held(Cursor);

impl Pass for Held {
    fn name(&self) -> &'static str {
        "held chunks"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, _) in rows {
            let Some(session) = look.number(Table::Held, &key, 0).map(SessionId) else { continue };
            let Some(chunk) = look.number(Table::Held, &key, 8).map(ChunkId) else { continue };
            if !holds(look, session, chunk)? {
                look.found(Finding::StrayHeld { session, chunk });
            }
        }
        Ok(ended)
    }
}

/// True when a session holds a chunk, or that cannot be told.
fn holds(look: &Look<'_>, session: SessionId, chunk: ChunkId) -> Result<bool, StoreFault> {
    let record = look.at::<ChunkRecord>(&chunks::key(chunk))?;
    Ok(record.holds_readable(|r| r.held && r.owner == ChunkOwner::Session(session)))
}

struct Spares(Cursor);

impl Pass for Spares {
    fn name(&self) -> &'static str {
        "spares"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(tail) = look.number(Table::Spares, &key, 0).map(ChunkId) else { continue };
            let readable = look.read::<SpareRow>(&key, &bytes).is_some();
            if readable && !is_open(look, tail)? {
                look.found(Finding::StraySpare { tail });
            }
        }
        Ok(ended)
    }
}

/// True for an open chunk, or when that cannot be told.
fn is_open(look: &Look<'_>, chunk: ChunkId) -> Result<bool, StoreFault> {
    let record = look.at::<ChunkRecord>(&chunks::key(chunk))?;
    Ok(record.holds_readable(|record| record.state == ChunkState::Open))
}

/// True when `spare` is the one that is to follow the tail of its file.
fn follows(look: &Look<'_>, ino: InodeId, spare: ChunkId) -> Result<bool, StoreFault> {
    let tail = look.reachable(ino)?.record().and_then(|inode| inode.tail);
    let Some(tail) = tail else { return Ok(false) };
    let row = look.at::<SpareRow>(&spares::key(tail.chunk))?;
    Ok(row.holds_readable(|row| row.chunk == spare))
}

/// Whether what was found of queues, held chunks, spares and what waits for intents is so still.
pub(super) fn is_so(look: &Look<'_>, finding: &Finding) -> Result<bool, StoreFault> {
    let listed = |session: SessionId, chunk| look.has(Table::Held, &held::key(session, chunk));
    Ok(match finding {
        Finding::MissingQueueRow { queue, order, id } => {
            let row = look.has(Table::Queues, &queues::key_of(*queue, *order, *id))?;
            !row && belongs(look, *queue, *order, *id)?
        }
        Finding::StrayQueueRow { queue, order, id } => {
            let row = look.has(Table::Queues, &queues::key_of(*queue, *order, *id))?;
            row && !belongs(look, *queue, *order, *id)?
        }
        Finding::MissingHeld { session, chunk } => {
            !listed(*session, *chunk)? && holds(look, *session, *chunk)?
        }
        Finding::StrayHeld { session, chunk } => listed(*session, *chunk)? && !holds(look, *session, *chunk)?,
        Finding::HeldForNobody { session, chunk } => {
            holds(look, *session, *chunk)? && !look.has(Table::Sessions, &sessions::key(*session))?
        }
        Finding::StraySpare { tail } => {
            look.has(Table::Spares, &spares::key(*tail))? && !is_open(look, *tail)?
        }
        Finding::LostSpare { chunk } => match look.at::<ChunkRecord>(&chunks::key(*chunk))?.record() {
            Some(ChunkRecord { state: ChunkState::Spare, owner: ChunkOwner::Tail { ino, .. }, .. }) => {
                !follows(look, ino, *chunk)?
            }
            _ => false,
        },
        Finding::UploadGone { chunk, intent } => {
            let record = look.at::<ChunkRecord>(&chunks::key(*chunk))?.record();
            record.is_some_and(|r| r.upload == Some(*intent)) && !uploads(look, *intent, *chunk)?
        }
        Finding::DeletionGone { pack, intent } => {
            let record = look.at::<PackRecord>(&packs::key(*pack))?.record();
            record.is_some_and(|r| r.deletion == Some(*intent)) && !deletes(look, *intent, *pack)?
        }
        _ => false,
    })
}
