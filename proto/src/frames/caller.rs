//! [`Caller`]: the calling side of a framed connection. Its calls are streams; each ends for itself, and
//! all with the connection.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::frame::{Frame, Kind};
use super::hello::Offer;
use super::inlet::Inlet;
use super::message::Framed;
use super::outlet::{self, Outlet};
use crate::status::parse_detail;
use crate::{ServiceError, WireError, v1};

/// How long a connection without streams is kept. The other side waits longer.
const IDLE: Duration = Duration::from_secs(20);

/// A connection to a node, with as many calls at once as are wanted. Cheap to clone; closed with the
/// last clone and the last of its streams.
#[derive(Clone, Debug)]
pub struct Caller {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outlet: Outlet,
    offer: Offer,
    is_local: bool,
    // Guards: a frame goes to the stream that it belongs to, and no stream is opened after the end.
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    live: HashMap<u32, mpsc::Sender<Frame>>,
    last: u32,
    over: bool,
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a frame to its stream. What a stream has no place for ends it: its node says more than it was asked for.
    fn take(&self, frame: Frame) {
        let mut streams = self.streams();
        let (stream, last) = (frame.stream, matches!(frame.kind, Kind::End | Kind::Refused));
        let Some(replies) = streams.live.get(&stream) else { return };
        if replies.try_send(frame).is_err() || last {
            streams.live.remove(&stream);
        }
    }

    /// True when there are no streams; none is opened any more then.
    fn end_if_idle(&self) -> bool {
        let mut streams = self.streams();
        streams.over |= streams.live.is_empty();
        streams.over
    }

    fn end(&self) {
        let mut streams = self.streams();
        streams.over = true;
        streams.live.clear();
    }
}

impl Caller {
    /// Takes a connection whose hellos were said, to the node that made this offer; `is_local`: by its unix socket.
    /// While it has streams, and says nothing for as long as `quiet`, it is asked whether it lives, and has as
    /// long again to answer.
    #[must_use]
    pub fn start<R, W>(reader: R, writer: W, offer: Offer, is_local: bool, quiet: Duration) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (outlet, queue) = Outlet::new();
        let shared = Arc::new(Shared { outlet, offer, is_local, streams: Mutex::default() });
        // Both end with the connection, which ends when nobody holds it.
        let listening = listen(Arc::downgrade(&shared), Inlet::new(reader), quiet);
        tokio::spawn(listening);
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            if let Err(error) = outlet::write(queue, writer).await {
                tracing::debug!(%error, "write to a framed connection");
                if let Some(shared) = weak.upgrade() {
                    shared.end();
                }
            }
        });
        Self { shared }
    }

    /// Who is there.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.shared.offer
    }

    /// True when the node was reached by its unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.shared.is_local
    }

    /// True when the connection is over: another must be made.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.streams().over
    }

    /// A new stream: at most `unsent` messages of it wait to be written, and `unread` to be read. More
    /// unread ones end it. `None`: the connection is over.
    #[must_use]
    pub fn open<M: Framed, A: Framed>(
        &self,
        unsent: usize,
        unread: usize,
    ) -> Option<(Sending<M>, Replies<A>)> {
        let (replies, frames) = mpsc::channel(unread.max(1));
        let mut streams = self.shared.streams();
        if streams.over || streams.last == u32::MAX {
            streams.over = true;
            return None;
        }
        streams.last += 1;
        let stream = streams.last;
        streams.live.insert(stream, replies);
        drop(streams);
        let outlet = self.shared.outlet.clone();
        let room = Arc::new(Semaphore::new(unsent.max(1)));
        let sending = Sending { outlet, stream, opened: AtomicBool::new(false), room, message: PhantomData };
        let replies = Replies { frames, stream, shared: self.clone(), over: false, message: PhantomData };
        Some((sending, replies))
    }
}

async fn listen<R: AsyncRead + Unpin + Send>(shared: Weak<Shared>, mut inlet: Inlet<R>, quiet: Duration) {
    let mut ticks = tokio::time::interval(quiet);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut asked, mut idle) = (true, false, Duration::ZERO);
    loop {
        tokio::select! {
            biased;
            frame = inlet.next() => match frame {
                Ok(Some(frame)) => {
                    (heard, asked) = (true, false);
                    let Some(shared) = shared.upgrade() else { return };
                    if frame.kind == Kind::Ping {
                        shared.outlet.mark(Kind::Pong, 0);
                    } else {
                        shared.take(frame);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "read from a framed connection");
                    break;
                }
            },
            _ = ticks.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                let lives = !shared.streams().live.is_empty();
                idle = if lives { Duration::ZERO } else { idle + quiet };
                if idle > IDLE && shared.end_if_idle() {
                    return;
                }
                if !std::mem::replace(&mut heard, false) && lives {
                    if asked {
                        tracing::debug!(node = shared.offer.node.0, "a framed connection is silent");
                        break;
                    }
                    asked = true;
                    shared.outlet.mark(Kind::Ping, 0);
                }
            }
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.end();
    }
}

/// The sending half of a stream. Dropped, it says that nothing more comes.
#[derive(Debug)]
pub struct Sending<M> {
    outlet: Outlet,
    stream: u32,
    opened: AtomicBool,
    room: Arc<Semaphore>,
    message: PhantomData<fn(M)>,
}

impl<M: Framed> Sending<M> {
    /// Sends at once.
    ///
    /// # Errors
    /// [`TrySendError::Full`] with the message, when as many wait as may. That the connection is over
    /// shows in the replies.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(TrySendError::Full(message));
        };
        let opens = !self.opened.swap(true, Ordering::Relaxed);
        self.outlet.say(self.stream, opens, message, Some(room));
        Ok(())
    }

    /// Waits until one more message may wait. A connection that is over has room.
    pub async fn room(&self) {
        // Nobody closes it.
        let _ = self.room.acquire().await;
    }
}

impl<M> Drop for Sending<M> {
    fn drop(&mut self) {
        if self.opened.load(Ordering::Relaxed) {
            self.outlet.mark(Kind::End, self.stream);
        }
    }
}

/// The replies of a stream. Dropped before their end, they tell the node that nobody waits any more.
#[derive(Debug)]
pub struct Replies<A> {
    frames: mpsc::Receiver<Frame>,
    stream: u32,
    shared: Caller,
    over: bool,
    message: PhantomData<fn() -> A>,
}

impl<A: Framed> Replies<A> {
    fn read(&mut self, frame: Option<Frame>) -> Option<Result<A, Status>> {
        let Some(frame) = frame else {
            self.over = true;
            return Some(Err(Status::unavailable("the framed connection broke")));
        };
        match frame.kind {
            Kind::End => {
                self.over = true;
                None
            }
            Kind::Refused => {
                self.over = true;
                let refused = frame.message::<v1::ErrorDetail>().ok();
                let refused = refused.and_then(|detail| parse_detail(&detail, ""));
                Some(Err(refused.unwrap_or(WireError::Service(ServiceError::Internal)).into()))
            }
            _ => {
                let message = frame.message();
                self.over = message.is_err();
                Some(message.map_err(|error| Status::internal(error.to_string())))
            }
        }
    }
}

impl<A: Framed> Stream for Replies<A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(context).map(|frame| self.read(frame))
    }
}

impl<A> Drop for Replies<A> {
    fn drop(&mut self) {
        if self.shared.shared.streams().live.remove(&self.stream).is_some() {
            self.shared.shared.outlet.mark(Kind::Cancel, self.stream);
        }
    }
}
