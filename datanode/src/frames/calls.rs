//! [`Calls`]: the calls under way on one connection. Each is a task, which ends with the connection.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use cairn_proto::frames::{Frame, FrameError, Framed, Kind, Outlet};
use cairn_proto::{ServiceError, WireError, v1};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::replicate::ticket::{Room, detail};
use crate::service::DataService;

/// Calls of one connection at once: a peer has one for each chunk that it replicates here.
const CALLS_MAX: usize = 1 << 15;
/// Messages of a call that wait for its handler. A handler that takes none holds the connection up
/// once so many wait.
const UNTAKEN_MAX: usize = Room::MESSAGES_MAX;
/// Bytes of payloads that wait for the handlers of one connection.
const UNTAKEN_BYTES_MAX: usize = 32 << 20;
/// What a message counts for at least.
const MESSAGE_BYTES: usize = 512;
/// Answers of a call that wait to be written.
const UNSENT_MAX: usize = 1024;
/// The same of a read, whose answers have up to 1 MiB.
const UNSENT_BLOCKS_MAX: usize = 2;
/// Bytes of reads of one connection that are served at once; the others wait.
const READS_BYTES_MAX: usize = 32 << 20;
/// What one read has in memory, at most: blocks that are read, and that are written.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A message on its way to its handler, and the room that it takes up.
type Waiting<M> = (M, OwnedSemaphorePermit);

/// The way to a call's handler.
enum Way {
    Appends(mpsc::Sender<Waiting<v1::AppendRequest>>),
    Records(mpsc::Sender<Waiting<v1::ReplicateRequest>>),
    /// Its one message was all.
    Closed,
}

struct Call {
    way: Way,
    task: AbortHandle,
}

/// The calls of one connection.
pub(super) struct Calls {
    service: DataService,
    outlet: Outlet,
    live: HashMap<u32, Call>,
    tasks: JoinSet<u32>,
    bytes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(service: DataService, outlet: Outlet) -> Self {
        Self {
            service,
            outlet,
            live: HashMap::new(),
            tasks: JoinSet::new(),
            bytes: Arc::new(Semaphore::new(UNTAKEN_BYTES_MAX)),
            reads: Arc::new(Semaphore::new(READS_BYTES_MAX)),
        }
    }

