//! The secondary's side of a replication stream: what arrives goes to the store in order, and what
//! is durable is said in order. One stream carries one chunk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, Epoch, Incarnation, NodeId};
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{FutureExt, Stream, StreamExt};
use tonic::Status;
use v1::replicate_reply::Outcome;
use v1::replicate_request::Message;

use super::context::Context;
use super::contexts::Contexts;
use super::ticket::{Room, detail};
use super::{record, refusal};
use crate::chunk::{Completion, Durable, StoreError};
use crate::slow::Begun;

/// Answers a primary's stream until it ends or something is refused.
pub fn replies(
    contexts: Contexts,
    inbound: impl Stream<Item = Result<v1::ReplicateRequest, Status>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<v1::ReplicateReply, Status>> + Send {
    let (context, inbound) = (Arc::clone(contexts.first()), inbound.boxed());
    let (steps, next) = (FuturesOrdered::new(), None);
    let secondary = Secondary { contexts, context, inbound, open: true, chunk: None, steps, next };
    futures::stream::unfold(secondary, Secondary::next_reply)
}

/// What a primary sends, however it comes.
type Inbound = BoxStream<'static, Result<v1::ReplicateRequest, Status>>;

struct Secondary {
    contexts: Contexts,
    /// The disk that the chunk is on, once it is created.
    context: Arc<Context>,
    inbound: Inbound,
    /// False once nothing more is read.
    open: bool,
    chunk: Option<(ChunkId, Epoch)>,
    steps: FuturesOrdered<Step>,
    /// A reply found while durable marks were gathered into one.
    next: Option<Outcome>,
}

impl Secondary {
    async fn next_reply(mut self) -> Option<(Result<v1::ReplicateReply, Status>, Self)> {
        let outcome = match self.next.take() {
            Some(outcome) => outcome,
            None => self.outcome().await?,
        };
        if matches!(outcome, Outcome::Refused(_)) {
            self.open = false;
            self.steps = FuturesOrdered::new();
        }
        let (chunk, epoch) = self.chunk.unwrap_or_default();
        let reply = v1::ReplicateReply { chunk: chunk.0, epoch: epoch.0, outcome: Some(outcome) };
        Some((Ok(reply), self))
    }

    /// What to say of a change that is done, or refused; a record that took long is told in the log.
    fn said(&self, (done, arrived): (Result<Outcome, StoreError>, Option<Arrived>)) -> Outcome {
        if let Some(Arrived { offset, begun }) = arrived {
            let (chunk, _) = self.chunk.unwrap_or_default();
            self.context.slow.record(chunk, offset, &begun, self.context.clock.boottime());
        }
        match done {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(%error, "refuse a record");
                Outcome::Refused(detail(&refusal::of_change(self.context.node, &error)))
            }
        }
    }

    async fn outcome(&mut self) -> Option<Outcome> {
        loop {
            let reading = self.open && self.steps.len() < Room::MESSAGES_MAX;
            tokio::select! {
                biased;
                Some(done) = self.steps.next(), if !self.steps.is_empty() => return Some(self.gather(done)),
                message = arrived(&self.context, &mut self.inbound), if reading => match message {
                    Ok(Some(message)) => {
                        if let Err(error) = self.take(message) {
                            tracing::warn!(chunk = ?self.chunk, %error, "refuse a replica's stream");
                            return Some(Outcome::Refused(detail(&error)));
                        }
                    }
                    Ok(None) => self.open = false,
                    // The primary is gone: what was taken stays, its seal decides.
                    Err(_) => return None,
                },
                else => return None,
            }
        }
    }

    /// The outcome to send for `done`: of durable marks that are there at once, only the last.
    fn gather(&mut self, done: <Step as Future>::Output) -> Outcome {
        let mut outcome = self.said(done);
        while matches!(outcome, Outcome::Durable(_)) {
            let Some(Some(done)) = self.steps.next().now_or_never() else { break };
            match self.said(done) {
                durable @ Outcome::Durable(_) => outcome = durable,
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        outcome
    }

    fn take(&mut self, message: v1::ReplicateRequest) -> Result<(), WireError> {
        let trace = message.trace;
        let malformed = |field: &str| ServiceError::Malformed { field: field.to_owned() };
        match message.message.ok_or_else(|| malformed("message"))? {
            Message::Create(create) => self.create(create),
            Message::Record(wire) => {
                if self.chunk != Some((ChunkId(wire.chunk), Epoch(wire.epoch))) {
                    return Err(malformed("record.chunk").into());
                }
                let record = record::from_wire(wire).map_err(ServiceError::from)?;
                let begun = Begun::at(self.context.clock.boottime(), trace);
                let arrived = Arrived { offset: record.offset, begun };
                let close = record.close;
                metrics::counter!("cairn_data_replicated_bytes").increment(record.payload.len() as u64);
                let done = self.context.store.append(record);
                self.steps.push_back(Step::Record { done, close, arrived });
                Ok(())
            }
            Message::Committed(hint) => {
                if self.chunk != Some((ChunkId(hint.chunk), Epoch(hint.epoch))) {
                    return Err(malformed("committed.chunk").into());
                }
                let (chunk, epoch) = (ChunkId(hint.chunk), Epoch(hint.epoch));
                self.context.store.note_committed(chunk, epoch, hint.committed);
                Ok(())
            }
        }
    }

    /// Makes the replica, when the activation names this process and no other (R1, R6).
    fn create(&mut self, create: v1::CreateReplica) -> Result<(), WireError> {
        let malformed = |field: &str| ServiceError::Malformed { field: field.to_owned() };
        let found = create.chunk.ok_or_else(|| malformed("create.chunk"))?;
        let (chunk, epoch) = (ChunkId(found.chunk), Epoch(found.epoch));
        let mut named = found.replicas.iter().filter(|replica| {
            replica.node != found.primary && replica.incarnation == create.replica_incarnation
        });
        let own = named.find_map(|replica| self.contexts.node(NodeId(replica.node)));
        let own_primary = self.contexts.node(NodeId(found.primary)).is_some();
        let Some(own) = own.filter(|_| self.chunk.is_none() && !own_primary && epoch == record::OPENED)
        else {
            return Err(malformed("create.chunk").into());
        };
        self.context = Arc::clone(own);
        self.chunk = Some((chunk, epoch));
        let spec =
            record::spec(&found, Incarnation(create.replica_incarnation)).map_err(ServiceError::from)?;
        self.steps.push_back(Step::Create(self.context.store.create(spec)));
        Ok(())
    }
}

/// Waits until the store has room, then for a message.
async fn arrived(context: &Context, inbound: &mut Inbound) -> Result<Option<v1::ReplicateRequest>, Status> {
    context.store.ready().await;
    inbound.next().await.transpose()
}

/// A record as it came.
#[derive(Clone, Copy)]
struct Arrived {
    offset: u64,
    begun: Begun,
}

/// A submitted change on its way to the disk.
enum Step {
    Create(Completion<()>),
    Record { done: Completion<Durable>, close: bool, arrived: Arrived },
}

impl Future for Step {
    type Output = (Result<Outcome, StoreError>, Option<Arrived>);

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Create(done) => {
                done.poll_unpin(context).map_ok(|()| Outcome::Created(true)).map(|done| (done, None))
            }
            Self::Record { done, close, arrived } => {
                let (close, arrived) = (*close, *arrived);
                let said = |durable: Durable| {
                    if close { Outcome::Closed(true) } else { Outcome::Durable(durable.length) }
                };
                done.poll_unpin(context).map_ok(said).map(|done| (done, Some(arrived)))
            }
        }
    }
}
