//! [`Spares`]: chunks that are made ahead on every replica, to follow tails that this node orders (rule
//! R1). Nothing is taken for one before its activation is here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ChunkId, Epoch, InodeId};
use futures::{FutureExt, StreamExt};

use super::context::Context;
use super::open::{self, NotOpened, Prepared};
use super::primary::Primary;
use super::record;

/// Bytes of a tail from which on its spare is made.
const AT_BYTES: u64 = CHUNK_BYTES_MAX / 4 * 3;
/// Tails of this node that may have spares at once.
const SPARES_MAX: usize = 1024;

/// The spares of a node.
#[derive(Default)]
pub struct Spares {
    // Invariant: `ready` holds what `of` names, and what was activated and not opened yet. Held for map
    // operations only.
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Each tail that wants a spare, and the spare once it is made.
    of: HashMap<ChunkId, Option<ChunkId>>,
    ready: HashMap<ChunkId, Ready>,
}

/// A spare that is durable on every replica.
struct Ready {
    prepared: Prepared,
    activated: Option<v1::Chunk>,
}

impl Spares {
    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `tail` wants a spare; false when it may not have one.
    fn want(&self, tail: ChunkId) -> bool {
        let mut pool = self.pool();
        let room = pool.of.len() < SPARES_MAX;
        if room {
            pool.of.insert(tail, None);
        }
        room
    }

    /// A spare is made. It is dropped when its tail is over by now: the metadata gives it up too.
    fn made(&self, tail: ChunkId, spare: ChunkId, prepared: Prepared) {
        let mut pool = self.pool();
        if let Some(place) = pool.of.get_mut(&tail) {
            *place = Some(spare);
            pool.ready.insert(spare, Ready { prepared, activated: None });
        }
    }

    /// The spare that can follow `tail`: every replica has it, and no way to one is broken.
    pub(super) fn after(&self, tail: ChunkId) -> Option<ChunkId> {
        let mut pool = self.pool();
        let spare = pool.of.get(&tail).copied().flatten()?;
        let ready = pool.ready.get_mut(&spare)?;
        let said = ready.prepared.said.next().now_or_never();
        // A chunk without secondaries has no ways; a secondary that says anything has ended its own.
        let whole = ready.prepared.links.is_empty() || said.is_none();
        if !whole {
            pool.ready.remove(&spare);
            pool.of.insert(tail, None);
        }
        whole.then_some(spare)
    }

    /// The tail is rolled, and its spare activated.
    pub(super) fn activate(&self, tail: ChunkId, activated: v1::Chunk) {
        let mut pool = self.pool();
        pool.of.remove(&tail);
        if let Some(ready) = pool.ready.get_mut(&ChunkId(activated.chunk)) {
            ready.activated = Some(activated);
        }
    }

    /// The tail is over. Its spare, if it was not activated, is nobody's.
    pub(super) fn forget(&self, tail: ChunkId) {
        let mut pool = self.pool();
        if let Some(spare) = pool.of.remove(&tail).flatten() {
            pool.ready.remove(&spare);
        }
    }

    /// The activation of a spare, when the roll told it.
    pub(super) fn activation(&self, spare: ChunkId) -> Option<v1::Chunk> {
        self.pool().ready.get(&spare).and_then(|ready| ready.activated.clone())
    }

    /// Hands an activated spare over to be opened.
    pub(super) fn take(&self, spare: ChunkId) -> Option<Prepared> {
        self.pool().ready.remove(&spare).map(|ready| ready.prepared)
    }

    /// True for a spare that is not opened yet.
    #[must_use]
    pub fn has(&self, spare: ChunkId) -> bool {
        self.pool().ready.contains_key(&spare)
    }
}

impl Primary {
    /// Has the next chunk made once this one is three quarters full, or as old, so that a roll does not
    /// wait for it.
    pub(super) fn prepare_next(&mut self, now: Duration) {
        let old = self.grows_old.is_some_and(|at| now >= at);
        let due = self.length >= AT_BYTES || old;
        if self.next_asked || !due || self.ino == InodeId(0) {
            return;
        }
        self.next_asked = true;
        if self.context.spares.want(self.chunk) {
            let (context, tail, epoch) = (Arc::clone(&self.context), self.chunk, self.epoch);
            self.context.tasks.spawn(async move {
                let leaving = context.leaving.clone();
                leaving.run_until_cancelled(prepare(&context, tail, epoch)).await
            });
        }
    }
}

/// Has a spare allocated and makes it everywhere. One that fails is done without: the metadata gives it
/// up with its tail.
async fn prepare(context: &Arc<Context>, tail: ChunkId, epoch: Epoch) {
    let request = v1::PrepareSpareRequest { node: context.node.0, chunk: tail.0, epoch: epoch.0 };
    match context.metadata.prepare_spare(request).await {
        Ok(found) => match make(context, &found).await {
            Ok(prepared) => context.spares.made(tail, ChunkId(found.chunk), prepared),
            Err(error) => tracing::info!(tail = tail.0, spare = found.chunk, ?error, "make a spare"),
        },
        Err(error) => tracing::debug!(tail = tail.0, %error, "no spare"),
    }
}

async fn make(context: &Arc<Context>, found: &v1::Chunk) -> Result<Prepared, NotOpened> {
    let chunk = ChunkId(found.chunk);
    let spare = found.state() == v1::ChunkState::Spare && Epoch(found.epoch) == record::OPENED;
    if !spare || !open::is_primary(context, found) {
        return Err(NotOpened::Refused(WireError::Service(ServiceError::NotPrimary { chunk })));
    }
    let mut prepared = open::connect(context, found)?;
    open::make_everywhere(context, found, &mut prepared).await?;
    Ok(prepared)
}
