//! Advisory locks: [`Locks`] takes them, a [`LockGuard`] holds one.

mod release;
mod taking;

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::{InodeId, LockKind, LockMode, LockOwner, LockRange, LogIndex, SessionId};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::file::File;
use crate::growth::Reach;
pub(crate) use release::Releases;
use release::{Release, Released};

/// What is locked, by whom: all but the session.
#[derive(Clone, Debug)]
struct Subject {
    ino: InodeId,
    owner: u64,
    name: String,
}

/// Locks on one file for one owner.
///
/// An owner is a number within the client's session: of two owners one excludes the other, even in
/// the same process. Byte ranges are as fcntl(2) has them: what an owner locks replaces what it had
/// there (shared becomes exclusive, or the other way round, without a moment between), ranges are cut
/// and merged, and the bytes belong to the owner: of two guards over the same bytes the first that
/// goes frees them. flock(2)'s locks are of the whole file; the two kinds do not see each other.
///
/// Locks are advisory: they exclude locks, not reads or writes. They last until they are unlocked, the
/// file is gone (unlinked, and open nowhere), or the session ends: with [`Client::close`], or, when the
/// client is gone or cut off, at the end of its lease, never before. What a lock guards outside should
/// be given its [fencing number](LockGuard::fence).
///
/// Who waits first is served first.
#[derive(Clone)]
pub struct Locks {
    reach: Reach,
    releases: Releases,
    subject: Subject,
}

/// A lock that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Who holds it.
    pub by: LockOwner,
    /// Where.
    pub range: LockRange,
    /// How.
    pub mode: LockMode,
    /// Its fencing number.
    pub fence: LogIndex,
}

/// A lock. When it is dropped it is unlocked soon after, in the background; a lock that its owner
/// asks for later is asked for after that. [`unlock`](Self::unlock) says when it is done.
#[must_use = "a lock is unlocked when its guard is dropped"]
pub struct LockGuard {
    locks: Locks,
    session: SessionId,
    kind: LockKind,
    range: LockRange,
    mode: LockMode,
    fence: LogIndex,
    held: bool,
}

impl Client {
    /// The locks on a file for an owner: a number below 2^63 that the caller chooses. A [`File`] has an
    /// owner of its own.
    #[must_use]
    pub fn locks(&self, ino: InodeId, owner: u64) -> Locks {
        self.locks_of(ino, owner, ino.to_string())
    }

    pub(crate) fn locks_of(&self, ino: InodeId, owner: u64, name: String) -> Locks {
        let subject = Subject { ino, owner, name };
        Locks { reach: self.reach().clone(), releases: self.releases().clone(), subject }
    }
}

impl File {
    /// Locks bytes, and waits for them as long as it takes. The handle is the owner, as for fcntl(2)'s
    /// `F_OFD_SETLKW`. The lock is in the log of a majority when this returns; cancelled, it is given
    /// up in the background.
    ///
    /// # Errors
    /// `Deadlock` when who is in the way waits for this handle; `TooManyLocks`; `Stale` when the file
    /// is gone.
    pub async fn lock(&self, range: LockRange, mode: LockMode) -> Result<LockGuard> {
        self.locks().lock(range, mode).await
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    /// `Locked` names who is in the way; `TooManyLocks`, `Stale`.
    pub async fn try_lock(&self, range: LockRange, mode: LockMode) -> Result<LockGuard> {
        self.locks().try_lock(range, mode).await
    }

    /// Unlocks bytes, by whatever guards they are held. In the log of a majority when this returns.
    ///
    /// # Errors
    /// `TooManyLocks` when the lock would have to be cut in two and there are too many.
    pub async fn unlock(&self, range: LockRange) -> Result<()> {
        self.locks().unlock(range).await
    }

    /// Who is in the way of a lock, if anybody is. Linearizable.
    ///
    /// # Errors
    /// `Stale` when the file is gone.
    pub async fn test_lock(&self, range: LockRange, mode: LockMode) -> Result<Option<HeldLock>> {
        self.locks().test(range, mode).await
    }

    /// Locks the whole file as flock(2) does, and waits as long as it takes. A handle that holds it
    /// shared and asks for it exclusive gives it up while it waits.
    ///
    /// # Errors
    /// `TooManyLocks`; `Stale` when the file is gone.
    pub async fn flock(&self, mode: LockMode) -> Result<LockGuard> {
        self.locks().flock(mode).await
    }

    /// As [`flock`](Self::flock), without waiting; what is held already stays as it is when it fails.
    ///
    /// # Errors
    /// `Locked` names who is in the way; `TooManyLocks`, `Stale`.
    pub async fn try_flock(&self, mode: LockMode) -> Result<LockGuard> {
        self.locks().try_flock(mode).await
    }
}

impl Locks {
    /// As [`File::lock`].
    ///
    /// # Errors
    /// As [`File::lock`].
    pub async fn lock(&self, range: LockRange, mode: LockMode) -> Result<LockGuard> {
        self.take(LockKind::Range, range, mode, true).await
    }

    /// As [`File::try_lock`].
    ///
    /// # Errors
    /// As [`File::try_lock`].
    pub async fn try_lock(&self, range: LockRange, mode: LockMode) -> Result<LockGuard> {
        self.take(LockKind::Range, range, mode, false).await
    }

    /// As [`File::flock`].
    ///
    /// # Errors
    /// As [`File::flock`].
    pub async fn flock(&self, mode: LockMode) -> Result<LockGuard> {
        self.take(LockKind::Flock, LockRange::WHOLE, mode, true).await
    }

