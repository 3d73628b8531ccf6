//! The feature level: what needs more than the cluster has is refused, and the level is raised by
//! itself once every member applies the next one. And directories of the first level.

use std::path::Path;
use std::sync::Arc;

use cairn_types::{FEATURE_LEVEL, FeatureLevel, FeatureLevels, LogIndex, NodeId, SystemClock, SystemRandom};
use tokio::time::timeout;

use super::{DEADLINE, Group, LONG, open_session, propose, purged_to};
use crate::namespace::{Command, Target, jobs, read};
use crate::node::{MemberError, Node, NodeError, StartError, Started};
use crate::raft::machine::Pace;

const FIRST: FeatureLevel = FeatureLevel::FIRST;
const SECOND: FeatureLevel = FeatureLevel::SECOND;

fn old() -> FeatureLevels {
    FeatureLevels::up_to(FIRST)
}

impl Group {
    /// Three servers, of which those named are of an older build.
    async fn of_builds(olds: &[u64], pace: Pace) -> Self {
        let (mut group, listeners) = Self::unstarted(3, pace, Arc::new(SystemClock)).await;
        group.old = olds.iter().copied().map(NodeId).collect();
        for (id, listener) in listeners {
            group.start_on(id, listener).await;
        }
        group
    }

    /// Replaces a server's build by the newest.
    async fn upgrade(&mut self, id: NodeId) {
        self.stop(id).await;
        self.upgrade_stopped(id).await;
    }

    /// As [`Self::upgrade`], of one that does not run.
    async fn upgrade_stopped(&mut self, id: NodeId) {
        self.old.remove(&id);
        self.restart(id).await;
    }
}

/// Waits until a server has applied that level.
async fn at(node: &Node, level: FeatureLevel) {
    let mut levels = node.shared.view.level.clone();
    timeout(LONG, levels.wait_for(|l| *l == level)).await.expect("the level is raised").unwrap();
}

/// Waits until the leader has been told by all members.
async fn told(node: &Node, count: usize) {
    let mut told = node.shared.told.clone();
    timeout(LONG, told.wait_for(|t| t.len() >= count)).await.expect("all members tell").unwrap();
}

