//! The thread that owns the engine: takes what waits, writes it as one batch, completes it.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::engine::Engine;
use super::queue::Queue;
use crate::segments::LogError;

/// Requests and bytes in one batch, at most.
const BATCH: (usize, usize) = (1024, 4 << 20);

pub(crate) fn start(mut engine: Engine, queue: Arc<Queue>) -> Result<JoinHandle<()>, LogError> {
    let thread = std::thread::Builder::new().name("cairn-writer".to_owned());
    let run = move || {
        loop {
            // With recycling or an fsync under way it takes what there is and goes on.
            let wait = !engine.recycling() && !engine.is_syncing();
            let Some(requests) = queue.take(BATCH.0, BATCH.1, wait) else { break };
            if requests.is_empty() {
                engine.end_sync();
            }
            for request in requests {
                engine.accept(request);
            }
            engine.commit_beside();
            engine.recycle_some();
        }
        engine.flush();
    };
    thread.spawn(run).map_err(|error| LogError::Thread { errno: error.raw_os_error().unwrap_or(0) })
}
