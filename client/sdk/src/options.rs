//! [`ConnectOptions`].

use std::time::Duration;

pub use cairn_proto::frames::Transport;
use cairn_types::limits::{RETRY_BUDGET_MS, RPC_DEADLINE_MS};
use cairn_types::{ClusterId, Credentials};

/// How a client reaches its cluster, and its bounds.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Metadata servers, `host:port` each; any of them will do to find the others.
    pub meta: Vec<String>,
    /// Refuse servers of another cluster.
    pub cluster_id: Option<ClusterId>,
    /// The deadline of one RPC. Default 5 s.
    pub rpc_deadline: Duration,
    /// How long a call is retried before it gives up. Default 30 s.
    pub retry_budget: Duration,
    /// How long an append may wait for its acknowledgement before its chunk is sealed and it
    /// is resolved. Default 600 ms.
    pub append_deadline: Duration,
    /// Bytes of appends and writes under way, at most, for each open chunk; 1 MiB at least, and a record
    /// counts for 512 bytes at least. Whoever submits more waits. Default 8 MiB.
    pub in_flight_bytes_max: usize,
    /// Reads of the namespace go to all metadata servers in turn, not to the leader alone: as fresh,
    /// some 100 µs later at a follower, and the leader has less to do. Default false.
    pub spread_reads: bool,
    /// The leader answers reads of the namespace by its lease, without a round to a majority: as fresh as
    /// long as the servers' clocks run at the same rate. Does nothing with `spread_reads`. Default false.
    pub lease_reads: bool,
    /// Who this client says it is: what it asks for is then checked as POSIX says, by modes and ACLs,
    /// and what it makes is its own. Nothing proves it. Default `None`: nothing is checked.
    pub credentials: Option<Credentials>,
    /// How appends and reads reach the data nodes. Default: what CAIRN_TRANSPORT says in the environment
    /// (`auto`, `tcp`, `grpc`), else [`Transport::Auto`].
    pub transport: Transport,
    /// An append or a read that takes longer is told in this process's log (at level WARN), with its trace id, as
    /// the data nodes tell of their part in it. `None`: none is. Default 500 ms.
    pub slow_operation: Option<Duration>,
    /// A name for the servers' logs.
    pub name: String,
}

impl ConnectOptions {
    /// The defaults, for a cluster with these metadata servers (`host:port`).
    pub fn new<S: Into<String>>(meta: impl IntoIterator<Item = S>) -> Self {
        Self {
            meta: meta.into_iter().map(Into::into).collect(),
            cluster_id: None,
            rpc_deadline: Duration::from_millis(RPC_DEADLINE_MS),
            retry_budget: Duration::from_millis(RETRY_BUDGET_MS),
            append_deadline: Duration::from_millis(600),
            in_flight_bytes_max: 8 << 20,
            spread_reads: false,
            lease_reads: false,
            credentials: None,
            transport: transport_of_environment(),
            slow_operation: Some(Duration::from_millis(500)),
            name: format!("sdk-{}", std::process::id()),
        }
    }
}

/// What the environment says; what it says wrong is told once for each client, and does not count.
fn transport_of_environment() -> Transport {
    let Ok(said) = std::env::var("CAIRN_TRANSPORT") else { return Transport::default() };
    said.parse().unwrap_or_else(|()| {
        tracing::warn!(said, "CAIRN_TRANSPORT is none of auto, tcp, grpc");
        Transport::default()
    })
}
