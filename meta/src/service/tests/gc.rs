//! Collection: what is dead and on its way to nowhere, what the state does not name, packs of which
//! little is alive.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{WireError, v1};
use cairn_types::{ChunkId, FEATURE_LEVEL, FsError, IntentId, NodeId, Policy};

use super::data_node::FakeNode;
use super::persist::{next, sealed_file, upload, uploaded};
use super::{Cluster, LONG, Session, at, eventually};
use crate::namespace::{Command, jobs};

fn quick() -> Policy {
    Policy { max_lag_ms: 100, ..Policy::single() }
}

pub(super) async fn look(cluster: &Cluster, only_look: bool) -> Result<v1::GcReport, WireError> {
    let request = cluster.request(v1::GcRequest { only_look });
    let mut stream = cluster.meta.clone().gc(request).await?.into_inner();
    loop {
        let message = stream.message().await?.expect("it ends with a report");
        if let Some(report) = message.report {
            return Ok(report);
        }
    }
}

async fn unlink(session: &Session<'_>, path: &str) {
    let gone = v1::Unlink { target: at(path) };
    session.mutate(Operation::Unlink(gone)).await.expect("unlinked");
}

fn count(amount: Option<v1::GcAmount>) -> (u64, u64) {
    amount.map_or((0, 0), |a| (a.count, a.bytes))
}

fn delete(work: Work) -> Option<u64> {
    if let Work::Delete(delete) = work { Some(delete.chunk) } else { None }
}

/// What comes when the delays of collection are over: time passes until it does.
async fn after_delays<T>(cluster: &Cluster, coming: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            cluster.clock.skip(Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        come = coming => come,
        () = passing => unreachable!("time passes for ever"),
    }
}

async fn report_delete(cluster: &Cluster, node: &FakeNode<'_>, chunk: u64) {
    let outcome = Some(Outcome::SealedNoticeDone(chunk));
    let done = v1::ReportWorkRequest { node: node.id, intent: 0, outcome };
    cluster.nodes.clone().report_work(cluster.request(done)).await.expect("reported");
}

fn deletion(work: Work) -> Option<v1::DeletePack> {
    if let Work::DeletePack(deletion) = work { Some(deletion) } else { None }
}

/// The cluster is at the level of this build, as it is a moment after it began.
pub(super) async fn level_raised(cluster: &Cluster) {
    eventually("the feature level is raised", async || {
        let view = cluster.node.read_local().ok()?;
        (jobs::level(&*view.store).ok()? >= FEATURE_LEVEL).then_some(())
    })
    .await;
}

async fn propose(cluster: &Cluster, command: Command) {
    cluster.node.propose_internal(command, LONG).await.expect("proposed").1.expect("applied");
}

/// Nodes live however much time is skipped.
pub(super) const ALWAYS: Duration = Duration::from_secs(1_000_000);

