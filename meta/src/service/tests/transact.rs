//! Transactions over the wire.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::step::Operation as Step;
use cairn_proto::{WireError, v1};
use cairn_types::{FoundInode, FsError, InodeId};

use super::{Cluster, at, create};

fn transact(preconditions: Vec<v1::Precondition>, steps: Vec<Step>) -> Operation {
    let operations = steps.into_iter().map(|step| v1::Step { operation: Some(step) }).collect();
    Operation::Transact(v1::Transact { preconditions, operations })
}

fn mkdir(path: &str) -> Step {
    Step::Mkdir(v1::Mkdir { target: at(path), mode: 0o755, ..Default::default() })
}

fn absent(path: &str) -> v1::Precondition {
    v1::Precondition { target: at(path), absent: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_answers_each_step_and_its_loser_what_is_there() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let made = session.mutate(transact(vec![absent("/t")], vec![mkdir("/t"), mkdir("/t/a")])).await;
    let steps = made.expect("made").transact.expect("steps").steps;
    let inos: Vec<u64> = steps.iter().map(|s| s.inode.as_ref().expect("an inode").ino).collect();
    let top = cluster.inode("/t").await;
    assert_eq!(inos, [top.ino, cluster.inode("/t/a").await.ino]);
    let lost = session.mutate_as(2, transact(vec![absent("/t")], vec![mkdir("/u")])).await;
    let found = FoundInode { ino: InodeId(top.ino), version: top.version, length: 0 };
    assert_eq!(lost, Err(WireError::Fs(FsError::PreconditionFailed { index: 0, found: Some(found) })));
    let again = session.mutate_as(2, transact(vec![], vec![mkdir("/v")])).await;
    assert_eq!(again, lost, "the kept reply");
    let refused = session.mutate_as(3, transact(vec![], vec![mkdir("/u"), mkdir("/t")])).await;
    let why = Box::new(FsError::Exists);
    assert_eq!(refused, Err(WireError::Fs(FsError::OperationRefused { index: 1, why })));
    assert_eq!(cluster.names("/").await, ["t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_no_bytes_goes_over_the_wire() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(create("/a")).await.expect("made");
    let grow = v1::Allocate { target: at("/a"), offset: 10, length: 90, keep_size: false };
    let grown = session.mutate(Operation::Allocate(grow)).await.expect("grown").inode.expect("an inode");
    assert_eq!(grown.size, 100);
    let clone = v1::CloneFile { from: at("/a"), to: at("/b"), uid: 7, ..Default::default() };
    let cloned = session.mutate(Operation::CloneFile(clone.clone())).await.expect("cloned");
    assert_eq!(cloned.inode.map(|i| (i.size, i.uid)), Some((100, 7)));
    let again = session.mutate(Operation::CloneFile(clone.clone())).await;
    assert_eq!(again, Err(WireError::Fs(FsError::Exists)));
    let range = Some(v1::CloneRange { from_offset: 50, to_offset: 90, length: Some(50) });
    let copied = session.mutate(Operation::CloneFile(v1::CloneFile { range, ..clone.clone() })).await;
    assert_eq!(copied.expect("copied").inode.map(|i| i.size), Some(140));
    let range = Some(v1::CloneRange { from_offset: 50, to_offset: 0, length: Some(51) });
    let beyond = session.mutate(Operation::CloneFile(v1::CloneFile { range, ..clone })).await;
    let short = FsError::LengthMismatch { expected: 101, actual: 100 };
    assert_eq!(beyond, Err(WireError::Fs(short)));
    let from = vec![at("/a").expect("a target"), at("/a").expect("a target")];
    let concat = v1::Concat { target: at("/b"), from };
    let joined = session.mutate(Operation::Concat(concat)).await.expect("joined");
    assert_eq!(joined.inode.map(|i| i.size), Some(340));
    let punch = v1::PunchHole { target: at("/b"), offset: 300, length: 100, keep_size: true };
    let punched = session.mutate(Operation::PunchHole(punch)).await.expect("punched");
    assert_eq!(punched.inode.map(|i| i.size), Some(340));
}
