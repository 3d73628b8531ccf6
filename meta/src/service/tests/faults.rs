//! What a server says when the fault is its own: damage, a state that cannot be read, its end.

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, InodeId};
use rustix::io::Errno;
use tonic::{Code, Status};

use super::{Cluster, at};
use crate::keys::nodes;
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
