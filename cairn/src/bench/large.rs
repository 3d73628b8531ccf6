//! A directory of ten million files, made once and kept: cases measure on it, and it stays for the
//! next run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_sdk::{Client, ConnectOptions};

use super::cases::{metadata, run_name};
use super::cluster::{BenchCluster, free_ports};
use super::measure::{Measured, Recorder, Run, Sample, median};
use super::memory::Growth;
use super::{Case, directory};
use crate::cli::BenchArgs;
use crate::exit::CliError;

/// The directory.
const PATH: &str = "/large";
/// Files that one transaction removes, or makes.
const PER_TRANSACTION: u64 = 256;
/// How long a server that starts is waited for.
const READY: Duration = Duration::from_secs(120);

/// What a restart and a row may cost at most, as the project promises.
const RESTART_AIM: Duration = Duration::from_secs(5);
const INODE_BYTES_AIM: f64 = 250.0;

/// Measures a case of the kept directory, which has 10 × `--entries` files.
pub async fn run(case: &Case, args: &BenchArgs) -> Result<Measured, CliError> {
    let entries = args.entries.saturating_mul(10);
    let home = directory(args).join(format!("cairn-bench-kept-{entries}"));
    let mut cluster = open(&home, entries).await?;
    let mut samples = Vec::new();
    let mut limit_name = "";
    for n in 0..args.runs {
        let (name, run, limit) = match case.name {
            "list-10m-attrs" => list(&cluster, &home, entries).await?,
            "create-in-10m" => create(&cluster, args.seconds).await?,
            "inode-bytes-10m" => inode_bytes(&mut cluster, entries).await?,
            _ => restart(&mut cluster).await?,
        };
        limit_name = name;
        eprintln!("  run {}: {}, {name} {}", n + 1, run.short(case.unit), limit.short(case.unit));
        samples.push(Sample { run, limit, beside: None });
    }
    Ok(median(case, limit_name, &samples))
}

/// Starts the server of the kept directory, which is made if it is not there.
async fn open(home: &Path, entries: u64) -> Result<BenchCluster, CliError> {
    let marker = home.join("made");
    if let Ok(port) = std::fs::read_to_string(&marker) {
        let port =
            port.trim().parse().map_err(|_| CliError::Usage(format!("{}: no port", marker.display())))?;
        return BenchCluster::open(home, port).await;
    }
    eprintln!("  making {entries} files in {}, which stays for later runs", home.display());
    let failed = |e| CliError::io("make", home.display(), e);
    if home.exists() {
        std::fs::remove_dir_all(home).map_err(failed)?;
    }
    std::fs::create_dir_all(home).map_err(failed)?;
    let port = free_ports(1)?.first().copied().unwrap_or_default();
    let cluster = BenchCluster::open(home, port).await?;
    let client = Client::connect(ConnectOptions::new(cluster.meta_addresses())).await?;
    metadata::fill_by_transactions(&client, PATH, entries).await?;
    client.take_snapshot().await?;
    client.close().await?;
    std::fs::write(&marker, port.to_string()).map_err(failed)?;
    Ok(cluster)
}

async fn client(cluster: &BenchCluster) -> Result<Client, CliError> {
    Ok(Client::connect(ConnectOptions::new(cluster.meta_addresses())).await?)
}

type Outcome = Result<(&'static str, Run, Run), CliError>;

/// A whole listing, and how much memory it takes on both sides.
async fn list(cluster: &BenchCluster, home: &Path, entries: u64) -> Outcome {
    let client = client(cluster).await?;
    // A client that is connected: the first entry's time is the listing's.
    client.stat(PATH).await?;
    let growth = Growth::of([Some(std::process::id()), cluster.process(0)]);
    let run = metadata::list(&client, PATH).await?;
    if let Some([own, server]) = growth.mebibytes() {
        eprintln!("  memory grew by {own:.0} MiB here, {server:.0} MiB at the server");
    }
    client.close().await?;
    Ok(("RocksDB iteration", run, metadata::iterate(home, entries).await?))
}

/// Files made one after the other, beside the same in an empty directory.
async fn create(cluster: &BenchCluster, seconds: f64) -> Outcome {
    let client = client(cluster).await?;
    let name = run_name("new");
    let empty = format!("/{name}");
    client.mkdir(empty.as_str(), 0o755).await?;
    // A little here, a little there: the machine is the same for both.
    let (mut large, mut small) = (Recorder::start(), Recorder::start());
    let until = Instant::now() + Duration::from_secs_f64(seconds * 2.0);
    let mut made = 0;
    while Instant::now() < until {
        for (directory, recorder) in [(PATH, &mut large), (empty.as_str(), &mut small)] {
            let started = Instant::now();
            client.create_entry(&format!("{directory}/{name}-{made}").into(), 0o644, true, false).await?;
            recorder.record(started.elapsed(), 1.0);
        }
        made += 1;
    }
    let (run, limit) = (large.finish(), small.finish());
    for first in (0..made).step_by(PER_TRANSACTION as usize) {
        let mut transaction = client.transaction();
        for n in first..made.min(first + PER_TRANSACTION) {
            transaction = transaction.unlink(format!("{PATH}/{name}-{n}"));
        }
        transaction.commit().await?;
    }
    client.close().await?;
    Ok(("in an empty directory", run, limit))
}

/// Bytes of the state on disk for each file, after compaction.
async fn inode_bytes(cluster: &mut BenchCluster, entries: u64) -> Outcome {
    cluster.stop(0)?;
    let state = state_directory(cluster)?;
    let bytes = tokio::task::spawn_blocking(move || cairn_meta::store::compacted_bytes(&state))
        .await?
        .map_err(|e| CliError::io("compact", "the state", std::io::Error::other(e)))?;
    start(cluster).await?;
    let of = |rate| Run { rate, ..Run::default() };
    Ok(("aim, at most", of(bytes as f64 / entries as f64), of(INODE_BYTES_AIM)))
}

fn state_directory(cluster: &BenchCluster) -> Result<PathBuf, CliError> {
    let state = cluster.meta_directory(0).join("state");
    let failed = |e| CliError::io("read", state.display(), e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&state).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b"db-") {
            found.push(entry.path());
        }
    }
    found.pop().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}

/// The server killed and started again: until it answers a stat.
async fn restart(cluster: &mut BenchCluster) -> Outcome {
    cluster.kill(0);
    Ok(("aim, at most", Run::of(start(cluster).await?), Run::aim(RESTART_AIM)))
}

/// How long it takes from the start of the process to its first answer.
async fn start(cluster: &mut BenchCluster) -> Result<Duration, CliError> {
    let started = Instant::now();
    cluster.spawn(0)?;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = READY;
    let client = Client::connect(options).await?;
    client.stat(PATH).await?;
    let took = started.elapsed();
    client.close().await?;
    Ok(took)
}
