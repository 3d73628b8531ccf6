//! `GetPolicy`: the policy in force, and where it is set.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{WireError, v1};
use cairn_types::{FsError, Policy};

use super::{Cluster, at, create, mkdir};

/// The policy's max lag, the directory that it is set on, and whether that is the target.
async fn in_force(cluster: &Cluster, path: &str) -> Result<(u64, String, bool), WireError> {
    let request = cluster.request(v1::GetPolicyRequest { target: at(path), ..Default::default() });
    let reply = cluster.meta.clone().get_policy(request).await?.into_inner();
    let origin = reply.origin.expect("an origin");
    let path = String::from_utf8(origin.path.to_vec()).expect("text");
    Ok((reply.policy.expect("a policy").max_lag_ms, path, origin.ino == reply.ino))
}

fn set(path: &str, max_lag_ms: Option<u64>) -> Operation {
    let policy = max_lag_ms.map(|max_lag_ms| v1::Policy::from(&Policy { max_lag_ms, ..Policy::cluster() }));
    Operation::SetPolicy(v1::SetPolicy { target: at(path), policy })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_told_with_the_directory_that_it_is_set_on() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    for path in ["/a", "/a/b", "/a/b/c"] {
        session.mutate(mkdir(path)).await.expect("made");
    }
    session.mutate(create("/a/b/c/f")).await.expect("made");
    let told = async |path: &str| in_force(&cluster, path).await.expect("a policy");
    assert_eq!(told("/").await, (30_000, "/".to_owned(), true));
    assert_eq!(told("/a/b/c/f").await, (30_000, "/".to_owned(), false));
    session.mutate(set("/a", Some(5_000))).await.expect("set");
    session.mutate(set("/a/b/c", Some(7_000))).await.expect("set");
    assert_eq!(told("/a").await, (5_000, "/a".to_owned(), true));
    assert_eq!(told("/a/b").await, (5_000, "/a".to_owned(), false));
    assert_eq!(told("/a/b/c/f").await, (7_000, "/a/b/c".to_owned(), false));
    let moved = v1::Rename { from: at("/a"), to: at("/z"), ..Default::default() };
    session.mutate(Operation::Rename(moved)).await.expect("renamed");
    assert_eq!(told("/z/b").await, (5_000, "/z".to_owned(), false));
    session.mutate(set("/z/b/c", None)).await.expect("inherits");
    assert_eq!(told("/z/b/c/f").await, (5_000, "/z".to_owned(), false));
    let refused = session.mutate(set("/z/b/c/f", Some(1_000))).await.map(drop);
    assert_eq!(refused, Err(WireError::Fs(FsError::NotDirectory)));
    assert_eq!(in_force(&cluster, "/none").await, Err(WireError::Fs(FsError::NotFound)));
}
