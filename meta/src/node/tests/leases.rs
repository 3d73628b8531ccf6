//! Reads by the leader's lease: what the other servers do, so that nobody else can lead meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_proto::v1::RaftMessage;
use cairn_proto::v1::raft_client::RaftClient;
use cairn_types::{Clock, NodeId, SystemClock, Timestamp};
use tokio::time::timeout;

use super::{Group, LONG, propose};
use crate::node::Consistency;
use crate::raft::machine::Pace;
use crate::raft::record::{self, LogIdRecord, VoteRecord};

/// A boot clock that is set by hand.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    fn boottime(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

#[derive(bincode::Encode)]
struct AskVote {
    vote: VoteRecord,
    last: Option<LogIdRecord>,
    transfer: bool,
}

/// Server 9's wish to lead in `term`, to the server `of` the group: true when that one answers at all.
async fn answers(group: &Group, of: NodeId, term: u64, transfer: bool) -> bool {
    let vote = VoteRecord { term, node: 9, committed: false };
    let payload = record::encode(&AskVote { vote, last: None, transfer });
    let mut request = tonic::Request::new(RaftMessage { group: 0, from: 9, to: of.0, payload });
    cairn_proto::handshake::stamp(&mut request, group.node(of).cluster_id());
    let mut client = RaftClient::connect(format!("http://{}", group.addresses[&of])).await.unwrap();
    match client.vote(request).await {
        Ok(_) => true,
        Err(status) => {
            assert!(status.message().contains("restarted just now"), "{status}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarted_votes_for_nobody_until_a_lease_that_it_forgot_has_run_out() {
    let clock = Arc::new(SetClock::default());
    let (mut group, listeners) =
        Group::unstarted(3, Pace::default(), Arc::clone(&clock) as Arc<dyn Clock>).await;
    for (id, listener) in listeners {
        group.start_on(id, listener).await;
    }
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let other = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    assert!(answers(&group, other, 1, false).await, "one that never restarted forgot nothing");
    group.stop(other).await;
    group.restart(other).await;
    assert!(!answers(&group, other, 1, false).await);
    assert!(answers(&group, other, 1, true).await, "the leader that hands over has ended its lease");
    clock.0.store(699, Ordering::Relaxed);
    assert!(!answers(&group, other, 1, false).await, "seven eighths of 800 ms");
    clock.0.store(700, Ordering::Relaxed);
    assert!(answers(&group, other, 1, false).await);
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_over_answers_nothing_by_its_lease() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let held = timeout(LONG, async {
        while !leader.has_lease() {
            leader.read(Consistency::Linearizable).await.unwrap();
        }
    });
    held.await.expect("a majority hears it");
    let to = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    leader.transfer_leader(Some(to), LONG).await.unwrap();
    assert!(!leader.has_lease());
    // Whoever leads then has one.
    let next = group.leader().await;
    let (index, _) = propose(&next, "b").await;
    assert!(next.read(Consistency::Lease).await.unwrap().applied >= index);
    drop((leader, next));
    group.stop_all().await;
}
