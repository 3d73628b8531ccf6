//! The task that owns one writer.

use std::collections::VecDeque;

use cairn_proto::v1::{AppendReply, AppendRequest, append_reply};
use cairn_proto::{ServiceError, WireError, status};
use cairn_types::{FsError, SessionId, WriterId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

use super::place::{self, Open};
use super::resolve;
use super::{Message, Pending, Placed, Reach, Source};
use crate::error::{Cause, Error, ErrorKind};

/// Nodes that this writer remembers to avoid, at most.
const AVOID_MAX: usize = 8;

/// Why the open chunk is given up.
enum Trouble {
    /// Roll as planned: it is full, or its end is wanted.
    Planned,
    /// Seal it.
    Seal { reason: &'static str, blame: bool },
}

/// What the task waits for.
enum Event {
    Reply(Result<Option<AppendReply>, tonic::Status>),
    Message(Option<Message>),
    /// The stream's queue has room again.
    Room,
    /// The oldest append is not acknowledged within its deadline.
    Late,
}

struct Sent {
    pending: Pending,
    sequence: u64,
    deadline: Instant,
}

pub(super) struct Task {
    reach: Reach,
    source: Source,
    writer: WriterId,
    session: SessionId,
    open: Option<Open>,
    avoid: Vec<u64>,
    /// The sequence of the next append that is sent.
    next: u64,
    /// The end, in the open chunk, of this writer's last acknowledged append.
    acknowledged_end: u64,
    sent: VecDeque<Sent>,
    waiting: VecDeque<Pending>,
    rolls: Vec<tokio::sync::oneshot::Sender<crate::error::Result<()>>>,
    failed: Option<Error>,
}

impl Task {
    pub(super) fn new(reach: Reach, source: Source, writer: WriterId, session: SessionId) -> Self {
        Self {
            reach,
            source,
            writer,
            session,
            open: None,
            avoid: Vec::new(),
            next: 1,
            acknowledged_end: 0,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            rolls: Vec::new(),
            failed: None,
        }
    }

    /// Runs until every handle is dropped and everything submitted is answered.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut queue_open = true;
        loop {
            self.finish_rolls().await;
            if !queue_open && self.sent.is_empty() && self.waiting.is_empty() {
                return;
            }
            if self.open.is_none() && !self.waiting.is_empty() {
                self.open_chunk().await;
                continue;
            }
            self.send_waiting();
            let trouble = match self.next_event(&mut queue, queue_open).await {
                Event::Reply(reply) => self.answered(reply),
                Event::Message(Some(message)) => {
                    self.take(message);
                    None
                }
                Event::Message(None) => {
                    queue_open = false;
                    None
                }
                Event::Room => None,
                Event::Late => {
                    Some(Trouble::Seal { reason: "no acknowledgement within the deadline", blame: true })
                }
            };
            if let Some(trouble) = trouble {
                self.resolve(trouble).await;
            }
        }
    }

    async fn next_event(&mut self, queue: &mut mpsc::Receiver<Message>, queue_open: bool) -> Event {
        let may_send = self.may_send();
        let may_take = queue_open && self.waiting.len() < super::QUEUE;
        let deadline = self.sent.front().map(|s| s.deadline);
        let (replies, requests) = match self.open.as_mut() {
            Some(open) => (Some(&mut open.stream.replies), Some(&open.stream.requests)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            reply = next_reply(replies), if deadline.is_some() => Event::Reply(reply),
            message = queue.recv(), if may_take => Event::Message(message),
            () = room(requests), if may_send => Event::Room,
            () = sleep_until(deadline), if deadline.is_some() => Event::Late,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Append(pending) => match &self.failed {
                Some(error) => answer(pending, Err(error.clone())),
                None => self.waiting.push_back(pending),
            },
            Message::Roll(reply) => self.rolls.push(reply),
        }
    }

    async fn open_chunk(&mut self) {
        match place::open(&self.reach, self.source, self.writer, self.session, &mut self.avoid).await {
            Ok(open) => {
                tracing::debug!(chunk = %open.chunk, base = open.base, "chunk opened");
                self.acknowledged_end = 0;
                if matches!(self.source, Source::Shared { .. }) {
                    self.next = 1;
                }
                self.open = Some(open);
            }
            Err(error) => self.fail(error),
        }
        let excess = self.avoid.len().saturating_sub(AVOID_MAX);
        self.avoid.drain(..excess);
    }

    /// True when the front of `waiting` may be sent: an append with an expected offset goes
    /// alone, so that a refusal leaves no gap in the sequences.
    fn may_send(&self) -> bool {
        let alone = self.sent.back().is_some_and(|s| s.pending.expected.is_some());
        match self.waiting.front() {
            Some(front) => {
                self.open.is_some() && !alone && (front.expected.is_none() || self.sent.is_empty())
            }
            None => false,
        }
    }

    fn send_waiting(&mut self) {
        while self.may_send() {
            let (Some(open), Some(pending)) = (self.open.as_ref(), self.waiting.pop_front()) else { return };
            let expected_offset = match pending.expected {
                Some(expected) if expected < open.base => {
                    let refused = FsError::LengthMismatch { expected, actual: open.base };
                    answer(pending, Err(Error::new("append", "", refused)));
                    continue;
                }
                expected => expected.map(|offset| offset - open.base),
            };
            let generation = match self.source {
                Source::Tail { generation, .. } => generation.0,
                Source::Shared { .. } => open.generation,
            };
            let request = AppendRequest {
                chunk: open.chunk.0,
                generation,
                writer: self.writer.0,
                sequence: self.next,
                expected_offset,
                data: pending.data.clone(),
                crc32c: pending.crc32c,
                capability: Default::default(),
            };
            // A closed queue shows as a broken reply stream as soon as something is sent.
            if let Err(mpsc::error::TrySendError::Full(_)) = open.stream.requests.try_send(request) {
                self.waiting.push_front(pending);
                return;
            }
            let deadline = Instant::now() + self.reach.options.append_deadline;
            self.sent.push_back(Sent { pending, sequence: self.next, deadline });
            self.next += 1;
        }
    }

    /// Takes one reply of the stream; tells when the chunk is to be given up.
    fn answered(&mut self, reply: Result<Option<AppendReply>, tonic::Status>) -> Option<Trouble> {
        let broken = Trouble::Seal { reason: "the stream to the primary broke", blame: true };
        let reply = match reply {
            Ok(Some(reply)) => reply,
            Ok(None) => return Some(broken),
            Err(status) => {
                let cause = Cause::from(status);
                tracing::debug!(%cause, "append stream broke");
                return Some(Trouble::Seal {
                    blame: !is_fence(&cause),
                    reason: "the stream to the primary broke",
                });
            }
        };
        let front = self.sent.front()?;
        if reply.writer != self.writer.0 || reply.sequence != front.sequence {
            return (reply.sequence > front.sequence)
                .then_some(Trouble::Seal { reason: "the replies are out of order", blame: false });
        }
        match reply.outcome {
            Some(append_reply::Outcome::Offset(offset)) => {
                self.acknowledge_front(offset);
                None
            }
            Some(append_reply::Outcome::Error(detail)) => {
                let cause = status::parse_detail(&detail, "")
                    .map_or_else(|| Cause::MalformedAnswer("append error"), |e: WireError| e.into());
                self.refused(cause)
            }
            None => Some(broken),
        }
    }

    fn acknowledge_front(&mut self, chunk_offset: u64) {
        let (Some(open), Some(sent)) = (self.open.as_ref(), self.sent.pop_front()) else { return };
        self.acknowledged_end = chunk_offset + sent.pending.data.len() as u64;
        let placed = Placed { chunk: open.chunk, chunk_offset, file_offset: open.base + chunk_offset };
        answer(sent.pending, Ok(placed));
        // The acknowledgement of one says that the path is alive: the next one's wait begins.
        let deadline = Instant::now() + self.reach.options.append_deadline;
        if let Some(front) = self.sent.front_mut() {
            front.deadline = front.deadline.max(deadline);
        }
    }

    fn refused(&mut self, cause: Cause) -> Option<Trouble> {
        match cause {
            Cause::Fs(FsError::LengthMismatch { expected, actual }) => {
                let base = self.open.as_ref().map_or(0, |o| o.base);
                let sent = self.sent.pop_front()?;
                self.next = sent.sequence;
                let refused = FsError::LengthMismatch { expected: expected + base, actual: actual + base };
                answer(sent.pending, Err(Error::new("append", "", refused)));
                None
            }
            Cause::Fs(FsError::Fenced { .. }) => {
                self.fail(Error::new("append", "", cause));
                None
            }
            Cause::Service(ServiceError::ChunkFull { .. }) => Some(Trouble::Planned),
            cause => {
                let blame = matches!(
                    cause,
                    Cause::Service(
                        ServiceError::DiskRetired | ServiceError::DiskFull | ServiceError::Internal
                    )
                );
                tracing::debug!(%cause, "append refused, sealing");
                Some(Trouble::Seal { reason: "the primary refused an append", blame })
            }
        }
    }

    /// Gives the open chunk up and settles what was sent to it (append protocol R10).
    async fn resolve(&mut self, trouble: Trouble) {
        let Some(open) = self.open.take() else { return };
        let (address, primary) = (open.address.clone(), open.primary);
        drop(open.stream);
        let sealed = match trouble {
            Trouble::Planned => resolve::close(&self.reach, open.chunk, open.epoch, &address).await,
            Trouble::Seal { reason, blame } => {
                if blame {
                    self.avoid.push(primary);
                    self.reach.connections.forget(&address);
                }
                let blame = if blame { primary } else { 0 };
                resolve::seal(&self.reach, open.chunk, open.epoch, reason, blame).await
            }
        };
        let settled = match sealed {
            Ok(sealed) => self.settle(&sealed, open.base).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            let unknown = !self.sent.is_empty();
            self.fail(if unknown { error.with_kind(ErrorKind::Unknown) } else { error });
        }
    }

    /// Answers what the sealed chunk holds; puts the rest back in front of what waits.
    async fn settle(&mut self, sealed: &cairn_proto::v1::Chunk, base: u64) -> crate::error::Result<()> {
        let (last, last_offset) = resolve::decided(sealed, self.writer).unwrap_or((0, 0));
        let inside = self.sent.iter().take_while(|s| s.sequence <= last).count();
        let places = match (self.source, inside) {
            (_, 0) => None,
            (_, 1) => Some([(last, last_offset - base.min(last_offset))].into()),
            _ => Some(resolve::offsets(&self.reach, sealed, self.writer, self.acknowledged_end).await?),
        };
        for _ in 0..inside {
            let Some(sent) = self.sent.pop_front() else { break };
            let offset =
                places.as_ref().and_then(|p: &std::collections::HashMap<u64, u64>| p.get(&sent.sequence));
            let placed = offset.map(|at| Placed {
                chunk: cairn_types::ChunkId(sealed.chunk),
                chunk_offset: *at,
                file_offset: base + at,
            });
            let missing = || {
                Error::new("resolve an append", "", Cause::MalformedAnswer("records"))
                    .with_kind(ErrorKind::Unknown)
            };
            answer(sent.pending, placed.ok_or_else(missing));
        }
        if let Some(first) = self.sent.front() {
            self.next = first.sequence;
        }
        while let Some(sent) = self.sent.pop_back() {
            self.waiting.push_front(sent.pending);
        }
        Ok(())
    }

    /// Ends the writer: everything under way and to come gets `error`.
    fn fail(&mut self, error: Error) {
        self.open = None;
        let sent = std::mem::take(&mut self.sent).into_iter().map(|s| (s.pending, true));
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|p| (p, false));
        for (pending, was_sent) in sent.chain(waiting) {
            let fenced = error.kind() == ErrorKind::Fenced;
            let told =
                if was_sent && !fenced { error.clone().with_kind(ErrorKind::Unknown) } else { error.clone() };
            answer(pending, Err(told));
        }
        // What the cluster could not take for now leaves the writer usable; the rest ends it.
        let transient = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Retry);
        if !transient {
            self.failed = Some(error);
        }
    }

    async fn finish_rolls(&mut self) {
        if self.rolls.is_empty() || !self.sent.is_empty() || !self.waiting.is_empty() {
            return;
        }
        self.resolve(Trouble::Planned).await;
        let outcome = self.failed.clone().map_or(Ok(()), Err);
        for reply in self.rolls.drain(..) {
            // The one who asked may be gone.
            let _ = reply.send(outcome.clone());
        }
    }
}

fn answer(pending: Pending, outcome: crate::error::Result<Placed>) {
    // The one who asked may be gone.
    let _ = pending.reply.send(outcome);
}

fn is_fence(cause: &Cause) -> bool {
    matches!(cause, Cause::Service(ServiceError::ChunkFenced { .. } | ServiceError::NotPrimary { .. }))
}

async fn next_reply(
    replies: Option<&mut Streaming<AppendReply>>,
) -> Result<Option<AppendReply>, tonic::Status> {
    match replies {
        Some(replies) => replies.message().await,
        None => std::future::pending().await,
    }
}

/// Waits until the stream's queue has room. A closed queue shows as a broken reply stream.
async fn room(requests: Option<&mpsc::Sender<AppendRequest>>) {
    let reserved = match requests {
        Some(requests) => requests.reserve().await.is_ok(),
        None => false,
    };
    if !reserved {
        std::future::pending::<()>().await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
