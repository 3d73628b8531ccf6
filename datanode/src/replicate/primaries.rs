//! [`Primaries`]: the open chunks that this process orders, on whichever of its disks, and the way to each.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, Epoch};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::committed::Committed;
use super::context::Context;
use super::contexts::Contexts;
use super::open::{self, NotOpened};
use super::primary::{End, Mailbox, Order, Primary};
use super::ticket::{Append, Room};
use super::{record, seal};

/// Appends that wait in one chunk's mailbox.
const APPENDS_MAX: usize = 1024;
/// Other orders that wait there.
const ORDERS_MAX: usize = 64;
/// Chunks that a process orders at once.
const PRIMARIES_MAX: usize = 1 << 14;
/// Calls that wait for a chunk of this process to grow.
pub const WAITS_MAX: usize = 1 << 12;

/// The way to one chunk's primary.
#[derive(Debug)]
pub struct Handle {
    chunk: ChunkId,
    appends: mpsc::Sender<Append>,
    orders: mpsc::Sender<Order>,
    bytes: Arc<Semaphore>,
    committed: Arc<Committed>,
    /// The disk that it is on, once it is opened.
    home: OnceLock<Arc<Context>>,
    fenced: CancellationToken,
    ended: CancellationToken,
}

/// The primaries of a process. Cheap to clone.
#[derive(Clone)]
pub struct Primaries {
    contexts: Contexts,
    // Invariant: at most one primary a chunk. Held for a map operation only.
    handles: Arc<Mutex<HashMap<ChunkId, Arc<Handle>>>>,
    bytes: Arc<Semaphore>,
    /// A primary was started, or a chunk without one was fenced.
    news: Arc<Notify>,
    waits: Arc<Semaphore>,
}

impl Primaries {
    /// No primaries yet. They have at most `bytes` of appends in flight together.
    #[must_use]
    pub fn new(contexts: Contexts, bytes: usize) -> Self {
        let bytes = Arc::new(Semaphore::new(bytes.max(Room::CHUNK_BYTES)));
        let waits = Arc::new(Semaphore::new(WAITS_MAX));
        Self { contexts, handles: Arc::default(), bytes, news: Arc::default(), waits }
    }

    /// Room for `bytes` of an append of `chunk`, whose primary is started when there is none.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when the process orders as many chunks as it may;
    /// [`ServiceError::Stopping`].
    pub async fn room(&self, chunk: ChunkId, bytes: usize) -> Result<(Arc<Handle>, Room), ServiceError> {
        let handle = self.find_or_start(chunk)?;
        let room = Room::acquire(&handle.bytes, &self.bytes, bytes).await?;
        Ok((handle, room))
    }

    /// The committed length, by the primary that runs here (R9).
    ///
    /// # Errors
    /// [`ServiceError::ChunkFenced`] when the chunk does not go on here; `None` when no primary runs.
    pub async fn tail_length(&self, chunk: ChunkId, epoch: Epoch) -> Option<Result<u64, WireError>> {
        let handle = self.find(chunk)?;
        let (answer, answered) = oneshot::channel();
        let fenced = || WireError::Service(ServiceError::ChunkFenced { chunk });
        if handle.orders.send(Order::TailLength { epoch, answer }).await.is_err() {
            return Some(Err(fenced()));
        }
        Some(answered.await.unwrap_or_else(|_| Err(fenced())))
    }

    /// Waits until the committed length of a chunk that is open here passes `beyond`, and answers it. What
    /// waits takes a place of [`WAITS_MAX`].
    ///
    /// # Errors
    /// [`ServiceError::ChunkFenced`] and what [`open::check`] says when the chunk does not go on here;
    /// [`ServiceError::Overloaded`] when all places are taken; [`ServiceError::Stopping`].
    pub async fn wait_beyond(&self, chunk: ChunkId, epoch: Epoch, beyond: u64) -> Result<u64, WireError> {
        let fenced = || WireError::Service(ServiceError::ChunkFenced { chunk });
        if epoch != Epoch(0) && epoch != record::OPENED {
            return Err(fenced());
        }
        let _place = self.waits.try_acquire().map_err(|_| ServiceError::Overloaded)?;
        let handle = self.started(chunk).await?;
        tokio::select! {
            biased;
            committed = handle.committed.beyond(beyond) => Ok(committed),
            () = handle.ended.cancelled() => Err(fenced()),
        }
    }

