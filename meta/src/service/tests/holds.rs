//! Unlinked files over the wire: who is asked, what an answer does, and what the end of a session does.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{WireError, v1};
use cairn_types::{FsError, InodeId};

use super::{Cluster, LONG, Session, at, create, eventually};
use crate::keys::{self, orphans};

impl Cluster {
    /// A session that says what it holds.
    async fn holder(&self) -> Session<'_> {
        let open = v1::OpenSessionRequest { client: "holder".into(), credentials: None, holds_files: true };
        let id = self.meta.clone().open_session(self.request(open)).await.expect("a session").into_inner();
        Session { cluster: self, id: id.session, sequence: 1.into() }
    }

    async fn by_number(&self, ino: u64) -> Result<v1::Inode, WireError> {
        let target = Some(v1::Target { ino, ..Default::default() });
        let request = self.request(v1::StatRequest { target, ..Default::default() });
        Ok(self.meta.clone().stat(request).await?.into_inner().inode.expect("an inode"))
    }

    /// The row of an unlinked file that may be held.
    fn is_kept(&self, ino: u64) -> bool {
        let view = self.node.read_local().expect("a view");
        let row = keys::get::<orphans::Orphan>(&*view.store, &orphans::key(InodeId(ino)));
        row.expect("readable").is_some_and(|orphan| orphan.since.is_some())
    }

    async fn gone(&self, ino: u64) {
        eventually("the file is gone", async || (!self.is_kept(ino)).then_some(())).await;
        assert_eq!(self.by_number(ino).await, Err(WireError::Fs(FsError::Stale)));
    }
}

