//! `Watch`: changes under a directory, in the order of the log, from an index on and without end,
//! told from what this server has applied.

mod encode;
pub mod hub;
mod sight;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Credentials, InodeId, LogIndex};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::stat::{about, caller_of, imported};
use super::{Context, decode};
use crate::keys::events::EventKind;
use crate::namespace::events::{self, Told};
use crate::namespace::{NamespaceError, Target, read};
use crate::node::{Consistency, Node};
use hub::{Hub, Slot};
use sight::Sight;

/// Batches that wait for a slow watcher, at most.
const BATCHES_MAX: usize = 4;
/// So often a watcher is told how far the log has come; as often it is looked
/// whether this server still hears of a leader, and whether what is watched is still there.
const BEAT: Duration = Duration::from_secs(5);
/// How long a leader may be silent, or without a majority, before a watch here ends.
const LED_WITHIN: Duration = Duration::from_secs(5);

/// The stream of a watch.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchBatch, Status>> + Send>>;

/// Begins a watch; what is wrong with its target, or with where it begins, is answered at once.
pub async fn watch(
    ctx: &Context,
    request: v1::WatchRequest,
    _deadline: Duration,
) -> Result<WatchStream, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let slot = ctx.hub.admit()?;
    let after = request.after_index.map(LogIndex);
    about(request.session, None);
    let (ino, cursor, caller) = begin(ctx, &target, after, (request.local, request.session)).await?;
    let (sink, batches) = mpsc::channel(BATCHES_MAX);
    let (end, ended) = oneshot::channel();
    let watcher = Watcher {
        node: ctx.node.clone(),
        hub: Arc::clone(&ctx.hub),
        ino,
        recursive: request.recursive,
        caller,
        cursor,
        sink,
        _slot: slot,
    };
    tokio::spawn(async move {
        let reason = match watcher.run().await {
            End::Gone => None,
            End::Failed(error) => {
                tracing::debug!(%ino, %error, "a watch ended");
                Some(Err(error.into()))
            }
        };
        // The client may have gone.
        let _ = end.send(reason);
    });
    // The reason comes after all that waits, however full the queue is.
    let reason = futures::stream::once(ended).filter_map(async |reason| reason.ok().flatten());
    Ok(Box::pin(ReceiverStream::new(batches).chain(reason)))
}

/// What is watched, from where on, and by whom, where the session said so.
async fn begin(
    ctx: &Context,
    target: &Target,
    after: Option<LogIndex>,
    (local, session): (bool, u64),
) -> Result<(InodeId, LogIndex, Option<Credentials>), WireError> {
    if local {
        check_led(&ctx.node)?;
    }
    let view = if local { ctx.node.read_local()? } else { ctx.node.read(Consistency::Linearizable).await? };
    let (after, resumes) = (after.unwrap_or(view.applied), after.is_some());
    events::check_kept(&*view.store, after, view.applied).map_err(super::refusal)?;
    // What this server has applied may be older than the session.
    let freshness = if local { Consistency::Stale(Duration::MAX) } else { Consistency::Linearizable };
    let caller = caller_of(&view, freshness, session)?;
    if local && resumes && target.path.is_empty() && target.ino != InodeId(0) {
        // It may be gone since, or not be known here yet: then there is nothing to be checked.
        match read::resolve(&*view.store, target) {
            Ok(inode) => read::may_watch(&*view.store, caller.as_ref(), &inode).map_err(super::refusal)?,
            Err(NamespaceError::Refused(_)) => {}
            Err(error) => return Err(super::refusal(error)),
        }
        return Ok((target.ino, after, caller));
    }
    if !local {
        imported(ctx, &view, target, false).await?;
    }
    let inode = read::resolve_as(&*view.store, caller.as_ref(), target).map_err(super::refusal)?;
    read::may_watch(&*view.store, caller.as_ref(), &inode).map_err(super::refusal)?;
    Ok((inode.ino, after, caller))
}

/// How a watch ends.
enum End {
    /// What was watched is gone and said so, or the client is.
    Gone,
    /// The client may resume, here or elsewhere.
    Failed(WireError),
}

impl<E: Into<WireError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Why the steps are left for the state itself.
enum Left {
    /// Something is missing between the two, or what is watched may be gone.
    Behind,
    /// A sign of life is due.
    Beat,
}

/// One watch.
struct Watcher {
    node: Node,
    hub: Arc<Hub>,
    ino: InodeId,
    recursive: bool,
    /// Who is told no more than it may see; `None`: who did not say who it is.
    caller: Option<Credentials>,
    /// All up to this entry is told.
    cursor: LogIndex,
    sink: mpsc::Sender<Result<v1::WatchBatch, Status>>,
    _slot: Slot,
}

