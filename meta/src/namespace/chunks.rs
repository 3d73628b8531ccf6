//! The one place where chunk records change, so that queues, counts, held rows and packs' live
//! bytes always fit them.

use std::collections::BTreeMap;

use cairn_types::limits::{GRANT_BYTES_FIRST, REPLICAS_MAX};
use cairn_types::{ChunkId, Epoch, FsError, Generation, NodeId, Persist, Policy, Timestamp, WriterMark};

use super::error::{Outcome, refuse};
use super::operation::Placement;
use super::state::State;
use crate::keys::RowFault;
use crate::keys::chunks::{self, Activation, ChunkOwner, ChunkRecord, ChunkState, PlacedReplica};
use crate::keys::counters::{self, Counts, Granted};
use crate::keys::held;
use crate::keys::packs::{self, PackRecord};
use crate::keys::queues::{self, Queue};
use crate::keys::spares::{self, SpareRow};
use crate::store::{Rows, Table};

/// Changes of chunks' live bytes, gathered over an operation.
pub(super) type LiveChanges = BTreeMap<ChunkId, i64>;

impl State<'_, '_> {
    /// The chunk's record, if it has one.
    pub fn find_chunk(&self, chunk: ChunkId) -> Result<Option<ChunkRecord>, RowFault> {
        self.get(&chunks::key(chunk))
    }

    /// The chunk's record, or [`FsError::ChunkGone`].
    pub fn chunk(&self, chunk: ChunkId) -> Outcome<ChunkRecord> {
        match self.find_chunk(chunk)? {
            Some(record) => Ok(record),
            None => refuse(FsError::ChunkGone { chunk }),
        }
    }

    /// Writes a chunk's record and all that follows from it.
    pub fn put_chunk(&mut self, before: Option<&ChunkRecord>, after: &ChunkRecord) -> Result<(), RowFault> {
        self.follow_chunk(before, Some(after))?;
        self.put(chunks::key(after.chunk), after);
        Ok(())
    }

    /// Removes a dead chunk's record.
    pub fn remove_chunk(&mut self, before: &ChunkRecord) -> Result<(), RowFault> {
        self.follow_chunk(Some(before), None)?;
        self.delete(Table::Chunks, chunks::key(before.chunk));
        Ok(())
    }

    /// Opens a chunk.
    pub fn open_chunk(
        &mut self,
        owner: ChunkOwner,
        policy: Policy,
        placement: Option<&Placement>,
        generation: Generation,
        marks: Vec<WriterMark>,
    ) -> Outcome<ChunkRecord> {
        let activation = self.activation(generation, marks);
        self.make_chunk(ChunkState::Open, owner, policy, placement, activation)
    }

    /// What this entry activates a chunk with.
    pub fn activation(&self, generation: Generation, marks: Vec<WriterMark>) -> Activation {
        let (log_index, time, grant_bytes) = (self.index, self.now(), GRANT_BYTES_FIRST);
        Activation { log_index, time, generation, grant_bytes, marks }
    }

    /// Makes a chunk that is open, or a spare.
    pub fn make_chunk(
        &mut self,
        state: ChunkState,
        owner: ChunkOwner,
        policy: Policy,
        placement: Option<&Placement>,
        activation: Activation,
    ) -> Outcome<ChunkRecord> {
        let placement = checked_placement(policy, placement)?;
        self.check_not_removed(policy, &placement.replicas)?;
        for replica in &placement.replicas {
            self.note_named(replica.disk)?;
        }
        let chunk = self.cluster.next.chunk;
        self.cluster.next.chunk = chunk.next();
        let record = ChunkRecord {
            chunk,
            state,
            epoch: Epoch(1),
            replicas: placement.replicas.clone(),
            primary: placement.primary,
            policy,
            owner,
            held: matches!(owner, ChunkOwner::Session(_)),
            activation,
            sealed: None,
            live_bytes: 0,
            extent_end: 0,
            upload: None,
            place: None,
        };
        self.put_chunk(None, &record)?;
        Ok(record)
    }

    /// Refuses a placement that was made before one of its nodes was removed. Whoever asks again gets
    /// another one.
    pub fn check_not_removed(&self, policy: Policy, replicas: &[PlacedReplica]) -> Outcome<()> {
        let gone = replicas.iter().map(|replica| self.is_removed(replica.disk));
        let gone = gone.collect::<Result<Vec<bool>, RowFault>>()?;
        if !gone.contains(&true) {
            return Ok(());
        }
        let left = gone.iter().filter(|gone| !**gone).count();
        let available = u8::try_from(left).unwrap_or(u8::MAX);
        refuse(FsError::TooFewNodes { available, needed: policy.min_replicas })
    }

