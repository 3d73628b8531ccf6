//! A cluster for a bench: real processes of this same binary.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_datanode::UnderStoreConfig;
use cairn_sdk::{Client, ConnectOptions};

use crate::exit::CliError;

/// How long the cluster may take until it serves.
const READY: Duration = Duration::from_secs(60);
/// How long a server may take to leave.
const LEAVE: Duration = Duration::from_secs(60);

/// Which figure of a block device's `stat` it is, and what it counts in.
const SECTORS_WRITTEN: usize = 6;
const SECTOR_BYTES: u64 = 512;

/// Whether sealed chunks go to an under-store.
const PERSIST: &str = "CAIRN_META_POLICY_PERSIST";

/// Replicas of each chunk.
#[derive(Clone, Copy)]
pub struct Copies {
    /// As many as there should be.
    pub wanted: u8,
    /// As many as there must be.
    pub least: u8,
}

impl Copies {
    /// No fewer than are wanted.
    pub fn exactly(wanted: u8) -> Self {
        Self { wanted, least: wanted }
    }
}

/// Processes and their directory; the processes end with this, and so does the directory unless it is
/// kept.
pub struct BenchCluster {
    servers: Vec<Server>,
    metas: Vec<String>,
    directory: Directory,
}

enum Directory {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

struct Server {
    role: &'static str,
    dir: PathBuf,
    args: Vec<String>,
    envs: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl BenchCluster {
    /// Starts `metas` + `datas` servers under `directory` (or the temporary one) and waits. They write
    /// through to `under_store`; without one nothing is persisted.
    pub async fn start(
        (metas, datas): (usize, usize),
        copies: Copies,
        under_store: Option<&UnderStoreConfig>,
        directory: Option<&Path>,
    ) -> Result<Self, CliError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("cairn-bench-");
        let made = match directory {
            Some(directory) => builder.tempdir_in(directory),
            None => builder.tempdir(),
        };
        let directory = made.map_err(|e| CliError::io("make a directory for", "the bench", e))?;
        let ports = free_ports(metas + datas)?;
        let address = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let metas: Vec<String> = (0..metas).map(address).collect();
        let mut cluster = Self::with_metas(metas, Directory::Temporary(directory), copies);
        if under_store.is_some() {
            for server in &mut cluster.servers {
                server.envs.retain(|(name, _)| *name != PERSIST);
            }
        }
        for n in cluster.metas.len()..ports.len() {
            let dir = cluster.directory().join(format!("data{n}"));
            let args = ["--listen", &address(n), "--http", "", "--meta", &cluster.metas.join(",")];
            let args = args.map(str::to_owned).to_vec();
            let mut envs = vec![("CAIRN_DATA_CAPACITY_MIB", "8192".to_owned())];
            if let Some(to) = under_store {
                envs.push(("CAIRN_DATA_UNDERSTORE_URL", to.url.clone()));
                envs.push(("CAIRN_DATA_UNDERSTORE_ENDPOINT", to.endpoint.clone()));
                envs.push(("CAIRN_DATA_UNDERSTORE_REGION", to.region.clone()));
            }
            cluster.servers.push(Server { role: "data", dir, args, envs, child: None });
        }
        cluster.spawn_all(datas).await?;
        Ok(cluster)
    }

    /// One metadata server in a directory that stays, at a port that is its own.
    pub async fn open(directory: &Path, port: u16) -> Result<Self, CliError> {
        let metas = vec![format!("127.0.0.1:{port}")];
        let mut cluster = Self::with_metas(metas, Directory::Kept(directory.to_owned()), Copies::exactly(1));
        cluster.spawn_all(0).await?;
        Ok(cluster)
    }

    fn with_metas(metas: Vec<String>, directory: Directory, copies: Copies) -> Self {
        let peers: Vec<String> = metas.iter().enumerate().map(|(n, a)| format!("{}@{a}", n + 1)).collect();
        let peers = peers.join(",");
        let mut cluster = Self { servers: Vec::new(), metas, directory };
        for (n, address) in cluster.meta_addresses().iter().enumerate() {
            let dir = cluster.directory().join(format!("meta{n}"));
            let id = (n + 1).to_string();
            let args = ["--id", &id, "--listen", address, "--http", "", "--peers", &peers];
            let args = args.map(str::to_owned).to_vec();
            let envs = vec![
                ("CAIRN_META_POLICY_REPLICAS", copies.wanted.to_string()),
                ("CAIRN_META_POLICY_MIN_REPLICAS", copies.least.to_string()),
                (PERSIST, "never".to_owned()),
            ];
            cluster.servers.push(Server { role: "meta", dir, args, envs, child: None });
        }
        cluster
    }

