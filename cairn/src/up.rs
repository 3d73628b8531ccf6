//! `cairn up`: a whole CairnFS in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_sdk::types::Policy;
use cairn_sdk::{Client, ConnectOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::UpArgs;
use crate::exit::CliError;
use crate::output::{flush, line};
use crate::servers::stop_on_signals;

/// Ports between one server and the next.
const PORT_STEP: u16 = 10;

struct Layout {
    dir: PathBuf,
    nodes: u8,
    meta: Vec<SocketAddr>,
    data: Vec<SocketAddr>,
}

impl Layout {
    fn new(args: &UpArgs) -> Result<Self, CliError> {
        if args.nodes == 2 {
            return Err(CliError::Usage(
                "--nodes is 1 or 3: two servers survive no more failures than one".into(),
            ));
        }
        let last = u16::from(args.nodes) * 2 * PORT_STEP;
        if args.port.checked_add(last).is_none() || args.port == 0 {
            return Err(CliError::Usage(format!("--port {}: it and the next {last} are used", args.port)));
        }
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => home()?.join(".local/share/cairn"),
        };
        let at = |n: u16| SocketAddr::from(([127, 0, 0, 1], args.port + n * PORT_STEP));
        let nodes = u16::from(args.nodes);
        Ok(Self {
            dir,
            nodes: args.nodes,
            meta: (0..nodes).map(at).collect(),
            data: (nodes..2 * nodes).map(at).collect(),
        })
    }

    fn policy(&self) -> Policy {
        if self.nodes == 1 { Policy::single() } else { Policy::cluster() }
    }

    fn meta_config(&self, n: usize) -> cairn_meta::Config {
        let listen = self.meta[n];
        let peers = self.meta.iter().enumerate().map(|(i, a)| format!("{}@{a}", i + 1)).collect();
        cairn_meta::Config {
            id: n as u64 + 1,
            dir: self.dir.join(format!("meta{}", n + 1)),
            listen: listen.to_string(),
            peers,
            http: SocketAddr::from((listen.ip(), listen.port() + 1)).to_string(),
            policy: self.policy().into(),
            ..cairn_meta::Config::default()
        }
    }

    fn data_config(&self, n: usize, args: &UpArgs) -> cairn_datanode::Config {
        let understore = match &args.s3 {
            Some(url) => cairn_datanode::UnderStoreConfig {
                url: url.clone(),
                endpoint: args.at.s3_endpoint.clone(),
                region: args.at.s3_region.clone(),
                force_path_style: !args.at.s3_endpoint.is_empty(),
                ..cairn_datanode::UnderStoreConfig::default()
            },
            None => cairn_datanode::UnderStoreConfig {
                url: format!("file://{}", self.dir.join("store").display()),
                ..cairn_datanode::UnderStoreConfig::default()
            },
        };
        let listen = self.data[n];
        cairn_datanode::Config {
            dir: self.dir.join(format!("data{}", n + 1)),
            listen: listen.to_string(),
            meta: self.meta.iter().map(ToString::to_string).collect(),
            http: SocketAddr::from((listen.ip(), listen.port() + 1)).to_string(),
            understore: Some(understore),
            ..cairn_datanode::Config::default()
        }
    }
}

fn home() -> Result<PathBuf, CliError> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .ok_or_else(|| CliError::Usage("HOME is not set: name the directory with --dir".to_owned()))
}

fn make_directory(path: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(path).map_err(|e| CliError::io("make the directory", path.display(), e))
}

/// Runs until SIGINT, SIGTERM or the failure of a server.
pub async fn run(args: UpArgs) -> Result<(), CliError> {
    let layout = Layout::new(&args)?;
    // Before anything is made: what is wrong with a URL or an endpoint is the same for every node.
    layout.data_config(0, &args).check().map_err(cairn_datanode::ServeError::Config)?;
    if let Some(url) = &args.s3 {
        crate::mount::parse_s3_url(url)?;
    } else {
        make_directory(&layout.dir.join("store"))?;
    }
    let stop = stop_on_signals()?;
    let mut roles = JoinSet::new();
    let mut waiting = Vec::new();
    for n in 0..usize::from(layout.nodes) {
        make_directory(&layout.dir.join(format!("meta{}", n + 1)))?;
        let (ready, is_ready) = oneshot::channel();
        let (config, stop) = (layout.meta_config(n), stop.clone());
        roles.spawn(async move { cairn_meta::serve(config, stop, ready).await.map_err(CliError::from) });
        waiting.push(tokio::spawn(async move { is_ready.await.is_ok() }));
    }
    for n in 0..usize::from(layout.nodes) {
        make_directory(&layout.dir.join(format!("data{}", n + 1)))?;
        let (ready, is_ready) = oneshot::channel();
        let (config, stop) = (layout.data_config(n, &args), stop.clone());
        roles.spawn(async move { cairn_datanode::serve(config, stop, ready).await.map_err(CliError::from) });
        waiting.push(tokio::spawn(async move { is_ready.await.is_ok() }));
    }
    let greeting = greet(&layout, &args, waiting, stop.clone());
    let outcome = tokio::select! {
        ended = roles.join_next() => first_end(ended),
        greeted = greeting => match greeted {
            Ok(()) => first_end(roles.join_next().await),
            Err(error) => Err(error),
        },
    };
    stop.cancel();
    let mut outcome = outcome;
    while let Some(ended) = roles.join_next().await {
        outcome = outcome.and(ended.map_err(CliError::from).and_then(|role| role));
    }
    outcome
}

fn first_end(ended: Option<Result<Result<(), CliError>, tokio::task::JoinError>>) -> Result<(), CliError> {
    match ended {
        Some(ended) => ended.map_err(CliError::from).and_then(|role| role),
        None => Ok(()),
    }
}

/// Waits until everything serves, then says what to do with it.
async fn greet(
    layout: &Layout,
    args: &UpArgs,
    waiting: Vec<tokio::task::JoinHandle<bool>>,
    stop: CancellationToken,
) -> Result<(), CliError> {
    for ready in waiting {
        if !ready.await? {
            // That server's own error is what is told.
            stop.cancelled().await;
            return Ok(());
        }
    }
    let client = Client::connect(ConnectOptions::new(layout.meta.iter().map(ToString::to_string))).await?;
    let cluster = client.cluster_id().map(|id| id.to_string()).unwrap_or_default();
    client.close().await?;
    let list =
        |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let store = args.s3.clone().unwrap_or_else(|| format!("file://{}", layout.dir.join("store").display()));
    let connect = if args.port == 7100 { String::new() } else { format!(" --connect {}", layout.meta[0]) };
    line(format!("CairnFS is up: cluster {cluster}"))?;
    line(format!(
        "  metadata servers  {}  (metrics: http://127.0.0.1:{}/metrics)",
        list(&layout.meta),
        args.port + 1
    ))?;
    line(format!("  data nodes        {}", list(&layout.data)))?;
    line(format!("  written through to {store}"))?;
    line(format!("  data under        {}", layout.dir.display()))?;
    line("\nTry, in another terminal:")?;
    line(format!("  cairn{connect} fs put -r . /hello"))?;
    line(format!("  cairn{connect} fs ls -l /hello"))?;
    line(format!("  echo 'first record' | cairn{connect} fs append /log"))?;
    line("\nCtrl-C stops it; the data stays.")?;
    flush()
}
