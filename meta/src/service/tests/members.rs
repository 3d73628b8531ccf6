//! The members of the group over the wire: what is shown, and what is refused in which words.

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::NodeId;
use tokio::net::TcpListener;

use super::Cluster;

async fn add(cluster: &Cluster, node: u64, address: &str) -> Result<v1::MemberReply, WireError> {
    let request = cluster.request(v1::AddMemberRequest { node, address: address.to_owned() });
    Ok(cluster.members.clone().add_member(request).await?.into_inner())
}

async fn promote(cluster: &Cluster, node: u64) -> Result<v1::MemberReply, WireError> {
    let request = cluster.request(v1::PromoteMemberRequest { node });
    Ok(cluster.members.clone().promote_member(request).await?.into_inner())
}

async fn remove(cluster: &Cluster, node: u64) -> Result<v1::MemberReply, WireError> {
    let request = cluster.request(v1::RemoveMemberRequest { node });
    Ok(cluster.members.clone().remove_member(request).await?.into_inner())
}

fn refused<T>(error: ServiceError) -> Result<T, WireError> {
    Err(WireError::Service(error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_group_is_and_what_it_refuses_is_told_in_its_own_words() {
    let cluster = Cluster::start().await;
    let group = cluster.request(v1::GroupStatusRequest {});
    let group = cluster.members.clone().group_status(group).await.expect("a status").into_inner();
    assert_eq!((group.leader, group.changing, group.members.len()), (1, false, 1));
    let own = group.members[0].clone();
    assert!(own.voter && own.reachable && own.lag_entries == 0, "{own:?}");
    assert_eq!(own.matched_index, group.last_log_index);

    let node = NodeId(2);
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let malformed = |field: &str| ServiceError::Malformed { field: field.to_owned() };
    assert_eq!(add(&cluster, 0, &own.address).await, refused(malformed("node")));
    assert_eq!(add(&cluster, 2, "nowhere").await, refused(malformed("address")));
    let unreachable = ServiceError::MemberUnreachable { node };
    assert_eq!(add(&cluster, 2, &closed.to_string()).await, refused(unreachable));
    let not_waiting = ServiceError::NotWaiting { node: NodeId(1) };
    assert_eq!(add(&cluster, 2, &own.address).await, refused(not_waiting));
    assert_eq!(add(&cluster, 1, &own.address).await, Ok(v1::MemberReply { already: true }));
    assert_eq!(promote(&cluster, 1).await, Ok(v1::MemberReply { already: true }));
    assert_eq!(promote(&cluster, 2).await, refused(ServiceError::NoSuchMember { node }));
    assert_eq!(remove(&cluster, 2).await, refused(ServiceError::NoSuchMember { node }));
    let last = ServiceError::NoLiveMajority { live: 0, voters: 0 };
    assert_eq!(remove(&cluster, 1).await, refused(last));

    let snapshot = cluster.request(v1::TakeSnapshotRequest {});
    let made = cluster.members.clone().take_snapshot(snapshot).await.expect("a snapshot").into_inner();
    let itself = cluster.request(v1::ServerStatusRequest {});
    let itself = cluster.members.clone().server_status(itself).await.expect("an answer").into_inner();
    assert!(made.node == 1 && made.index > 0 && made.bytes > 0, "{made:?}");
    assert!(
        itself.snapshot_index >= made.index && itself.snapshot_bytes > 0 && itself.log_bytes > 0,
        "{itself:?}"
    );
    assert!(!itself.removed && !itself.version.is_empty());
}
