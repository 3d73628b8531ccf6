//! Merges of small extents: who gets them, and when they come to nothing.

use std::time::Duration;

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_types::Policy;
use tonic::Streaming;

use super::data_node::FakeNode;
use super::gc::{ALWAYS, level_raised, look};
use super::persist::{next, sealed_file, upload, uploaded};
use super::{Cluster, LONG, Session, at, eventually};

/// Pieces of a log that is merged: the fewest.
const PIECES: usize = 16;

/// A file whose tail is sealed so many times, at 1,000 bytes each. Answers the chunks.
async fn log(cluster: &Cluster, session: &Session<'_>, nodes: &[FakeNode<'_>], path: &str) -> Vec<u64> {
    let ino = session.create(path).await.ino;
    let mut chunks = Vec::new();
    for _ in 0..PIECES {
        let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
        nodes.iter().for_each(|node| node.hold(chunk, 1000, 0));
        cluster.seal(chunk, LONG).await.expect("sealed");
        chunks.push(chunk);
    }
    chunks
}

/// Uploads come, and are done, until nothing waits for S3.
async fn all_in_s3(cluster: &Cluster, node: &FakeNode<'_>, work: &mut Streaming<v1::Work>) {
    while cluster.status().await.lag_bytes > 0 {
        let up = next(work, upload).await;
        node.report(up.intent, uploaded(&up)).await.expect("reported");
    }
}

fn merge(work: Work) -> Option<v1::Merge> {
    if let Work::Merge(merge) = work { Some(merge) } else { None }
}

fn merged(work: &v1::Merge) -> Outcome {
    let mut offset = 100;
    let mut chunks = Vec::new();
    for chunk in &work.chunks {
        chunks.push(v1::UploadedChunk { chunk: chunk.chunk, offset, length: chunk.length, crc32c: 1 });
        offset += chunk.length;
    }
    Outcome::Merged(v1::Uploaded { pack: work.pack, etag: "m".into(), bytes: offset, chunks })
}

async fn extents(cluster: &Cluster, path: &str) -> v1::ExtentsReply {
    let message = v1::ExtentsRequest { target: at(path), length: u64::MAX >> 1, ..Default::default() };
    cluster.meta.clone().extents(cluster.request(message)).await.expect("extents").into_inner()
}

async fn give_room(node: &FakeNode<'_>, room_bytes: u64) {
    node.change(|desk| desk.room_bytes = room_bytes);
    node.beat().await;
}