async fn probe(node: &Node) -> Result<(), NodeError> {
    node.propose(Command::Probe, DEADLINE).await.map(|(_, reply)| drop(reply.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_is_at_the_newest_level_soon() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    for id in 1..=3 {
        at(&group.node(NodeId(id)), FEATURE_LEVEL).await;
    }
    assert_eq!(probe(&leader).await, Ok(()));
    told(&leader, 3).await;
    let status = leader.status();
    assert_eq!(status.level, FEATURE_LEVEL);
    assert!(status.members.iter().all(|m| m.levels == Some(FeatureLevels::default())), "{status:?}");
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_has_its_level_before_it_has_a_name() {
    let mut group = Group::new(1, Pace::default()).await;
    let node = group.node(NodeId(1));
    timeout(LONG, node.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!(node.level(), FEATURE_LEVEL);
    assert_eq!(probe(&group.leader().await).await, Ok(()));
    drop(node);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_server_cannot_apply_is_refused_until_all_are_upgraded() {
    let mut group = Group::of_builds(&[1, 2], Pace::default()).await;
    let leader = group.leader().await;
    told(&leader, 3).await;
    let refused = Err(NodeError::NeedsLevel { needs: SECOND, level: FIRST });
    assert_eq!(probe(&leader).await, refused);
    // Of several that are proposed together only those are refused that need more.
    let mixed = vec![open_session("a"), Command::Probe, open_session("b")];
    let outcomes = leader.propose_all(mixed, DEADLINE).await.unwrap();
    let fits: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(fits, [true, false, true]);
    let sessions: Vec<_> = outcomes.into_iter().flatten().map(|(_, r)| r.unwrap().session.unwrap()).collect();
    assert!(sessions[0] < sessions[1], "{sessions:?}");
    drop(leader);
    // One is upgraded; another may lead now, and it is refused there too.
    group.upgrade(NodeId(1)).await;
    let leader = group.leader().await;
    told(&leader, 3).await;
    assert_eq!(leader.level(), FIRST);
    if leader.is_leader() {
        assert_eq!(probe(&leader).await, refused);
    }
    let (index, _) = propose(&leader, "c").await;
    group.applied_everywhere(index).await;
    drop(leader);
    // The last one is away: what it applies is not known, and the level stays.
    group.stop(NodeId(2)).await;
    let leader = group.leader().await;
    told(&leader, 2).await;
    propose(&leader, "d").await;
    assert_eq!(leader.level(), FIRST);
    drop(leader);
    group.old.clear();
    group.restart(NodeId(2)).await;
    for id in 1..=3 {
        at(&group.node(NodeId(id)), FEATURE_LEVEL).await;
    }
    let leader = group.leader().await;
    assert_eq!(probe(&leader).await, Ok(()));
    let (index, _) = propose(&leader, "e").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_is_raised_by_whoever_leads() {
    let mut group = Group::of_builds(&[1, 2, 3], Pace::default()).await;
    for id in [1, 2, 3] {
        group.upgrade(NodeId(id)).await;
        // A leader hands over in between, so that another one must find out what all apply.
        let leader = group.leader().await;
        let (index, _) = propose(&leader, &id.to_string()).await;
        group.applied_everywhere(index).await;
        let to = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
        leader.transfer_leader(Some(to), LONG).await.unwrap();
    }
    for id in 1..=3 {
        at(&group.node(NodeId(id)), FEATURE_LEVEL).await;
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_apply_the_clusters_level_is_not_added() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    at(&leader, FEATURE_LEVEL).await;
    group.old.insert(NodeId(2));
    let address = group.joiner(2).await.to_string();
    // It finds out by itself as well; whichever comes first, nothing is changed.
    let added = leader.add_member(NodeId(2), address).await;
    assert_eq!(added, Err(MemberError::Level { node: NodeId(2), highest: FIRST, level: FEATURE_LEVEL }));
    let fault = timeout(LONG, group.member(2).started.fault()).await.expect("it finds out");
    assert!(
        matches!(fault, StartError::Level(f) if f.level == FEATURE_LEVEL && f.levels == old()),
        "{fault:?}"
    );
    let said = format!("feature level is {FEATURE_LEVEL}, and this server applies 1 to 1");
    assert!(fault.to_string().contains(&said), "{fault}");
    assert_eq!(leader.status().members.len(), 1);
    let view = leader.read_local().unwrap();
    assert!(jobs::servers(&*view.store).unwrap().known.is_empty(), "its id is still free");
    drop(view);
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_build_on_a_state_of_a_newer_level_is_refused_and_changes_nothing() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    at(&leader, FEATURE_LEVEL).await;
    let (_, session) = propose(&leader, "a").await;
    // A durable state, not one that is in the log alone.
    timeout(LONG, leader.take_snapshot()).await.unwrap().unwrap();
    drop(leader);
    group.stop(NodeId(1)).await;
    group.old.insert(NodeId(1));
    let settings = group.settings(NodeId(1));
    let refused = Started::start(settings, Arc::new(SystemClock), Arc::new(SystemRandom)).await.err();
    assert!(matches!(refused, Some(StartError::Level(_))), "{refused:?}");
    group.upgrade_stopped(NodeId(1)).await;
    let leader = group.leader().await;
    assert!(propose(&leader, "b").await.1 > session);
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_older_stops_at_the_entry_that_raised_the_level() {
    let mut group = Group::of_builds(&[1], Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop(NodeId(1)).await;
    // As if the raise had been decided by what a newer build told in its place.
    let leader = group.leader().await;
    leader.propose(Command::RaiseLevel { to: FEATURE_LEVEL }, DEADLINE).await.unwrap().1.unwrap();
    group.restart(NodeId(1)).await;
    let member = group.running.get_mut(&NodeId(1)).unwrap();
    let fault = timeout(LONG, member.started.fault()).await.expect("it comes to the entry");
    assert!(
        matches!(fault, StartError::Level(f) if f.level == FEATURE_LEVEL && f.levels == old()),
        "{fault:?}"
    );
    timeout(LONG, member.started.node.failed()).await.expect("it applies nothing any more");
    propose(&leader, "b").await;
    group.stop(NodeId(1)).await;
    // The right build goes on from there.
    group.upgrade_stopped(NodeId(1)).await;
    let (index, _) = propose(&leader, "c").await;
    group.applied_everywhere(index).await;
    assert_eq!(group.node(NodeId(1)).level(), FEATURE_LEVEL);
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_above_its_level_stops_an_old_server_and_leaves_its_state() {
    let pace = Pace { flush_entries: 50, flush_bytes: 64 << 20, keep_entries: 5 };
    let mut group = Group::of_builds(&[1], pace).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop(NodeId(1)).await;
    // As if the raise had been decided by what it told before it went away.
    let leader = group.leader().await;
    leader.propose(Command::RaiseLevel { to: FEATURE_LEVEL }, DEADLINE).await.unwrap().1.unwrap();
    for n in 0..200 {
        propose(&leader, &n.to_string()).await;
    }
    purged_to(&leader, LogIndex(100)).await;
    group.restart(NodeId(1)).await;
    let member = group.running.get_mut(&NodeId(1)).unwrap();
    let fault = timeout(LONG, member.started.fault()).await.expect("it meets the snapshot");
    assert!(matches!(fault, StartError::Level(f) if f.level == FEATURE_LEVEL), "{fault:?}");
    let view = member.started.node.read_local();
    assert!(view.is_err() || view.unwrap().applied < LogIndex(100), "its own state is as it was");
    group.stop(NodeId(1)).await;
    // The right build goes on from there.
    group.upgrade_stopped(NodeId(1)).await;
    let (index, _) = propose(&leader, "last").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop_all().await;
}

/// Unpacks a directory that a build from before there were feature levels wrote: path and bytes of
/// each file, each behind its length. Made while the server ran: 30 entries in its log, of which its
/// state and its snapshot hold 25.
fn unpack(to: &Path) {
    let packed = std::fs::read("src/node/tests/level-1.bin").unwrap();
    let mut rest = packed.as_slice();
    let mut take = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (bytes, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        Some(bytes)
    };
    while let Some(path) = take() {
        let path = to.join(std::str::from_utf8(path).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, take().unwrap()).unwrap();
    }
}

async fn goes_on_with_a_directory_of_the_first_level(without: Option<&str>) {
    let (mut group, listeners) = Group::unstarted(1, Pace::default(), Arc::new(SystemClock)).await;
    let dir = group.dir(NodeId(1));
    unpack(&dir);
    if let Some(part) = without {
        std::fs::remove_dir_all(dir.join(part)).unwrap();
    }
    for (id, listener) in listeners {
        group.start_on(id, listener).await;
    }
    let leader = group.leader().await;
    let cluster = "baed2276f1f266961f08812826e8d803";
    assert_eq!(leader.cluster_id().map(|id| id.to_string()).as_deref(), Some(cluster));
    let view = leader.read_local().unwrap();
    assert!(view.applied >= LogIndex(30));
    for path in (0..22).map(|n| format!("/before-{n}")).chain((0..5).map(|n| format!("/after-{n}"))) {
        let found = read::stat(&*view.store, &Target::path(path.clone())).unwrap();
        assert_eq!((found.inode.uid, found.inode.gid), (1, 2), "{path}");
    }
    drop(view);
    at(&leader, FEATURE_LEVEL).await;
    assert_eq!(probe(&leader).await, Ok(()));
    assert_eq!(propose(&leader, "after").await.1.0, 2, "the session of before is counted");
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_the_first_level_is_opened_by_this_build() {
    goes_on_with_a_directory_of_the_first_level(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_and_a_state_of_the_first_level_need_no_snapshot() {
    goes_on_with_a_directory_of_the_first_level(Some("snapshot")).await;
}
