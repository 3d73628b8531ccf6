//! The members change while the group runs: who is added, what is refused, who leaves, and that one
//! who was removed disturbs nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{LogIndex, NodeId, SystemClock, SystemRandom};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{
    DEADLINE, Group, LONG, Member, open_session, propose, purged_to, settings, snapshot_beyond, start,
};
use crate::node::{Changed, MemberError, Node, NodeError, PROMOTE_LAG_MAX, StartError, Started};
use crate::raft::machine::Pace;

impl Group {
    /// Starts an empty server that waits to be added. Answers its address.
    pub async fn joiner(&mut self, id: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let join = self.addresses.values().map(ToString::to_string).collect();
        self.addresses.insert(NodeId(id), address);
        self.join_on(NodeId(id), listener, join).await;
        address
    }

    async fn join_on(&mut self, id: NodeId, listener: TcpListener, join: Vec<String>) {
        let alone = BTreeMap::from([(id, listener.local_addr().unwrap().to_string())]);
        let mut settings = settings(&self.dir(id), id, alone, self.pace.clone());
        settings.join = join;
        settings.levels = self.levels(id);
        let member = start(settings, listener, self.machine()).await;
        self.running.insert(id, member);
    }

    /// Adds a server that waits, and makes it a voter.
    pub async fn grow(&mut self, id: u64) {
        let address = self.joiner(id).await.to_string();
        let leader = self.leader().await;
        assert_eq!(leader.add_member(NodeId(id), address).await, Ok(Changed::Now));
        // At once: the next change is judged by this.
        assert!(leader.status().members.iter().any(|member| member.node == NodeId(id)), "{id} is no member");
        promoted(&leader, id).await;
        assert!(voters(&leader).contains(&id));
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.running.get_mut(&NodeId(id)).unwrap()
    }
}

/// Promotes a learner as soon as it has caught up.
async fn promoted(leader: &Node, id: u64) {
    let promote = async {
        loop {
            match leader.promote_member(NodeId(id)).await {
                Err(
                    MemberError::Behind { .. }
                    | MemberError::Unreachable { .. }
                    | MemberError::Node(NodeError::Overloaded),
                ) => tokio::time::sleep(Duration::from_millis(20)).await,
                done => return done,
            }
        }
    };
    assert_eq!(timeout(LONG, promote).await.expect("it catches up"), Ok(Changed::Now));
}

