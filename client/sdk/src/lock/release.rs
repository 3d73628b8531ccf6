//! [`Releases`]: the task that unlocks what guards leave behind.
//!
//! All of a client's unlocking goes through it, so that a lock that is asked for after a guard was
//! dropped can wait until that one is unlocked: else the late unlock would free the new lock of the
//! same owner.

use cairn_proto::v1::lock_reply::State;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::SessionId;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::Tell;
use crate::error::{Cause, Error, Result};
use crate::session::Session;

/// Releases that wait, at most: as many locks as a session may have.
const WAITING_MAX: usize = cairn_types::limits::LOCKS_PER_SESSION_MAX as usize;
/// Releases under way at once, at most.
const AT_ONCE: usize = 64;

/// How a release went.
pub(super) type Released = Result<()>;

/// Something to be unlocked, or a wait to be given up.
pub(super) struct Release {
    pub session: SessionId,
    pub subject: String,
    /// The wait to be given up; the rest is for a lock that was granted before that.
    pub cancel: Option<Operation>,
    pub unlock: Operation,
    /// Who waits for it, if anybody does.
    pub released: Option<Tell>,
}

enum Message {
    Release(Box<Release>),
    /// Told when all before it is done.
    Barrier(oneshot::Sender<()>),
}

/// The task's end that others have. It ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    queue: mpsc::Sender<Message>,
}

impl Releases {
    /// Starts the task.
    pub(crate) fn start(session: Session) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(session, waiting));
        Self { queue }
    }

    /// Queues a release.
    pub(super) async fn queue(&self, release: Release) -> Result<()> {
        let subject = release.subject.clone();
        let queued = self.queue.send(Message::Release(Box::new(release))).await;
        queued.map_err(|_| Error::new("unlock", subject, Cause::Closed))
    }

    /// As [`queue`](Self::queue), for whoever cannot wait. Where it fails the end of the session
    /// unlocks.
    pub(super) fn queue_now(&self, release: Release) {
        if let Err(error) = self.queue.try_send(Message::Release(Box::new(release))) {
            tracing::warn!(%error, "a lock stays until its session ends");
        }
    }

    /// Returns when all that was queued before is done.
    pub(super) async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        if self.queue.send(Message::Barrier(done)).await.is_ok() {
            // The task is gone: with it all that it could do.
            let _ = settled.await;
        }
    }
}

async fn run(session: Session, mut waiting: mpsc::Receiver<Message>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, AT_ONCE).await > 0 {
        let mut barriers = Vec::new();
        let mut releases = Vec::new();
        for message in batch.drain(..) {
            match message {
                Message::Release(release) => releases.push(release),
                Message::Barrier(done) => barriers.push(done),
            }
        }
        join_all(releases.into_iter().map(|release| one(&session, *release))).await;
        for done in barriers {
            let _ = done.send(());
        }
    }
}

async fn one(session: &Session, release: Release) {
    let Release { session: id, subject, cancel, unlock, released } = release;
    let outcome = async {
        if let Some(cancel) = cancel {
            let reply = session.change_in(id, "give up waiting for", &subject, cancel).await?;
            if reply.lock.is_some_and(|lock| lock.state() == State::Cancelled) {
                return Ok(());
            }
        }
        session.change_in(id, "unlock", &subject, unlock).await.map(drop)
    }
    .await;
    match (released, outcome) {
        (Some(tell), outcome) => {
            // Who asked may have gone away.
            let _ = tell.send(outcome);
        }
        (None, Err(error)) if !session.has_ended() => {
            tracing::warn!(%error, "a lock may stay until its session ends");
        }
        (None, _) => {}
    }
}
