//! [`Session`]: within it every change is applied once, however often it is asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{
    CloseSessionRequest, KeepAliveRequest, MutateReply, MutateRequest, OpenSessionRequest,
};
use cairn_types::{Credentials, FsError, SessionId, WriterId};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Cause, Error, ErrorKind, Result};
use crate::gather::Gather;
use crate::meta::Leader;
use crate::open_files::OpenFiles;

/// Changes under way at once, at most: below the 1,024 replies that a server keeps.
const CHANGES_MAX: usize = 512;

/// Numbers of owners of locks from here on are the handles' own; those below are the caller's.
const LOCK_OWNERS_FROM: u64 = 1 << 63;

/// A session with the cluster, renewed while the client lives. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    leader: Leader,
    gather: Gather<MutateRequest>,
    name: Arc<str>,
    // Who the client says it is: every session that takes an expired one's place says so too.
    credentials: Option<Arc<Credentials>>,
    slots: Arc<Semaphore>,
    // Guards: sequences are given out in order, each once, for the session in force.
    numbers: Arc<Mutex<Numbers>>,
    // One caller at a time replaces an expired session; a lock that may be held across an
    // await, since what it guards is that await.
    opening: Arc<AsyncMutex<()>>,
    lock_owners: Arc<AtomicU64>,
    files: OpenFiles,
    // The last session of this client that is known to have expired.
    expired: Arc<watch::Sender<SessionId>>,
    stop: CancellationToken,
    // Stops the renewal when the last handle goes; the task that renews has none.
    _handle: Option<Arc<DropGuard>>,
}

struct Numbers {
    session: SessionId,
    lease: Duration,
    next: u64,
    unanswered: BTreeSet<u64>,
    writers: u64,
}

impl Numbers {
    fn acknowledged_below(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next)
    }
}

/// A sequence that was given out. Dropped, it is done with: answered, or given up by a caller
/// that was cancelled. It is never given out again, and the servers refuse it from the next
/// request on, so that a cancelled change happens soon or never.
struct Given<'s> {
    session: &'s Session,
    id: SessionId,
    sequence: u64,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let mut numbers = self.session.numbers();
        if numbers.session == self.id {
            numbers.unanswered.remove(&self.sequence);
        }
    }
}

