//! A mount's directory is read from S3 when it is first asked for.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{WireError, v1};
use cairn_types::FsError;

use super::data_node::FakeNode;
use super::{Cluster, LONG, at};

async fn mounted(cluster: &Cluster) {
    let session = cluster.session().await;
    let add = v1::MountAdd {
        target: at("/m"),
        bucket: "bucket".into(),
        prefix: "data".into(),
        endpoint: "http://127.0.0.1:1".into(),
        ..Default::default()
    };
    session.mutate(Operation::MountAdd(Box::new(add))).await.expect("mounted");
}

fn importing(result: Result<impl std::fmt::Debug, WireError>) -> u64 {
    match result {
        Err(WireError::Fs(FsError::Importing { intent })) => intent.0,
        other => panic!("not importing: {other:?}"),
    }
}

async fn wait(cluster: &Cluster, intent: u64, timeout_ms: u64) -> v1::WaitIntentReply {
    let request = cluster.request(v1::WaitIntentRequest { intent, timeout_ms });
    cluster.meta.clone().wait_intent(request).await.expect("an answer").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_imported_once_however_many_ask() {
    let cluster = Cluster::start().await;
    mounted(&cluster).await;
    let refused = cluster.list("/m", "", 0).await;
    assert_eq!(refused, Err(WireError::Fs(FsError::TooFewNodes { available: 0, needed: 1 })));
    let node = FakeNode::start(&cluster, 1).await;
    let intent = importing(cluster.list("/m", "", 0).await);
    assert_eq!(importing(cluster.list("/m", "", 0).await), intent);
    assert_eq!(importing(cluster.stat("/m/x").await), intent);
    assert!(!wait(&cluster, intent, 50).await.done);
    let mut work = node.pull().await;
    let piece = tokio::time::timeout(LONG, work.message()).await.expect("in time").expect("a stream");
    let Some(Work::Import(import)) = piece.expect("work").work else { panic!("another piece of work") };
    assert_eq!((import.intent, import.bucket.as_str()), (intent, "bucket"));
    assert_eq!(import.prefix, "data/");
    let entry = v1::ImportedEntry {
        name: "x".into(),
        size: 77,
        etag: "\"e\"".into(),
        mtime_ns: 5,
        key: "data/x".into(),
        directory: false,
    };
    let batch = v1::ImportedBatch {
        mount: import.mount,
        directory: import.directory,
        entries: vec![entry],
        ..Default::default()
    };
    node.report(intent, Outcome::Imported(batch)).await.expect("reported");
    assert_eq!(wait(&cluster, intent, 0).await, v1::WaitIntentReply { done: true, failure: String::new() });
    assert_eq!(cluster.names("/m").await, ["x"]);
    let request = v1::ExtentsRequest { target: at("/m/x"), length: 100, ..Default::default() };
    let extents = cluster.meta.clone().extents(cluster.request(request)).await.expect("extents").into_inner();
    let Some(v1::extent::Source::Object(object)) = &extents.extents[0].source else { panic!("no object") };
    assert_eq!((object.key.as_ref(), object.etag.as_str()), (&b"data/x"[..], "\"e\""));
    assert_eq!((extents.mounts[0].bucket.as_str(), &extents.mounts[0].path[..]), ("bucket", &b"/m"[..]));
    let mounts = cluster.meta.clone().list_mounts(cluster.request(v1::ListMountsRequest::default())).await;
    assert_eq!(mounts.expect("mounts").into_inner().mounts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_fails_for_good_says_why() {
    let cluster = Cluster::start().await;
    mounted(&cluster).await;
    let node = FakeNode::start(&cluster, 1).await;
    let intent = importing(cluster.list("/m", "", 0).await);
    let failed = v1::ImportFailed { message: "no such bucket".into(), permanent: true };
    node.report(intent, Outcome::ImportFailed(failed)).await.expect("reported");
    let reply = wait(&cluster, intent, 0).await;
    assert_eq!((reply.done, reply.failure.as_str()), (true, "no such bucket"));
    let next = importing(cluster.list("/m", "", 0).await);
    assert_ne!(next, intent, "asked again, it is tried again");
}
