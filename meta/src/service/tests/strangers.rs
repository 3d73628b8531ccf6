//! Who is not of this cluster, or makes no sense, changes nothing.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::ClusterId;
use tonic::{Code, Request};

use super::{Cluster, at, mkdir};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_and_learns_only_who_this_is() {
    let cluster = Cluster::start().await;
    let open = || v1::OpenSessionRequest { client: "stranger".into(), credentials: None, holds_files: false };
    let mut foreign = Request::new(open());
    handshake::stamp(&mut foreign, Some(ClusterId([9; 16])));
    let refused = cluster.meta.clone().open_session(foreign).await.expect_err("foreign");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(WireError::from(refused), WireError::Service(ServiceError::ForeignCluster));
    let mut unnamed = Request::new(open());
    handshake::stamp(&mut unnamed, None);
    let refused = cluster.meta.clone().open_session(unnamed).await.expect_err("unnamed");
    assert_eq!(WireError::from(refused), WireError::Service(ServiceError::ForeignCluster));
    let refused = cluster.meta.clone().hello(Request::new(v1::HelloRequest::default())).await;
    assert_eq!(refused.expect_err("no protocol").code(), Code::FailedPrecondition);
    let mut hello = Request::new(v1::HelloRequest::default());
    handshake::stamp(&mut hello, None);
    let hello = cluster.meta.clone().hello(hello).await.expect("hello").into_inner();
    assert_eq!(ClusterId::from_bytes(&hello.cluster_id), Some(cluster.id));
    assert_eq!((hello.leader, hello.members.len()), (1, 1));
    let mut pull = Request::new(v1::PullWorkRequest { node: 1, incarnation: 1 });
    handshake::stamp(&mut pull, Some(ClusterId([9; 16])));
    assert_eq!(
        cluster.nodes.clone().pull_work(pull).await.expect_err("foreign").code(),
        Code::FailedPrecondition
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_are_refused_and_change_nothing() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let before = cluster.status().await;
    let extent = |length, source| v1::Extent { file_offset: 0, length, source };
    let with = |extent| {
        Operation::Create(v1::Create { target: at("/x"), extents: vec![extent], ..Default::default() })
    };
    let chunk = Some(v1::extent::Source::Chunk(v1::ChunkSource { chunk: 1, offset: 0 }));
    let bad = [
        Operation::Mkdir(v1::Mkdir::default()),
        Operation::Mkdir(v1::Mkdir { target: at("/x"), mode: 1 << 20, ..Default::default() }),
        with(extent(0, chunk.clone())),
        with(extent(5, None)),
        Operation::OpenTail(v1::OpenTail { avoid: vec![1; 1000], ino: 1, ..Default::default() }),
        Operation::Rename(v1::Rename { from: at("/a"), to: at("/b"), no_replace: true, exchange: true }),
        Operation::MountAdd(Box::new(v1::MountAdd { target: at("/m"), ..Default::default() })),
    ];
    for operation in bad {
        let refused = session.mutate(operation.clone()).await;
        let malformed = matches!(refused, Err(WireError::Service(ServiceError::Malformed { .. })));
        assert!(malformed, "{operation:?}: {refused:?}");
    }
    let refused = session.mutate_as(0, mkdir("/x")).await;
    assert_eq!(refused, Err(WireError::Service(ServiceError::Malformed { field: "sequence".into() })));
    let register = v1::RegisterRequest { disk: vec![0; 16].into(), ..Default::default() };
    let refused = cluster.nodes.clone().register(cluster.request(register)).await;
    assert_eq!(refused.expect_err("a nil disk").code(), Code::InvalidArgument);
    let seal = cluster.meta.clone().seal_chunk(cluster.request(v1::SealChunkRequest::default())).await;
    assert_eq!(seal.expect_err("no chunk").code(), Code::InvalidArgument);
    assert_eq!(cluster.status().await.last_log_index, before.last_log_index, "nothing reached the log");
    assert!(cluster.names("/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_its_limit_is_refused() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let to = vec![b'x'; 5 << 20];
    let symlink = Operation::Symlink(v1::Symlink { target: at("/x"), to: to.into(), uid: 0, gid: 0 });
    match session.mutate(symlink).await {
        Err(WireError::Transport { code, .. }) => assert_eq!(code, Code::OutOfRange),
        other => panic!("not refused: {other:?}"),
    }
    assert!(cluster.names("/").await.is_empty());
}