    async fn spawn_all(&mut self, datas: usize) -> Result<(), CliError> {
        for server in &mut self.servers {
            server.spawn()?;
        }
        self.wait(datas).await
    }

    /// Where it all is.
    pub fn directory(&self) -> &Path {
        match &self.directory {
            Directory::Temporary(directory) => directory.path(),
            Directory::Kept(path) => path,
        }
    }

    /// The metadata servers.
    pub fn meta_addresses(&self) -> Vec<String> {
        self.metas.clone()
    }

    /// The places of the data nodes among the servers.
    pub fn data_nodes(&self) -> std::ops::Range<usize> {
        self.metas.len()..self.servers.len()
    }

    /// Bytes written so far to the disk that all of it is on, whoever wrote them (sysfs, `stat` of a block
    /// device); `None` where that is not known.
    pub fn written_bytes(&self) -> Option<u64> {
        let device = std::fs::metadata(self.directory()).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
        let sectors: u64 = stat.split_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
        Some(sectors * SECTOR_BYTES)
    }

    /// The process of the `n`th server, metadata servers first, while it runs.
    pub fn process(&self, n: usize) -> Option<u32> {
        self.servers.get(n)?.child.as_ref().map(Child::id)
    }

    /// The directory of the `n`th metadata server.
    pub fn meta_directory(&self, n: usize) -> PathBuf {
        self.directory().join(format!("meta{n}"))
    }

    /// Kills the `n`th server, as `kill -9` does.
    pub fn kill(&mut self, n: usize) {
        if let Some(server) = self.servers.get_mut(n) {
            server.kill();
        }
    }

    /// Asks the `n`th metadata server to leave and waits until it has.
    pub fn stop(&mut self, n: usize) -> Result<(), CliError> {
        let Some(mut child) = self.servers.get_mut(n).and_then(|server| server.child.take()) else {
            return Ok(());
        };
        let failed = |e: std::io::Error| CliError::io("stop", "a server", e);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|e| failed(e.into()))?;
        let deadline = Instant::now() + LEAVE;
        while child.try_wait().map_err(failed)?.is_none() {
            if Instant::now() > deadline {
                // Its files are closed either way.
                let _ = child.kill();
                let _ = child.wait();
                return Err(CliError::Usage("a server did not leave in a minute".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts the `n`th server, which does not run.
    pub fn spawn(&mut self, n: usize) -> Result<(), CliError> {
        self.servers.get_mut(n).map_or(Ok(()), Server::spawn)
    }

    async fn wait(&mut self, datas: usize) -> Result<(), CliError> {
        let deadline = Instant::now() + READY;
        let mut options = ConnectOptions::new(self.metas.clone());
        options.retry_budget = READY;
        let client = Client::connect(options).await?;
        loop {
            if client.status().await?.nodes.iter().filter(|n| n.alive).count() >= datas {
                return Ok(client.close().await?);
            }
            if self.servers.iter_mut().any(Server::has_ended) || Instant::now() > deadline {
                let logs = self.directory().display();
                return Err(CliError::Usage(format!(
                    "the bench's cluster did not start; its logs were under {logs}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Server {
    fn spawn(&mut self) -> Result<(), CliError> {
        let own = std::env::current_exe().map_err(|e| CliError::io("find", "this binary", e))?;
        let log_path = self.dir.with_extension("log");
        let log =
            std::fs::File::create(&log_path).map_err(|e| CliError::io("make", log_path.display(), e))?;
        let mut command = Command::new(own);
        command.arg(self.role).arg("--dir").arg(&self.dir).args(&self.args).env("CAIRN_LOG", "warn");
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().map_err(|e| CliError::io("start", "a server", e))?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for BenchCluster {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
    }
}

/// Ports nobody listens on; all stay bound until all are found.
pub fn free_ports(wanted: usize) -> Result<Vec<u16>, CliError> {
    let failed = |e| CliError::io("find", "free ports", e);
    let listeners: Vec<TcpListener> =
        (0..wanted).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(failed)?;
    listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>().map_err(failed)
}
