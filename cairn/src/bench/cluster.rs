//! A cluster for a bench: real processes of this same binary.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_sdk::{Client, ConnectOptions};

use crate::exit::CliError;

/// How long the cluster may take until it serves.
const READY: Duration = Duration::from_secs(60);

/// Processes and their directory; both end with this.
pub struct BenchCluster {
    children: Vec<Child>,
    metas: Vec<String>,
    directory: tempfile::TempDir,
}

impl BenchCluster {
    /// Starts `metas` + `datas` servers under `directory` (or the temporary one) and waits.
    pub async fn start(
        metas: usize,
        datas: usize,
        replicas: u8,
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
        let meta_addresses: Vec<String> = (0..metas).map(address).collect();
        let mut cluster = Self { children: Vec::new(), metas: meta_addresses.clone(), directory };
        let peers: Vec<String> =
            meta_addresses.iter().enumerate().map(|(n, a)| format!("{}@{a}", n + 1)).collect();
        for n in 0..metas {
            let dir = cluster.path(&format!("meta{n}"));
            let mut command = cluster.command("meta", &dir)?;
            command.args(["--id", &(n + 1).to_string(), "--listen", &address(n), "--http", ""]);
            command.args(["--peers", &peers.join(",")]);
            command.env("CAIRN_META_POLICY_REPLICAS", replicas.to_string());
            command.env("CAIRN_META_POLICY_MIN_REPLICAS", replicas.to_string());
            command.env("CAIRN_META_POLICY_PERSIST", "never");
            cluster.spawn(command)?;
        }
        for n in metas..metas + datas {
            let dir = cluster.path(&format!("data{n}"));
            let mut command = cluster.command("data", &dir)?;
            command.args(["--listen", &address(n), "--http", "", "--meta", &meta_addresses.join(",")]);
            command.env("CAIRN_DATA_CAPACITY_MIB", "8192");
            cluster.spawn(command)?;
        }
        cluster.wait(datas).await?;
        Ok(cluster)
    }

    /// Where it all is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The metadata servers.
    pub fn meta_addresses(&self) -> Vec<String> {
        self.metas.clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, role: &str, dir: &Path) -> Result<Command, CliError> {
        let own = std::env::current_exe().map_err(|e| CliError::io("find", "this binary", e))?;
        let log_path = dir.with_extension("log");
        let log =
            std::fs::File::create(&log_path).map_err(|e| CliError::io("make", log_path.display(), e))?;
        let mut command = Command::new(own);
        command.arg(role).arg("--dir").arg(dir).env("CAIRN_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn spawn(&mut self, mut command: Command) -> Result<(), CliError> {
        self.children.push(command.spawn().map_err(|e| CliError::io("start", "a server", e))?);
        Ok(())
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
            if self.children.iter_mut().any(|c| !matches!(c.try_wait(), Ok(None)))
                || Instant::now() > deadline
            {
                let logs = self.directory.path().display();
                return Err(CliError::Usage(format!(
                    "the bench's cluster did not start; its logs were under {logs}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for BenchCluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports nobody listens on; all stay bound until all are found.
fn free_ports(wanted: usize) -> Result<Vec<u16>, CliError> {
    let failed = |e| CliError::io("find", "free ports", e);
    let listeners: Vec<TcpListener> =
        (0..wanted).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(failed)?;
    listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>().map_err(failed)
}
