//! `Explain`: a file's bytes, from one point in time.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::{WireError, v1};
use cairn_types::{FsError, Policy};

use super::data_node::FakeNode;
use super::persist::{next, sealed_file, upload, uploaded};
use super::{Cluster, LONG, at, mkdir};

/// All that is told of a file.
pub(super) async fn explain(cluster: &Cluster, path: &str) -> Result<v1::ExplainPart, WireError> {
    let request = v1::ExplainRequest { target: at(path), ..Default::default() };
    let mut stream = cluster.meta.clone().explain(cluster.request(request)).await?.into_inner();
    let mut all = v1::ExplainPart::default();
    while let Some(part) = stream.message().await? {
        assert!(!all.done, "it goes on after its end");
        all.file = all.file.or(part.file);
        all.extents.extend(part.extents);
        all.chunks.extend(part.chunks);
        all.intents.extend(part.intents);
        all.done = part.done;
    }
    assert!(all.done, "it ended early");
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_explained_from_its_pack_to_its_open_tail() {
    let cluster = Cluster::with(Policy::single(), Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    session.mutate(mkdir("/d")).await.expect("made");
    let mut work = nodes[0].pull().await;
    let first = sealed_file(&cluster, &session, &nodes, "/d/log").await;
    let ino = cluster.inode("/d/log").await.ino;
    cluster.clock.skip(Duration::from_secs(8));
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let second = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes[0].hold(second, 500, 0);
    cluster.seal(second, LONG).await.expect("sealed");
    cluster.clock.skip(Duration::from_secs(8));
    let failing = next(&mut work, upload).await;
    nodes[0].report(failing.intent, Outcome::Failure("S3 is away".into())).await.expect("reported");
    let third = session.open_tail(ino, 2).await.expect("a tail").chunk;

    let told = explain(&cluster, "/d/log").await.expect("explained");
    let file = told.file.expect("the file");
    assert_eq!((&file.path[..], file.inode.expect("an inode").ino), (&b"/d/log"[..], ino));
    assert_eq!(file.origin.expect("an origin").path, b"/"[..]);
    let lag = file.lag.expect("a lag");
    assert_eq!((lag.bytes, lag.tail.map(|tail| tail.chunk)), (500, Some(third)));
    assert_eq!(file.writers.len(), 2, "both writers of the live session");
    let extents: Vec<(u64, u64)> = told.extents.iter().map(|e| (e.file_offset, e.length)).collect();
    assert_eq!(extents, [(0, 1000), (1000, 500)]);

    let id = |chunk: &v1::ExplainedChunk| chunk.chunk.as_ref().expect("a chunk").chunk;
    let chunks: BTreeMap<u64, &v1::ExplainedChunk> = told.chunks.iter().map(|c| (id(c), c)).collect();
    assert_eq!(chunks.keys().copied().collect::<Vec<_>>(), [first, second, third]);
    let place = chunks[&first].chunk.as_ref().and_then(|chunk| chunk.place.clone()).expect("a place");
    assert_eq!((place.pack, &place.key, place.offset, place.length), (up.pack, &up.key, 0, 1000));
    assert_eq!((chunks[&first].etag.as_str(), chunks[&first].pack_bytes), ("\"e\"", 1000));
    assert_eq!((chunks[&first].upload, chunks[&second].upload), (0, failing.intent));
    assert_eq!((chunks[&first].live_bytes, chunks[&second].live_bytes), (1000, 500));
    assert!(chunks[&first].sealed_ns > 0 && chunks[&third].sealed_ns == 0);
    assert_eq!(chunks[&third].chunk.as_ref().expect("a chunk").state(), v1::ChunkState::Open);
    for chunk in told.chunks.iter() {
        let replica = &chunk.replicas[0];
        assert_eq!(chunk.replicas.len(), 1);
        assert!(replica.alive && replica.holder && replica.primary && !replica.address.is_empty());
    }
    let [intent] = &told.intents[..] else { panic!("{:?}", told.intents) };
    assert_eq!(
        (intent.intent, intent.kind.as_str(), intent.assignee),
        (failing.intent, "upload", nodes[0].id)
    );
    assert_eq!((intent.failures, intent.message.as_str(), intent.failed), (1, "S3 is away", false));
    assert_eq!((intent.chunks, intent.bytes, &intent.key), (1, 500, &failing.key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_more_extents_than_a_page_is_explained_whole() {
    const COUNT: u64 = 2500;
    let cluster = Cluster::with(Policy::single(), Duration::from_secs(1000)).await;
    let _nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/f").await.ino;
    let open = Operation::OpenChunk(v1::OpenChunk { policy_of: ino, avoid: vec![] });
    let chunk = session.mutate(open).await.expect("opened").chunk.expect("a chunk").chunk;
    // Every second byte, so that none joins its neighbour.
    for from in (0..COUNT).step_by(500) {
        let extent = |n: u64| v1::Extent {
            file_offset: 2 * n,
            length: 1,
            source: Some(v1::extent::Source::Chunk(v1::ChunkSource { chunk, offset: 2 * n })),
        };
        let extents = (from..from + 500).map(extent).collect();
        let commit = v1::Commit { ino, extents, expected_length: None };
        session.mutate(Operation::Commit(commit)).await.expect("committed");
    }
    let told = explain(&cluster, "/f").await.expect("explained");
    assert_eq!(told.extents.len() as u64, COUNT);
    assert!(told.extents.iter().zip(0..).all(|(extent, n)| extent.file_offset == 2 * n));
    assert_eq!(told.chunks.len(), 1, "a chunk is told once");
    assert_eq!((told.chunks[0].held, told.chunks[0].live_bytes), (true, COUNT));
    let activation = told.chunks[0].chunk.as_ref().and_then(|chunk| chunk.activation).expect("an activation");
    assert_eq!(activation.session, session.id);
    assert_eq!(told.file.and_then(|file| file.lag).expect("a lag").bytes, COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_files_are_explained() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(mkdir("/d")).await.expect("made");
    session.create("/empty").await;
    for (path, error) in [("/d", FsError::IsDirectory), ("/none", FsError::NotFound)] {
        assert_eq!(explain(&cluster, path).await.map(drop), Err(WireError::Fs(error)));
    }
    let told = explain(&cluster, "/empty").await.expect("explained");
    assert_eq!((told.extents.len(), told.chunks.len(), told.intents.len()), (0, 0, 0));
}