    /// Waits until the primary of a chunk that is to be opened here is started: that takes an append.
    async fn started(&self, chunk: ChunkId) -> Result<Arc<Handle>, WireError> {
        let mut is_ours = false;
        loop {
            // Armed before the look: what comes between the two wakes.
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(handle) = self.find(chunk) {
                return Ok(handle);
            }
            // A spare that was activated is here before its primary is.
            let shared = self.contexts.first();
            if self.contexts.with(chunk).is_some() && !shared.spares.has(chunk) {
                return Err(ServiceError::ChunkFenced { chunk }.into());
            }
            if !is_ours {
                let found = shared.metadata.get_chunk(chunk).await;
                open::check(&self.contexts, &found.map_err(|error| open::absent(chunk, error))?)?;
                is_ours = true;
            }
            tokio::select! {
                () = news => {}
                () = shared.leaving.cancelled() => return Err(ServiceError::Stopping.into()),
            }
        }
    }

    /// Those who wait for a chunk that no append has come for look again.
    pub fn tell(&self) {
        self.news.notify_waiters();
    }

    /// Closes the chunk by plan and answers it sealed. With `go_on`, a chunk that was made ahead becomes
    /// the file's tail in the same entry, and is answered too.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchChunk`] when no primary runs here; why it was not sealed.
    pub async fn close(&self, chunk: ChunkId, go_on: bool) -> Result<v1::CloseReply, WireError> {
        let none = || WireError::Service(ServiceError::NoSuchChunk { chunk });
        let handle = self.find(chunk).ok_or_else(none)?;
        let (answer, answered) = oneshot::channel();
        handle.orders.send(Order::Close { go_on, answer }).await.map_err(|_| none())?;
        let fenced = WireError::Service(ServiceError::ChunkFenced { chunk });
        answered.await.unwrap_or(Err(fenced))
    }

    /// Ends the chunk's primary, if one runs: when this returns nothing more is acknowledged (R4).
    pub async fn fence(&self, chunk: ChunkId) {
        if let Some(handle) = self.find(chunk) {
            handle.fenced.cancel();
            handle.ended.cancelled().await;
        }
    }

    /// The committed length, for readers; `None` when no primary runs here.
    #[must_use]
    pub fn committed(&self, chunk: ChunkId) -> Option<u64> {
        self.find(chunk).map(|handle| handle.committed.get())
    }

    /// How long an append of `chunk` is held back since its disk fills up.
    #[must_use]
    pub fn pause(&self, chunk: ChunkId) -> Duration {
        let handle = self.find(chunk);
        let home = handle.as_ref().and_then(|handle| handle.home.get()).or(self.contexts.only());
        home.map_or(Duration::ZERO, |home| home.store.pause())
    }

