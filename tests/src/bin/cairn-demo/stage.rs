//! [`Stage`]: every process of the demo, and their directory.

use std::path::{Path, PathBuf};

use cairn_sdk::Client;
use cairn_tests::cluster::{Cluster, Server};
use cairn_tests::s3_server::S3Server;

use crate::error::DemoError;
use crate::say;

/// Log lines of each server that a failure shows.
const LINES_SHOWN: usize = 8;

/// The cluster, the S3 server and a client. Fields drop in order: processes before their files.
pub struct Stage {
    cluster: Option<Cluster>,
    client: Option<Client>,
    s3: Option<S3Server>,
    directory: Option<tempfile::TempDir>,
}

impl Stage {
    /// Nothing but a directory.
    pub fn empty() -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new()
            .prefix("cairn-demo-")
            .tempdir()
            .map_err(|source| DemoError::io("make a directory in", std::env::temp_dir(), source))?;
        Ok(Self { cluster: None, client: None, s3: None, directory: Some(directory) })
    }

    /// Where everything lies.
    pub fn directory(&self) -> PathBuf {
        self.directory.as_ref().map(|d| d.path().to_owned()).unwrap_or_default()
    }

    /// Puts the S3 server on the stage.
    pub fn bring_s3(&mut self, s3: S3Server) {
        self.s3 = Some(s3);
    }

    /// Puts the cluster and its client on the stage.
    pub fn bring_cluster(&mut self, cluster: Cluster, client: Client) {
        self.cluster = Some(cluster);
        self.client = Some(client);
    }

    /// The cluster; the acts after `start` rely on it.
    pub fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("`start` is the first act")
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone().expect("`start` is the first act")
    }

    /// The S3 server.
    pub fn s3(&self) -> &S3Server {
        self.s3.as_ref().expect("`start` is the first act")
    }

    /// After a failure: what the servers complained of last.
    pub fn explain(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        for server in cluster.metas.iter().chain(&cluster.datas) {
            complaints(server);
        }
    }

    /// Ends every process and removes the directory, unless CAIRN_DEMO_KEEP says otherwise.
    pub fn clear(mut self) {
        drop(self.client.take());
        drop(self.cluster.take());
        drop(self.s3.take());
        let keep = std::env::var_os("CAIRN_DEMO_KEEP").is_some_and(|v| !v.is_empty());
        if let (true, Some(directory)) = (keep, self.directory.take()) {
            let path: &Path = &directory.keep();
            say::note(format!("kept: {}", path.display()));
        }
    }
}

fn complaints(server: &Server) {
    let log = std::fs::read(server.log_path()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let of_note = |line: &&str| line.contains("WARN") || line.contains("ERROR") || line.contains("panicked");
    let lines: Vec<&str> = log.lines().filter(of_note).collect();
    if lines.is_empty() {
        return;
    }
    eprintln!("\n--- {}: the last warnings of {}", server.name(), server.log_path().display());
    for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        eprintln!("    {line}");
    }
}
