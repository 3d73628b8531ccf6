//! Locks over the wire: who waits is woken, told, and never served before the holder's lease is over.

use std::time::Duration;

use cairn_proto::v1::lock_reply::State;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, SessionId};

use super::{Cluster, LONG, Session, at, eventually};

const RANGE: i32 = v1::LockKind::Range as i32;
const FLOCK: i32 = v1::LockKind::Flock as i32;

fn lock(ino: u64, owner: u64, exclusive: bool, wait: bool) -> v1::Lock {
    v1::Lock { ino, kind: RANGE, owner, start: 0, length: 10, exclusive, wait }
}

impl Session<'_> {
    async fn lock(&self, lock: v1::Lock) -> Result<v1::LockReply, WireError> {
        Ok(self.mutate(Operation::Lock(lock)).await?.lock.expect("how the lock stands"))
    }

    async fn unlock(&self, ino: u64, owner: u64) -> Result<(), WireError> {
        let unlock = v1::Unlock { ino, kind: RANGE, owner, start: 0, length: 0 };
        self.mutate(Operation::Unlock(unlock)).await.map(drop)
    }

    fn question(&self, lock: &v1::Lock, wait: u64, timeout_ms: u64) -> v1::WaitLockRequest {
        let v1::Lock { ino, kind, owner, start, length, exclusive, .. } = *lock;
        let session = self.id;
        v1::WaitLockRequest { ino, kind, session, owner, start, length, exclusive, wait, timeout_ms }
    }

    async fn wait(&self, lock: &v1::Lock, wait: u64, timeout_ms: u64) -> Result<v1::LockReply, WireError> {
        let request = self.cluster.request(self.question(lock, wait, timeout_ms));
        let reply = self.cluster.meta.clone().wait_lock(request).await?.into_inner();
        Ok(reply.lock.expect("how the lock stands"))
    }
}