    /// Waits until a call has ended, for ever when there is none. Nothing is lost when it is dropped.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(stream)) => drop(self.live.remove(&stream)),
            Some(Err(error)) => {
                if error.is_panic() {
                    tracing::error!(%error, "a framed call");
                }
                self.live.retain(|_, call| !call.task.is_finished());
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until every call has ended; none is given anything more.
    pub(super) async fn all_ended(&mut self) {
        self.live.values_mut().for_each(|call| call.way = Way::Closed);
        while self.tasks.join_next().await.is_some() {}
    }

    pub(super) fn pong(&self) {
        self.outlet.mark(Kind::Pong, 0);
    }

    /// The caller says nothing more on this stream.
    pub(super) fn close(&mut self, stream: u32) {
        if let Some(call) = self.live.get_mut(&stream) {
            call.way = Way::Closed;
        }
    }

    /// The caller wants nothing more of it.
    pub(super) fn cancel(&mut self, stream: u32) {
        if let Some(call) = self.live.remove(&stream) {
            call.task.abort();
        }
    }

    /// Takes a frame with a message: a new call's, or one of a call that goes on. What belongs to a call
    /// that is over is dropped.
    ///
    /// # Errors
    /// It is none of a caller's: the connection is of no use.
    pub(super) async fn take(&mut self, frame: Frame) -> Result<(), FrameError> {
        if !frame.opens {
            return self.hand_over(frame).await;
        }
        let (stream, kind) = (frame.stream, frame.kind);
        if self.live.contains_key(&stream) {
            return Err(FrameError::Kind(kind as u8));
        }
        if self.live.len() >= CALLS_MAX {
            self.outlet.say(stream, false, detail(&ServiceError::Overloaded.into()), None);
            return Ok(());
        }
        let (service, outlet) = (self.service.clone(), self.outlet.clone());
        match kind {
            Kind::Append => {
                let (way, messages) = mpsc::channel(UNTAKEN_MAX);
                let replies = service.appends(taken(messages));
                self.start(stream, Way::Appends(way), answer(outlet, stream, replies, UNSENT_MAX));
                self.hand_over(frame).await
            }
            Kind::Replicate => {
                let (way, messages) = mpsc::channel(UNTAKEN_MAX);
                let replies = service.replications(taken(messages));
                self.start(stream, Way::Records(way), answer(outlet, stream, replies, UNSENT_MAX));
                self.hand_over(frame).await
            }
            Kind::Read => {
                let (request, reads) = (frame.message::<v1::ReadRequest>()?, Arc::clone(&self.reads));
                let weight = request.length.clamp(MESSAGE_BYTES as u64, READ_BYTES_MAX) as u32;
                self.start(stream, Way::Closed, async move {
                    let Ok(_turn) = reads.acquire_many_owned(weight).await else { return };
                    match service.blocks(request).await {
                        Ok(blocks) => answer(outlet, stream, blocks, UNSENT_BLOCKS_MAX).await,
                        Err(status) => refuse(&outlet, stream, status),
                    }
                });
                Ok(())
            }
            Kind::TailLength => {
                let request = frame.message()?;
                self.start(stream, Way::Closed, async move {
                    let asked = async move { service.tail(request).await };
                    answer(outlet, stream, futures::stream::once(asked).boxed(), 1).await;
                });
                Ok(())
            }
            kind => Err(FrameError::Kind(kind as u8)),
        }
    }

    fn start(&mut self, stream: u32, way: Way, call: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(async move {
            call.await;
            stream
        });
        self.live.insert(stream, Call { way, task });
    }

    /// Hands a message to its call; waits while that has as many, or the connection as many bytes, as may be.
    async fn hand_over(&self, frame: Frame) -> Result<(), FrameError> {
        let Some(call) = self.live.get(&frame.stream) else { return Ok(()) };
        let weight = frame.body.len().max(MESSAGE_BYTES) as u32;
        // Nobody closes it. A handler that is gone wants no message.
        match (&call.way, frame.kind) {
            (Way::Appends(way), Kind::Append) => {
                let message = frame.message()?;
                if let Ok(room) = Arc::clone(&self.bytes).acquire_many_owned(weight).await {
                    let _ = way.send((message, room)).await;
                }
            }
            (Way::Records(way), Kind::Replicate) => {
                let message = frame.message()?;
                if let Ok(room) = Arc::clone(&self.bytes).acquire_many_owned(weight).await {
                    let _ = way.send((message, room)).await;
                }
            }
            (_, kind) => return Err(FrameError::Kind(kind as u8)),
        }
        Ok(())
    }
}

/// The messages of a call as its handler takes them; taking one gives its room back.
fn taken<M: Send + 'static>(messages: mpsc::Receiver<Waiting<M>>) -> BoxStream<'static, Result<M, Status>> {
    ReceiverStream::new(messages).map(|(message, _room)| Ok(message)).boxed()
}

/// Says every answer of a call, then its end or why it failed.
async fn answer<A: Framed>(
    outlet: Outlet,
    stream: u32,
    mut answers: impl Stream<Item = Result<A, Status>> + Unpin,
    unsent: usize,
) {
    let room = Arc::new(Semaphore::new(unsent));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => {
                let Ok(room) = Arc::clone(&room).acquire_owned().await else { return };
                if !outlet.say(stream, false, answer, Some(room)) {
                    return;
                }
            }
            Err(status) => return refuse(&outlet, stream, status),
        }
    }
    outlet.mark(Kind::End, stream);
}

fn refuse(outlet: &Outlet, stream: u32, status: Status) {
    outlet.say(stream, false, detail(&WireError::from(status)), None);
}