impl Session {
    /// Opens a session and starts renewing it, until its last handle is dropped.
    pub(crate) async fn open(leader: Leader, name: &str, credentials: Option<Credentials>) -> Result<Self> {
        let credentials = credentials.map(Arc::new);
        let (id, lease) = open_on(&leader, name, credentials.as_deref()).await?;
        let numbers = Numbers { session: id, lease, next: 1, unanswered: BTreeSet::new(), writers: 0 };
        let session = Self {
            gather: Gather::new(leader.connections(), CHANGES_MAX),
            leader,
            name: name.into(),
            credentials,
            slots: Arc::new(Semaphore::new(CHANGES_MAX)),
            numbers: Arc::new(Mutex::new(numbers)),
            opening: Arc::default(),
            lock_owners: Arc::default(),
            files: OpenFiles::new(id),
            expired: Arc::new(watch::Sender::new(SessionId(0))),
            stop: CancellationToken::new(),
            _handle: None,
        };
        tokio::spawn(keep_alive(session.clone()));
        let handle = Arc::new(session.stop.clone().drop_guard());
        Ok(Self { _handle: Some(handle), ..session })
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's open files.
    pub(crate) fn files(&self) -> &OpenFiles {
        &self.files
    }

    /// The session in force.
    pub(crate) fn id(&self) -> SessionId {
        self.numbers().session
    }

    /// The session that reads name: the one in force where the client said who it is, else none.
    pub(crate) fn reader(&self) -> SessionId {
        if self.credentials.is_some() { self.id() } else { SessionId(0) }
    }

    /// A writer id that no one else has.
    pub(crate) fn new_writer(&self) -> Result<WriterId> {
        let mut numbers = self.numbers();
        numbers.writers += 1;
        WriterId::of(numbers.session, numbers.writers)
            .ok_or_else(|| Error::new("open a writer", "", FsError::TooManyWriters))
    }

    /// Applies one change, once. It is durable on a majority of the metadata servers when this
    /// returns; with the error kind `Unknown`, or when the caller is cancelled, it may or may not
    /// be. An expired session is replaced.
    pub(crate) async fn change(
        &self,
        action: &'static str,
        subject: &str,
        operation: &Operation,
    ) -> Result<MutateReply> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::new(action, subject, Cause::Closed))?;
        let removes = matches!(
            operation,
            Operation::Unlink(_) | Operation::Rename(_) | Operation::Transact(_) | Operation::RemoveTree(_)
        );
        let claim = if removes { self.files.claim() } else { None };
        loop {
            let (mut request, given) = self.number(operation.clone());
            let session = given.id;
            request.holding = claim.as_ref().and_then(|claim| claim.wire(session));
            match self.ask(action, subject, request, given).await {
                Err(error)
                    if error.kind() == ErrorKind::Retry && error.fs() == Some(&FsError::SessionExpired) =>
                {
                    Box::pin(self.replace(session)).await?;
                }
                answer => {
                    let is_known = |error: &Error| error.fs().is_some() && error.kind() != ErrorKind::Unknown;
                    if let Some(claim) = claim.filter(|_| answer.as_ref().err().is_none_or(is_known)) {
                        claim.settle();
                    }
                    return answer;
                }
            }
        }
    }

    /// As [`change`](Self::change), for what means something within `session` alone: once that
    /// has expired the answer is `SessionExpired`, of the kind `Unknown`.
    pub(crate) async fn change_in(
        &self,
        session: SessionId,
        action: &'static str,
        subject: &str,
        operation: Operation,
    ) -> Result<MutateReply> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::new(action, subject, Cause::Closed))?;
        let (request, given) = self.number(operation);
        if given.id != session {
            let expired = Error::new(action, subject, FsError::SessionExpired);
            return Err(expired.with_kind(ErrorKind::Unknown));
        }
        match self.ask(action, subject, request, given).await {
            Err(error) if error.fs() == Some(&FsError::SessionExpired) => {
                Err(error.with_kind(ErrorKind::Unknown))
            }
            answer => answer,
        }
    }

    /// As [`change`](Self::change), for what ends with its session: one that expired meanwhile is
    /// replaced, whatever it had done. Answers the session in which the change was made.
    pub(crate) async fn change_anew(
        &self,
        action: &'static str,
        subject: &str,
        operation: Operation,
    ) -> Result<(SessionId, MutateReply)> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::new(action, subject, Cause::Closed))?;
        loop {
            let (request, given) = self.number(operation.clone());
            let session = given.id;
            match self.ask(action, subject, request, given).await {
                Err(error) if error.fs() == Some(&FsError::SessionExpired) => {
                    Box::pin(self.replace(session)).await?
                }
                answer => return answer.map(|reply| (session, reply)),
            }
        }
    }

    /// Returns when a session of this client is known to have expired.
    pub(crate) async fn expired(&self, session: SessionId) {
        // The sender is this session's own: it is there for as long as this waits.
        let _ = self.expired.subscribe().wait_for(|last| *last >= session).await;
    }

    fn has_expired(&self, session: SessionId) {
        self.expired.send_if_modified(|last| {
            let later = session > *last;
            *last = session.max(*last);
            later
        });
    }

    /// A number for an owner of locks that no other handle of this client has, in any session.
    pub(crate) fn new_lock_owner(&self) -> u64 {
        LOCK_OWNERS_FROM + self.lock_owners.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask(
        &self,
        action: &'static str,
        subject: &str,
        request: MutateRequest,
        given: Given<'_>,
    ) -> Result<MutateReply> {
        let answer = self
            .leader
            .retry(self.leader.retry_budget(), action, subject, |address, limit| {
                self.gather.ask(address, request.clone(), limit)
            })
            .await;
        drop(given);
        answer
    }

    fn number(&self, operation: Operation) -> (MutateRequest, Given<'_>) {
        let mut numbers = self.numbers();
        let sequence = numbers.next;
        numbers.next += 1;
        numbers.unanswered.insert(sequence);
        let request = MutateRequest {
            group: 0,
            session: numbers.session.0,
            sequence,
            acknowledged_below: numbers.acknowledged_below(),
            operation: Some(operation),
            holding: None,
        };
        let given = Given { session: self, id: numbers.session, sequence };
        (request, given)
    }

    /// Opens a new session in the place of `expired`, unless somebody has done so.
    pub(crate) async fn replace(&self, expired: SessionId) -> Result<()> {
        let _one = self.opening.lock().await;
        if self.id() != expired {
            return Ok(());
        }
        self.has_expired(expired);
        let (id, lease) = open_on(&self.leader, &self.name, self.credentials.as_deref()).await?;
        let mut numbers = self.numbers();
        *numbers = Numbers { session: id, lease, next: 1, unanswered: BTreeSet::new(), writers: 0 };
        self.files.begin_session(id);
        Ok(())
    }

    /// Ends the session: what it holds is released now rather than at the end of its lease.
    pub(crate) async fn close(&self) -> Result<()> {
        self.stop.cancel();
        self.slots.close();
        let request = CloseSessionRequest { session: self.id().0 };
        let closed = self
            .leader
            .call_within(
                Duration::from_secs(5),
                "close the session",
                "",
                request,
                |mut client, request| async move { client.close_session(request).await },
            )
            .await;
        match closed {
            Err(error) if error.fs() != Some(&FsError::SessionExpired) => Err(error),
            _ => Ok(()),
        }
    }

    /// True once [`close`](Self::close) was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }

    /// True once [`close`](Self::close) or [`abandon`](Self::abandon) was called.
    pub(crate) fn has_ended(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops renewing the session without a word to the servers.
    pub(crate) fn abandon(&self) {
        self.stop.cancel();
    }
}

async fn open_on(
    leader: &Leader,
    name: &str,
    credentials: Option<&Credentials>,
) -> Result<(SessionId, Duration)> {
    let wire = |c: &Credentials| v1::Credentials { uid: c.uid, gid: c.gid, groups: c.groups.clone() };
    let credentials = credentials.map(wire);
    let request = OpenSessionRequest { client: name.to_owned(), credentials, holds_files: true };
    let reply = leader
        .call("open a session", "", request, |mut client, request| async move {
            client.open_session(request).await
        })
        .await?;
    Ok((SessionId(reply.session), lease_of(reply.lease_ms)))
}

fn lease_of(ms: u64) -> Duration {
    Duration::from_millis(ms.max(300))
}

/// How often the leader is asked who the metadata servers are: whoever knows none of those that are
/// left, when the others go, finds nobody.
const MEMBERS_EVERY: Duration = Duration::from_secs(2);

/// How long what is to be told waits for company: files are often closed one after another.
const TELL_AFTER: Duration = Duration::from_millis(20);
/// Files that are asked about at once, from which on the rest is asked for without a pause.
const ASKED_MANY: usize = 1024;

/// Renews the lease three times in its length, and says which unlinked files are open when that is asked
/// or has changed. What fails here shows at the next change.
async fn keep_alive(session: Session) {
    let mut at_once = false;
    loop {
        let pause = session.numbers().lease / 3;
        let rest = async {
            let until = Instant::now() + pause;
            while Instant::now() < until {
                tokio::time::sleep_until(until.min(Instant::now() + MEMBERS_EVERY)).await;
                session.leader.refresh().await;
            }
        };
        tokio::select! {
            biased;
            () = session.stop.cancelled() => return,
            () = std::future::ready(()), if at_once => {}
            () = session.files.woken() => tokio::time::sleep(TELL_AFTER).await,
            () = rest => {}
        }
        let (id, acknowledged_below) = {
            let numbers = session.numbers();
            (numbers.session, numbers.acknowledged_below())
        };
        let told = session.files.to_tell(id);
        let follows = std::mem::take(&mut at_once);
        let request = KeepAliveRequest { session: id.0, acknowledged_below, holds: told.clone() };
        let renewed = session
            .leader
            .call_within(pause, "renew the session", "", request, |mut client, request| async move {
                client.keep_alive(request).await
            })
            .await;
        match renewed {
            // A new leader may promise another time.
            Ok(reply) => {
                session.numbers().lease = lease_of(reply.lease_ms);
                if let Some(answer) = &told {
                    session.files.told(id, answer);
                }
                // What is asked is answered at once. What was unlinked meanwhile has time until the next
                // sign of life, unless that is a lot: others may unlink without a pause.
                let asked = reply.unlinked_upto > 0;
                let answered = asked && session.files.answer(id, &reply.unlinked, reply.unlinked_upto);
                at_once = answered && (!follows || reply.unlinked.len() >= ASKED_MANY);
            }
            Err(error) => {
                if error.fs() == Some(&FsError::SessionExpired) {
                    session.has_expired(id);
                    session.files.has_expired(id);
                }
                tracing::warn!(%error, "the session was not renewed");
            }
        }
    }
}
