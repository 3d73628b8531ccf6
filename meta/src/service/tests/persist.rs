//! Write-through: what is sealed goes up, from whoever lives; what is dead goes away.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{WireError, v1};
use cairn_types::{FsError, Policy};
use tonic::Streaming;

use super::data_node::FakeNode;
use super::{Cluster, LONG, Session, at, eventually};

/// The next piece of work that `want` takes.
pub(super) async fn next<T>(work: &mut Streaming<v1::Work>, want: impl Fn(Work) -> Option<T>) -> T {
    let searching = async {
        loop {
            let piece = work.message().await.expect("a stream").expect("more work").work.expect("a piece");
            if let Some(found) = want(piece) {
                return found;
            }
        }
    };
    tokio::time::timeout(LONG, searching).await.expect("the work comes in time")
}

pub(super) fn upload(work: Work) -> Option<v1::Upload> {
    if let Work::Upload(upload) = work { Some(upload) } else { None }
}

pub(super) fn uploaded(upload: &v1::Upload) -> Outcome {
    let mut offset = 0;
    let mut chunks = Vec::new();
    for chunk in &upload.chunks {
        chunks.push(v1::UploadedChunk { chunk: chunk.chunk, offset, length: chunk.length, crc32c: 1 });
        offset += chunk.length;
    }
    Outcome::Uploaded(v1::Uploaded { pack: upload.pack, etag: "\"e\"".into(), bytes: offset, chunks })
}