impl Watcher {
    async fn run(mut self) -> End {
        match self.tell_all().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn tell_all(&mut self) -> Result<std::convert::Infallible, End> {
        let mut steps = self.hub.subscribe();
        self.send(Vec::new(), false).await?;
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            self.catch_up().await?;
            let left = loop {
                let step = tokio::select! {
                    () = self.hub.stop.cancelled() => return Err(ServiceError::Stopping.into()),
                    () = self.sink.closed() => return Err(End::Gone),
                    _ = beat.tick() => break Left::Beat,
                    step = steps.recv() => step,
                };
                match step {
                    Ok(step) if step.upto <= self.cursor => {}
                    Ok(step) if step.after > self.cursor => break Left::Behind,
                    Ok(step) => {
                        if self.tell(&step.events, step.upto).await? {
                            break Left::Behind;
                        }
                    }
                    Err(RecvError::Lagged(_)) => break Left::Behind,
                    Err(RecvError::Closed) => return Err(ServiceError::Stopping.into()),
                }
            };
            if matches!(left, Left::Beat) {
                check_led(&self.node)?;
                self.send(Vec::new(), false).await?;
            }
        }
    }

    /// Tells what this server has applied and the steps have not told, from the state. Ends the
    /// watch when no path leads to what is watched any more.
    async fn catch_up(&mut self) -> Result<(), End> {
        let view = self.node.read_local()?;
        while self.cursor < view.applied {
            let page = hub::page(&view, self.cursor).await?;
            self.tell(&page.events, page.upto).await?;
        }
        // A server that is behind the client does not know yet.
        let known = self.cursor == view.applied;
        if known && !events::is_reachable(&*view.store, self.ino).map_err(super::fault)? {
            self.send(Vec::new(), true).await?;
            return Err(End::Gone);
        }
        Ok(())
    }

    /// Tells what of `events` is watched. True when one of them took away what is watched.
    async fn tell(&mut self, events: &[Told], upto: LogIndex) -> Result<bool, End> {
        let mut new: Vec<&Told> = events.iter().filter(|told| told.index > self.cursor).collect();
        new.retain(|told| told.event.concerns(self.ino, self.recursive));
        let seen = self.seen(&new).await?;
        let mut taken = false;
        let mut batch = Vec::new();
        for (told, seen) in new.into_iter().zip(seen) {
            batch.extend(encode::event(told, self.ino, self.recursive, seen));
            let takes =
                matches!(told.event.what, EventKind::Removed { last: true } | EventKind::MountRemoved { .. });
            taken |= takes && told.event.ino == self.ino;
        }
        self.cursor = upto;
        if !batch.is_empty() {
            metrics::counter!("cairn_meta_watch_events_sent_total").increment(batch.len() as u64);
            self.send(batch, false).await?;
        }
        Ok(taken)
    }

    /// What of each event the caller may be told. What lies in the watched directory itself was allowed
    /// when the watch began.
    async fn seen(&self, events: &[&Told]) -> Result<Vec<Sight>, End> {
        let Some(who) = self.caller.as_ref().filter(|_| self.recursive && !events.is_empty()) else {
            return Ok(vec![Sight::WHOLE; events.len()]);
        };
        let rows = events.iter().map(|told| told.event.clone()).collect();
        Ok(sight::of(self.node.read_local()?, who.clone(), self.ino, rows).await?)
    }

    async fn send(&self, events: Vec<v1::WatchEvent>, gone: bool) -> Result<(), End> {
        let batch = v1::WatchBatch { index: self.cursor.0, events, watched: self.ino.0, gone };
        tokio::select! {
            () = self.hub.stop.cancelled() => Err(ServiceError::Stopping.into()),
            sent = self.sink.send_timeout(Ok(batch), self.hub.patience) => match sent {
                Ok(()) => Ok(()),
                Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(End::Gone),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(ServiceError::WatcherTooSlow.into()),
            },
        }
    }
}

/// Refuses a watch on a server that has been cut off, which would tell no more and not know it.
fn check_led(node: &Node) -> Result<(), ServiceError> {
    if node.is_led(LED_WITHIN) {
        return Ok(());
    }
    let leader = node.status().leader.filter(|(id, _)| *id != node.id());
    let leader_address = leader.map(|(_, address)| address).unwrap_or_default();
    Err(ServiceError::NotLeader { leader_address })
}
