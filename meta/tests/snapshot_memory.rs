//! A server that was away for longer than the log reaches back comes home by a checkpoint that is
//! streamed to it, in memory that does not grow with the state. A process of its own: what it measures
//! is its own memory, in which all the servers are.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_meta::namespace::operation::XattrMode;
use cairn_meta::namespace::{Command, Operation, Target};
use cairn_meta::node::{Node, Settings, Started};
use cairn_meta::raft::machine::Pace;
use cairn_types::{
    FeatureLevels, LogIndex, NodeId, Policy, Random, Sequence, SessionId, SystemClock, SystemRandom,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// MiB of state in an ordinary run, and in a long one.
const STATE_MIB: u64 = 192;
const STATE_MIB_LONG: u64 = 5 * 1024;
/// MiB by which sender, receiver and the third server may grow together while it is sent. One that held
/// the state in memory would grow by [`STATE_MIB`] at least.
const GROWTH_MIB: u64 = 96;
/// Memory of each server's state database: the least that there is.
const MEMORY_BYTES: usize = 16 << 20;
/// Attributes of one entry, 64 KiB each.
const IN_ENTRY: u64 = 16;
const LONG: Duration = Duration::from_secs(20 * 60);
const SOON: Duration = Duration::from_secs(60);

struct Member {
    started: Started,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

async fn start(root: &Path, id: u64, addresses: &BTreeMap<u64, SocketAddr>, listener: TcpListener) -> Member {
    let settings = Settings {
        id: NodeId(id),
        dir: root.join(id.to_string()),
        members: addresses.iter().map(|(id, address)| (NodeId(*id), address.to_string())).collect(),
        join: Vec::new(),
        policy: Policy::cluster(),
        heartbeat_ms: 250,
        election_ms: (1500, 3000),
        memory_bytes: MEMORY_BYTES,
        levels: FeatureLevels::default(),
        compare_every: Duration::from_secs(1),
        pace: Pace { flush_entries: 200_000, flush_bytes: 32 << 20, keep_entries: 10 },
    };
    let started = Started::start(settings, Arc::new(SystemClock), Arc::new(SystemRandom)).await.unwrap();
    let stop = CancellationToken::new();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let router = Server::builder().add_service(started.node.raft_service().into_server());
    let ended = stop.clone();
    let server = tokio::spawn(async move {
        router.serve_with_incoming_shutdown(incoming, ended.cancelled_owned()).await.unwrap();
    });
    Member { started, stop, server }
}

async fn stop(member: Member) {
    member.stop.cancel();
    member.started.stop().await;
    timeout(SOON, member.server).await.unwrap().unwrap();
}

async fn leader(members: &BTreeMap<u64, Member>) -> Node {
    let watches = members.values().map(|member| {
        let node = member.started.node.clone();
        Box::pin(async move {
            node.leadership().wait_for(Option::is_some).await.map(drop).unwrap();
            node
        })
    });
    timeout(SOON, futures::future::select_all(watches.collect::<Vec<_>>())).await.expect("a leader").0
}

/// A field of /proc/self/status, in MiB.
fn memory_mib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Files with an attribute of 64 KiB each that no compression makes smaller.
fn entry(session: SessionId, number: u64) -> Command {
    let mut operations = Vec::new();
    for nth in 0..IN_ENTRY {
        let target = Target::path(format!("{number}-{nth}"));
        let mut value = vec![0; 60 << 10];
        SystemRandom.fill(&mut value);
        let (mode, uid, gid, extents) = (0o644, 0, 0, Vec::new());
        let (exclusive, truncate) = (true, false);
        operations.push(Operation::Create {
            target: target.clone(),
            mode,
            uid,
            gid,
            exclusive,
            truncate,
            extents,
        });
        operations.push(Operation::SetXattr {
            target,
            name: b"user.much".to_vec(),
            value,
            mode: XattrMode::Any,
        });
    }
    let operation = Operation::Transact { preconditions: Vec::new(), operations };
    let sequence = Sequence(number);
    Command::Request { session, sequence, acknowledged_below: sequence, operation }
}

/// Fills the state; answers the last entry.
async fn fill(leader: &Node, mib: u64) -> LogIndex {
    let open = Command::OpenSession { client: "much".to_owned() };
    let session = leader.propose(open, SOON).await.unwrap().1.unwrap().session.unwrap();
    let mut last = LogIndex(0);
    for number in 1..=mib {
        let (index, reply) = leader.propose(entry(session, number), SOON).await.unwrap();
        reply.unwrap();
        last = index;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_comes_back_by_a_checkpoint_in_bounded_memory() {
    let mib = if std::env::var_os("CAIRN_LONG").is_some() { STATE_MIB_LONG } else { STATE_MIB };
    let temp = tempfile::tempdir().unwrap();
    let (mut listeners, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for id in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.insert(id, listener.local_addr().unwrap());
        listeners.insert(id, listener);
    }
    let mut members = BTreeMap::new();
    for (id, listener) in listeners {
        members.insert(id, start(temp.path(), id, &addresses, listener).await);
    }
    let first = leader(&members).await;
    timeout(SOON, first.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    let away = (1..=3).find(|id| NodeId(*id) != first.id()).unwrap();
    stop(members.remove(&away).unwrap()).await;
    let leading = leader(&members).await;
    let last = fill(&leading, mib).await;
    // What grows while the state is filled, the caches and the log's tail, has grown.
    let covered = async {
        while leading.status().snapshot.0 + 40 < last.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, covered).await.expect("a checkpoint near the end");
    // The greatest so far is forgotten: from here on it is counted anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory_mib("VmRSS");
    let listener = TcpListener::bind(addresses[&away]).await.unwrap();
    members.insert(away, start(temp.path(), away, &addresses, listener).await);
    let back = members[&away].started.node.clone();
    let mut applied = back.applied();
    timeout(LONG, applied.wait_for(|at| *at >= last)).await.expect("it comes back").unwrap();
    let grown = memory_mib("VmHWM").saturating_sub(before);
    println!("{mib} MiB of state: all three servers grew from {before} MiB by {grown} MiB");
    // The state that it was sent has a directory of its own (`raft/state.rs`).
    let sent = temp.path().join(away.to_string()).join("state").join("db-2");
    assert!(sent.is_dir(), "it came by the log");
    assert!(grown <= GROWTH_MIB, "{grown} MiB more than {before} MiB for {mib} MiB of state");
    drop((first, leading, back));
    for (_, member) in members {
        stop(member).await;
    }
}