    /// Open → Sealing, of a spare too; anything else stays as it is. Answers the record after.
    pub fn begin_seal(&mut self, chunk: ChunkId) -> Outcome<ChunkRecord> {
        let before = self.chunk(chunk)?;
        let open = before.state == ChunkState::Open;
        if !open && before.state != ChunkState::Spare {
            return Ok(before);
        }
        let mut after = before.clone();
        after.state = ChunkState::Sealing;
        after.epoch = before.epoch.next();
        self.put_chunk(Some(&before), &after)?;
        if open {
            self.discard_spare(chunk)?;
        }
        Ok(after)
    }

    /// Gives up the spare of a tail that ends otherwise than by a roll into it: it is sealed empty, and
    /// collected as any dead chunk.
    pub fn discard_spare(&mut self, tail: ChunkId) -> Outcome<()> {
        let key = spares::key(tail);
        let Some(row) = self.get::<SpareRow>(&key)? else { return Ok(()) };
        self.delete(Table::Spares, key);
        let spare = self.find_chunk(row.chunk)?;
        if spare.is_some_and(|spare| spare.state == ChunkState::Spare) {
            self.begin_seal(row.chunk)?;
        }
        Ok(())
    }

    /// Takes gathered changes of live bytes over.
    pub fn apply_live(&mut self, changes: LiveChanges) -> Outcome<()> {
        for (chunk, change) in changes {
            if change == 0 {
                continue;
            }
            let before = self.chunk(chunk)?;
            let mut after = before.clone();
            after.live_bytes = before.live_bytes.saturating_add_signed(change);
            self.put_chunk(Some(&before), &after)?;
        }
        Ok(())
    }

    fn follow_chunk(
        &mut self,
        before: Option<&ChunkRecord>,
        after: Option<&ChunkRecord>,
    ) -> Result<(), RowFault> {
        // First, since it may look through the queue as it was.
        self.follow_grant(before, after)?;
        let id = before.or(after).map_or(ChunkId(0), |r| r.chunk);
        let old = before.map(waits_in).unwrap_or_default();
        let new = after.map(waits_in).unwrap_or_default();
        for (queue, order) in old.iter().filter(|row| !new.contains(row)) {
            self.delete(Table::Queues, queues::key(*queue, *order, id.0));
        }
        for (queue, order) in new.iter().filter(|row| !old.contains(row)) {
            self.mark(Table::Queues, queues::key(*queue, *order, id.0));
        }
        if let Some(before) = before {
            count(&mut self.cluster.counts, before, |n, by| *n = n.saturating_sub(by));
        }
        if let Some(after) = after {
            count(&mut self.cluster.counts, after, |n, by| *n += by);
        }
        self.follow_held(before, after);
        self.follow_pack(before, after)
    }

    fn follow_grant(
        &mut self,
        before: Option<&ChunkRecord>,
        after: Option<&ChunkRecord>,
    ) -> Result<(), RowFault> {
        let (old, new) = (before.map_or(0, granted), after.map_or(0, granted));
        if old == new {
            return Ok(());
        }
        let known = match self.get::<Granted>(counters::GRANTED_KEY)? {
            Some(granted) => granted.bytes,
            None => self.count_granted()?,
        };
        let bytes = known.saturating_sub(old).saturating_add(new);
        self.put(counters::GRANTED_KEY.to_vec(), &Granted { bytes });
        Ok(())
    }

    /// Sums all grants: once, at the first change of one that this state sees.
    fn count_granted(&self) -> Result<u64, RowFault> {
        let mut bytes: u64 = 0;
        for (key, _) in self.txn.scan(Table::Queues, &queues::all(Queue::Open), usize::MAX)? {
            let (_, id) = queues::parse(&key)?;
            let record = self.find_chunk(ChunkId(id))?;
            bytes = bytes.saturating_add(record.as_ref().map_or(0, granted));
        }
        Ok(bytes)
    }

    fn follow_held(&mut self, before: Option<&ChunkRecord>, after: Option<&ChunkRecord>) {
        let held = |record: Option<&ChunkRecord>| match record.map(|r| (r.held, r.owner, r.chunk)) {
            Some((true, ChunkOwner::Session(session), chunk)) => Some(held::key(session, chunk)),
            _ => None,
        };
        match (held(before), held(after)) {
            (None, Some(key)) => self.mark(Table::Held, key),
            (Some(key), None) => self.delete(Table::Held, key),
            _ => {}
        }
    }

