//! [`Hold`]: why a shared chunk is kept before any file points at it.
//!
//! The servers keep a session's chunk while extents in it may still be committed: until the session
//! ends, or says that none will be. It says so here, when nobody holds the chunk any more: neither
//! the writer that appends to it nor whoever has bytes in it that are not committed.

use std::sync::Arc;

use cairn_proto::v1::ReleaseChunk;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::{ChunkId, SessionId};
use tokio::sync::mpsc;

use crate::session::Session;

/// Chunks that wait to be let go, at most; one more stays until the session ends.
const WAITING_MAX: usize = 1024;

/// Keeps a chunk; it is let go with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<Held>);

#[derive(Debug)]
struct Held {
    session: SessionId,
    chunk: ChunkId,
    queue: mpsc::Sender<(SessionId, ChunkId)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Where that fails the end of the session lets the chunk go.
        let _ = self.queue.try_send((self.session, self.chunk));
    }
}

impl Hold {
    /// The chunk.
    pub(crate) fn chunk(&self) -> ChunkId {
        self.0.chunk
    }
}

/// The task that lets chunks go. It ends with the last handle and the last hold.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    queue: mpsc::Sender<(SessionId, ChunkId)>,
}

impl Holds {
    /// Starts the task.
    pub(crate) fn start(session: Session) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(session, waiting));
        Self { queue }
    }

    /// Keeps `chunk`, which was opened in `session`.
    pub(crate) fn hold(&self, session: SessionId, chunk: ChunkId) -> Hold {
        Hold(Arc::new(Held { session, chunk, queue: self.queue.clone() }))
    }
}

async fn run(session: Session, mut waiting: mpsc::Receiver<(SessionId, ChunkId)>) {
    while let Some((id, chunk)) = waiting.recv().await {
        if session.has_ended() {
            return;
        }
        let release = Operation::ReleaseChunk(ReleaseChunk { chunk: chunk.0 });
        let subject = chunk.to_string();
        if let Err(error) = session.change_in(id, "let a chunk go", &subject, release).await {
            tracing::debug!(%chunk, %error, "the chunk stays until its session ends");
        }
    }
}
