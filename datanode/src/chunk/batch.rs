//! What waits for the write or the fsync of the batch being filled, and is told then.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use cairn_types::{Chain, ChunkId, Timestamp};

use super::completion::Callback;
use super::error::StoreError;
use super::heat::Heat;
use super::request::CacheKey;
use super::spec::{ChunkView, Durable, FenceAnswer, ReplicaPhase, SealedOutcome};
use super::table::{CacheEntry, Cell, RecordRef, Table};
use crate::segments::{Location, SegmentLog};

/// Who is told, and what.
pub(crate) enum Notify {
    Nobody,
    Done(Callback<()>),
    Fenced(Callback<FenceAnswer>, FenceAnswer),
    Sealed(Callback<SealedOutcome>, SealedOutcome),
    Evicted(Callback<u64>, u64),
}

impl Notify {
    fn tell(self, outcome: Result<(), StoreError>) {
        match self {
            Self::Nobody => {}
            Self::Done(callback) => callback(outcome),
            Self::Fenced(callback, answer) => callback(outcome.map(|()| answer)),
            Self::Sealed(callback, answer) => callback(outcome.map(|()| answer)),
            Self::Evicted(callback, bytes) => callback(outcome.map(|()| bytes)),
        }
    }
}

/// A step that readers do not see yet.
pub(crate) enum Pending {
    Append {
        cell: Arc<Cell>,
        /// None for a close record.
        added: Option<RecordRef>,
        chain: Chain,
        heard: u64,
        wall: Timestamp,
        length: u64,
        callback: Callback<Durable>,
    },
    /// A replica's state was written: `view` replaces what readers see.
    State {
        chunk: ChunkId,
        cell: Arc<Cell>,
        view: Box<ChunkView>,
        notify: Notify,
    },
    /// A record of a chunk was written again.
    Moved {
        cell: Arc<Cell>,
        offset: u32,
        old: Location,
        new: Location,
    },
    /// A good copy of a record was written, in place of `old` or of nothing.
    Repaired {
        cell: Arc<Cell>,
        added: RecordRef,
        old: Option<Location>,
        callback: Callback<()>,
    },
    Cached {
        key: CacheKey,
        location: Location,
        length: u32,
        notify: Notify,
    },
    /// A block of the cache was written again.
    MovedBlock {
        key: CacheKey,
        old: Location,
        new: Location,
        length: u32,
    },
    Other(Notify),
}

impl Pending {
    /// Makes it visible and tells its submitter.
    pub(crate) fn publish(self, table: &Table, log: &mut SegmentLog) {
        match self {
            Self::Append { cell, added, chain, heard, wall, length, callback } => {
                cell.heard.fetch_max(heard, Ordering::AcqRel);
                {
                    let mut body = cell.write();
                    body.view.length = length;
                    body.view.mtime = wall;
                    body.view.heard_committed = body.view.heard_committed.max(heard);
                    match added {
                        Some(added) => {
                            body.refs.push(added);
                            body.view.chain = chain;
                        }
                        None => {
                            if body.view.phase == ReplicaPhase::Open {
                                body.view.phase = ReplicaPhase::Closed;
                                body.view.accepts = false;
                            }
                        }
                    }
                }
                callback(Ok(Durable { length }));
            }
            Self::State { chunk, cell, view, notify } => {
                cell.write().view = *view;
                table.insert(chunk, cell);
                notify.tell(Ok(()));
            }
            Self::Moved { cell, offset, old, new } => publish_move(&cell, offset, old, new, log),
            Self::Repaired { cell, added, old, callback } => {
                publish_repair(&cell, added, old, log);
                callback(Ok(()));
            }
            Self::Cached { key, location, length, notify } => {
                let entry = CacheEntry { location, length, heat: Heat::new(&table.pulse) };
                let before = table.cache.write().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
                if let Some(before) = before {
                    log.drop_live(before.location, stored_bytes(before.length));
                }
                notify.tell(Ok(()));
            }
            Self::MovedBlock { key, old, new, length } => {
                let mut cache = table.cache.write().unwrap_or_else(PoisonError::into_inner);
                match cache.get_mut(&key).filter(|found| found.location == old) {
                    Some(found) => {
                        found.location = new;
                        log.drop_live(old, stored_bytes(length));
                    }
                    None => log.drop_live(new, stored_bytes(length)),
                }
            }
            Self::Other(notify) => notify.tell(Ok(())),
        }
    }

    /// Tells its submitter that the batch failed.
    pub(crate) fn fail(self, error: StoreError) {
        match self {
            Self::Append { callback, .. } => callback(Err(error)),
            Self::State { notify, .. } | Self::Cached { notify, .. } | Self::Other(notify) => {
                notify.tell(Err(error));
            }
            Self::Repaired { callback, .. } => callback(Err(error)),
            Self::Moved { .. } | Self::MovedBlock { .. } => {}
        }
    }
}

fn publish_move(cell: &Cell, offset: u32, old: Location, new: Location, log: &mut SegmentLog) {
    let mut body = cell.write();
    let gone = body.gone;
    let index = body.refs.binary_search_by_key(&offset, |r| r.offset);
    let Some(found) = index.ok().and_then(|i| body.refs.get_mut(i)) else { return };
    let bytes = found.stored_bytes();
    if found.location == old && !gone {
        found.location = new;
        log.drop_live(old, bytes);
    } else {
        log.drop_live(new, bytes);
    }
}

fn publish_repair(cell: &Cell, added: RecordRef, old: Option<Location>, log: &mut SegmentLog) {
    let mut body = cell.write();
    let end = body.refs.last().map_or(0, RecordRef::end);
    let index = body.refs.binary_search_by_key(&added.offset, |r| r.offset).ok();
    let gone = body.gone;
    match (index.and_then(|i| body.refs.get_mut(i)), old) {
        (Some(found), Some(old)) if found.location == old && !gone => {
            found.location = added.location;
            log.drop_live(old, added.stored_bytes());
        }
        (None, None) if end == u64::from(added.offset) && !gone => body.refs.push(added),
        _ => log.drop_live(added.location, added.stored_bytes()),
    }
}

/// Bytes of a record with `length` bytes of payload.
pub(crate) fn stored_bytes(length: u32) -> u64 {
    crate::segments::record::stored_bytes(length as usize) as u64
}