    fn follow_pack(
        &mut self,
        before: Option<&ChunkRecord>,
        after: Option<&ChunkRecord>,
    ) -> Result<(), RowFault> {
        let in_pack = |record: Option<&ChunkRecord>| {
            record.and_then(|r| r.place.map(|p| (p.pack, r.live_bytes, u32::from(!r.is_dead()))))
        };
        let (old, new) = (in_pack(before), in_pack(after));
        if old == new {
            return Ok(());
        }
        for (share, adds) in [(old, false), (new, true)] {
            let Some((pack, bytes, chunks)) = share else { continue };
            let Some(mut record) = self.get::<PackRecord>(&packs::key(pack))? else { continue };
            if adds {
                record.live_bytes += bytes;
                record.live_chunks += chunks;
            } else {
                record.live_bytes = record.live_bytes.saturating_sub(bytes);
                record.live_chunks = record.live_chunks.saturating_sub(chunks);
            }
            self.put_pack(&record);
        }
        Ok(())
    }

    /// Writes a pack's record and its place in the queue of dead packs.
    pub fn put_pack(&mut self, record: &PackRecord) {
        let queued = queues::key(Queue::DeadPacks, record.created, record.pack.0);
        if record.live_chunks == 0 && record.deletion.is_none() {
            self.mark(Table::Queues, queued);
        } else {
            self.delete(Table::Queues, queued);
        }
        self.put(packs::key(record.pack), record);
    }
}

fn checked_placement(policy: Policy, placement: Option<&Placement>) -> Result<&Placement, FsError> {
    let needed = policy.min_replicas;
    let Some(placement) = placement else { return Err(FsError::TooFewNodes { available: 0, needed }) };
    let count = placement.replicas.len();
    if count < usize::from(needed) {
        let available = u8::try_from(count).unwrap_or(u8::MAX);
        return Err(FsError::TooFewNodes { available, needed });
    }
    let mut nodes: Vec<NodeId> = placement.replicas.iter().map(|r| r.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let fits = count <= usize::from(REPLICAS_MAX) && nodes.len() == count;
    if fits && nodes.contains(&placement.primary) { Ok(placement) } else { Err(FsError::InvalidRequest) }
}

pub(super) fn too_few_copies(record: &ChunkRecord) -> bool {
    let copies = record.sealed.as_ref().map_or(record.replicas.len(), |s| s.holders.len());
    !record.is_dead() && record.place.is_none() && copies < usize::from(record.policy.replicas)
}

pub(super) fn waits_for_s3(record: &ChunkRecord) -> bool {
    record.sealed.is_some()
        && !record.is_dead()
        && record.place.is_none()
        && record.policy.persist != Persist::Never
}

/// The bytes that a chunk may grow to without asking, as far as they will wait for S3. One whose
/// seal has begun grows no more; it may wait for ever for a node that is gone.
pub(super) fn granted(record: &ChunkRecord) -> u64 {
    let counts = record.state == ChunkState::Open && record.policy.persist != Persist::Never;
    if counts { record.activation.grant_bytes } else { 0 }
}

/// The queues that a chunk stands in, with its order there.
pub(super) fn waits_in(record: &ChunkRecord) -> Vec<(Queue, Timestamp)> {
    let opened = record.activation.time;
    let mut out = Vec::new();
    match (record.state, &record.sealed) {
        (ChunkState::Open | ChunkState::Spare, _) => out.push((Queue::Open, opened)),
        (ChunkState::Sealing, _) => out.push((Queue::Sealing, opened)),
        (ChunkState::Sealed, None) => {}
        (ChunkState::Sealed, Some(sealed)) => {
            if record.is_dead() {
                out.push((Queue::Garbage, sealed.at));
            } else if record.replicas.iter().any(|r| !sealed.holders.contains(&r.node)) {
                out.push((Queue::Surplus, sealed.at));
            }
            if waits_for_s3(record) && record.upload.is_none() {
                out.push((Queue::Unpersisted, sealed.at));
            }
        }
    }
    if too_few_copies(record) {
        out.push((Queue::UnderReplicated, opened));
    }
    out
}

fn count(counts: &mut Counts, record: &ChunkRecord, change: impl Fn(&mut u64, u64)) {
    let state = match record.state {
        ChunkState::Open | ChunkState::Spare => &mut counts.chunks_open,
        ChunkState::Sealing => &mut counts.chunks_sealing,
        ChunkState::Sealed => &mut counts.chunks_sealed,
    };
    change(state, 1);
    if too_few_copies(record) {
        change(&mut counts.under_replicated, 1);
    }
    if waits_for_s3(record) {
        change(&mut counts.unpersisted_bytes, record.sealed_length().unwrap_or(0));
    }
}
