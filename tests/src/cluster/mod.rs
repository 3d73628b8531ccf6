//! [`Cluster`]: metadata servers and data nodes as real processes on loopback ports.

#![allow(clippy::disallowed_methods, reason = "waits for real processes in real time")]

mod command;
mod door;
mod error;
mod process;
mod pump;
mod records;
mod understore;
mod wire;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_sdk::types::{NodeId, Policy};
use cairn_sdk::{Client, ConnectOptions, StatusReply, Transport};

pub use command::{Outcome, run};
pub use door::Door;
pub use error::ClusterError;
pub use process::Server;
pub use pump::Pump;
pub use records::{Found, Ledger, record, records, verify};
pub use understore::UnderStore;
pub use wire::{Wire, target};

use crate::s3_server::free_ports;

/// How long a cluster may take from its start until everything serves.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at: what is waited for is in other processes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Metadata servers.
    pub metas: usize,
    /// Data nodes.
    pub datas: usize,
    /// The root's policy.
    pub policy: Policy,
    /// Disks of each data node; of several, each has a directory below the node's ([`Server::disk`]).
    pub disks: usize,
    /// Where the data nodes write through to.
    pub understore: UnderStore,
    /// Each data node's capacity, in MiB.
    pub capacity_mib: u64,
    /// Bytes in a segment, in MiB.
    pub segment_mib: u64,
    /// Lines added to every metadata server's configuration, before its tables.
    pub meta_toml: String,
    /// Lines added to every data node's configuration, before its tables.
    pub data_toml: String,
    /// The zones of the data nodes, in their order; those beyond have none.
    pub zones: Vec<&'static str>,
    /// Every server is reached through a [`Door`].
    pub doors: bool,
}

impl Default for ClusterOptions {
    /// 3 + 3, replicas 3, min_replicas 2, nothing to write through to.
    fn default() -> Self {
        Self {
            metas: 3,
            datas: 3,
            disks: 1,
            policy: Policy::cluster(),
            understore: UnderStore::None,
            capacity_mib: 2048,
            segment_mib: 64,
            meta_toml: String::new(),
            data_toml: String::new(),
            zones: Vec::new(),
            doors: false,
        }
    }
}

impl ClusterOptions {
    /// 1 + 1, one replica.
    #[must_use]
    pub fn single() -> Self {
        Self { metas: 1, datas: 1, policy: Policy::single(), ..Self::default() }
    }

    /// The same, whose servers wait long before they take a busy machine for a slow replica or a dead leader: for
    /// tests that need a chunk, or a leader, to stay what it is, and kill no leader. Their writers are
    /// [`patient`](Cluster::patient_client) as well.
    #[must_use]
    pub fn steady(mut self) -> Self {
        self.meta_toml.push_str("election_min_ms = 2500\nelection_max_ms = 4000\n");
        self.data_toml.push_str("replica_deadline_ms = 20000\n");
        self
    }
}

/// A cluster of real processes. All of it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The metadata servers; the first has the id 1.
    pub metas: Vec<Server>,
    /// The data nodes.
    pub datas: Vec<Server>,
    /// The way to each metadata server, then to each data node; empty unless asked for.
    doors: Vec<Door>,
    binary: PathBuf,
    directory: PathBuf,
    // Removed after the servers are gone: fields drop in order.
    _temporary: Option<tempfile::TempDir>,
}

/// Where the `cairn` binary is: CAIRN_BIN, else beside this test's own binary.
///
/// # Errors
/// [`ClusterError::NoBinary`].
pub fn cairn_binary() -> Result<PathBuf, ClusterError> {
    let named = std::env::var_os("CAIRN_BIN").map(PathBuf::from);
    let beside = || {
        let own = std::env::current_exe().ok()?;
        own.ancestors().skip(1).take(2).map(|dir| dir.join("cairn")).find(|path| path.is_file())
    };
    let path = named.or_else(beside).unwrap_or_else(|| PathBuf::from("target/release/cairn"));
    if path.is_file() { Ok(path) } else { Err(ClusterError::NoBinary { path }) }
}