pub(super) async fn sealed_file(
    cluster: &Cluster,
    session: &Session<'_>,
    nodes: &[FakeNode<'_>],
    path: &str,
) -> u64 {
    let ino = session.create(path).await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes.iter().for_each(|n| n.hold(chunk, 1000, 0));
    cluster.seal(chunk, LONG).await.expect("sealed");
    chunk
}

fn wait(path: &str, timeout_ms: u64) -> v1::WaitPersistedRequest {
    v1::WaitPersistedRequest { target: at(path), timeout_ms }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_client_is_answered_once_the_pack_is_recorded() {
    let cluster = Cluster::with(Policy::single(), LONG).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let chunk = sealed_file(&cluster, &session, &nodes, "/f").await;
    let early =
        cluster.meta.clone().wait_persisted(cluster.request(wait("/f", 200))).await.expect("an answer");
    assert_eq!((early.get_ref().done, early.get_ref().unpersisted_bytes), (false, 1000));
    assert_eq!(cluster.status().await.lag_bytes, 1000);
    let mut work = nodes[0].pull().await;
    let up = next(&mut work, upload).await;
    assert_eq!(up.chunks.iter().map(|c| (c.chunk, c.length)).collect::<Vec<_>>(), [(chunk, 1000)]);
    let asked = tokio::spawn({
        let (mut meta, request) = (cluster.meta.clone(), cluster.request(wait("/f", 0)));
        async move { meta.wait_persisted(request).await.map(tonic::Response::into_inner) }
    });
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let done = asked.await.expect("joined").expect("an answer");
    assert_eq!((done.done, done.unpersisted_bytes), (true, 0));
    let place = cluster.chunk(chunk).await.expect("known").place.expect("a place");
    assert_eq!((place.pack, place.key.as_str(), place.length), (up.pack, up.key.as_str(), 1000));
    let told = next(&mut work, |w| if let Work::Persisted(p) = w { Some(p) } else { None }).await;
    assert_eq!((told.chunk, told.place), (chunk, Some(place)));
    nodes[0].report(up.intent, uploaded(&up)).await.expect("a repeated report changes nothing");
    let status = cluster.status().await;
    assert_eq!((status.packs, status.intents, status.lag_bytes), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_node_that_died_goes_to_another_holder() {
    let policy = Policy { replicas: 2, max_lag_ms: 100, ..Policy::cluster() };
    let cluster = Cluster::with(policy, Duration::from_secs(2)).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let session = cluster.session().await;
    let chunk = sealed_file(&cluster, &session, &nodes, "/f").await;
    eventually("an upload is made", async || (cluster.status().await.intents == 1).then_some(())).await;
    let (mut first, mut second) = (nodes[0].pull().await, nodes[1].pull().await);
    let (up, other) = tokio::select! {
        up = next(&mut first, upload) => (up, 1),
        up = next(&mut second, upload) => (up, 0),
    };
    // The one that has it falls silent; the other one goes on.
    cluster.clock.skip(Duration::from_secs(3));
    nodes[other].beat().await;
    let stream = if other == 0 { &mut first } else { &mut second };
    let again = tokio::select! {
        again = next(stream, upload) => again,
        () = async { loop { nodes[other].beat().await; tokio::time::sleep(Duration::from_millis(200)).await } } => unreachable!(),
    };
    assert_eq!((again.intent, again.pack), (up.intent, up.pack));
    nodes[other].report(again.intent, uploaded(&again)).await.expect("reported");
    assert!(cluster.chunk(chunk).await.expect("known").place.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_upload_is_shown_and_offered_again() {
    let policy = Policy { max_lag_ms: 100, ..Policy::single() };
    let cluster = Cluster::with(policy, LONG).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/f").await;
    let mut work = nodes[0].pull().await;
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, Outcome::Failure("S3 is away".into())).await.expect("reported");
    assert_eq!(cluster.status().await.under_store_error, "S3 is away");
    cluster.clock.skip(Duration::from_secs(10));
    let age_ms = cluster.status().await.lag_age_ms;
    assert!(age_ms >= 10_000, "bytes that an upload has taken are not in S3 yet: {age_ms} ms");
    let again = next(&mut work, upload).await;
    assert_eq!(again, up);
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let status = cluster.status().await;
    assert_eq!((status.under_store_error.as_str(), status.lag_age_ms), ("", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_tail_with_bytes_is_sealed_and_an_empty_one_stays() {
    let policy = Policy { max_lag_ms: 20_000, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let (full, empty) = (session.create("/full").await.ino, session.create("/empty").await.ino);
    let full = session.open_tail(full, 1).await.expect("a tail").chunk;
    let empty = session.open_tail(empty, 2).await.expect("a tail").chunk;
    nodes[0].hold(full, 10, 0);
    nodes[0].hold(empty, 0, 0);
    cluster.clock.skip(Duration::from_secs(11));
    eventually("the tail is sealed", async || (cluster.inode("/full").await.size == 10).then_some(())).await;
    assert_eq!(cluster.chunk(empty).await.expect("known").state(), v1::ChunkState::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tails_bytes_are_ordered_up_when_half_of_their_lag_is_over() {
    let policy = Policy { max_lag_ms: 20_000, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes[0].hold(chunk, 10, 0);
    let mut work = nodes[0].pull().await;
    // Nobody seals the tail, and nobody asks for it in S3.
    cluster.clock.skip(Duration::from_secs(11));
    let up = next(&mut work, upload).await;
    assert_eq!(up.chunks.iter().map(|c| (c.chunk, c.length)).collect::<Vec<_>>(), [(chunk, 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_not_in_s3_and_bytes_granted_count_against_a_files_bound() {
    const MIB: u64 = 1 << 20;
    let policy = Policy { max_lag_ms: 20_000, max_lag_bytes: MIB, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    let full = Err(WireError::Fs(FsError::LagBound { lag_bytes: MIB, bound_bytes: MIB }));
    // Nothing is written yet, but the first grant is all that the bound allows.
    let more = Operation::RenewGrant(v1::RenewGrant { chunk, epoch: 1, grant_bytes: 2 * MIB });
    assert_eq!(session.mutate(more).await, full);
    nodes[0].hold(chunk, MIB, 0);
    cluster.seal(chunk, LONG).await.expect("sealed");
    assert_eq!(session.open_tail(ino, 1).await.map(drop), full.map(drop));
    let mut work = nodes[0].pull().await;
    cluster.clock.skip(Duration::from_secs(6));
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let next = session.open_tail(ino, 1).await.expect("the bytes are in S3");
    assert_ne!(next.chunk, chunk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_points_at_is_deleted_everywhere() {
    let policy = Policy { max_lag_ms: 100, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let chunk = sealed_file(&cluster, &session, &nodes, "/f").await;
    let mut work = nodes[0].pull().await;
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let unlink = Operation::Unlink(v1::Unlink { target: at("/f") });
    session.mutate(unlink).await.expect("removed");
    // The leader must have seen it dead before the delay begins.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    cluster.clock.skip(Duration::from_secs(61));
    let deleted = next(&mut work, |w| if let Work::Delete(d) = w { Some(d.chunk) } else { None }).await;
    assert_eq!(deleted, chunk);
    nodes[0].report(0, Outcome::SealedNoticeDone(chunk)).await.expect("reported");
    assert_eq!(cluster.chunk(chunk).await, Err(WireError::Fs(FsError::NotFound)));
    let pack = next(&mut work, |w| if let Work::DeletePack(d) = w { Some(d) } else { None }).await;
    assert_eq!((pack.pack, &pack.key), (up.pack, &up.key));
    nodes[0].report(pack.intent, Outcome::PackDeleted(true)).await.expect("reported");
    let status = cluster.status().await;
    assert_eq!((status.packs, status.intents, status.chunks_sealed), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_open_chunks_were_granted_counts_against_the_cluster_s_bound() {
    // One node and seven replicas: a seventh of 8 GiB, 18 chunks of 64 MiB and 18 MiB.
    let policy = Policy { replicas: 7, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let open = async |n: u64| {
        let ino = session.create(&format!("/f{n}")).await.ino;
        session.open_tail(ino, 1).await.map(|chunk| chunk.chunk)
    };
    let renew = async |chunk: u64, mib: u64| {
        let renew = v1::RenewGrant { chunk, epoch: 1, grant_bytes: mib << 20 };
        session.mutate(v1::mutate_request::Operation::RenewGrant(renew)).await.map(drop)
    };
    let mut chunks = Vec::new();
    for n in 0..18 {
        let chunk = open(n).await.expect("a tail");
        renew(chunk, 64).await.expect("more room");
        chunks.push(chunk);
    }
    let last = open(18).await.expect("a tail");
    let bound_bytes = (8 << 30) / 7;
    let refused = |lag_mib: u64| WireError::Fs(FsError::LagBound { lag_bytes: lag_mib << 20, bound_bytes });
    assert_eq!(renew(last, 64).await, Err(refused(19 * 64)));
    renew(last, 18).await.expect("what is left");
    assert_eq!(open(19).await, Err(refused(18 * 64 + 19)));
    // A seal returns what was granted and not written.
    nodes[0].hold(chunks[0], 1000, 0);
    cluster.seal(chunks[0], LONG).await.expect("sealed");
    renew(last, 64).await.expect("more room");
}