async fn keep(cluster: &Cluster, session: &Session<'_>) {
    let keep = v1::KeepAliveRequest { session: session.id, acknowledged_below: 0, holds: None };
    cluster.meta.clone().keep_alive(cluster.request(keep)).await.expect("kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_lock_is_woken_by_the_entry_that_frees_it() {
    let cluster = Cluster::start().await;
    let (holder, waiter) = (cluster.session().await, cluster.session().await);
    let ino = holder.create("/f").await.ino;
    let held = holder.lock(lock(ino, 1, true, false)).await.expect("locked");
    assert_eq!(held.state(), State::Held);
    let asked = lock(ino, 7, false, true);
    let refused = waiter.lock(v1::Lock { wait: false, ..asked }).await;
    let by = FsError::Locked { session: SessionId(holder.id), owner: 1 };
    assert_eq!(refused, Err(WireError::Fs(by)));
    let queued = waiter.lock(asked).await.expect("queued");
    assert_eq!(queued.state(), State::Waiting);
    let early = waiter.wait(&asked, queued.wait, 50).await.expect("an answer");
    assert_eq!((early.state(), early.wait), (State::Waiting, queued.wait));
    let waiting = waiter.wait(&asked, queued.wait, 0);
    let freeing = async {
        // Something else that is applied does not free it.
        holder.create("/g").await;
        holder.unlock(ino, 1).await.expect("unlocked");
    };
    let (granted, ()) =
        tokio::time::timeout(LONG, async { tokio::join!(waiting, freeing) }).await.expect("woken");
    let granted = granted.expect("granted");
    assert_eq!(granted.state(), State::Held);
    assert!(granted.fence > held.fence, "{granted:?}, {held:?}");
    // Asked once more, without a wait: it is still held.
    assert_eq!(waiter.wait(&asked, 0, 0).await.expect("an answer"), granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_had_after_the_lease_of_a_silent_holder_and_not_before() {
    let cluster = Cluster::start().await;
    let (silent, waiter) = (cluster.session().await, cluster.session().await);
    let ino = silent.create("/f").await.ino;
    silent.lock(lock(ino, 1, true, false)).await.expect("locked");
    let asked = lock(ino, 1, true, true);
    let queued = waiter.lock(asked).await.expect("queued");
    cluster.clock.skip(Duration::from_secs(25));
    keep(&cluster, &waiter).await;
    // More than a turn of the job that ends sessions.
    let early = waiter.wait(&asked, queued.wait, 1_200).await.expect("an answer");
    assert_eq!(early.state(), State::Waiting);
    cluster.clock.skip(Duration::from_secs(10));
    let granted = waiter.wait(&asked, queued.wait, 0).await.expect("an answer");
    assert_eq!(granted.state(), State::Held);
    assert_eq!(silent.unlock(ino, 1).await, Err(WireError::Fs(FsError::SessionExpired)));
    assert_eq!(silent.wait(&asked, 0, 0).await, Err(WireError::Fs(FsError::SessionExpired)));
    assert_eq!(waiter.wait(&asked, 0, 0).await.expect("held still"), granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_session_leaves_its_locks_at_once() {
    let cluster = Cluster::start().await;
    let (holder, waiter) = (cluster.session().await, cluster.session().await);
    let ino = holder.create("/f").await.ino;
    let flock = |wait| v1::Lock { kind: FLOCK, length: 0, ..lock(ino, 1, true, wait) };
    holder.lock(flock(false)).await.expect("locked");
    let queued = waiter.lock(flock(true)).await.expect("queued");
    let close = v1::CloseSessionRequest { session: holder.id };
    cluster.meta.clone().close_session(cluster.request(close)).await.expect("closed");
    let granted = waiter.wait(&flock(true), queued.wait, 0).await.expect("an answer");
    assert_eq!(granted.state(), State::Held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_over_is_told_why() {
    let cluster = Cluster::start().await;
    let (holder, waiter) = (cluster.session().await, cluster.session().await);
    let ino = holder.create("/f").await.ino;
    holder.lock(lock(ino, 1, true, false)).await.expect("locked");
    let asked = lock(ino, 1, true, true);
    // Given up.
    let queued = waiter.lock(asked).await.expect("queued");
    let cancel = v1::CancelLock { ino, kind: RANGE, owner: 1, wait: queued.wait };
    let cancelled = waiter.mutate(Operation::CancelLock(cancel)).await.expect("cancelled");
    assert_eq!(cancelled.lock.expect("how it stands").state(), State::Cancelled);
    let again = waiter.mutate(Operation::CancelLock(cancel)).await.expect("nothing to cancel");
    assert_eq!(again.lock.expect("how it stands").state(), State::Gone);
    assert_eq!(waiter.wait(&asked, queued.wait, 0).await.expect("an answer").state(), State::Gone);
    // The holder waits for the waiter: nobody would ever go on.
    let other = holder.create("/g").await.ino;
    waiter.lock(lock(other, 1, true, false)).await.expect("locked");
    holder.lock(lock(other, 1, false, true)).await.expect("queued");
    assert_eq!(waiter.lock(asked).await, Err(WireError::Fs(FsError::Deadlock)));
    waiter.unlock(other, 1).await.expect("unlocked");
    // The file goes.
    let queued = waiter.lock(asked).await.expect("queued");
    let waiting = waiter.wait(&asked, queued.wait, 0);
    let unlink = holder.mutate(Operation::Unlink(v1::Unlink { target: at("/f") }));
    let (gone, unlinked) = tokio::join!(waiting, unlink);
    unlinked.expect("unlinked");
    assert_eq!(gone, Err(WireError::Fs(FsError::Stale)));
    assert_eq!(waiter.lock(asked).await, Err(WireError::Fs(FsError::Stale)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_the_way_of_a_lock_is_told() {
    let cluster = Cluster::start().await;
    let (holder, other) = (cluster.session().await, cluster.session().await);
    let ino = holder.create("/f").await.ino;
    let held = holder.lock(lock(ino, 9, false, false)).await.expect("locked");
    let test = async |session: &Session<'_>, owner, start, exclusive| {
        let (kind, session) = (RANGE, session.id);
        let request = v1::TestLockRequest { ino, kind, session, owner, start, length: 0, exclusive };
        let reply = cluster.meta.clone().test_lock(cluster.request(request)).await.expect("an answer");
        reply.into_inner().held
    };
    let lock = v1::HeldLock {
        session: holder.id,
        owner: 9,
        start: 0,
        length: 10,
        exclusive: false,
        fence: held.fence,
    };
    assert_eq!(test(&other, 9, 5, true).await, Some(lock));
    assert_eq!(test(&holder, 8, 0, true).await, Some(lock));
    assert_eq!(test(&other, 9, 5, false).await, None);
    assert_eq!(test(&other, 9, 10, true).await, None);
    assert_eq!(test(&holder, 9, 0, true).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_asked_for_twice_is_queued_once() {
    let cluster = Cluster::start().await;
    let (holder, waiter) = (cluster.session().await, cluster.session().await);
    let ino = holder.create("/f").await.ino;
    holder.lock(lock(ino, 1, true, false)).await.expect("locked");
    let asked = lock(ino, 1, true, true);
    let first = waiter.mutate_as(50, Operation::Lock(asked)).await.expect("queued").lock;
    let second = waiter.mutate_as(50, Operation::Lock(asked)).await.expect("the same").lock;
    assert_eq!(first, second);
    holder.unlock(ino, 1).await.expect("unlocked");
    waiter.wait(&asked, first.expect("a wait").wait, 0).await.expect("granted");
    waiter.unlock(ino, 1).await.expect("unlocked");
    // A second one in the queue would hold it now.
    eventually("it is free", async || holder.lock(lock(ino, 1, true, false)).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_none_is_malformed() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let ino = session.create("/f").await.ino;
    let good = lock(ino, 1, true, false);
    for (bad, named) in [
        (v1::Lock { kind: 2, ..good }, "kind"),
        (v1::Lock { ino: 0, ..good }, "ino"),
        (v1::Lock { start: u64::MAX, length: 2, ..good }, "length"),
        (v1::Lock { kind: FLOCK, ..good }, "start"),
    ] {
        let malformed = WireError::Service(ServiceError::Malformed { field: named.to_owned() });
        assert_eq!(session.lock(bad).await, Err(malformed));
    }
    assert_eq!(session.lock(lock(1, 1, true, false)).await, Err(WireError::Fs(FsError::IsDirectory)));
}
