//! Waiting for a file to change: its version, its open tail, that it is there.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::FsError;

use super::data_node::{FakeNode, Held};
use super::{Cluster, LONG, at};

impl Cluster {
    async fn wait_file(&self, known: &v1::Inode, timeout_ms: u64) -> Result<bool, WireError> {
        let tail = known.tail.as_ref().map_or(0, |tail| tail.chunk);
        let request = v1::WaitFileRequest { ino: known.ino, version: known.version, tail, timeout_ms };
        let mut meta = self.meta.clone();
        let asked = meta.wait_file(self.request(request));
        let reply = tokio::time::timeout(LONG, asked).await.expect("an answer");
        Ok(reply?.into_inner().changed)
    }
}

fn chmod(path: &str) -> Operation {
    Operation::SetAttr(v1::SetAttr { target: at(path), mode: Some(0o600), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_file_is_told_when_its_tail_opens_and_when_it_is_sealed() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let known = session.create("/log").await;
    // Nothing changes; then something else does; then a tail is opened, which changes no version.
    assert_eq!(cluster.wait_file(&known, 30).await, Ok(false));
    let opening = async {
        session.create("/other").await;
        session.open_tail(known.ino, 1).await.expect("a tail")
    };
    let (told, chunk) = tokio::join!(cluster.wait_file(&known, 0), opening);
    assert_eq!(told, Ok(true));
    let known = cluster.inode("/log").await;
    assert_eq!(known.tail.map(|tail| tail.chunk), Some(chunk.chunk));
    assert_eq!(cluster.wait_file(&known, 30).await, Ok(false));
    for node in &nodes {
        node.change(|d| drop(d.held.insert(chunk.chunk, Held { length: 10, ..Held::default() })));
    }
    let (told, sealed) = tokio::join!(cluster.wait_file(&known, 0), cluster.seal(chunk.chunk, LONG));
    assert_eq!((told, sealed.expect("sealed").length), (Ok(true), 10));
    // What has changed already is told at once.
    assert_eq!(cluster.wait_file(&known, 0).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_file_is_told_of_its_other_changes_and_of_its_end() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let known = session.create("/f").await;
    let (told, changed) = tokio::join!(cluster.wait_file(&known, 0), session.mutate(chmod("/f")));
    changed.expect("changed");
    assert_eq!(told, Ok(true));
    let known = cluster.inode("/f").await;
    let unlink = Operation::Unlink(v1::Unlink { target: at("/f") });
    let (told, gone) = tokio::join!(cluster.wait_file(&known, 0), session.mutate(unlink));
    gone.expect("unlinked");
    // This session holds no files: it is gone with its name.
    let stale = Err(WireError::Fs(FsError::Stale));
    assert_eq!(told, stale);
    assert_eq!(cluster.wait_file(&known, 0).await, stale);
    let nothing = v1::Inode::default();
    let malformed = ServiceError::Malformed { field: "ino".to_owned() };
    assert_eq!(cluster.wait_file(&nothing, 0).await, Err(WireError::Service(malformed)));
}
