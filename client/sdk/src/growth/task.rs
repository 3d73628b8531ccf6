//! The task that owns one writer. How it gives a chunk or itself up is in `task/ending.rs`.

mod ending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cairn_proto::v1::{self, AppendReply, AppendRequest, append_reply};
use cairn_proto::{ServiceError, WireError, status};
use cairn_types::{ChunkId, FsError, InodeId, Sequence, WriterId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Code;

use super::place::{self, Open};
use super::wait::{next_reply, room, sleep_until};
use super::{Holds, Message, Pending, Placed, Reach, Source};
use crate::error::{Cause, Error, ErrorKind};

/// Nodes that this writer remembers to avoid, at most.
const AVOID_MAX: usize = 8;
/// An offset at which no chunk ends: an append there is refused with the real length.
const NOWHERE: u64 = u64::MAX;
/// How long a writer waits before it opens a chunk after two that took nothing, and the most that it
/// ever does.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Why the open chunk is given up.
enum Trouble {
    /// Roll as planned: it is full, or its end is wanted.
    Planned {
        /// Into the chunk that may have been made ahead.
        go_on: bool,
    },
    /// Seal it.
    Seal { reason: &'static str, blame: bool, cause: Cause },
}

/// One chunk after the other was given up, and nothing was taken meanwhile.
struct Barren {
    /// When the writer stops trying.
    until: Instant,
    /// How long it waits before it opens the next.
    pause: Duration,
    /// Why the last was given up.
    cause: Cause,
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
    holds: Option<Holds>,
    open: Option<Open>,
    /// The tail that the last roll has opened.
    ahead: Option<v1::Chunk>,
    /// A chunk is to be opened before there is anything for it.
    wanted: bool,
    /// A chunk that was given up and whose end could not be had.
    undecided: Option<ChunkId>,
    avoid: Vec<u64>,
    barren: Option<Barren>,
    /// The sequence of the next append that is sent.
    next: u64,
    /// The end, in the open chunk, of this writer's last acknowledged append.
    acknowledged_end: u64,
    sent: VecDeque<Sent>,
    waiting: VecDeque<Pending>,
    rolls: Vec<tokio::sync::oneshot::Sender<crate::error::Result<()>>>,
    failed: Option<Error>,
    /// The same, for the handles.
    has_failed: Arc<AtomicBool>,
}

impl Task {
    pub(super) fn new(
        reach: Reach,
        source: Source,
        writer: WriterId,
        holds: Option<Holds>,
        has_failed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            reach,
            source,
            writer,
            holds,
            open: None,
            ahead: None,
            wanted: false,
            undecided: None,
            avoid: Vec::new(),
            barren: None,
            next: 1,
            acknowledged_end: 0,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            rolls: Vec::new(),
            failed: None,
            has_failed,
        }
    }

    /// Runs until every handle is dropped and everything submitted is answered.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut queue_open = true;
        loop {
            self.finish_rolls().await;
            if self.sent.is_empty() && self.waiting.is_empty() {
                self.barren = None;
                if !queue_open {
                    return;
                }
            }
            let wanted = std::mem::take(&mut self.wanted) || !self.waiting.is_empty();
            if self.open.is_none() && wanted {
                self.open_chunk().await;
                continue;
            }
            let trouble = if self.must_roll() {
                Some(Trouble::Planned { go_on: false })
            } else {
                self.send_waiting();
                match self.next_event(&mut queue, queue_open).await {
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
                        let reason = "no acknowledgement within the deadline";
                        Some(Trouble::Seal { reason, blame: true, cause: ServiceError::Deadline.into() })
                    }
                }
            };
            if let Some(trouble) = trouble {
                // Its error was told to whoever waits.
                let _ = self.resolve(trouble).await;
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
                Some(error) => self.answer(pending, Err(ending::told_again(error))),
                None => self.waiting.push_back(pending),
            },
            Message::Open(policy_of) => {
                self.source = Source::Shared { policy_of };
                self.wanted = self.open.is_none();
            }
            Message::Roll(reply) => self.rolls.push(reply),
        }
    }

    async fn open_chunk(&mut self) {
        if let Some(barren) = &mut self.barren {
            if Instant::now() >= barren.until {
                let error = ending::given_up(barren.cause.clone(), self.reach.options.retry_budget);
                self.barren = None;
                self.fail(error);
                return;
            }
            tokio::time::sleep(barren.pause).await;
            barren.pause = (barren.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        }
        if let Some(under) = self.waiting.front().and_then(|p| p.under) {
            self.source = Source::Shared { policy_of: under.ino };
        }
        let (ahead, holds) = (self.ahead.take(), self.holds.as_ref());
        match place::open(&self.reach, self.source, self.writer, holds, ahead, &mut self.avoid).await {
            Ok(open) => {
                self.undecided = None;
                tracing::debug!(chunk = %open.chunk, base = open.base, "chunk opened");
                self.acknowledged_end = 0;
                if matches!(self.source, Source::Shared { .. }) {
                    self.next = 1;
                }
                self.open = Some(open);
            }
            Err(error) => match self.source {
                // The inode is at fault, not the writer that others share.
                Source::Shared { policy_of }
                    if error.fs().is_some() && error.kind() == ErrorKind::Invalid =>
                {
                    self.refuse_under(policy_of, &error);
                }
                _ => self.fail(error),
            },
        }
        let excess = self.avoid.len().saturating_sub(AVOID_MAX);
        self.avoid.drain(..excess);
    }

    /// Answers every append that waits for a chunk under this inode with `error`.
    fn refuse_under(&mut self, ino: InodeId, error: &Error) {
        let waiting = std::mem::take(&mut self.waiting);
        let (refused, kept): (VecDeque<Pending>, VecDeque<Pending>) =
            waiting.into_iter().partition(|p| p.under.is_some_and(|under| under.ino == ino));
        self.waiting = kept;
        for pending in refused {
            self.answer(pending, Err(error.clone()));
        }
    }

    /// True when `pending` may lie in the open chunk: the policy of a directory may have changed
    /// after its client asked for it, and then a chunk opened there is not what others want.
    fn fits(&self, open: &Open, pending: &Pending) -> bool {
        match (self.source, pending.under) {
            (Source::Shared { policy_of }, Some(under)) => {
                under.ino == policy_of || open.policy == Some(under.policy)
            }
            _ => true,
        }
    }

    /// True when the next append needs another chunk and nothing is under way in this one.
    fn must_roll(&self) -> bool {
        match (&self.open, self.waiting.front()) {
            (Some(open), Some(front)) => self.sent.is_empty() && !self.fits(open, front),
            _ => false,
        }
    }

    /// True when the front of `waiting` may be sent: an append with an expected offset goes
    /// alone, so that a refusal leaves no gap in the sequences.
    fn may_send(&self) -> bool {
        let alone = self.sent.back().is_some_and(|s| s.pending.expected.is_some());
        match (&self.open, self.waiting.front()) {
            (Some(open), Some(front)) => {
                !alone && self.fits(open, front) && (front.expected.is_none() || self.sent.is_empty())
            }
            _ => false,
        }
    }

    fn send_waiting(&mut self) {
        while self.may_send() {
            let (Some(open), Some(pending)) = (self.open.as_ref(), self.waiting.pop_front()) else { return };
            // What lies before this chunk cannot match; its primary knows the length to answer with.
            let expected_offset = pending.expected.map(|at| at.checked_sub(open.base).unwrap_or(NOWHERE));
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
                trace: pending.trace.0,
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
        let reason = "the stream to the primary broke";
        let broken = || {
            let cause = Cause::Transport { code: Code::Unavailable, message: reason.to_owned() };
            Some(Trouble::Seal { reason, blame: true, cause })
        };
        let reply = match reply {
            Ok(Some(reply)) => reply,
            Ok(None) => return broken(),
            Err(status) => {
                let cause = Cause::from(status);
                tracing::debug!(%cause, "append stream broke");
                return Some(Trouble::Seal { reason, blame: !is_fence(&cause), cause });
            }
        };
        let front = self.sent.front()?;
        if reply.writer != self.writer.0 || reply.sequence != front.sequence {
            return (reply.sequence > front.sequence).then_some(Trouble::Seal {
                reason: "the replies are out of order",
                blame: false,
                cause: Cause::MalformedAnswer("append sequence"),
            });
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
            None => broken(),
        }
    }

    fn acknowledge_front(&mut self, chunk_offset: u64) {
        let (Some(open), Some(sent)) = (self.open.as_ref(), self.sent.pop_front()) else { return };
        self.barren = None;
        self.acknowledged_end = chunk_offset + sent.pending.data.len() as u64;
        let (chunk, file_offset, hold) = (open.chunk, open.base + chunk_offset, open.hold.clone());
        let placed = Placed { chunk, chunk_offset, file_offset, hold };
        self.answer(sent.pending, Ok(placed));
        // The acknowledgement of one says that the path is alive: the next one's wait begins.
        let deadline = Instant::now() + self.reach.options.append_deadline;
        if let Some(front) = self.sent.front_mut() {
            front.deadline = front.deadline.max(deadline);
        }
    }

    /// True when the primary expects a sequence that this writer had an acknowledgement for: what
    /// it stood for is lost. Everything before the front of `sent` was acknowledged or decided.
    fn is_lost(&self, expected: Sequence) -> bool {
        self.sent.front().is_some_and(|front| expected.0 < front.sequence)
    }

    fn answer(&self, pending: Pending, outcome: crate::error::Result<Placed>) {
        let Pending { trace, since, data, reply, .. } = pending;
        self.reach.slow.append(trace, since, data.len(), outcome.is_err());
        // Before anybody is told: its memory is free then.
        drop(data);
        // The one who asked may be gone.
        let _ = reply.send(outcome);
    }

    fn refused(&mut self, cause: Cause) -> Option<Trouble> {
        match cause {
            Cause::Fs(FsError::LengthMismatch { expected, actual }) => {
                let base = self.open.as_ref().map_or(0, |o| o.base);
                let sent = self.sent.pop_front()?;
                self.next = sent.sequence;
                let expected = sent.pending.expected.unwrap_or_else(|| expected.saturating_add(base));
                let refused = FsError::LengthMismatch { expected, actual: actual + base };
                self.answer(sent.pending, Err(Error::new("append", "", refused)));
                None
            }
            Cause::Fs(FsError::Fenced { .. }) => {
                self.fail(Error::new("append", "", cause));
                None
            }
            Cause::Service(ServiceError::SequenceGap { expected }) if self.is_lost(expected) => {
                let acknowledged = Sequence(self.sent.front()?.sequence.saturating_sub(1));
                let decided = Sequence(expected.0.saturating_sub(1));
                self.fail(Error::new("append", "", Cause::Lost { decided, acknowledged }));
                None
            }
            Cause::Service(ServiceError::ChunkFull { .. }) => Some(Trouble::Planned { go_on: true }),
            cause => {
                let blame = matches!(
                    cause,
                    Cause::Service(
                        ServiceError::DiskRetired | ServiceError::DiskFull { .. } | ServiceError::Internal
                    )
                );
                tracing::debug!(%cause, "append refused, sealing");
                Some(Trouble::Seal { reason: "the primary refused an append", blame, cause })
            }
        }
    }
}

fn is_fence(cause: &Cause) -> bool {
    matches!(cause, Cause::Service(ServiceError::ChunkFenced { .. } | ServiceError::NotPrimary { .. }))
}
