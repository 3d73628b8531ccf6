//! The end of a replica: sealed, dropped, evicted.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::batch::{Notify, Pending, stored_bytes};
use super::completion::Callback;
use super::engine::{Engine, notify_error};
use super::error::{ReadError, StoreError};
use super::policy::Item;
use super::replica::SealStep;
use super::spec::{SealedOutcome, SealedSpec};
use crate::segments::{BlockSums, Privilege, RecordHeader, RecordKind};

/// Bytes verified at once.
const VERIFY_BYTES: usize = 1 << 20;

impl Engine {
    pub(crate) fn learn_sealed(&mut self, sealed: &SealedSpec, callback: Callback<SealedOutcome>) {
        // What was accepted must be where readers, and this, can see it.
        self.settle(sealed.chunk);
        match self.decide_seal(sealed) {
            Err(error) => callback(Err(error)),
            Ok(Some(outcome)) => self.wait(true, Pending::Other(Notify::Sealed(callback, outcome))),
            Ok(None) => {
                let notify = Notify::Sealed(callback, SealedOutcome::Holder);
                let pushed = self.push_state(sealed.chunk, RecordKind::Seal, Privilege::Control, notify);
                if let Err((error, notify)) = pushed {
                    notify_error(notify, error);
                }
            }
        }
    }

    /// `None`: the seal was taken and is to be written.
    fn decide_seal(&mut self, sealed: &SealedSpec) -> Result<Option<SealedOutcome>, StoreError> {
        let chunk = sealed.chunk;
        let Some(replica) = self.replicas.get(&chunk) else { return Ok(Some(SealedOutcome::Unknown)) };
        let length = replica.state.length;
        match replica.state.seal_step(sealed)? {
            SealStep::Already => return Ok(Some(SealedOutcome::Holder)),
            SealStep::Short => return Ok(Some(SealedOutcome::Short { length })),
            SealStep::Drop => {
                self.drop_replica(chunk)?;
                return Ok(Some(SealedOutcome::Dropped));
            }
            SealStep::IfChainMatches => {}
        }
        let matches = match replica.state.length == sealed.length {
            true => replica.state.chain == sealed.chain,
            false => match self.table.chain_at(chunk, sealed.length) {
                Ok(chain) => chain == Some(sealed.chain),
                Err(_) => return Err(StoreError::Damaged { chunk }),
            },
        };
        if !matches {
            self.drop_replica(chunk)?;
            return Ok(Some(SealedOutcome::Diverged));
        }
        let doubtful = replica.state.damaged || replica.cell.damaged.load(Ordering::Acquire);
        if doubtful && let Err(length) = self.verify(chunk, sealed.length) {
            return Ok(Some(SealedOutcome::Short { length }));
        }
        self.cut(sealed);
        Ok(None)
    }

    /// Reads a replica up to `length`; `Err` with the end of what is whole.
    fn verify(&self, chunk: ChunkId, length: u64) -> Result<(), u64> {
        let mut at = 0;
        while at < length {
            let records = self.table.records(chunk, at, length, VERIFY_BYTES);
            match records.as_deref().map(|r| r.last()) {
                Ok(Some(last)) => at = last.end(),
                Err(ReadError::Damaged { offset, .. }) => return Err(*offset),
                _ => return Err(at),
            }
        }
        Ok(())
    }

    fn cut(&mut self, sealed: &SealedSpec) {
        let Some(replica) = self.replicas.get_mut(&sealed.chunk) else { return };
        let mut body = replica.cell.write();
        let keep = body.refs.partition_point(|r| r.end() <= sealed.length);
        for lost in body.refs.drain(keep..) {
            self.log.drop_live(lost.location, lost.stored_bytes());
        }
        body.view.length = body.view.length.min(sealed.length);
        drop(body);
        replica.state.seal(sealed);
        replica.cell.damaged.store(false, Ordering::Release);
    }

    /// Drops a replica: gone for readers now, for good once the batch is fsynced. Answers the
    /// payload bytes it held.
    pub(crate) fn drop_replica(&mut self, chunk: ChunkId) -> Result<u64, StoreError> {
        self.settle(chunk);
        if !self.replicas.contains_key(&chunk) {
            return Ok(0);
        }
        let header = RecordHeader::new(RecordKind::Drop, chunk.0);
        let tombstone = self.push(&header, &BlockSums::default(), &Bytes::new(), Privilege::Control)?;
        // `push` may have recycled, and recycling may have dropped this very chunk.
        let Some(replica) = self.replicas.remove(&chunk) else {
            self.log.drop_live(tombstone, stored_bytes(0));
            return Ok(0);
        };
        if let Some(before) = self.tombstones.insert(chunk, tombstone) {
            self.log.drop_live(before, stored_bytes(0));
        }
        self.table.remove(chunk);
        self.policy.forget(&Item::Chunk(chunk));
        let (state_at, _, state_bytes) = replica.state_at;
        self.log.drop_live(state_at, stored_bytes(state_bytes));
        let mut body = replica.cell.write();
        body.gone = true;
        for lost in &body.refs {
            self.log.drop_live(lost.location, lost.stored_bytes());
        }
        Ok(body.view.length)
    }

    pub(crate) fn evict(&mut self, chunk: Option<ChunkId>) -> Result<u64, StoreError> {
        self.commit();
        let evictable = |engine: &Self, chunk: &ChunkId| {
            engine.replicas.get(chunk).is_some_and(|replica| replica.state.place.is_some())
        };
        let chunks: Vec<ChunkId> = match chunk {
            Some(chunk) => Some(chunk).into_iter().filter(|c| evictable(self, c)).collect(),
            None => self.replicas.keys().copied().filter(|c| evictable(self, c)).collect(),
        };
        let mut bytes = 0;
        for chunk in chunks {
            bytes += self.drop_replica(chunk)?;
        }
        if chunk.is_none() {
            let table = Arc::clone(&self.table);
            let mut cache = table.cache.write().unwrap_or_else(PoisonError::into_inner);
            for (_, entry) in cache.drain() {
                self.log.drop_live(entry.location, stored_bytes(entry.length));
                bytes += u64::from(entry.length);
            }
            self.policy.clear();
        }
        Ok(bytes)
    }
}