    /// What the primaries need of their process: the same on each disk, but for the disk.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.contexts.first()
    }

    /// How many chunks are ordered here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn find(&self, chunk: ChunkId) -> Option<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&chunk).cloned()
    }

    fn find_or_start(&self, chunk: ChunkId) -> Result<Arc<Handle>, ServiceError> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(&chunk) {
            return Ok(Arc::clone(handle));
        }
        if self.contexts.first().leaving.is_cancelled() {
            return Err(ServiceError::Stopping);
        }
        if handles.len() >= PRIMARIES_MAX {
            return Err(ServiceError::Overloaded);
        }
        let (handle, mailbox) = Handle::new(chunk);
        handles.insert(chunk, Arc::clone(&handle));
        self.tell();
        metrics::gauge!("cairn_data_primaries_chunks").set(handles.len() as f64);
        let task = self.clone().lead(Arc::clone(&handle), mailbox);
        self.contexts.first().tasks.spawn(task);
        Ok(handle)
    }

    /// Opens the tail that a roll has activated, before anybody appends to it.
    fn go_on(&self, before: ChunkId, next: &v1::Chunk) {
        self.contexts.first().spares.activate(before, next.clone());
        if let Err(error) = self.find_or_start(ChunkId(next.chunk)) {
            tracing::debug!(chunk = next.chunk, %error, "the next tail is not opened yet");
        }
    }

    fn remove(&self, handle: &Arc<Handle>) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.get(&handle.chunk).is_some_and(|other| Arc::ptr_eq(other, handle)) {
            handles.remove(&handle.chunk);
        }
        metrics::gauge!("cairn_data_primaries_chunks").set(handles.len() as f64);
    }

    /// The life of one primary, from its opening to its seal.
    #[tracing::instrument(skip_all, fields(chunk = handle.chunk.0))]
    async fn lead(self, handle: Arc<Handle>, mut mailbox: Mailbox) {
        let committed = Arc::clone(&handle.committed);
        let opened = tokio::select! {
            biased;
            () = handle.fenced.cancelled() => Err(fenced(handle.chunk)),
            opened = open::open(&self.contexts, handle.chunk, committed) => opened,
        };
        match opened {
            Ok(mut primary) => {
                // It is opened once.
                let _first = handle.home.set(Arc::clone(&primary.context));
                let end = primary.run(&mut mailbox).await;
                tracing::debug!(?end, length = primary.length, "a primary ended");
                self.end(&handle, primary, mailbox, end).await;
            }
            Err(NotOpened::Refused(error)) => {
                self.remove(&handle);
                turn_away(&mut mailbox, &error);
                handle.ended.cancel();
            }
            Err(NotOpened::Trouble { epoch, reason, blame }) => {
                self.remove(&handle);
                turn_away(&mut mailbox, &reason.refusal(handle.chunk).into());
                handle.ended.cancel();
                // Its outcome is logged there; the clients ask as well.
                let metadata = &self.contexts.first().metadata;
                let _ = seal::ask(metadata, handle.chunk, epoch, reason, blame).await;
            }
        }
    }

    async fn end(&self, handle: &Arc<Handle>, mut primary: Primary, mut mailbox: Mailbox, end: End) {
        let chunk = handle.chunk;
        let refusal = match &end {
            End::Trouble { reason, .. } => reason.refusal(chunk),
            End::Closed | End::Fenced => ServiceError::ChunkFenced { chunk },
        };
        primary.give_up(&refusal);
        let refusal = WireError::from(refusal);
        let sealed = match end {
            End::Closed => {
                let sealed = handle.fenced.run_until_cancelled(primary.seal_planned()).await;
                self.remove(handle);
                handle.ended.cancel();
                let sealed = sealed.unwrap_or(Err(refusal.clone()));
                if let Ok(v1::CloseReply { next: Some(next), .. }) = &sealed {
                    self.go_on(chunk, next);
                }
                sealed
            }
            End::Fenced => {
                self.remove(handle);
                handle.ended.cancel();
                Err(refusal.clone())
            }
            End::Trouble { reason, blame } => {
                self.remove(handle);
                turn_away(&mut mailbox, &refusal);
                handle.ended.cancel();
                let metadata = &self.contexts.first().metadata;
                let sealed = seal::ask(metadata, chunk, primary.epoch, reason, blame).await;
                sealed.map(|sealed| v1::CloseReply { chunk: Some(sealed), next: None })
            }
        };
        self.contexts.first().spares.forget(chunk);
        for closer in std::mem::take(&mut primary.closers) {
            // An asker that is gone needs no answer.
            let _ = closer.send(sealed.clone());
        }
        finish(&mut mailbox, &sealed, &refusal);
    }
}

fn fenced(chunk: ChunkId) -> NotOpened {
    NotOpened::Refused(ServiceError::ChunkFenced { chunk }.into())
}

/// Answers everything in a mailbox with `error`.
fn turn_away(mailbox: &mut Mailbox, error: &WireError) {
    finish(mailbox, &Err(error.clone()), error);
}

/// Answers those who asked for the close with its outcome, everyone else with `error`.
fn finish(mailbox: &mut Mailbox, sealed: &Result<v1::CloseReply, WireError>, error: &WireError) {
    mailbox.appends.close();
    mailbox.orders.close();
    while let Ok(append) = mailbox.appends.try_recv() {
        append.ticket.refuse(error, 0);
    }
    while let Ok(order) = mailbox.orders.try_recv() {
        // Askers that are gone need no answer.
        match order {
            Order::TailLength { answer, .. } => drop(answer.send(Err(error.clone()))),
            Order::Close { answer, .. } => drop(answer.send(sealed.clone())),
        }
    }
}

impl Handle {
    fn new(chunk: ChunkId) -> (Arc<Self>, Mailbox) {
        let (appends, append_mail) = mpsc::channel(APPENDS_MAX);
        let (orders, order_mail) = mpsc::channel(ORDERS_MAX);
        let fenced = CancellationToken::new();
        let mailbox = Mailbox { appends: append_mail, orders: order_mail, fenced: fenced.clone() };
        let handle = Self {
            chunk,
            appends,
            orders,
            bytes: Arc::new(Semaphore::new(Room::CHUNK_BYTES)),
            committed: Arc::default(),
            home: OnceLock::new(),
            fenced,
            ended: CancellationToken::new(),
        };
        (Arc::new(handle), mailbox)
    }

    /// Hands an append to the primary. One that has ended drops its ticket, which says so.
    pub async fn append(&self, append: Append) {
        if let Err(unsent) = self.appends.send(append).await {
            let fenced = ServiceError::ChunkFenced { chunk: self.chunk };
            unsent.0.ticket.refuse(&fenced.into(), 0);
        }
    }
}