impl Session<'_> {
    async fn keep_alive(&self, holds: Option<v1::HoldAnswer>) -> Result<v1::KeepAliveReply, WireError> {
        let keep = v1::KeepAliveRequest { session: self.id, acknowledged_below: 0, holds };
        Ok(self.cluster.meta.clone().keep_alive(self.cluster.request(keep)).await?.into_inner())
    }

    /// What it is asked, and up to where.
    async fn asked(&self) -> (Vec<u64>, u64) {
        let reply = self.keep_alive(None).await.expect("kept");
        (reply.unlinked.iter().map(|file| file.ino).collect(), reply.unlinked_upto)
    }

    async fn answers(&self, number: u64, upto: u64, held: &[u64], released: &[u64]) {
        let (held, released) = (held.to_vec(), released.to_vec());
        let answer = v1::HoldAnswer { number, upto, held, released };
        self.keep_alive(Some(answer)).await.expect("taken");
    }

    async fn unlink(&self, path: &str) {
        self.mutate(Operation::Unlink(v1::Unlink { target: at(path) })).await.expect("unlinked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_file_stays_until_all_have_denied_it_and_its_holder_has_closed_it() {
    let cluster = Cluster::start().await;
    let (one, two, mute) = (cluster.holder().await, cluster.holder().await, cluster.session().await);
    let ino = mute.create("/f").await.ino;
    assert_eq!(one.asked().await, (vec![], 0));
    mute.unlink("/f").await;
    assert_eq!(cluster.stat("/f").await.map(drop), Err(WireError::Fs(FsError::NotFound)));
    assert_eq!(cluster.by_number(ino).await.expect("it is kept").nlink, 0);
    let late = cluster.holder().await;
    assert_eq!(late.asked().await, (vec![], 0), "it was not there");
    assert_eq!(mute.asked().await, (vec![], 0), "it never holds anything");

    let (files, upto) = one.asked().await;
    assert_eq!(files, [ino]);
    one.answers(1, upto, &[ino], &[]).await;
    assert_eq!(one.asked().await, (vec![], 0), "it has said so");
    let (files, upto) = two.asked().await;
    assert_eq!(files, [ino]);
    two.answers(1, upto, &[], &[]).await;
    // Held by one: changed by its number, and given no name.
    let grow = v1::SetAttr {
        target: Some(v1::Target { ino, ..Default::default() }),
        size: Some(9),
        ..Default::default()
    };
    let grown = one.mutate(Operation::SetAttr(grow)).await.expect("grown").inode.expect("an inode");
    assert_eq!((grown.size, grown.nlink), (9, 0));
    let link = v1::Link { from: Some(v1::Target { ino, ..Default::default() }), to: at("/again") };
    let refused = one.mutate(Operation::Link(link)).await.map(drop);
    assert_eq!(refused, Err(WireError::Fs(FsError::NotFound)));
    assert!(cluster.is_kept(ino));
    // An answer from before is not heard.
    one.answers(1, upto, &[], &[ino]).await;
    assert!(cluster.is_kept(ino));
    one.answers(2, upto, &[], &[ino]).await;
    cluster.gone(ino).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_silent_keeps_its_file_for_its_lease_and_no_longer() {
    let cluster = Cluster::start().await;
    let (silent, other) = (cluster.holder().await, cluster.holder().await);
    let ino = silent.create("/f").await.ino;
    other.unlink("/f").await;
    let (_, upto) = other.asked().await;
    other.answers(1, upto, &[], &[]).await;
    cluster.clock.skip(Duration::from_secs(29));
    other.keep_alive(None).await.expect("kept");
    // One more round of the jobs that end sessions and decide.
    let round = cluster.status().await.applied_index;
    other.mutate(create("/g")).await.expect("made");
    eventually("a further entry", async || (cluster.status().await.applied_index > round).then_some(()))
        .await;
    assert!(cluster.is_kept(ino), "its lease is not over");
    cluster.clock.skip(Duration::from_secs(5));
    other.keep_alive(None).await.expect("kept");
    cluster.gone(ino).await;
    let close = v1::CloseSessionRequest { session: other.id };
    let kept = other.create("/h").await.ino;
    let third = cluster.holder().await;
    third.unlink("/h").await;
    let (_, upto) = third.asked().await;
    third.answers(1, upto, &[], &[]).await;
    assert!(cluster.is_kept(kept));
    cluster.meta.clone().close_session(cluster.request(close)).await.expect("closed");
    cluster.gone(kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_alone_and_says_what_it_holds_unlinks_at_once() {
    let cluster = Cluster::start().await;
    let alone = cluster.holder().await;
    let (f, g) = (alone.create("/f").await.ino, alone.create("/g").await.ino);
    let unlink = async |path: &str, sequence: u64, holding: v1::Holding| {
        let operation = Operation::Unlink(v1::Unlink { target: at(path) });
        let request = v1::MutateRequest { holding: Some(holding), ..alone.request(sequence, operation) };
        cluster.meta.clone().mutate(cluster.request(request)).await.expect("unlinked");
    };
    unlink("/f", 100, v1::Holding { number: 0, inos: vec![g] }).await;
    assert_eq!(cluster.by_number(f).await, Err(WireError::Fs(FsError::Stale)));
    unlink("/g", 101, v1::Holding { number: 0, inos: vec![g] }).await;
    assert!(cluster.is_kept(g), "it holds it");
    let (files, upto) = alone.asked().await;
    assert_eq!(files, [g]);
    alone.answers(1, upto, &[], &[]).await;
    cluster.gone(g).await;
    // What it said before its last answer does not count any more.
    let h = alone.mutate_as(102, create("/h")).await.expect("made").inode.expect("an inode").ino;
    unlink("/h", 103, v1::Holding { number: 0, inos: vec![] }).await;
    assert!(cluster.is_kept(h));
    let mkdir =
        v1::MutateRequest { holding: Some(v1::Holding::default()), ..alone.request(104, super::mkdir("/d")) };
    let refused =
        cluster.meta.clone().mutate(cluster.request(mkdir)).await.map(drop).map_err(WireError::from);
    assert!(matches!(refused, Err(WireError::Service(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_answers_at_a_time_are_all_taken() {
    let cluster = Cluster::start().await;
    let mut sessions = Vec::new();
    for _ in 0..100 {
        sessions.push(cluster.holder().await);
    }
    let mute = cluster.session().await;
    let mut inos = Vec::new();
    for n in 0..20 {
        inos.push(mute.create(&format!("/{n}")).await.ino);
        mute.unlink(&format!("/{n}")).await;
    }
    let before = cluster.status().await.applied_index;
    let answers = sessions.iter().map(async |session| {
        let (files, upto) = session.asked().await;
        assert_eq!(files, inos);
        session.answers(1, upto, &[], &[]).await;
    });
    tokio::time::timeout(LONG, futures::future::join_all(answers)).await.expect("in time");
    for ino in inos {
        cluster.gone(ino).await;
    }
    let entries = cluster.status().await.applied_index - before;
    assert!(entries < 50, "{entries} entries for 100 answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_of_a_removed_tree_is_asked_about_and_goes_when_it_is_closed() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.holder().await, cluster.holder().await);
    one.mutate(super::mkdir("/t")).await.expect("made");
    one.mutate(super::mkdir("/t/d")).await.expect("made");
    let (open, closed) = (one.create("/t/d/open").await.ino, one.create("/t/d/closed").await.ino);
    let directory = cluster.inode("/t/d").await.ino;
    let remove = |path: &str| Operation::RemoveTree(v1::RemoveTree { target: at(path) });
    two.mutate(remove("/t")).await.expect("removed");
    assert_eq!(cluster.stat("/t/d/open").await.map(drop), Err(WireError::Fs(FsError::NotFound)));
    assert_eq!(cluster.by_number(directory).await, Err(WireError::Fs(FsError::Stale)));
    assert_eq!(cluster.by_number(open).await.expect("it is kept").nlink, 0);
    eventually("the tree is purged", async || (cluster.status().await.trees_pending == 0).then_some(()))
        .await;
    let (files, upto) = one.asked().await;
    assert_eq!(files.len(), 2);
    one.answers(1, upto, &[open], &[]).await;
    assert!(cluster.is_kept(closed), "one has not answered");
    let status = cluster.status().await;
    assert_eq!((status.unlinked_kept, status.unlinked_held, status.unlinked_more), (2, 1, false));
    let (_, upto) = two.asked().await;
    two.answers(1, upto, &[], &[]).await;
    cluster.gone(closed).await;
    assert_eq!(cluster.by_number(open).await.expect("it is kept").nlink, 0);
    one.answers(2, upto, &[], &[open]).await;
    cluster.gone(open).await;
    assert_eq!(cluster.status().await.unlinked_kept, 0);
    // One that is alone says with its request what it has open.
    let close = v1::CloseSessionRequest { session: two.id };
    cluster.meta.clone().close_session(cluster.request(close)).await.expect("closed");
    one.mutate(super::mkdir("/u")).await.expect("made");
    let (open, closed) = (one.create("/u/open").await.ino, one.create("/u/closed").await.ino);
    let holding = Some(v1::Holding { number: 2, inos: vec![open] });
    let request = v1::MutateRequest { holding, ..one.request(1000, remove("/u")) };
    cluster.meta.clone().mutate(cluster.request(request)).await.expect("removed");
    assert_eq!(cluster.by_number(closed).await, Err(WireError::Fs(FsError::Stale)));
    assert_eq!(one.asked().await.0, [open]);
}
