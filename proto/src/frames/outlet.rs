//! [`Outlet`]: frames to a connection. Many say; one task writes what is there, at once.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::frame::Kind;
use super::message::{Framed, bare, split};

/// Frames written at once, at most: two slices each, as many as the system takes in one call.
const BATCH_MAX: usize = 64;
/// How long a connection may take nothing before it is given up.
const STUCK: Duration = Duration::from_secs(20);

/// A frame on its way, and the room that it takes up until it is written.
#[derive(Debug)]
pub(super) struct Out {
    front: Bytes,
    body: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// The queue to the task that writes. Cheap to clone. Its bound is that of those who say: each stream
/// has so much room, and there are so many streams.
#[derive(Clone, Debug)]
pub struct Outlet {
    queue: mpsc::UnboundedSender<Out>,
}

/// What an [`Outlet`] takes is written by [`write`] from here.
#[derive(Debug)]
pub struct Queue(mpsc::UnboundedReceiver<Out>);

impl Outlet {
    /// A queue, empty.
    #[must_use]
    pub fn new() -> (Self, Queue) {
        let (queue, taken) = mpsc::unbounded_channel();
        (Self { queue }, Queue(taken))
    }

    /// Says `message` on `stream`; false when the connection is gone. `room` is given back when it is written.
    pub fn say<M: Framed>(
        &self,
        stream: u32,
        opens: bool,
        message: M,
        room: Option<OwnedSemaphorePermit>,
    ) -> bool {
        let (front, body) = split(stream, opens, message);
        self.queue.send(Out { front, body, room }).is_ok()
    }

    /// Says that and nothing else. No more of these are said than a connection has streams, and pings.
    pub fn mark(&self, kind: Kind, stream: u32) -> bool {
        self.queue.send(Out { front: bare(kind, stream), body: Bytes::new(), room: None }).is_ok()
    }
}

/// A frame's bytes in one run: for tests, and for whoever has no [`Outlet`].
#[must_use]
pub fn encode<M: Framed>(stream: u32, opens: bool, message: M) -> Vec<u8> {
    let (front, body) = split(stream, opens, message);
    [front.as_ref(), body.as_ref()].concat()
}

/// Writes until every [`Outlet`] is dropped and everything is written. Nothing is held back: what is in
/// the queue goes in one call, and nobody waits for more.
///
/// # Errors
/// The connection broke, or took nothing for 20 s.
pub async fn write(mut queue: Queue, mut io: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.0.recv_many(&mut batch, BATCH_MAX).await > 0 {
        write_batch(&mut batch, &mut io).await?;
        batch.clear();
    }
    io.shutdown().await
}

async fn write_batch(batch: &mut [Out], io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut first = 0;
    while let Some(rest) = batch.get_mut(first..).filter(|rest| !rest.is_empty()) {
        let mut slices = [IoSlice::new(&[]); 2 * BATCH_MAX];
        let mut count = 0;
        for bytes in rest.iter().flat_map(|out| [&out.front, &out.body]).filter(|bytes| !bytes.is_empty()) {
            if let Some(slice) = slices.get_mut(count) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        }
        let slices = slices.get(..count).unwrap_or_default();
        let written =
            timeout(STUCK, io.write_vectored(slices)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut written = written;
        for out in rest {
            for bytes in [&mut out.front, &mut out.body] {
                let taken = written.min(bytes.len());
                bytes.advance(taken);
                written -= taken;
            }
            if !out.front.is_empty() || !out.body.is_empty() {
                break;
            }
            // Who waits to say more need not wait for the rest of the batch.
            out.room = None;
            first += 1;
        }
    }
    Ok(())
}
