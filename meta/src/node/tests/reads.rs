//! Reads that a follower answers.

use std::time::Duration;

use cairn_types::NodeId;

use super::{Group, LONG, propose};
use crate::node::{Consistency, NodeError};
use crate::raft::machine::Pace;

fn followers(group: &Group, leader: NodeId) -> Vec<NodeId> {
    group.addresses.keys().copied().filter(|id| *id != leader).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_answers_with_all_that_was_acknowledged_before() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    for n in 0..30 {
        let (index, _) = propose(&leader, &n.to_string()).await;
        for id in followers(&group, leader.id()) {
            let view = group.node(id).read(Consistency::AnyServer).await.unwrap();
            assert!(view.applied >= index, "{id} shows {:?}, {index:?} was acknowledged", view.applied);
            assert!(view.as_of.is_some());
        }
    }
    let refused = group.node(followers(&group, leader.id())[0]).read(Consistency::Linearizable).await.err();
    assert!(matches!(refused, Some(NodeError::NotLeader { leader: Some((id, _)) }) if id == leader.id()));
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_is_never_older_than_was_asked_for() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    let follower = group.node(followers(&group, leader.id())[0]);
    let confirmed = follower.read(Consistency::AnyServer).await.unwrap();
    // Recent enough: no question to anybody, and the age is that of the round before.
    let stale = follower.read(Consistency::Stale(LONG)).await.unwrap();
    assert!(stale.applied >= index && stale.as_of >= confirmed.as_of);
    let fresh = follower.read(Consistency::Stale(Duration::ZERO)).await.unwrap();
    assert!(fresh.as_of > confirmed.as_of, "too old: it asked again");
    let id = follower.id();
    drop(leader);
    for other in group.addresses.keys().copied().filter(|other| *other != id).collect::<Vec<_>>() {
        group.stop(other).await;
    }
    let kept = follower.read(Consistency::Stale(LONG)).await.unwrap();
    assert_eq!(kept.as_of, fresh.as_of, "it still can tell how old it is");
    let refused = follower.read(Consistency::Stale(Duration::ZERO)).await.err();
    assert!(matches!(refused, Some(NodeError::NotLeader { .. } | NodeError::Deadline)), "{refused:?}");
    drop((follower, confirmed, stale, fresh, kept));
    group.stop_all().await;
}
