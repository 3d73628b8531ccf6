//! What a server says when the fault is its own: damage, a state that cannot be read, its end.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{DiskId, FsError, InodeId};
use rustix::io::Errno;
use tonic::{Code, Status};

use super::data_node::FakeNode;
use super::{Cluster, at};
use crate::keys::{disks, nodes};
use crate::namespace::{Target, read};
use crate::raft::state::APPLIED_KEY;
use crate::store::Table;

/// How a `Stat` of this path is refused.
async fn refused(cluster: &Cluster, path: &str) -> Status {
    let request = cluster.request(v1::StatRequest { target: at(path), ..Default::default() });
    cluster.meta.clone().stat(request).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_is_told_as_damage_and_the_others_are_served() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.create("/bad").await;
    let good = session.create("/good").await;
    cluster.node.spoil(Table::Nodes, nodes::key(InodeId::ROOT, b"bad"));
    let status = refused(&cluster, "/bad").await;
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "the metadata of this object is damaged"));
    assert_eq!(WireError::from(status), WireError::Fs(FsError::Damaged));
    assert_eq!(FsError::Damaged.errno(), Errno::IO.raw_os_error());
    assert_eq!(cluster.list("/", "", 0).await, Err(WireError::Fs(FsError::Damaged)), "it hides no name");
    assert_eq!(cluster.inode("/good").await, good);
}

/// The open tail of a file, as it is applied.
fn tail(cluster: &Cluster, ino: u64) -> Option<u64> {
    let view = cluster.node.read_local().expect("a view");
    let stat = read::stat(&*view.store, &Target::ino(InodeId(ino))).expect("there");
    stat.inode.tail.map(|tail| tail.chunk.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_lost_is_made_once() {
    let cluster = Cluster::start().await;
    let _nodes = FakeNode::start_all(&cluster, 2).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let open = v1::OpenTail { ino, generation: 0, writer: session.id << 20, avoid: vec![] };
    // Only the way back reads it: a chunk is told with its nodes' addresses.
    cluster.node.spoil(Table::Disks, disks::key(DiskId([9; 16])));
    let lost = session.mutate_as(7, Operation::OpenTail(open.clone())).await;
    assert_eq!(lost, Err(WireError::Service(ServiceError::AnswerLost)));
    let made = tail(&cluster, ino);
    assert!(made.is_some(), "it is made");
    let again = session.mutate_as(7, Operation::OpenTail(open)).await;
    assert_eq!(again, Err(WireError::Service(ServiceError::AnswerLost)));
    assert_eq!(tail(&cluster, ino), made, "and made once");
    assert_eq!(Status::from(ServiceError::AnswerLost).code(), Code::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_read_is_an_internal_error() {
    // Nothing is proposed here: an entry would write the row anew.
    let cluster = Cluster::start().await;
    cluster.node.spoil(Table::Meta, APPLIED_KEY.to_vec());
    let status = refused(&cluster, "/").await;
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    assert_eq!(WireError::from(status), WireError::Service(ServiceError::Internal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopping_says_so() {
    let mut cluster = Cluster::start().await;
    assert!(cluster.stat("/").await.is_ok());
    cluster.started.take().expect("started once").stop().await;
    let status = refused(&cluster, "/").await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is stopping"));
    assert_eq!(WireError::from(status), WireError::Service(ServiceError::Stopping));
}
