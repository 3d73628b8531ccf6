//! [`Flights`]: one fetch a block, however many wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::{BlockKey, Blocks, ReadError};

/// Fetches known at once, at most; a read that would need more is refused.
const FLIGHTS_MAX: usize = 1024;

type Outcome = Result<Bytes, ReadError>;
type Landing = Shared<BoxFuture<'static, Outcome>>;

/// The fetches under way. Cheap to clone.
#[derive(Clone)]
pub(super) struct Flights {
    blocks: Arc<dyn Blocks>,
    // Guards that a block has one fetch at a time and that there are at most FLIGHTS_MAX.
    under_way: Arc<Mutex<HashMap<BlockKey, Landing>>>,
}

/// Takes a fetch off the list however its task ends.
struct Listed {
    key: BlockKey,
    under_way: Arc<Mutex<HashMap<BlockKey, Landing>>>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Flights {
    pub(super) fn new(blocks: Arc<dyn Blocks>) -> Self {
        Self { blocks, under_way: Arc::default() }
    }

    /// The block as it is kept.
    pub(super) async fn kept(&self, key: BlockKey) -> Option<Bytes> {
        self.blocks.get(key).await
    }

    /// Waits for the block's fetch, beginning it with `fetch` when there is none. The fetch goes on
    /// when its waiters go away; what it brings is kept.
    pub(super) async fn join<F>(&self, key: BlockKey, fetch: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let landing = self.landing(key, fetch)?;
        landing.await
    }

    fn landing<F>(&self, key: BlockKey, fetch: impl FnOnce() -> F) -> Result<Landing, ReadError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = under_way.get(&key) {
            return Ok(landing.clone());
        }
        if under_way.len() >= FLIGHTS_MAX {
            return Err(ReadError::Overloaded);
        }
        let (tell, told) = oneshot::channel();
        let landing = told.map(|outcome| outcome.unwrap_or(Err(ReadError::Stopping))).boxed().shared();
        under_way.insert(key, landing.clone());
        let listed = Listed { key, under_way: Arc::clone(&self.under_way) };
        // Bounded by the under-store's timeouts and by FLIGHTS_MAX.
        tokio::spawn(fly(listed, Arc::clone(&self.blocks), fetch(), tell));
        Ok(landing)
    }
}

async fn fly(
    listed: Listed,
    blocks: Arc<dyn Blocks>,
    fetch: impl Future<Output = Outcome> + Send,
    tell: oneshot::Sender<Outcome>,
) {
    // Kept by a fetch that ended between the caller's look and its turn.
    if let Some(block) = blocks.get(listed.key).await {
        let _nobody_waits = tell.send(Ok(block));
        return;
    }
    let outcome = fetch.await;
    let fetched = outcome.as_ref().ok().cloned();
    let _nobody_waits = tell.send(outcome);
    if let Some(block) = fetched {
        blocks.put(listed.key, block).await;
    }
}