/// Has a pass begin, and waits until it has told that it found one file and ended.
async fn found(cluster: &Cluster) -> v1::GcReport {
    look(cluster, false).await.expect("a report");
    eventually("the pass has found the file", async || {
        look(cluster, true).await.ok().filter(|report| report.fragmented_files == 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_extents_go_to_a_node_that_has_room_while_s3_answers() {
    let cluster = Cluster::with(Policy { max_lag_ms: 100, ..Policy::single() }, ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let mut work = nodes[0].pull().await;
    let chunks = log(&cluster, &session, &nodes, "/log").await;
    all_in_s3(&cluster, &nodes[0], &mut work).await;
    // A node that is full is given none.
    let report = found(&cluster).await;
    assert_eq!((report.merges, report.fragmented_extents), (0, PIECES as u64));
    assert_eq!(cluster.status().await.intents, 0);
    // Nor one while uploads fail.
    sealed_file(&cluster, &session, &nodes, "/other").await;
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, Outcome::Failure("S3 is away".into())).await.expect("reported");
    assert_ne!(cluster.status().await.under_store_error, "");
    give_room(&nodes[0], 1 << 30).await;
    assert_eq!(found(&cluster).await.merges, 0);
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let before = cluster.inode("/log").await;
    let asked = next(&mut work, merge).await;
    let [run] = asked.chunks.as_slice() else { panic!("{asked:?}") };
    assert_eq!((run.ino, run.base, run.length), (before.ino, 0, 1000 * PIECES as u64));
    for (piece, chunk) in run.pieces.iter().zip(&chunks) {
        let source = piece.chunk.as_ref().expect("a chunk");
        assert_eq!((source.chunk, piece.offset, piece.length, source.sealed_length), (*chunk, 0, 1000, 1000));
        assert!(source.place.is_some() && source.replicas.len() == 1, "{source:?}");
    }
    assert_eq!(look(&cluster, true).await.expect("a report").merges, 1);
    // It fails once, which says nothing of uploads, and is asked for again.
    nodes[0].report(asked.intent, Outcome::Failure("not now".into())).await.expect("reported");
    assert_eq!(cluster.status().await.under_store_error, "");
    cluster.clock.skip(Duration::from_secs(2));
    let again = next(&mut work, merge).await;
    assert_eq!(again, asked);
    for _ in 0..2 {
        nodes[0].report(again.intent, merged(&again)).await.expect("a repeated report changes nothing");
    }
    let now = extents(&cluster, "/log").await;
    assert_eq!(now.extents.len(), 1);
    assert_eq!(now.chunks[0].chunk, run.chunk);
    assert_eq!(now.chunks[0].place.as_ref().map(|place| place.pack), Some(asked.pack));
    assert_eq!(now.inode, Some(before), "nobody can tell by the inode");
    let report = look(&cluster, true).await.expect("a report");
    assert_eq!((report.merges, report.dead_chunks.map(|dead| dead.count)), (0, Some(PIECES as u64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_whose_file_has_changed_is_given_up_when_it_fails() {
    let cluster = Cluster::with(Policy { max_lag_ms: 100, ..Policy::single() }, ALWAYS).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    give_room(&nodes[0], 1 << 30).await;
    let session = cluster.session().await;
    let mut work = nodes[0].pull().await;
    log(&cluster, &session, &nodes, "/log").await;
    all_in_s3(&cluster, &nodes[0], &mut work).await;
    look(&cluster, false).await.expect("a report");
    let asked = next(&mut work, merge).await;
    let cut = v1::SetAttr { target: at("/log"), size: Some(15_500), ..Default::default() };
    session.mutate(Operation::SetAttr(cut)).await.expect("cut");
    nodes[0].report(asked.intent, Outcome::Failure("a chunk is gone".into())).await.expect("reported");
    eventually("it is given up", async || (look(&cluster, true).await.ok()?.merges == 0).then_some(())).await;
    nodes[0].report(asked.intent, merged(&asked)).await.expect("a late report changes nothing");
    // What is there is merged another time.
    look(&cluster, false).await.expect("a report");
    let asked = next(&mut work, |work| merge(work).filter(|new| new.intent != asked.intent)).await;
    assert_eq!(asked.chunks[0].length, 15_500);
    nodes[0].report(asked.intent, merged(&asked)).await.expect("reported");
    assert_eq!(extents(&cluster, "/log").await.extents.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_merge_of_a_node_that_died_goes_to_another_one() {
    let policy = Policy { replicas: 2, max_lag_ms: 100, ..Policy::cluster() };
    let cluster = Cluster::with(policy, Duration::from_secs(2)).await;
    level_raised(&cluster).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let session = cluster.session().await;
    let beating = async {
        loop {
            nodes[0].beat().await;
            nodes[1].beat().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let given = async {
        let mut streams = [nodes[0].pull().await, nodes[1].pull().await];
        log(&cluster, &session, &nodes, "/log").await;
        let [first, second] = &mut streams;
        while cluster.status().await.lag_bytes > 0 {
            let (up, by) = tokio::select! {
                up = next(first, upload) => (up, 0),
                up = next(second, upload) => (up, 1),
            };
            nodes[by].report(up.intent, uploaded(&up)).await.expect("reported");
        }
        give_room(&nodes[0], 1 << 30).await;
        give_room(&nodes[1], 1 << 30).await;
        look(&cluster, false).await.expect("a report");
        let (asked, other) = tokio::select! {
            asked = next(first, merge) => (asked, 1),
            asked = next(second, merge) => (asked, 0),
        };
        (asked, other, streams)
    };
    let (asked, other, mut streams) = tokio::select! {
        given = given => given,
        () = beating => unreachable!(),
    };
    // The one that has it falls silent; the other one writes the same.
    cluster.clock.skip(Duration::from_secs(3));
    let again = tokio::select! {
        again = next(&mut streams[other], merge) => again,
        () = async { loop { nodes[other].beat().await; tokio::time::sleep(Duration::from_millis(200)).await } } => unreachable!(),
    };
    assert_eq!((again.intent, again.pack, &again.key), (asked.intent, asked.pack, &asked.key));
    assert_eq!(again.chunks[0].chunk, asked.chunks[0].chunk);
    nodes[other].report(again.intent, merged(&again)).await.expect("reported");
    assert_eq!(extents(&cluster, "/log").await.extents.len(), 1);
}