/// Proposes as soon as some leader has a majority: of two voters each one is needed.
async fn proposed_soon(group: &Group, client: &str) -> LogIndex {
    let proposed = async {
        loop {
            let leader = group.leader().await;
            match leader.propose(open_session(client), DEADLINE).await {
                Ok((index, reply)) => {
                    reply.unwrap();
                    return index;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(LONG, proposed).await.expect("a leader has a majority")
}

/// Asks for a change until no other one is under way.
async fn remove(leader: &Node, id: u64) -> Result<Changed, MemberError> {
    loop {
        match leader.remove_member(NodeId(id)).await {
            Err(MemberError::Node(NodeError::Overloaded)) => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            done => return done,
        }
    }
}

fn voters(node: &Node) -> Vec<u64> {
    node.status().members.iter().filter(|m| m.voter).map(|m| m.node.0).collect()
}

/// Waits until a server leads none and knows that it was removed.
async fn knows_that_it_was_removed(node: &Node) {
    let mut standing = node.shared.standing.clone();
    let removed = standing.wait_for(|s| *s == crate::raft::standing::Standing::Removed);
    timeout(LONG, removed).await.expect("it finds out").unwrap();
    assert!(node.is_removed());
    assert!(!node.is_led(LONG), "it is not ready");
    assert_eq!(node.status().leader, None, "it sends nobody to a leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grows_to_three_and_any_of_them_may_die() {
    let mut group = Group::new(1, Pace::default()).await;
    let first = group.leader().await;
    let (_, before) = propose(&first, "before").await;
    group.grow(2).await;
    group.grow(3).await;
    assert_eq!(voters(&first), [1, 2, 3]);
    assert!(!first.status().changing);
    let (index, between) = propose(&first, "between").await;
    group.applied_everywhere(index).await;
    assert_eq!(
        first.add_member(NodeId(3), group.addresses[&NodeId(3)].to_string()).await,
        Ok(Changed::Already)
    );
    assert_eq!(first.promote_member(NodeId(3)).await, Ok(Changed::Already));
    drop(first);
    group.stop(NodeId(1)).await;
    let second = group.leader().await;
    let (_, after) = propose(&second, "after").await;
    assert!(before < between && between < after, "nothing was lost or doubled");
    drop(second);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_added_is_refused_and_changes_nothing() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    timeout(LONG, leader.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    let mut other = Group::new(1, Pace::default()).await;
    let foreign = other.leader().await;
    timeout(LONG, foreign.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    let waiting = group.joiner(2).await.to_string();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let own = group.addresses[&NodeId(1)].to_string();
    let far = other.addresses[&NodeId(1)].to_string();
    let add = async |id: u64, address: &str| leader.add_member(NodeId(id), address.to_owned()).await;
    assert_eq!(add(0, &waiting).await, Err(MemberError::Id));
    assert_eq!(add(101, &waiting).await, Err(MemberError::Id), "data nodes have those");
    for wrong in ["", "host", "host:", ":1", "http://h:1", "h:0"] {
        assert_eq!(add(2, wrong).await, Err(MemberError::Address { address: wrong.to_owned() }));
    }
    assert_eq!(add(2, &closed).await, Err(MemberError::Unreachable { node: NodeId(2) }));
    assert_eq!(add(2, &far).await, Err(MemberError::Foreign));
    assert_eq!(add(2, &own).await, Err(MemberError::NotWaiting { found: NodeId(1) }));
    assert_eq!(add(3, &waiting).await, Err(MemberError::NotWaiting { found: NodeId(2) }));
    assert_eq!(add(1, &waiting).await, Err(MemberError::IdUsed { node: NodeId(1) }));
    assert_eq!(leader.promote_member(NodeId(2)).await, Err(MemberError::NoSuchMember { node: NodeId(2) }));
    assert_eq!(remove(&leader, 2).await, Err(MemberError::NoSuchMember { node: NodeId(2) }));
    let status = leader.status();
    assert_eq!(status.members.len(), 1, "{status:?}");
    assert!(!group.node(NodeId(2)).is_led(LONG), "it still waits");
    let follower = group.node(NodeId(2)).add_member(NodeId(3), waiting.clone()).await;
    assert!(matches!(follower, Err(MemberError::Node(NodeError::NotLeader { .. }))), "{follower:?}");
    assert_eq!(add(2, &waiting).await, Ok(Changed::Now), "after all that it can be added");
    drop((leader, foreign));
    group.stop_all().await;
    other.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_directory_is_not_let_in_under_its_id() {
    let mut group = Group::new(1, Pace::default()).await;
    group.grow(2).await;
    group.grow(3).await;
    group.stop(NodeId(3)).await;
    std::fs::remove_dir_all(group.dir(NodeId(3))).unwrap();
    let address = group.addresses[&NodeId(3)];
    let listener = TcpListener::bind(address).await.unwrap();
    let join = vec![group.addresses[&NodeId(1)].to_string()];
    group.join_on(NodeId(3), listener, join).await;
    let fault = timeout(LONG, group.member(3).started.fault()).await.expect("it finds out");
    assert!(matches!(&fault, StartError::IdUsed { node: NodeId(3), .. }), "{fault:?}");
    let leader = group.leader().await;
    let again = leader.add_member(NodeId(3), address.to_string()).await;
    assert_eq!(again, Err(MemberError::IdUsed { node: NodeId(3) }));
    // The group goes on with the two that are left, and a server with a new id takes its place.
    assert_eq!(remove(&leader, 3).await, Ok(Changed::Now));
    group.stop(NodeId(3)).await;
    group.addresses.remove(&NodeId(3));
    group.grow(4).await;
    assert_eq!(voters(&leader), [1, 2, 4]);
    let (index, _) = propose(&leader, "after").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_falls_silent_and_its_id_is_never_used_again() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    propose(&leader, "a").await;
    let gone = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    // It is away when it is removed: nobody tells it.
    group.stop(gone).await;
    assert_eq!(remove(&leader, gone.0).await, Ok(Changed::Now));
    assert_eq!(remove(&leader, gone.0).await, Ok(Changed::Already));
    let term = leader.status().term;
    group.restart(gone).await;
    knows_that_it_was_removed(&group.node(gone)).await;
    let (index, _) = propose(&leader, "b").await;
    assert_eq!(leader.status().term, term, "it disturbed nobody");
    assert!(group.node(gone).status().applied < index);
    // Its id is nobody's any more, whoever comes under it.
    group.stop(gone).await;
    std::fs::remove_dir_all(group.dir(gone)).unwrap();
    let address = group.joiner(gone.0).await.to_string();
    let again = leader.add_member(gone, address).await;
    assert_eq!(again, Err(MemberError::IdUsed { node: gone }));
    let fault = timeout(LONG, group.member(gone.0).started.fault()).await.expect("it finds out");
    assert!(matches!(fault, StartError::IdUsed { .. }), "{fault:?}");
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_hands_over_before_it_is_removed() {
    let mut group = Group::new(3, Pace::default()).await;
    let first = group.leader().await;
    let (index, _) = propose(&first, "a").await;
    group.applied_everywhere(index).await;
    let gone = first.id();
    let Err(MemberError::Node(NodeError::NotLeader { leader: Some((next, _)) })) =
        remove(&first, gone.0).await
    else {
        panic!("it names the new leader");
    };
    assert_ne!(next, gone);
    let second = group.node(next);
    timeout(LONG, second.leadership().wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!(remove(&second, gone.0).await, Ok(Changed::Now));
    assert!(!voters(&second).contains(&gone.0));
    knows_that_it_was_removed(&first).await;
    propose(&second, "b").await;
    drop((first, second));
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_leave_no_live_majority_is_refused() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    assert_eq!(remove(&leader, 1).await, Err(MemberError::NoMajority { live: 0, voters: 0 }));
    group.grow(2).await;
    group.grow(3).await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    group.stop(NodeId(3)).await;
    let silent = async {
        while remove(&leader, 2).await != Err(MemberError::NoMajority { live: 1, voters: 2 }) {
            let members = voters(&leader);
            assert!(members.contains(&2), "it was removed while the third seemed alive: {members:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Until the third is known to be silent the removal would be let through: asked only then.
    let heard = async {
        while leader.status().members.iter().any(|m| m.node == NodeId(3) && m.silent_ms < Some(3100)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, heard).await.expect("it is silent");
    timeout(LONG, silent).await.expect("it is refused");
    assert_eq!(voters(&leader), [1, 2, 3], "nothing was changed");
    assert_eq!(remove(&leader, 3).await, Ok(Changed::Now), "the dead one may go");
    propose(&leader, "b").await;
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_added_late_gets_a_snapshot_and_then_the_log() {
    let pace = Pace { flush_entries: 50, flush_bytes: 64 << 20, keep_entries: 5 };
    let mut group = Group::new(1, pace).await;
    let leader = group.leader().await;
    for n in 0..200 {
        propose(&leader, &n.to_string()).await;
    }
    purged_to(&leader, LogIndex(100)).await;
    let address = group.joiner(2).await.to_string();
    assert_eq!(leader.add_member(NodeId(2), address).await, Ok(Changed::Now));
    let (index, _) = propose(&leader, "last").await;
    group.applied_everywhere(index).await;
    let added = group.node(NodeId(2));
    snapshot_beyond(&added, LogIndex(100)).await;
    let rows = |node: &Node| {
        let view = node.read_local().unwrap();
        view.store.scan(crate::store::Table::Sessions, &crate::store::KeyRange::default(), 1000).unwrap()
    };
    assert_eq!(rows(&added), rows(&leader), "both servers hold the same rows");
    assert_eq!(added.cluster_id(), leader.cluster_id());
    assert_eq!(voters(&leader), [1], "it does not vote yet");
    promoted(&leader, 2).await;
    // Restarted, it asks nobody: it is a member.
    drop((leader, added));
    group.stop(NodeId(2)).await;
    let listener = TcpListener::bind(group.addresses[&NodeId(2)]).await.unwrap();
    group.join_on(NodeId(2), listener, vec!["127.0.0.1:1".to_owned()]).await;
    let index = proposed_soon(&group, "once more").await;
    group.applied_everywhere(index).await;
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_lacks_much_does_not_vote() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    let address = group.joiner(2).await.to_string();
    assert_eq!(leader.add_member(NodeId(2), address).await, Ok(Changed::Now));
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    group.stop(NodeId(2)).await;
    let many = PROMOTE_LAG_MAX + 50;
    let commands = (0..many).map(|n| open_session(&n.to_string())).collect();
    leader.propose_all(commands, DEADLINE).await.unwrap();
    let refused = leader.promote_member(NodeId(2)).await;
    let behind = matches!(refused, Err(MemberError::Behind { lag, .. }) if lag >= many);
    assert!(behind || refused == Err(MemberError::Unreachable { node: NodeId(2) }), "{refused:?}");
    // A learner can be removed whether it answers or not.
    assert_eq!(remove(&leader, 2).await, Ok(Changed::Now));
    assert_eq!(leader.status().members.len(), 1);
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_made_on_request() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    assert_eq!(leader.status().snapshot, LogIndex(0));
    let (covered, bytes) = timeout(LONG, leader.take_snapshot()).await.unwrap().unwrap();
    assert!(covered >= index && bytes > 0, "{covered:?}, {bytes} bytes");
    assert!(leader.status().snapshot >= index);
    assert!(leader.log_bytes().await > 0);
    assert!(timeout(LONG, leader.take_snapshot()).await.unwrap().unwrap().0 >= covered, "again");
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_made_to_join_forms_no_cluster() {
    let mut group = Group::new(1, Pace::default()).await;
    let address = group.joiner(2).await;
    group.stop(NodeId(2)).await;
    let alone = BTreeMap::from([(NodeId(2), address.to_string())]);
    let settings = settings(&group.dir(NodeId(2)), NodeId(2), alone, Pace::default());
    let refused = Started::start(settings, Arc::new(SystemClock), Arc::new(SystemRandom)).await.err();
    assert!(matches!(refused, Some(StartError::NeverAdded { .. })), "{refused:?}");
    group.stop_all().await;
}
