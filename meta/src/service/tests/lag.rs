//! `Lag`, and the room that writers get near its bound.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::{WireError, v1};
use cairn_types::{FsError, Policy};

use super::data_node::FakeNode;
use super::persist::{next, sealed_file, upload, uploaded};
use super::{Cluster, Session, at, create, mkdir};

const MIB: u64 = 1 << 20;

/// The cluster's lag, and the files that were told.
async fn lag(cluster: &Cluster, path: Option<&str>) -> Result<(v1::ClusterLag, Vec<v1::FileLag>), WireError> {
    let request = v1::LagRequest { target: path.and_then(at), ..Default::default() };
    let mut stream = cluster.meta.clone().lag(cluster.request(request)).await?.into_inner();
    let (mut of_cluster, mut files) = (None, Vec::new());
    while let Some(message) = stream.message().await? {
        of_cluster = message.cluster.or(of_cluster);
        files.extend(message.files);
        if message.done {
            assert!(stream.message().await?.is_none(), "it goes on after its end");
            return Ok((of_cluster.expect("the cluster's"), files));
        }
    }
    panic!("it ended early");
}

/// Opens a tail, and answers its grant and the pause.
async fn open(session: &Session<'_>, ino: u64) -> Result<(u64, u64, u32), WireError> {
    let writer = session.id * (1 << 20) + 1;
    let open = v1::OpenTail { ino, generation: 0, writer, avoid: vec![] };
    room(session.mutate(Operation::OpenTail(open)).await?)
}

async fn renew(session: &Session<'_>, chunk: u64, mib: u64) -> Result<(u64, u64, u32), WireError> {
    let renew = v1::RenewGrant { chunk, epoch: 1, grant_bytes: mib * MIB };
    room(session.mutate(Operation::RenewGrant(renew)).await?)
}

