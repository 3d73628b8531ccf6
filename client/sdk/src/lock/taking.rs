//! How a lock is taken. A task sees it through, so that a caller who gives up leaves neither a lock
//! nor a wait behind that nobody knows of.

use cairn_proto::v1;
use cairn_proto::v1::lock_reply::State;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::{LockKind, LockMode, LockRange, LogIndex, SessionId};
use tokio::sync::oneshot;

use super::release::Release;
use super::{LockGuard, Locks, wire_kind};
use crate::error::{Cause, Error, ErrorKind, Result};

const ACTION: &str = "lock";

impl Locks {
    /// Takes a lock, in a task of its own.
    pub(super) async fn take(
        &self,
        kind: LockKind,
        range: LockRange,
        mode: LockMode,
        wait: bool,
    ) -> Result<LockGuard> {
        let (taken, taking) = oneshot::channel();
        let locks = self.clone();
        tokio::spawn(async move {
            let mut taken = taken;
            if let Some(outcome) = locks.see_through(kind, range, mode, wait, &mut taken).await {
                // Nobody there any more: the guard is dropped, which unlocks.
                drop(taken.send(outcome));
            }
        });
        taking.await.map_err(|_| Error::new(ACTION, &self.subject.name, Cause::Closed))?
    }

    /// Asks for a lock and waits for it; `None` when the caller gave up meanwhile.
    async fn see_through(
        &self,
        kind: LockKind,
        range: LockRange,
        mode: LockMode,
        wait: bool,
        caller: &mut oneshot::Sender<Result<LockGuard>>,
    ) -> Option<Result<LockGuard>> {
        self.releases.settled().await;
        loop {
            let (session, reply) = match self.ask(kind, range, mode, wait).await {
                Ok(answered) => answered,
                Err(error) => return Some(Err(error)),
            };
            let reply = match reply.state() {
                State::Waiting => {
                    let asked = self.asked(session, kind, range, mode);
                    let wait = LogIndex(reply.wait);
                    tokio::select! {
                        reply = self.wait(asked, wait) => match reply {
                            Ok(reply) => reply,
                            Err(error) => {
                                self.give_up(session, kind, range, wait);
                                return Some(Err(error));
                            }
                        },
                        () = caller.closed() => {
                            self.give_up(session, kind, range, wait);
                            return None;
                        }
                    }
                }
                _ => reply,
            };
            match reply.state() {
                State::Held => {
                    let fence = LogIndex(reply.fence);
                    let locks = self.clone();
                    return Some(Ok(LockGuard { locks, session, kind, range, mode, fence, held: true }));
                }
                // Granted, and unlocked by another call of this owner before it was seen.
                State::Gone if wait => {}
                _ => {
                    let malformed = Cause::MalformedAnswer("lock.state");
                    return Some(Err(Error::new(ACTION, &self.subject.name, malformed)));
                }
            }
        }
    }

    /// Asks once; answers the session in which the lock then is.
    async fn ask(
        &self,
        kind: LockKind,
        range: LockRange,
        mode: LockMode,
        wait: bool,
    ) -> Result<(SessionId, v1::LockReply)> {
        let operation = Operation::Lock(v1::Lock {
            ino: self.subject.ino.0,
            kind: wire_kind(kind).into(),
            owner: self.subject.owner,
            start: range.start,
            length: range.length(),
            exclusive: mode == LockMode::Exclusive,
            wait,
        });
        let before = self.reach.session.id();
        match self.reach.session.change_anew(ACTION, &self.subject.name, operation).await {
            Ok((session, reply)) => {
                let malformed = || Error::new(ACTION, &self.subject.name, Cause::MalformedAnswer("lock"));
                Ok((session, reply.lock.ok_or_else(malformed)?))
            }
            Err(error) => {
                if error.kind() == ErrorKind::Unknown {
                    // The session may have been replaced before the attempt that is not known.
                    let now = self.reach.session.id();
                    self.give_up(now, kind, range, LogIndex(0));
                    if now != before {
                        self.give_up(before, kind, range, LogIndex(0));
                    }
                }
                Err(error)
            }
        }
    }

    /// Gives a wait up, and the lock should it have been granted meanwhile.
    fn give_up(&self, session: SessionId, kind: LockKind, range: LockRange, wait: LogIndex) {
        let cancel = v1::CancelLock {
            ino: self.subject.ino.0,
            kind: wire_kind(kind).into(),
            owner: self.subject.owner,
            wait: wait.0,
        };
        let release = self.release(session, kind, range);
        self.releases.queue_now(Release { cancel: Some(Operation::CancelLock(cancel)), ..release });
    }

    pub(super) fn asked(
        &self,
        session: SessionId,
        kind: LockKind,
        range: LockRange,
        mode: LockMode,
    ) -> v1::WaitLockRequest {
        v1::WaitLockRequest {
            ino: self.subject.ino.0,
            kind: wire_kind(kind).into(),
            session: session.0,
            owner: self.subject.owner,
            start: range.start,
            length: range.length(),
            exclusive: mode == LockMode::Exclusive,
            wait: 0,
            timeout_ms: 0,
        }
    }

    /// Waits until a lock is granted, or is waited for no more.
    async fn wait(&self, asked: v1::WaitLockRequest, wait: LogIndex) -> Result<v1::LockReply> {
        loop {
            let reply = self.wait_once(asked, wait).await?;
            if reply.state() != State::Waiting {
                return Ok(reply);
            }
        }
    }

    /// Waits for as long as one call may take.
    pub(super) async fn wait_once(
        &self,
        asked: v1::WaitLockRequest,
        wait: LogIndex,
    ) -> Result<v1::LockReply> {
        let request = v1::WaitLockRequest { wait: wait.0, ..asked };
        let action = "wait for the lock on";
        let reply = self
            .reach
            .leader
            .call(action, &self.subject.name, request, |mut meta, request| async move {
                meta.wait_lock(request).await
            })
            .await?;
        reply.lock.ok_or_else(|| Error::new(action, &self.subject.name, Cause::MalformedAnswer("lock")))
    }
}
