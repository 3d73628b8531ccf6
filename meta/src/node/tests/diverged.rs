//! A server whose state is not the majority's ends; the others go on.

use cairn_types::{NodeId, Sequence, SessionId};
use tokio::time::timeout;

use super::{Group, LONG, propose};
use crate::keys::Record;
use crate::keys::sessions::{self, SessionRecord};
use crate::namespace::Command;
use crate::node::{Node, StartError};
use crate::raft::digest::MARK_EVERY;
use crate::raft::machine::Pace;
use crate::store::Table;

/// Changes a row behind a state machine's back, as a bug or a bad disk would, and has the leader propose
/// what reads it.
async fn plant(node: &Node, session: SessionId, leader: &Node) {
    let state = node.shared.view.current.get().unwrap();
    let key = sessions::key(session);
    let bytes = state.store().get(Table::Sessions, &key).unwrap().unwrap();
    let mut record = SessionRecord::from_bytes(&key, &bytes).unwrap();
    record.client.push('!');
    node.overwrite(Table::Sessions, key, record.to_bytes());
    let read = Command::Acknowledge { session, below: Sequence(2) };
    leader.propose(read, LONG).await.unwrap().1.unwrap();
}

async fn fault_of(group: &mut Group, id: NodeId) -> StartError {
    let member = group.running.get_mut(&id).unwrap();
    timeout(LONG, member.started.fault()).await.expect("it is found out")
}

async fn fill(node: &Node) {
    for n in 0..=2 * MARK_EVERY {
        propose(node, &n.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_another_state_ends_and_the_others_go_on() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    fill(&leader).await;
    let bad = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    let (index, session) = propose(&leader, "before").await;
    group.applied_everywhere(index).await;
    plant(&group.node(bad), session, &leader).await;
    fill(&leader).await;
    let fault = fault_of(&mut group, bad).await;
    assert!(
        matches!(fault, StartError::Diverged { node, index: at } if node == bad && at > index.0),
        "{fault:?}"
    );
    group.stop(bad).await;
    let (index, _) = propose(&leader, "after").await;
    group.applied_everywhere(index).await;
    // It is found out again after a restart: the difference stays in the digest.
    group.restart(bad).await;
    fill(&leader).await;
    assert!(matches!(fault_of(&mut group, bad).await, StartError::Diverged { .. }));
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_another_state_ends_too() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, session) = propose(&leader, "before").await;
    group.applied_everywhere(index).await;
    plant(&leader, session, &leader).await;
    fill(&leader).await;
    let bad = leader.id();
    drop(leader);
    assert!(matches!(fault_of(&mut group, bad).await, StartError::Diverged { node, .. } if node == bad));
    group.stop(bad).await;
    let next = group.leader().await;
    propose(&next, "after").await;
    drop(next);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_goes_with_a_snapshot_and_over_restarts() {
    let pace = Pace { flush_entries: 50, flush_bytes: 64 << 20, keep_entries: 5 };
    let mut group = Group::new(3, pace).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let away = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    group.stop(away).await;
    fill(&leader).await;
    group.restart(away).await;
    let newest = |node: &Node| node.shared.view.marks.borrow().iter().last().copied();
    // One that got a snapshot remembers none until it applies the next that is remembered.
    let agreed = async {
        loop {
            let (index, _) = propose(&leader, "more").await;
            group.applied_everywhere(index).await;
            let marks: Vec<_> = group.addresses.keys().map(|id| newest(&group.node(*id))).collect();
            let known = marks[0].is_some_and(|mark| mark.index > 2 * MARK_EVERY && mark.since == 0);
            if known && marks.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
        }
    };
    timeout(LONG, agreed).await.expect("all have the same digest");
    drop(leader);
    group.stop_all().await;
}
