//! What a request changes: creates, appends, fences, notices, cached blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_types::{Ack, ChunkId, Epoch};

use super::batch::{Notify, Pending, stored_bytes};
use super::completion::Callback;
use super::engine::{Engine, Replica, notify_error};
use super::error::StoreError;
use super::policy::Item;
use super::request::CacheKey;
use super::spec::{AppendRecord, ChunkSpec, Durable, FenceAnswer, FenceSpec, OPAQUE_BYTES_MAX};
use super::state::{Phase, ReplicaState};
use super::table::{Cell, RecordRef};
use crate::segments::{BlockSums, Location, Privilege, RecordHeader, RecordKind};

impl Engine {
    pub(crate) fn create(&mut self, spec: &ChunkSpec, callback: Callback<()>) {
        let chunk = spec.chunk;
        if let Some(replica) = self.replicas.get(&chunk) {
            let outcome = replica.state.check_again(spec);
            return self.reply(outcome, callback, |callback, ()| Notify::Done(callback));
        }
        let (wanted, actual) = (spec.opened_incarnation, self.here.incarnation);
        if wanted != actual {
            return callback(Err(StoreError::OtherIncarnation { chunk, wanted, actual }));
        }
        let state = ReplicaState::new(spec, self.here.boot_id);
        let notify = Notify::Done(callback);
        if let Err((error, notify)) = self.make(spec, state, Privilege::Append, notify) {
            notify_error(notify, error);
        }
    }

    /// Makes a replica of `state`; readers see it once it is durable.
    pub(crate) fn make(
        &mut self,
        spec: &ChunkSpec,
        state: ReplicaState,
        privilege: Privilege,
        notify: Notify,
    ) -> Result<(), (StoreError, Notify)> {
        if let Err(error) = ReplicaState::check_spec(spec) {
            return Err((error, notify));
        }
        let chunk = spec.chunk;
        let cell = Cell::new(state.view(&self.here), Vec::new());
        let nowhere = Location { slot: u32::MAX, offset: 0 };
        self.replicas.insert(
            chunk,
            Replica { state, cell, state_at: (nowhere, 0, 0), synced_batch: 0, data_batch: 0 },
        );
        let made = self.push_state(chunk, RecordKind::Create, privilege, notify);
        match made.is_ok() {
            true => self.forget_tombstone(chunk),
            false => drop(self.replicas.remove(&chunk)),
        }
        made
    }

    pub(crate) fn append(
        &mut self,
        record: &AppendRecord,
        sums: &BlockSums,
        extension: Option<Epoch>,
        callback: Callback<Durable>,
    ) {
        let chunk = record.chunk;
        let checked = match self.replicas.get(&chunk) {
            None => Err(StoreError::UnknownChunk { chunk }),
            Some(r) if extension.is_none() && r.cell.damaged.load(Ordering::Acquire) => {
                Err(StoreError::Damaged { chunk })
            }
            Some(replica) => replica.state.check_append(record, sums, extension, &self.here),
        };
        let kind = if record.close { RecordKind::Close } else { RecordKind::Append };
        let header = append_header(kind, record);
        // An extension is part of a seal: it may use the reserve.
        let privilege = if extension.is_some() { Privilege::Move } else { Privilege::Append };
        let pushed = checked.and_then(|()| self.push(&header, sums, &record.payload, privilege));
        let (location, replica) = match (pushed, self.replicas.get_mut(&chunk)) {
            (Ok(location), Some(replica)) => (location, replica),
            (Err(error), _) => return callback(Err(error)),
            (Ok(_), None) => return callback(Err(StoreError::UnknownChunk { chunk })),
        };
        let wall = self.log.batch_wall();
        replica.state.advance(&record.step(wall));
        replica.data_batch = self.batch;
        if record.close {
            self.log.drop_live(location, stored_bytes(0));
        }
        let offset = record.offset as u32;
        let length = record.payload.len() as u32;
        let added = (!record.close).then_some(RecordRef { offset, length, location });
        let sync = replica.state.ack == Ack::Fsync || replica.synced_batch == self.batch;
        let pending = Pending::Append {
            cell: Arc::clone(&replica.cell),
            added,
            chain: replica.state.chain,
            heard: record.committed,
            wall,
            length: replica.state.length,
            callback,
        };
        self.wait(sync, pending);
    }

