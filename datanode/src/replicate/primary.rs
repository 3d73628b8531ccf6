//! [`Primary`]: the one task that orders the appends of one open chunk.
//!
//! An append gets its offset here, goes to this node's own segment and to every secondary at once,
//! and is acknowledged, in order, when all of them have it durable (rule R3). Whatever goes wrong,
//! the chunk is given up: nothing is acknowledged any more and its seal is asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Chain, ChunkId, Epoch, Generation, InodeId, NodeId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, SelectAll};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::committed::Committed;
use super::context::Context;
use super::link::{Link, Progress, Said};
use super::refusal;
use super::seal::Reason;
use super::ticket::{Append, Room, Ticket};
use super::writers::Writers;
use crate::chunk::{Completion, Durable, StoreError};

/// Appends taken from the mailbox before the disks' answers are looked at again.
const BATCH_MAX: usize = 64;
/// A writer that appended so lately is taken to go on.
const BUSY: Duration = Duration::from_millis(250);

/// Whoever waits for a close: it is told the sealed chunk, and the tail that follows it already.
pub type Closer = oneshot::Sender<Result<v1::CloseReply, WireError>>;

/// What is asked of a primary besides appends.
#[derive(Debug)]
pub enum Order {
    /// The committed length, if the chunk is still in this epoch.
    TailLength {
        /// The epoch the asker knows; 0: any.
        epoch: Epoch,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<u64, WireError>>,
    },
    /// A planned close; answered when the chunk is sealed.
    Close {
        /// A writer goes on in the file: into the chunk made ahead, if there is one.
        go_on: bool,
        /// Where the answer goes.
        answer: Closer,
    },
}

/// The receiving ends of a primary's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    /// Appends, in the order of their arrival.
    pub appends: mpsc::Receiver<Append>,
    /// Everything else.
    pub orders: mpsc::Receiver<Order>,
    /// Raised before this node fences its replica: from then on nothing is acknowledged (R4).
    pub fenced: CancellationToken,
}

/// One member of the replica set, this node first.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: NodeId,
    pub(super) durable: u64,
    pub(super) closed: bool,
}

/// An append that is not durable everywhere yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) since: Duration,
    pub(super) ticket: Ticket,
    pub(super) _room: Room,
}

/// A repeated append whose first one is not committed yet.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) ticket: Ticket,
}

/// How far a planned close has come.
#[derive(Debug, Default)]
pub(super) enum Closing {
    /// Appends are taken.
    #[default]
    No,
    /// No more are taken; those taken are on their way.
    Draining,
    /// The close record is on its way.
    Sent,
}

/// Why the loop ended.
#[derive(Debug)]
pub enum End {
    /// The close record is durable on every replica.
    Closed,
    /// This node fences its replica.
    Fenced,
    /// The chunk is given up.
    Trouble {
        /// Why.
        reason: Reason,
        /// Whose fault it is.
        blame: Option<NodeId>,
    },
}

/// The state of an open chunk at its primary.
pub struct Primary {
    pub(super) context: Arc<Context>,
    pub(super) chunk: ChunkId,
    pub(super) epoch: Epoch,
    pub(super) ino: InodeId,
    pub(super) base: u64,
    pub(super) generation: Generation,
    pub(super) length: u64,
    pub(super) chain: Chain,
    pub(super) committed: Arc<Committed>,
    pub(super) members: Vec<Member>,
    pub(super) links: Vec<Link>,
    pub(super) said: SelectAll<Said>,
    pub(super) stored: FuturesOrdered<Completion<Durable>>,
    pub(super) writers: Writers,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) repeats: Vec<Repeat>,
    pub(super) parked: VecDeque<Append>,
    pub(super) grant_bytes: u64,
    pub(super) renewal: Option<BoxFuture<'static, Result<u64, WireError>>>,
    /// Grants are renewed before they are used up, until that failed once.
    pub(super) renew_ahead: bool,
    pub(super) told: u64,
    pub(super) closing: Closing,
    pub(super) closers: Vec<Closer>,
    /// Nodes that a chunk under this policy has at least.
    pub(super) min_replicas: usize,
    /// When the next chunk is to be made, however little this one holds.
    pub(super) grows_old: Option<Duration>,
    pub(super) next_asked: bool,
    /// When the last append was taken.
    pub(super) taken: Duration,
    /// A writer wants to go on behind this chunk.
    pub(super) goes_on: bool,
}

impl Primary {
    /// Takes appends until the chunk is closed, fenced or given up.
    pub async fn run(&mut self, mailbox: &mut Mailbox) -> End {
        let fenced = mailbox.fenced.clone();
        let fenced = std::pin::pin!(fenced.cancelled());
        let leaving = self.context.leaving.clone();
        let mut alarm = Alarm::default();
        let work = async {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            let mut left = false;
            let leaving = std::pin::pin!(leaving.cancelled());
            let mut leaving = leaving;
            loop {
                let step = tokio::select! {
                    biased;
                    Some(order) = mailbox.orders.recv() => { self.order(order); Ok(()) }
                    Some(done) = self.stored.next(), if !self.stored.is_empty() => self.stored_here(done),
                    Some((place, said)) = self.said.next(), if !self.said.is_empty() => self.said(place, said),
                    granted = renewed(&mut self.renewal) => self.granted(granted),
                    count = arrived(&self.context, &mut mailbox.appends, &mut batch), if self.parked.is_empty() => {
                        if count == 0 { self.drain(); }
                        batch.drain(..).try_for_each(|append| self.take(append))
                    }
                    () = &mut leaving, if !left => { left = true; self.drain(); Ok(()) }
                    () = alarm.rings() => self.alarm(&mut alarm),
                };
                match step.and_then(|()| self.settle()) {
                    Ok(false) => self.arm(&mut alarm),
                    Ok(true) => return End::Closed,
                    Err(end) => return end,
                }
            }
        };
        tokio::select! {
            biased;
            () = fenced => End::Fenced,
            end = work => end,
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::TailLength { epoch, answer } => {
                let fenced = ServiceError::ChunkFenced { chunk: self.chunk };
                let open = epoch == self.epoch || epoch == Epoch(0);
                // An asker that is gone needs no answer.
                let _ = answer.send(if open { Ok(self.committed()) } else { Err(fenced.into()) });
            }
            Order::Close { go_on, answer } => {
                let idle = self.context.clock.boottime().saturating_sub(self.taken);
                self.goes_on |= go_on && idle <= BUSY;
                self.closers.push(answer);
                self.drain();
            }
        }
    }