/// The cluster's key of a pack.
fn key(cluster: &Cluster, pack: u64) -> String {
    format!("{}/packs/{pack:016x}", cluster.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_can_do_gives_its_dead_chunks_free() {
    let cluster = Cluster::with(quick(), ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let dead = sealed_file(&cluster, &session, &nodes, "/dead").await;
    let live = sealed_file(&cluster, &session, &nodes, "/live").await;
    let mut work = nodes[0].pull().await;
    // As on a node without an under-store; both chunks go up in one pack, or in two.
    let mut left = vec![dead, live];
    while !left.is_empty() {
        let up = next(&mut work, upload).await;
        let failed = Outcome::Failure("no under-store is configured on this node".into());
        nodes[0].report(up.intent, failed).await.expect("reported");
        left.retain(|chunk| up.chunks.iter().all(|c| c.chunk != *chunk));
    }
    unlink(&session, "/dead").await;
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!((count(found.dead_chunks), found.dead_replicas, found.dead_in_upload), ((1, 1000), 1, 1));
    assert_eq!(after_delays(&cluster, next(&mut work, delete)).await, dead);
    report_delete(&cluster, &nodes[0], dead).await;
    assert_eq!(cluster.chunk(dead).await.map(drop), Err(WireError::Fs(FsError::NotFound)));
    assert!(cluster.chunk(live).await.is_ok(), "it waits for an upload as ever");
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!((count(found.dead_chunks), count(found.dead_packs)), ((0, 0), (0, 0)), "and leaves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_under_way_is_waited_for_and_its_dead_pack_goes() {
    let cluster = Cluster::with(quick(), ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let other = sealed_file(&cluster, &session, &nodes, "/other").await;
    let mut work = nodes[0].pull().await;
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let chunk = sealed_file(&cluster, &session, &nodes, "/f").await;
    let up = next(&mut work, upload).await;
    unlink(&session, "/f").await;
    unlink(&session, "/other").await;
    // By then the delay of both is over.
    assert_eq!(after_delays(&cluster, next(&mut work, delete)).await, other);
    report_delete(&cluster, &nodes[0], other).await;
    let found = look(&cluster, false).await.expect("a report");
    assert_eq!((count(found.dead_chunks).0, found.dead_in_upload), (1, 1));
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let dead = look(&cluster, true).await.expect("a report");
    assert_eq!((count(dead.dead_packs), dead.dead_in_upload), ((2, 2000), 0), "{dead:?}");
    // That of the other one may have been sent again before it was reported.
    after_delays(&cluster, next(&mut work, |work| delete(work).filter(|gone| *gone == chunk))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_nothing_names_get_a_tombstone_and_others_are_left_alone() {
    let cluster = Cluster::with(quick(), ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let mut work = nodes[0].pull().await;
    sealed_file(&cluster, &session, &nodes, "/kept").await;
    let kept = next(&mut work, upload).await;
    nodes[0].report(kept.intent, uploaded(&kept)).await.expect("reported");
    // This one is on its way: its object is there, and not recorded yet.
    sealed_file(&cluster, &session, &nodes, "/coming").await;
    let coming = next(&mut work, upload).await;
    // And this one was given up when its object was made already.
    sealed_file(&cluster, &session, &nodes, "/lost").await;
    let lost = next(&mut work, upload).await;
    unlink(&session, "/lost").await;
    propose(&cluster, Command::CancelUpload { intent: IntentId(lost.intent) }).await;
    let foreign = format!("{}/packs/readme", cluster.id);
    let bucket = BTreeMap::from([
        (kept.key.clone(), 1000),
        (coming.key.clone(), 1000),
        (lost.key.clone(), 777),
        (key(&cluster, 1 << 40), 5),
        (foreign, 6),
    ]);
    // One of the nodes has no under-store.
    let seeing = FakeNode::start(&cluster, 9).await;
    seeing.change(|desk| desk.bucket = Some(bucket));
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!((count(found.orphan_packs), count(found.unknown_objects)), ((1, 777), (2, 11)), "{found:?}");
    assert_eq!((found.condemned, found.bucket_unseen), (0, false));
    assert_eq!(cluster.status().await.packs, 1, "a look changes nothing");
    let found = look(&cluster, false).await.expect("a report");
    assert_eq!((count(found.orphan_packs).0, found.condemned), (1, 1));
    assert_eq!(cluster.status().await.packs, 2, "its tombstone");
    let found = look(&cluster, false).await.expect("a report");
    assert_eq!((count(found.orphan_packs).0, count(found.dead_packs)), (0, (1, 777)));
    let mut of_other = seeing.pull().await;
    let gone = async {
        tokio::select! {
            gone = next(&mut work, deletion) => (gone, &nodes[0]),
            gone = next(&mut of_other, deletion) => (gone, &seeing),
        }
    };
    let (gone, by) = after_delays(&cluster, gone).await;
    assert_eq!(gone.key, lost.key);
    by.report(gone.intent, Outcome::PackDeleted(true)).await.expect("reported");
    assert_eq!(cluster.status().await.packs, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_no_row_names_are_deleted_and_no_others() {
    let cluster = Cluster::with(Policy { max_lag_ms: 3_600_000, ..Policy::single() }, ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let chunks = [
        sealed_file(&cluster, &session, &nodes, "/a").await,
        sealed_file(&cluster, &session, &nodes, "/b").await,
        sealed_file(&cluster, &session, &nodes, "/c").await,
    ];
    let other = FakeNode::start(&cluster, 9).await;
    // Of a chunk that it is no replica of, and of one that this state has not given out.
    other.hold(chunks[0], 300, 0);
    other.hold(1 << 40, 500, 0);
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!(count(found.stray_replicas), (1, 300), "{found:?}");
    assert!(found.bucket_unseen && found.silent_nodes.is_empty(), "{found:?}");
    let mut work = other.pull().await;
    let sealed = |work: Work| if let Work::Sealed(told) = work { Some(told) } else { None };
    // What is said to a node before its stream has begun is not heard.
    let told = eventually("it is told", async || {
        look(&cluster, false).await.expect("a report");
        tokio::time::timeout(Duration::from_millis(300), next(&mut work, sealed)).await.ok()
    });
    let told = told.await;
    assert_eq!((told.chunk, told.holder), (chunks[0], false), "the node asks before it obeys");
    // Nobody has a row of this one any more.
    unlink(&session, "/b").await;
    let (chunk, node) = (ChunkId(chunks[1]), NodeId(nodes[0].id));
    propose(&cluster, Command::DropReplica { chunk, node }).await;
    let mut of_first = nodes[0].pull().await;
    let found = look(&cluster, false).await.expect("a report");
    assert_eq!(count(found.stray_replicas).0, 2, "{found:?}");
    assert_eq!(next(&mut of_first, delete).await, chunks[1]);
    other.change(|desk| desk.unreachable = true);
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!(found.silent_nodes, [other.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_of_which_little_is_alive_is_written_again_and_dies() {
    // Minutes before a pack goes: all three chunks are sealed by then, and share it.
    let cluster = Cluster::with(Policy { max_lag_ms: 600_000, ..Policy::single() }, ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let mut work = nodes[0].pull().await;
    let mut chunks = Vec::new();
    for path in ["/a", "/b", "/c"] {
        chunks.push(sealed_file(&cluster, &session, &nodes, path).await);
    }
    let up = after_delays(&cluster, next(&mut work, upload)).await;
    assert_eq!(up.chunks.iter().map(|c| c.chunk).collect::<Vec<_>>(), chunks);
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let session = cluster.session().await;
    unlink(&session, "/a").await;
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!(count(found.sparse_packs).0, 0, "two thirds are alive");
    unlink(&session, "/b").await;
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!((count(found.sparse_packs), found.sparse_live_bytes), ((1, 3000), 1000), "{found:?}");
    look(&cluster, false).await.expect("a report");
    let compact = |work: Work| if let Work::Compact(compact) = work { Some(compact) } else { None };
    let moved = next(&mut work, compact).await;
    let (from, crc32c) = (&moved.chunks[0].key, moved.chunks[0].crc32c);
    assert_eq!((moved.chunks.len(), moved.chunks[0].chunk, from), (1, chunks[2], &up.key));
    let place = v1::UploadedChunk { chunk: chunks[2], offset: 0, length: 1000, crc32c };
    let written = v1::Uploaded { pack: moved.pack, etag: "n".into(), bytes: 1000, chunks: vec![place] };
    for _ in 0..2 {
        let outcome = Outcome::Compacted(written.clone());
        nodes[0].report(moved.intent, outcome).await.expect("a repeated report changes nothing");
    }
    let place = cluster.chunk(chunks[2]).await.expect("known").place.expect("a place");
    assert_eq!((place.pack, place.key.as_str()), (moved.pack, moved.key.as_str()));
    let in_new = |work: Work| if let Work::Persisted(told) = work { told.place } else { None };
    let told = next(&mut work, |work| in_new(work).filter(|told| told.pack == moved.pack)).await;
    assert_eq!(told, place, "its holders hear of it");
    let found = look(&cluster, true).await.expect("a report");
    assert_eq!((count(found.dead_packs), count(found.sparse_packs).0), ((1, 3000), 0), "{found:?}");
    let gone = after_delays(&cluster, next(&mut work, deletion)).await;
    assert_eq!(gone.pack, up.pack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_whose_chunks_have_died_is_given_up_when_it_fails() {
    let cluster = Cluster::with(Policy { max_lag_ms: 600_000, ..Policy::single() }, ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let mut work = nodes[0].pull().await;
    for path in ["/a", "/b", "/c"] {
        sealed_file(&cluster, &session, &nodes, path).await;
    }
    let up = after_delays(&cluster, next(&mut work, upload)).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let session = cluster.session().await;
    unlink(&session, "/a").await;
    unlink(&session, "/b").await;
    look(&cluster, false).await.expect("a report");
    let compact = |work: Work| if let Work::Compact(compact) = work { Some(compact) } else { None };
    let moved = next(&mut work, compact).await;
    assert_eq!(look(&cluster, true).await.expect("a report").compactions, 1);
    unlink(&session, "/c").await;
    nodes[0].report(moved.intent, Outcome::Failure("it is gone".into())).await.expect("reported");
    eventually("it is given up", async || (look(&cluster, true).await.ok()?.compactions == 0).then_some(()))
        .await;
    let written = v1::Uploaded { pack: moved.pack, etag: "n".into(), bytes: 1000, chunks: Vec::new() };
    nodes[0].report(moved.intent, Outcome::Compacted(written)).await.expect("a late report changes nothing");
    assert_eq!(cluster.status().await.packs, 1);
}