    /// As [`File::try_flock`].
    ///
    /// # Errors
    /// As [`File::try_flock`].
    pub async fn try_flock(&self, mode: LockMode) -> Result<LockGuard> {
        self.take(LockKind::Flock, LockRange::WHOLE, mode, false).await
    }

    /// As [`File::unlock`].
    ///
    /// # Errors
    /// As [`File::unlock`].
    pub async fn unlock(&self, range: LockRange) -> Result<()> {
        let told = self.free(self.reach.session.id(), LockKind::Range, range).await?;
        self.told(told).await
    }

    /// Unlocks a flock(2) lock, by whatever guard it is held. In the log of a majority when this
    /// returns.
    ///
    /// # Errors
    /// When no leader answers.
    pub async fn unlock_flock(&self) -> Result<()> {
        let told = self.free(self.reach.session.id(), LockKind::Flock, LockRange::WHOLE).await?;
        self.told(told).await
    }

    /// As [`File::test_lock`].
    ///
    /// # Errors
    /// As [`File::test_lock`].
    pub async fn test(&self, range: LockRange, mode: LockMode) -> Result<Option<HeldLock>> {
        let request = v1::TestLockRequest {
            ino: self.subject.ino.0,
            kind: v1::LockKind::Range.into(),
            session: self.reach.session.id().0,
            owner: self.subject.owner,
            start: range.start,
            length: range.length(),
            exclusive: mode == LockMode::Exclusive,
        };
        let action = "look for locks on";
        let reply = self
            .reach
            .leader
            .call(action, &self.subject.name, request, |mut meta, request| async move {
                meta.test_lock(request).await
            })
            .await?;
        reply.held.map(|held| self.held(action, held)).transpose()
    }

    fn held(&self, action: &'static str, held: v1::HeldLock) -> Result<HeldLock> {
        let malformed = || Error::new(action, &self.subject.name, Cause::MalformedAnswer("held.length"));
        Ok(HeldLock {
            by: LockOwner { session: SessionId(held.session), owner: held.owner },
            range: LockRange::of(held.start, held.length).ok_or_else(malformed)?,
            mode: if held.exclusive { LockMode::Exclusive } else { LockMode::Shared },
            fence: LogIndex(held.fence),
        })
    }

    fn release(&self, session: SessionId, kind: LockKind, range: LockRange) -> Release {
        let Subject { ino, owner, name } = self.subject.clone();
        let unlock = v1::Unlock {
            ino: ino.0,
            kind: wire_kind(kind).into(),
            owner,
            start: range.start,
            length: range.length(),
        };
        Release { session, subject: name, cancel: None, unlock: Operation::Unlock(unlock), released: None }
    }

    /// Queues what is to be unlocked: from then on it will be, whether or not anybody waits for it.
    async fn free(
        &self,
        session: SessionId,
        kind: LockKind,
        range: LockRange,
    ) -> Result<oneshot::Receiver<Released>> {
        let (released, told) = oneshot::channel();
        let release = Release { released: Some(released), ..self.release(session, kind, range) };
        self.releases.queue(release).await?;
        Ok(told)
    }

    async fn told(&self, told: oneshot::Receiver<Released>) -> Result<()> {
        told.await.map_err(|_| Error::new("unlock", &self.subject.name, Cause::Closed))?
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl LockGuard {
    /// Which bytes.
    #[must_use]
    pub fn range(&self) -> LockRange {
        self.range
    }

    /// How.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// The lock's fencing number: greater than that of anybody who held these bytes against it before.
    /// Whatever the lock guards can remember the greatest it has seen, and refuse what comes with a
    /// smaller one: from a holder that does not know yet that its session has expired.
    #[must_use]
    pub fn fence(&self) -> LogIndex {
        self.fence
    }

    /// Asks whether the lock is still held. Linearizable: so it was at some moment of the call.
    ///
    /// # Errors
    /// `SessionExpired` when it went with its session, `Stale` when the file is gone;
    /// [`Cause::Closed`] when its owner unlocked or converted some of the bytes in another way.
    pub async fn check(&self) -> Result<()> {
        let asked = self.locks.asked(self.session, self.kind, self.range, self.mode);
        match self.locks.wait_once(asked, LogIndex(0)).await?.state() {
            v1::lock_reply::State::Held => Ok(()),
            _ => Err(Error::new("hold the lock on", &self.locks.subject.name, Cause::Closed)),
        }
    }

    /// Returns when the client hears that the lock is lost with its session: at its next sign of life,
    /// three of which are given in a lease. While it is cut off it hears nothing.
    pub async fn lost(&self) {
        self.locks.reach.session.expired(self.session).await;
    }

    /// Unlocks. In the log of a majority when this returns.
    ///
    /// # Errors
    /// `SessionExpired` when the lock was lost before: others may have had it since.
    pub async fn unlock(mut self) -> Result<()> {
        let told = self.locks.free(self.session, self.kind, self.range).await?;
        self.held = false;
        self.locks.told(told).await
    }

    /// Leaves the bytes locked without the guard, until they are unlocked by
    /// [`Locks::unlock`], or the session ends.
    pub fn leave(mut self) {
        self.held = false;
    }
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (range, mode, fence) = (&self.range, &self.mode, &self.fence);
        let mut shown = f.debug_struct("LockGuard");
        shown.field("locks", &self.locks).field("range", range).field("mode", mode).field("fence", fence);
        shown.finish_non_exhaustive()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.held {
            self.locks.releases.queue_now(self.locks.release(self.session, self.kind, self.range));
        }
    }
}

fn wire_kind(kind: LockKind) -> v1::LockKind {
    match kind {
        LockKind::Range => v1::LockKind::Range,
        LockKind::Flock => v1::LockKind::Flock,
    }
}

/// Told how a release went.
type Tell = oneshot::Sender<Released>;