    /// Takes no more appends; the close record follows the last one taken.
    pub(super) fn drain(&mut self) {
        if matches!(self.closing, Closing::No) {
            self.closing = Closing::Draining;
        }
        for append in std::mem::take(&mut self.parked) {
            self.refuse(append.ticket, ServiceError::ChunkFull { chunk: self.chunk });
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.get()
    }

    fn stored_here(&mut self, done: Result<Durable, StoreError>) -> Result<(), End> {
        match done {
            Ok(durable) => {
                let sent = matches!(self.closing, Closing::Sent);
                if let Some(own) = self.members.first_mut() {
                    own.durable = durable.length.max(own.durable);
                    own.closed = sent && self.stored.is_empty();
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(chunk = self.chunk.0, %error, "store an append");
                let own = self.context.node;
                let reason = Reason::of(&refusal::of_change(own, &error), Reason::Disk);
                Err(End::Trouble { reason, blame: Some(own) })
            }
        }
    }

    fn said(&mut self, place: usize, said: Progress) -> Result<(), End> {
        let length = self.length;
        let Some(member) = self.members.get_mut(place) else { return Ok(()) };
        let error = match said {
            Progress::Durable(durable) if durable <= length => {
                member.durable = durable.max(member.durable);
                return Ok(());
            }
            Progress::Closed => {
                member.closed = true;
                return Ok(());
            }
            Progress::Created => return Ok(()),
            Progress::Durable(_) => ServiceError::Malformed { field: "durable".to_owned() }.into(),
            Progress::Broken(error) => error,
        };
        let node = member.node;
        tracing::warn!(chunk = self.chunk.0, node = node.0, %error, "replicate");
        Err(End::Trouble { reason: Reason::of(&error, Reason::Broken), blame: Some(node) })
    }

    /// Acknowledges what has become durable everywhere; true when the chunk is closed everywhere.
    fn settle(&mut self) -> Result<bool, End> {
        let durable = self.members.iter().map(|member| member.durable).min().unwrap_or(0);
        if durable > self.committed() {
            self.committed.advance(durable);
            self.acknowledge(durable);
        }
        match self.closing {
            Closing::Draining if self.waiting.is_empty() => {
                self.send_close()?;
                Ok(false)
            }
            Closing::Sent => Ok(self.members.iter().all(|member| member.closed)),
            Closing::No | Closing::Draining => Ok(false),
        }
    }

    fn acknowledge(&mut self, committed: u64) {
        let now = self.context.clock.boottime();
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.end <= committed) {
            let took = now.saturating_sub(waiting.since);
            metrics::histogram!("cairn_data_append_seconds").record(took.as_secs_f64());
            waiting.ticket.acknowledge(waiting.offset, committed);
        }
        if self.repeats.is_empty() {
            return;
        }
        let repeats = std::mem::take(&mut self.repeats);
        let (answered, kept) = repeats.into_iter().partition(|repeat| repeat.end <= committed);
        self.repeats = kept;
        let answered: Vec<Repeat> = answered;
        answered.into_iter().for_each(|repeat| repeat.ticket.acknowledge(repeat.offset, committed));
    }

    pub(super) fn refuse(&self, ticket: Ticket, error: impl Into<WireError>) {
        ticket.refuse(&error.into(), self.committed());
    }

    pub(super) fn hint(&mut self) {
        let committed = self.committed();
        self.context.store.note_committed(self.chunk, self.epoch, committed);
        let hint = v1::CommittedHint { chunk: self.chunk.0, epoch: self.epoch.0, committed };
        for link in &self.links {
            // A hint that finds no place is made good by the next append, or the seal.
            link.send(v1::replicate_request::Message::Committed(hint));
        }
        self.told = committed;
    }

    /// Answers everything that still waits: its outcome is for the seal to decide (R10).
    pub fn give_up(&mut self, why: &ServiceError) {
        self.context.store.note_committed(self.chunk, self.epoch, self.committed());
        for waiting in std::mem::take(&mut self.waiting) {
            self.refuse(waiting.ticket, why.clone());
        }
        for repeat in std::mem::take(&mut self.repeats) {
            self.refuse(repeat.ticket, why.clone());
        }
        for append in std::mem::take(&mut self.parked) {
            self.refuse(append.ticket, why.clone());
        }
        self.links.clear();
    }
}

/// Waits until the store has room, then for appends.
async fn arrived(context: &Context, appends: &mut mpsc::Receiver<Append>, batch: &mut Vec<Append>) -> usize {
    context.store.ready().await;
    appends.recv_many(batch, BATCH_MAX).await
}

/// Waits for a renewal, for ever when there is none.
async fn renewed(renewal: &mut Option<BoxFuture<'static, Result<u64, WireError>>>) -> Result<u64, WireError> {
    match renewal {
        Some(asked) => {
            let granted = asked.await;
            *renewal = None;
            granted
        }
        None => std::future::pending().await,
    }
}
