//! A check of the metadata over gRPC: what it finds, what it mends, and where.

use cairn_proto::v1::{FsckFinding, FsckOutcome, FsckProgress, FsckRequest};
use cairn_proto::{ServiceError, WireError};
use cairn_types::InodeId;
use tonic::Streaming;

use super::group::{leader, three};
use super::{Cluster, create, eventually, mkdir};
use crate::keys::places::{self, Place};
use crate::keys::{Record, nodes};
use crate::store::Table;

impl Cluster {
    async fn open_fsck(&self, repair: bool, local: bool) -> Result<Streaming<FsckProgress>, WireError> {
        let request = self.request(FsckRequest { repair, local });
        Ok(self.meta.clone().fsck(request).await?.into_inner())
    }

    /// All findings, and the last message.
    async fn fsck(&self, repair: bool, local: bool) -> Result<(Vec<FsckFinding>, FsckProgress), WireError> {
        let mut stream = self.open_fsck(repair, local).await?;
        let mut findings = Vec::new();
        loop {
            let message = stream.message().await?.expect("a last message");
            findings.extend(message.findings.clone());
            if message.done {
                assert!(stream.message().await?.is_none(), "nothing after the last one");
                return Ok((findings, message));
            }
        }
    }

    /// Plants a place of an inode that is not there.
    fn plant_place(&self, ino: u64) {
        let place = Place { parent: InodeId::ROOT, name: b"nothing".to_vec() };
        self.node.overwrite(Table::Places, places::key(InodeId(ino)), place.to_bytes());
    }
}

fn kinds(findings: &[FsckFinding]) -> Vec<&str> {
    findings.iter().map(|f| f.kind.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_mended_and_what_cannot_be_is_told() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(mkdir("/a")).await.expect("made");
    session.mutate(create("/a/f")).await.expect("made");
    let (findings, last) = cluster.fsck(false, false).await.expect("checked");
    assert_eq!(findings, []);
    assert!(last.rows > 10 && last.log_index > 3 && last.node == 1 && last.phase == "done", "{last:?}");

    cluster.plant_place(900);
    let (findings, _) = cluster.fsck(false, false).await.expect("checked");
    assert_eq!(kinds(&findings), ["dangling_place"]);
    let found = &findings[0];
    assert!(found.repairable && !found.known && found.outcome() == FsckOutcome::Left);
    assert_eq!(found.text, "the place of ino-900 is 'nothing' in ino-1, and it is not there");
    let fields: Vec<_> = found.fields.iter().map(|f| (f.name.as_str(), f.value.as_str())).collect();
    assert_eq!(fields, [("ino", "900"), ("parent", "1"), ("name", "nothing")]);

    let bad = cluster.inode("/a").await.ino;
    cluster.node.spoil(Table::Nodes, nodes::key(InodeId(bad), b"f"));
    let (findings, _) = cluster.fsck(true, false).await.expect("checked");
    assert_eq!(kinds(&findings), ["undecodable", "dangling_place", "wrong_count"]);
    let outcomes: Vec<FsckOutcome> = findings.iter().map(FsckFinding::outcome).collect();
    assert_eq!(outcomes, [FsckOutcome::Left, FsckOutcome::Mended, FsckOutcome::Mended]);
    let (findings, _) = cluster.fsck(true, false).await.expect("checked");
    assert_eq!(kinds(&findings), ["undecodable"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_asked_for_its_own_state_and_the_leader_alone_repairs() {
    let mut servers = three().await;
    let first = leader(&mut servers, None).await;
    let follower = &servers[(first + 1) % 3];
    eventually("the follower knows the cluster", async || follower.node.cluster_id()).await;
    follower.plant_place(900);
    let (findings, last) = follower.fsck(false, true).await.expect("its own state");
    assert_eq!((kinds(&findings), last.node), (vec!["dangling_place"], follower.node.id().0));
    assert_eq!(servers[first].fsck(false, false).await.expect("checked").0, [], "the leader's is sound");
    for (repair, local) in [(false, false), (true, true), (true, false)] {
        let refused = follower.fsck(repair, local).await;
        let not_leader = matches!(refused, Err(WireError::Service(ServiceError::NotLeader { .. })));
        assert!(not_leader, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_check_runs_at_a_time_and_ends_with_its_client() {
    let cluster = Cluster::start().await;
    // More than wait for a client that does not read them.
    for ino in 0..10_000 {
        cluster.plant_place(10_000 + ino);
    }
    let unread = cluster.open_fsck(false, false).await.expect("begun");
    let second = cluster.open_fsck(false, false).await.map(drop);
    assert_eq!(second, Err(WireError::Service(ServiceError::Overloaded)));
    drop(unread);
    let findings = eventually("the first one ends", async || cluster.fsck(false, false).await.ok()).await.0;
    assert_eq!(findings.len(), 10_000);
}