/// The chunk, its grant in MiB, the pause.
fn room(reply: v1::MutateReply) -> Result<(u64, u64, u32), WireError> {
    let chunk = reply.chunk.expect("a chunk");
    Ok((chunk.chunk, chunk.activation.expect("an activation").grant_bytes / MIB, reply.pause_ms))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_the_cluster_of_a_tree_and_of_a_file() {
    let cluster = Cluster::with(Policy::single(), Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    for path in ["/d", "/d/e", "/other"] {
        session.mutate(mkdir(path)).await.expect("made");
    }
    let mut work = nodes[0].pull().await;
    sealed_file(&cluster, &session, &nodes, "/d/up").await;
    cluster.clock.skip(Duration::from_secs(8));
    let up = next(&mut work, upload).await;
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    sealed_file(&cluster, &session, &nodes, "/d/e/waits").await;
    sealed_file(&cluster, &session, &nodes, "/other/waits").await;
    let growing = session.create("/d/growing").await.ino;
    let tail = session.open_tail(growing, 9).await.expect("a tail").chunk;
    session.mutate(create("/d/empty")).await.expect("made");

    let (of_cluster, files) = lag(&cluster, None).await.expect("told");
    assert_eq!((of_cluster.bytes, of_cluster.chunks_open, files.len()), (2000, 1, 0));
    assert_eq!((of_cluster.bound_bytes, of_cluster.granted_bytes), (8 << 30, MIB));
    assert_eq!((of_cluster.slowed, of_cluster.refused, of_cluster.nodes.len()), (0, 0, 1));

    let shown = |files: &[v1::FileLag]| -> Vec<(String, u64, Option<u64>)> {
        let path = |f: &v1::FileLag| String::from_utf8_lossy(&f.path).into_owned();
        files.iter().map(|f| (path(f), f.bytes, f.tail.as_ref().map(|t| t.chunk))).collect()
    };
    let (_, files) = lag(&cluster, Some("/d")).await.expect("told");
    let wanted = [("/d/e/waits".to_owned(), 1000, None), ("/d/growing".to_owned(), 0, Some(tail))];
    assert_eq!(shown(&files), wanted);
    assert!(files.iter().all(|f| f.policy.is_some()), "{files:?}");
    cluster.clock.skip(Duration::from_secs(3));
    let (_, files) = lag(&cluster, Some("/d/e/waits")).await.expect("told");
    assert_eq!(shown(&files), wanted[..1]);
    assert!((3_000..60_000).contains(&files[0].age_ms), "{} ms", files[0].age_ms);
    let (_, files) = lag(&cluster, Some("/d/up")).await.expect("told");
    assert_eq!(shown(&files), [("/d/up".to_owned(), 0, None)], "one file is told whatever it holds");
    assert_eq!(lag(&cluster, Some("/none")).await.map(drop), Err(WireError::Fs(FsError::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_never_persisted_are_no_lag() {
    let cluster = Cluster::with(Policy::single(), Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    session.mutate(mkdir("/never")).await.expect("made");
    let never = Policy { persist: cairn_types::Persist::Never, max_lag_bytes: MIB, ..Policy::single() };
    let set = v1::SetPolicy { target: at("/never"), policy: Some(v1::Policy::from(&never)) };
    session.mutate(Operation::SetPolicy(set)).await.expect("set");
    let chunk = sealed_file(&cluster, &session, &nodes, "/never/f").await;
    let (of_cluster, files) = lag(&cluster, Some("/never/f")).await.expect("told");
    assert_eq!((of_cluster.bytes, files[0].bytes, files[0].never_bytes), (0, 0, 1000));
    let (_, files) = lag(&cluster, Some("/")).await.expect("told");
    assert!(files.is_empty(), "a tree tells only of what waits: {files:?}");
    // Nor does it slow or stop anybody.
    let ino = cluster.inode("/never/f").await.ino;
    let (again, granted, pause) = open(&session, ino).await.expect("room");
    assert_ne!(again, chunk);
    assert_eq!((granted, pause), (1, 0));
    assert_eq!(renew(&session, again, 64).await, Ok((again, 64, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_the_bound_of_a_file_its_writers_get_less_room_and_wait_for_it() {
    let policy = Policy { max_lag_bytes: 8 * MIB, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let (chunk, granted, pause) = open(&session, ino).await.expect("room");
    assert_eq!((granted, pause), (1, 0));
    assert_eq!(renew(&session, chunk, 2).await, Ok((chunk, 2, 0)), "as much as was asked for");
    assert_eq!(renew(&session, chunk, 64).await, Ok((chunk, 6, 0)), "up to three quarters of the bound");
    assert_eq!(renew(&session, chunk, 64).await, Ok((chunk, 7, 125)));
    assert_eq!(renew(&session, chunk, 64).await, Ok((chunk, 8, 250)));
    let refused = FsError::LagBound { lag_bytes: 8 * MIB, bound_bytes: 8 * MIB };
    assert_eq!(renew(&session, chunk, 64).await, Err(WireError::Fs(refused)));
    // What was sealed counts as what was granted did.
    nodes[0].hold(chunk, 7 * MIB, 0);
    cluster.seal(chunk, super::LONG).await.expect("sealed");
    let (chunk, granted, pause) = open(&session, ino).await.expect("room");
    assert_eq!((granted, pause), (1, 250));
    let (of_cluster, _) = lag(&cluster, None).await.expect("told");
    assert_eq!((of_cluster.slowed, of_cluster.refused), (3, 1));
    // Another file has a bound of its own.
    let other = session.create("/other").await.ino;
    assert_eq!(open(&session, other).await.map(|(_, granted, pause)| (granted, pause)), Ok((1, 0)));
    assert_ne!(chunk, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_bytes_slow_their_writers_while_uploads_fail_and_refuse_none() {
    let policy = Policy { max_lag_ms: 5_000, ..Policy::single() };
    let cluster = Cluster::with(policy, Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/log").await;
    let ino = cluster.inode("/log").await.ino;
    let mut work = nodes[0].pull().await;
    cluster.clock.skip(Duration::from_secs(12));
    let up = next(&mut work, upload).await;
    let (chunk, granted, pause) = open(&session, ino).await.expect("room");
    assert_eq!((granted, pause), (1, 0), "nobody says that S3 fails");
    nodes[0].report(up.intent, Outcome::Failure("S3 is away".into())).await.expect("reported");
    let (_, granted, pause) = renew(&session, chunk, 2).await.expect("room, though the bytes are old");
    assert_eq!((granted, pause), (2, 250));
    nodes[0].report(up.intent, uploaded(&up)).await.expect("reported");
    let (_, granted, pause) = renew(&session, chunk, 4).await.expect("room");
    assert_eq!((granted, pause), (4, 0));
}