impl Cluster {
    /// Starts a cluster in a temporary directory and waits until it serves.
    ///
    /// # Errors
    /// [`ClusterError`], with the log of a server that ended.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let temporary = tempfile::Builder::new().prefix("cairn-cluster-").tempdir().map_err(|source| {
            ClusterError::Io {
                action: "make a directory in",
                subject: "the temporary directory".into(),
                source,
            }
        })?;
        let directory = temporary.path().to_owned();
        Self::start_in(directory, Some(temporary), options).await
    }

    /// Starts a cluster in `directory`, which stays.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_at(directory: &Path, options: ClusterOptions) -> Result<Self, ClusterError> {
        Self::start_in(directory.to_owned(), None, options).await
    }

    async fn start_in(
        directory: PathBuf,
        temporary: Option<tempfile::TempDir>,
        options: ClusterOptions,
    ) -> Result<Self, ClusterError> {
        let binary = cairn_binary()?;
        let servers = options.metas + options.datas;
        let ports = free_ports(if options.doors { 3 } else { 2 } * servers)?;
        let address = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let (meta_ports, data_ports) = (0..options.metas, options.metas..options.metas + options.datas);
        let http = |n: usize| address(n + servers);
        let environment = options.understore.environment();
        let server = |role, number: usize, n: usize| {
            let server =
                Server::new(role, number, &directory, &binary, address(n), http(n), environment.clone());
            if options.doors { server.behind_a_door(address(n + 2 * servers)) } else { server }
        };
        let metas: Vec<Server> = meta_ports.map(|n| server("meta", n + 1, n)).collect();
        let datas: Vec<Server> = data_ports.map(|n| server("data", n + 1 - options.metas, n)).collect();
        let mut doors = Vec::new();
        for server in metas.iter().chain(&datas).filter(|_| options.doors) {
            let opened = Door::open(server.address(), server.listen().to_owned()).await;
            doors.push(opened.map_err(|source| ClusterError::Io {
                action: "open a door at",
                subject: server.address().to_owned(),
                source,
            })?);
        }
        let mut cluster =
            Self { metas, datas, doors, binary: binary.clone(), directory, _temporary: temporary };
        cluster.configure(&options)?;
        for server in cluster.metas.iter_mut().chain(&mut cluster.datas) {
            server.start()?;
        }
        cluster.wait_ready(READY_DEADLINE).await?;
        Ok(cluster)
    }

    fn configure(&self, options: &ClusterOptions) -> Result<(), ClusterError> {
        let quoted = |list: Vec<String>| list.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        let peers = quoted(
            self.metas.iter().enumerate().map(|(n, m)| format!("{}@{}", n + 1, m.address())).collect(),
        );
        let policy = toml_policy(&options.policy);
        for (n, meta) in self.metas.iter().enumerate() {
            meta.configure(&format!(
                "id = {}\ndir = {:?}\nlisten = {:?}\nhttp = {:?}\npeers = [{peers}]\n{}\n{policy}",
                n + 1,
                meta.directory(),
                meta.listen(),
                meta.http(),
                options.meta_toml,
            ))?;
        }
        let metas = quoted(self.meta_addresses());
        let understore = options.understore.toml(&self.directory)?;
        for (n, data) in self.datas.iter().enumerate() {
            let zone = options.zones.get(n).map_or(String::new(), |zone| format!("zone = {zone:?}\n"));
            let place = data.make_disks(options.disks)?;
            // A unix socket leads past a door.
            let transport = if options.doors { "transport = \"tcp\"\n" } else { "" };
            data.configure(&format!(
                "{zone}{transport}{place}\nlisten = {:?}\nadvertise = {:?}\nhttp = {:?}\nmeta = [{metas}]\ncapacity_mib = {}\nsegment_mib = {}\n{}\n{understore}",
                data.listen(),
                data.address(),
                data.http(),
                options.capacity_mib,
                options.segment_mib,
                options.data_toml,
            ))?;
        }
        Ok(())
    }

    /// Starts one more metadata server, empty, that waits to be added to the running ones
    /// (`cairn admin raft add`). Answers its place in `metas`; its id is one more.
    ///
    /// # Errors
    /// When there is no port, or the process cannot be started.
    pub fn join_meta(&mut self) -> Result<usize, ClusterError> {
        let ports = free_ports(2)?;
        let address = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let place = self.metas.len();
        let mut server =
            Server::new("meta", place + 1, &self.directory, &self.binary, address(0), address(1), Vec::new());
        let running =
            self.metas.iter_mut().filter_map(|m| m.is_running().then(|| format!("{:?}", m.address())));
        let join = running.collect::<Vec<_>>().join(", ");
        server.configure(&format!(
            "id = {}\ndir = {:?}\nlisten = {:?}\nhttp = {:?}\njoin = [{join}]\n",
            place + 1,
            server.directory(),
            server.address(),
            server.http(),
        ))?;
        server.start()?;
        self.metas.push(server);
        Ok(place)
    }

    /// The directory that holds everything.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The `cairn` binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The way to a metadata server, by its position.
    ///
    /// # Panics
    /// Where no doors were asked for.
    #[must_use]
    pub fn meta_door(&self, position: usize) -> &Door {
        &self.doors[position]
    }

    /// The way to a data node, by its position.
    ///
    /// # Panics
    /// Where no doors were asked for.
    #[must_use]
    pub fn data_door(&self, position: usize) -> &Door {
        &self.doors[self.metas.len() + position]
    }

    /// The metadata servers' addresses.
    #[must_use]
    pub fn meta_addresses(&self) -> Vec<String> {
        self.metas.iter().map(|m| m.address().to_owned()).collect()
    }

    /// A new client with its own session.
    ///
    /// # Errors
    /// When no leader answers within the retry budget.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        Ok(Client::connect(self.options()).await?)
    }

    /// A client that takes nobody for dead who is only slow: it waits long for an acknowledgement before it has a
    /// chunk sealed, and asks for longer than a busy machine takes to start all servers.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub async fn patient_client(&self) -> Result<Client, ClusterError> {
        let mut options = self.options();
        options.append_deadline = Duration::from_secs(20);
        options.retry_budget = Duration::from_secs(120);
        Ok(Client::connect(options).await?)
    }

    /// How a client reaches this cluster; through its doors where there are some.
    #[must_use]
    pub fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.meta_addresses());
        if !self.doors.is_empty() {
            options.transport = Transport::Tcp;
        }
        options
    }

    /// A `cairn` command that talks to this cluster.
    #[must_use]
    pub fn cli(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.binary);
        command.env("CAIRN_CONNECT", self.meta_addresses().join(","));
        command
    }

    /// Waits until there is a leader and every running data node is known to be alive.
    ///
    /// # Errors
    /// [`ClusterError::Late`], or [`ClusterError::Ended`] when a server ended.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<(), ClusterError> {
        let deadline = Instant::now() + within;
        let mut options = ConnectOptions::new(self.meta_addresses());
        options.retry_budget = within;
        let mut client = None;
        loop {
            if let Some(ended) = self.metas.iter_mut().chain(&mut self.datas).find_map(Server::ended) {
                return Err(ended);
            }
            if client.is_none() {
                options.retry_budget = Duration::from_secs(2);
                client = Client::connect(options.clone()).await.ok();
            }
            let status = match &client {
                Some(client) => client.status().await.ok(),
                None => None,
            };
            if status.is_some_and(|s| self.running_nodes_alive(&s)) {
                break;
            }
            if Instant::now() >= deadline {
                let condition = "a leader and every data node alive".to_owned();
                return Err(ClusterError::Late { condition, seconds: within.as_secs() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Some(client) = client {
            client.close().await?;
        }
        Ok(())
    }

    fn running_nodes_alive(&mut self, status: &StatusReply) -> bool {
        self.datas
            .iter_mut()
            .filter_map(|d| d.is_running().then(|| d.address().to_owned()))
            .all(|address| status.nodes.iter().any(|n| n.address == address && n.alive))
    }

    /// The position in `metas` of the leader.
    ///
    /// # Errors
    /// When there is none within the retry budget.
    pub async fn leader(&self, client: &Client) -> Result<usize, ClusterError> {
        let leader = client.status().await?.leader;
        Ok(usize::try_from(leader.saturating_sub(1)).unwrap_or(0))
    }

    /// The position in `datas` of a node, by its id.
    ///
    /// # Errors
    /// When the status cannot be had, or no running server has that node's address.
    pub async fn data_of(&self, client: &Client, node: NodeId) -> Result<usize, ClusterError> {
        let status = client.status().await?;
        let address = status.nodes.iter().find(|n| n.node == node.0).map(|n| n.address.clone());
        self.datas.iter().position(|d| Some(d.address()) == address.as_deref()).ok_or_else(|| {
            ClusterError::Late { condition: format!("{node} among the data nodes"), seconds: 0 }
        })
    }

    /// Starts every server that is not running and waits until all serve.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_all(&mut self) -> Result<(), ClusterError> {
        for server in self.metas.iter_mut().chain(&mut self.datas) {
            server.start()?;
        }
        self.wait_ready(READY_DEADLINE).await
    }

    /// SIGKILL to every server, as fast as can be.
    pub fn kill_all(&mut self) {
        for server in self.metas.iter_mut().chain(&mut self.datas) {
            server.kill();
        }
    }
}

/// Waits until `look` answers something.
///
/// # Errors
/// [`ClusterError::Late`] names the condition.
pub async fn eventually<T, F, Fut>(condition: &str, within: Duration, mut look: F) -> Result<T, ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(ClusterError::Late { condition: condition.to_owned(), seconds: within.as_secs() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn toml_policy(policy: &Policy) -> String {
    format!(
        "[policy]\nreplicas = {}\nmin_replicas = {}\nack = {:?}\npersist = {:?}\nmax_lag_ms = {}\nmax_lag_bytes = {}\n",
        policy.replicas,
        policy.min_replicas,
        format!("{:?}", policy.ack).to_lowercase(),
        format!("{:?}", policy.persist).to_lowercase(),
        policy.max_lag_ms,
        policy.max_lag_bytes,
    )
}
