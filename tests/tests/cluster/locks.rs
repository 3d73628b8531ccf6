//! Locks between real processes: whoever holds one may die, whoever leads may die, and nobody has it
//! twice.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_proto::v1::CloseSessionRequest;
use cairn_sdk::types::{FsError, LockMode, LockRange};
use cairn_sdk::{Client, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Wire, eventually, run};

/// A short lease, so that a dead holder is soon no holder.
const LEASE: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);

fn metas_only() -> ClusterOptions {
    let meta_toml = format!("session_lease_ms = {}\n", LEASE.as_millis());
    ClusterOptions { datas: 0, meta_toml, ..ClusterOptions::default() }
}

fn bytes(first: u64, last: u64) -> LockRange {
    LockRange { start: first, last }
}

/// Waits until somebody else than `client` holds a lock that excludes all.
async fn held(client: &Client, path: &str) {
    let look = || async {
        let file = client.open(path).await.ok()?;
        file.try_flock(LockMode::Shared)
            .await
            .err()
            .filter(|e| matches!(e.fs(), Some(FsError::Locked { .. })))
    };
    eventually("somebody holds the lock", LONG, look).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_s_lock_is_had_after_its_lease_and_not_before() {
    let cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.create("/f", 0o644).await.unwrap();
    let mut holding = cluster.cli();
    holding.args(["fs", "lock", "/f", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut holder = holding.spawn().unwrap();
    held(&client, "/f").await;
    let file = client.open("/f").await.unwrap();
    holder.kill().unwrap();
    let killed = Instant::now();
    holder.wait().unwrap();
    let guard = tokio::time::timeout(LONG, file.flock(LockMode::Exclusive)).await.unwrap().unwrap();
    // Its last sign of life was at most a third of a lease, and a call, before it was killed.
    let waited = killed.elapsed();
    assert!(waited >= LEASE / 2, "had after {waited:?} of a lease of {LEASE:?}");
    guard.check().await.unwrap();
    guard.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_while_somebody_waits_for_a_lock() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let (one, two) = (cluster.client().await.unwrap(), cluster.client().await.unwrap());
    one.create("/f", 0o644).await.unwrap();
    let (first, second) = (one.open("/f").await.unwrap(), two.open("/f").await.unwrap());
    let held = first.lock(bytes(0, 99), LockMode::Exclusive).await.unwrap();
    let fence = held.fence();
    let waiting = tokio::spawn(async move { second.lock(bytes(50, 149), LockMode::Exclusive).await });
    // It waits when it is in the way of one who asks for what nobody holds.
    let third = one.open("/f").await.unwrap();
    let look = || async { third.try_lock(bytes(120, 120), LockMode::Shared).await.err() };
    eventually("it waits", LONG, look).await.unwrap();
    let leader = cluster.leader(&one).await.unwrap();
    cluster.metas[leader].kill();
    // The holder still has it, under the next leader too.
    held.check().await.unwrap();
    assert!(!waiting.is_finished());
    assert_ne!(cluster.leader(&one).await.unwrap(), leader);
    held.unlock().await.unwrap();
    let granted = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert!(granted.fence() > fence);
    granted.check().await.unwrap();
}

/// Several clients add to a number under a lock, while leaders are killed: none of them is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lock_guards_is_changed_by_one_at_a_time_while_leaders_die() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 25;
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.create("/f", 0o644).await.unwrap();
    // Read and written in two steps: without the lock some additions would be lost.
    let (number, newest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut adding = Vec::new();
    for _ in 0..CLIENTS {
        let client = cluster.client().await.unwrap();
        let (number, newest) = (Arc::clone(&number), Arc::clone(&newest));
        adding.push(tokio::spawn(async move {
            let file = client.open("/f").await.unwrap();
            for _ in 0..EACH {
                let guard = file.lock(LockRange::WHOLE, LockMode::Exclusive).await.unwrap();
                let seen = number.load(Ordering::SeqCst);
                let before = newest.swap(guard.fence().0, Ordering::SeqCst);
                assert!(guard.fence().0 > before, "a later holder has a smaller number");
                tokio::task::yield_now().await;
                number.store(seen + 1, Ordering::SeqCst);
                // Unlocked in the background.
                drop(guard);
            }
        }));
    }
    let reached = async |count: u64| {
        let look = || async { (number.load(Ordering::SeqCst) >= count).then_some(()) };
        eventually("some additions", LONG, look).await.unwrap();
    };
    reached(20).await;
    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    reached(60).await;
    cluster.metas[leader].start().unwrap();
    for one in adding {
        one.await.unwrap();
    }
    assert_eq!(number.load(Ordering::SeqCst), CLIENTS * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_lock_unlock_convert_and_are_given_up() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let (one, two) = (cluster.client().await.unwrap(), cluster.client().await.unwrap());
    one.create("/f", 0o644).await.unwrap();
    let (a, b) = (one.open("/f").await.unwrap(), two.open("/f").await.unwrap());
    // Shared with shared, not with exclusive; who is in the way is told.
    let shared = a.lock(bytes(0, 9), LockMode::Shared).await.unwrap();
    let with = b.try_lock(bytes(5, 14), LockMode::Shared).await.unwrap();
    let refused = b.try_lock(bytes(0, 3), LockMode::Exclusive).await.unwrap_err();
    assert!(matches!(refused.fs(), Some(FsError::Locked { session, .. }) if *session == one.session_id()));
    assert_eq!(refused.kind(), ErrorKind::Retry);
    let found = b.test_lock(bytes(0, 3), LockMode::Exclusive).await.unwrap().unwrap();
    assert_eq!((found.by.session, found.range, found.fence), (one.session_id(), bytes(0, 9), shared.fence()));
    // Two of one client exclude each other too.
    let other = one.open("/f").await.unwrap();
    assert!(other.try_lock(bytes(0, 0), LockMode::Exclusive).await.is_err());
    // Converted: what is dropped is unlocked before the same owner's next request.
    with.unlock().await.unwrap();
    drop(shared);
    let exclusive = a.lock(bytes(0, 9), LockMode::Exclusive).await.unwrap();
    exclusive.check().await.unwrap();
    assert!(b.try_lock(bytes(9, 9), LockMode::Shared).await.is_err());
    a.unlock(bytes(4, 5)).await.unwrap();
    let middle = b.try_lock(bytes(4, 5), LockMode::Shared).await.unwrap();
    assert!(exclusive.check().await.is_err(), "a part of it is unlocked");
    // Two that wait for each other: the second is told.
    let locks = a.locks().clone();
    let waits = tokio::spawn(async move { locks.lock(bytes(4, 4), LockMode::Exclusive).await });
    let look = || async { other.try_lock(bytes(4, 4), LockMode::Shared).await.err() };
    eventually("it waits", LONG, look).await.unwrap();
    let refused = b.lock(bytes(0, 0), LockMode::Shared).await.unwrap_err();
    assert_eq!(refused.fs(), Some(&FsError::Deadlock));
    drop(middle);
    tokio::time::timeout(LONG, waits).await.unwrap().unwrap().unwrap().unlock().await.unwrap();
    // A wait that is given up leaves nothing in the queue.
    drop(exclusive);
    let whole = a.flock(LockMode::Exclusive).await.unwrap();
    let gave_up = tokio::time::timeout(Duration::from_millis(300), b.flock(LockMode::Exclusive)).await;
    assert!(gave_up.is_err());
    whole.unlock().await.unwrap();
    let look = || async { a.try_flock(LockMode::Exclusive).await.ok() };
    let held = eventually("nobody holds it", LONG, look).await.unwrap();
    a.locks().unlock_flock().await.unwrap();
    assert!(held.check().await.is_err(), "it is unlocked, by whatever guard it was held");
    held.leave();
    let again = a.try_flock(LockMode::Exclusive).await.unwrap();
    // A closed client's are free at once, a lost one's are told as lost.
    again.leave();
    one.close().await.unwrap();
    let last = tokio::time::timeout(LONG, b.flock(LockMode::Exclusive)).await.unwrap().unwrap();
    last.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_lost_is_told() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let (one, two) = (cluster.client().await.unwrap(), cluster.client().await.unwrap());
    one.create("/f", 0o644).await.unwrap();
    let (a, b) = (one.open("/f").await.unwrap(), two.open("/f").await.unwrap());
    let guard = a.flock(LockMode::Exclusive).await.unwrap();
    // It says nothing any more, and the servers end its session.
    one.clone().abandon();
    let next = tokio::time::timeout(LONG, b.flock(LockMode::Exclusive)).await.unwrap().unwrap();
    assert!(next.fence() > guard.fence());
    let lost = tokio::time::timeout(Duration::from_millis(100), guard.lost()).await;
    assert!(lost.is_err(), "nobody has told it");
    assert_eq!(guard.check().await.unwrap_err().fs(), Some(&FsError::SessionExpired));
    assert_eq!(guard.unlock().await.unwrap_err().fs(), Some(&FsError::SessionExpired));
    next.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hears_of_its_expired_session_says_that_its_locks_are_lost() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.create("/f", 0o644).await.unwrap();
    let file = client.open("/f").await.unwrap();
    let guard = file.lock(bytes(0, 9), LockMode::Exclusive).await.unwrap();
    // Ended behind its back, as a lease that is over ends it.
    let wire = Wire::new(&cluster, &client);
    let close = CloseSessionRequest { session: client.session_id().0 };
    wire.leader().await.unwrap().close_session(wire.request(close)).await.unwrap();
    tokio::time::timeout(LONG, guard.lost()).await.unwrap();
    assert_eq!(guard.check().await.unwrap_err().fs(), Some(&FsError::SessionExpired));
    // The next lock is in a new session, and the lost guard frees nothing of it.
    let next = file.lock(bytes(0, 9), LockMode::Exclusive).await.unwrap();
    drop(guard);
    // Asked for after the lost one was let go.
    let beside = file.lock(bytes(20, 29), LockMode::Exclusive).await.unwrap();
    next.check().await.unwrap();
    assert!(next.fence() < beside.fence());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_while_the_lock_is_held() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    let cairn = async |arguments: &[&str]| {
        let mut command = cluster.cli();
        command.args(["fs", "lock"]).args(arguments);
        run(command, b"", LONG).await.unwrap()
    };
    // The file is made, the command's code and output are its own.
    let done = cairn(&["/f", "--", "sh", "-c", "echo hello; exit 7"]).await;
    assert_eq!((done.code, done.text().as_str(), done.stderr.as_str()), (7, "hello\n", ""));
    assert_eq!(cairn(&["/f", "--", "true"]).await.code, 0);
    assert_eq!(cairn(&["/f", "--", "sh", "-c", "kill -TERM $$"]).await.code, 128 + 15);
    assert_eq!(cairn(&["/f", "--", "/no/such/command"]).await.code, 1);
    assert_eq!(cairn(&["/f"]).await.code, 2);
    // Somebody else holds it, whole or in part.
    let file = client.open("/f").await.unwrap();
    let guard = file.flock(LockMode::Shared).await.unwrap();
    let part = file.lock(bytes(100, 199), LockMode::Exclusive).await.unwrap();
    let refused = cairn(&["-n", "/f", "--", "echo", "ran"]).await;
    assert_eq!((refused.code, refused.text().as_str()), (75, ""));
    assert!(refused.stderr.starts_with("cairn: lock /f: locked by owner"), "{}", refused.stderr);
    assert_eq!(cairn(&["-n", "--shared", "/f", "--", "true"]).await.code, 0);
    assert_eq!(cairn(&["-n", "--range", "150-", "/f", "--", "true"]).await.code, 75);
    assert_eq!(cairn(&["-n", "--range", "200-", "/f", "--", "true"]).await.code, 0);
    assert_eq!(cairn(&["-n", "--range", "2-1", "/f", "--", "true"]).await.code, 2);
    // Without -n it waits.
    let mut waiting: Command = cluster.cli();
    waiting.args(["fs", "lock", "/f", "--", "echo", "at last"]);
    let waiting = tokio::spawn(async move { run(waiting, b"", LONG).await });
    // A writer that waits keeps new readers out.
    let other = client.open("/f").await.unwrap();
    let look = || async { other.try_flock(LockMode::Shared).await.err() };
    eventually("it waits", LONG, look).await.unwrap();
    assert!(!waiting.is_finished());
    guard.unlock().await.unwrap();
    let done = waiting.await.unwrap().unwrap();
    assert_eq!((done.code, done.text().as_str()), (0, "at last\n"));
    part.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lost_while_a_command_runs_is_told_at_its_end() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.create("/f", 0o644).await.unwrap();
    let mut holding = cluster.cli();
    // The command ends when its input does.
    holding.args(["fs", "lock", "/f", "--", "cat"]).stdin(Stdio::piped());
    holding.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut holder = holding.spawn().unwrap();
    held(&client, "/f").await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(holder.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let file = client.open("/f").await.unwrap();
    let next = tokio::time::timeout(LONG, file.flock(LockMode::Exclusive)).await.unwrap().unwrap();
    drop(holder.stdin.take());
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let ended = tokio::task::spawn_blocking(move || holder.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("the lock on /f was lost while the command ran"), "{said}");
    next.unlock().await.unwrap();
}