    pub(crate) fn fence(&mut self, fence: &FenceSpec, callback: Callback<FenceAnswer>) {
        let chunk = fence.spec.chunk;
        let made = !self.replicas.contains_key(&chunk);
        if made {
            // R4: what is not here becomes a fenced empty replica. No boot id: it proves nothing
            // unless this very process was the one the chunk was opened with.
            let mut state = ReplicaState::new(&fence.spec, [0; 16]);
            if let Err(error) = state.fence(fence) {
                return callback(Err(error));
            }
            let notify = Notify::Fenced(callback, state.fence_answer(&self.here));
            if let Err((error, notify)) = self.make(&fence.spec, state, Privilege::Control, notify) {
                notify_error(notify, error);
            }
            return;
        }
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let before = (replica.state.epoch, replica.state.phase);
        let heard = replica.cell.heard.load(Ordering::Acquire);
        replica.state.damaged |= replica.cell.damaged.load(Ordering::Acquire);
        replica.state.heard = replica.state.heard.max(heard);
        let outcome = replica.state.fence(fence);
        let answer = replica.state.fence_answer(&self.here);
        match outcome {
            Err(error) => callback(Err(error)),
            Ok(false) => self.wait(true, Pending::Other(Notify::Fenced(callback, answer))),
            Ok(true) => {
                let notify = Notify::Fenced(callback, answer);
                let pushed = self.push_state(chunk, RecordKind::Fence, Privilege::Control, notify);
                if let Err((error, notify)) = pushed {
                    if let Some(replica) = self.replicas.get_mut(&chunk) {
                        (replica.state.epoch, replica.state.phase) = before;
                    }
                    notify_error(notify, error);
                }
            }
        }
    }

    pub(crate) fn persisted(&mut self, chunk: ChunkId, place: &Bytes, callback: Callback<()>) {
        let refused = match self.replicas.get_mut(&chunk) {
            None => Some(StoreError::UnknownChunk { chunk }),
            Some(replica) if replica.state.phase != Phase::Sealed => Some(StoreError::NotSealed { chunk }),
            Some(_) if place.len() > OPAQUE_BYTES_MAX => Some(StoreError::BadRecord { chunk }),
            Some(replica) => {
                if replica.state.place.replace(place.to_vec()).is_none() {
                    let bytes = replica.cell.read().refs.iter().map(RecordRef::stored_bytes).sum();
                    self.policy.insert(Item::Chunk(chunk), bytes);
                }
                self.barren = None;
                None
            }
        };
        if let Some(error) = refused {
            return callback(Err(error));
        }
        let notify = Notify::Done(callback);
        if let Err((error, notify)) =
            self.push_state(chunk, RecordKind::Persisted, Privilege::Control, notify)
        {
            if let Some(replica) = self.replicas.get_mut(&chunk) {
                replica.state.place = None;
                self.policy.forget(&Item::Chunk(chunk));
            }
            notify_error(notify, error);
        }
    }

    /// Keeps a replica's damage over a restart. Best effort: it is found again if this fails.
    pub(crate) fn mark_damaged(&mut self, chunk: ChunkId) {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        if !std::mem::replace(&mut replica.state.damaged, true)
            && let Err((error, _)) =
                self.push_state(chunk, RecordKind::Damage, Privilege::Control, Notify::Nobody)
        {
            tracing::error!(%chunk, %error, "the damage of a replica could not be recorded");
        }
    }

    pub(crate) fn cache_put(
        &mut self,
        key: CacheKey,
        block: &Bytes,
        sums: &BlockSums,
        callback: Callback<()>,
    ) {
        let header = RecordHeader {
            length: block.len() as u32,
            payload_crc32c: sums.whole,
            generation: (key.object >> 64) as u64,
            writer: key.object as u64,
            sequence: key.block,
            ..RecordHeader::new(RecordKind::CacheBlock, 0)
        };
        if block.len() > crate::segments::record::PAYLOAD_BYTES_MAX {
            return callback(Err(StoreError::BadRecord { chunk: ChunkId(0) }));
        }
        match self.push(&header, sums, block, Privilege::Cache) {
            Err(error) => callback(Err(error)),
            Ok(location) => {
                self.policy.insert(Item::Block(key), stored_bytes(header.length));
                let (length, notify) = (header.length, Notify::Done(callback));
                self.wait(false, Pending::Cached { key, location, length, notify });
            }
        }
    }
}

/// The header of a record of a chunk, as it is stored.
pub(super) fn append_header(kind: RecordKind, record: &AppendRecord) -> RecordHeader {
    RecordHeader {
        kind,
        length: record.payload.len() as u32,
        epoch: record.epoch.0,
        chunk: record.chunk.0,
        offset: record.offset,
        generation: record.generation.0,
        writer: record.writer.0,
        sequence: record.sequence.0,
        committed: record.committed,
        payload_crc32c: record.payload_crc32c,
        chain: record.chain.0,
        previous_chain: record.previous_chain.0,
    }
}
