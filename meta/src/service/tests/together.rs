//! Several changes in one call.

use cairn_proto::v1::mutate_outcome::Outcome;
use cairn_proto::v1::{self, MutateAllRequest, MutateReply, MutateRequest};
use cairn_proto::{ServiceError, WireError};
use cairn_types::FsError;
use cairn_types::limits::MUTATIONS_MAX;
use tonic::Status;

use super::{Cluster, create, mkdir};

type Outcomes = Result<Vec<Result<MutateReply, WireError>>, WireError>;

async fn ask(cluster: &Cluster, requests: Vec<MutateRequest>) -> Outcomes {
    let request = cluster.request(MutateAllRequest { requests });
    let reply = cluster.meta.clone().mutate_all(request).await?.into_inner();
    let outcomes = reply.outcomes.into_iter().map(|outcome| match outcome.outcome.expect("an outcome") {
        Outcome::Reply(reply) => Ok(reply),
        Outcome::Refusal(refusal) => Err(Status::from(refusal).into()),
    });
    Ok(outcomes.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_asked_for_together_are_made_in_order_and_refused_one_by_one() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.session().await, cluster.session().await);
    let nothing = v1::MutateRequest { operation: None, ..one.request(4, mkdir("/")) };
    let requests = vec![
        one.request(1, mkdir("/a")),
        other.request(1, create("/a/x")),
        one.request(2, mkdir("/a")),
        nothing,
        one.request(3, create("/a/y")),
        one.request(3, create("/a/again")),
    ];
    let outcomes = ask(&cluster, requests.clone()).await.expect("answered");
    let inode = |n: usize| outcomes[n].as_ref().expect("made").inode.as_ref().expect("an inode").ino;
    assert_eq!(outcomes.len(), requests.len());
    assert_eq!(inode(1), cluster.inode("/a/x").await.ino);
    assert_eq!(outcomes[2], Err(WireError::Fs(FsError::Exists)));
    assert!(
        matches!(outcomes[3], Err(WireError::Service(ServiceError::Malformed { .. }))),
        "{:?}",
        outcomes[3]
    );
    assert_eq!(inode(4), cluster.inode("/a/y").await.ino);
    assert_eq!(inode(5), inode(4), "a sequence happens once, within a call too");
    assert_eq!(cluster.names("/a").await, ["x", "y"]);

    let again = ask(&cluster, requests).await.expect("answered");
    let without_index = |outcome: &Result<MutateReply, WireError>| {
        outcome.clone().map(|reply| MutateReply { log_index: 0, ..reply })
    };
    let (before, after): (Vec<_>, Vec<_>) =
        (outcomes.iter().map(without_index).collect(), again.iter().map(without_index).collect());
    assert_eq!(after, before, "the kept replies");
    assert_eq!(cluster.names("/a").await, ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_changes_or_none_are_refused_and_nothing_is_made() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let some = |count: u64| (1..=count).map(|n| session.request(n, create(&format!("/{n}")))).collect();
    let most = MUTATIONS_MAX as u64;
    for count in [0, most + 1] {
        let refused = ask(&cluster, some(count)).await;
        assert!(matches!(refused, Err(WireError::Service(ServiceError::Malformed { .. }))), "{refused:?}");
    }
    assert!(cluster.names("/").await.is_empty());
    let made = ask(&cluster, some(most)).await.expect("answered");
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(cluster.names("/").await.len(), MUTATIONS_MAX);
}
