//! `cairn bench`: measures, and measures the limit in the same run.

mod cases;
mod cluster;
mod echo;
mod failover;
mod large;
mod limit;
mod measure;
mod memory;
mod mount;
mod report;
mod restart;
mod under_store;
mod wire;

use std::path::{Path, PathBuf};

use cairn_sdk::{Client, ConnectOptions, Transport};

use crate::cli::{BenchArgs, Connect};
use crate::exit::CliError;
use cases::CASES;
use cluster::{BenchCluster, Copies};
use measure::{Aim, Measured, Sample, median};

/// What statfs(2) says of file systems in memory, where an fsync does nothing: tmpfs, ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What a case says of itself.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    /// `us` for latencies, `1/s` or `MB/s` for rates.
    unit: Unit,
    setting: Setting,
    about: &'static str,
    aim: Option<Aim>,
}

/// What a case runs on.
#[derive(Clone, Copy)]
pub enum Setting {
    /// A cluster of its own, or the one that is named.
    Cluster {
        /// Metadata servers.
        metas: usize,
        /// Data nodes.
        datas: usize,
        /// Replicas, and as many at least.
        replicas: u8,
    },
    /// A cluster of its own with a large directory, kept for the next run.
    Kept,
    /// A cluster of its own, whose leader is killed.
    Killed,
    /// A cluster of its own, whose data nodes are killed one after the other.
    KilledData,
    /// A cluster of its own, whose data node is killed and started again.
    Restarted,
    /// A cluster of its own that writes through to the bucket of `--s3`.
    UnderStore,
}

/// What a case's ratio compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds: smaller is better.
    Micros,
    /// Operations a second: larger is better.
    PerSecond,
    /// 10⁶ bytes a second: larger is better.
    MegabytesPerSecond,
    /// Bytes: smaller is better.
    Bytes,
    /// A number of things: smaller is better.
    Count,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Self::Micros => "us",
            Self::PerSecond => "1/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Bytes => "bytes",
            Self::Count => "1",
        }
    }
}

/// Runs the named cases.
pub async fn run(connect: &Connect, args: BenchArgs) -> Result<(), CliError> {
    if args.serve_echo {
        return echo::serve().await;
    }
    if args.names.is_empty() {
        for case in CASES {
            println!("{:22} {:5} {}", case.name, case.unit.text(), case.about);
        }
        return Ok(());
    }
    let all = args.names.iter().any(|n| n == "all");
    let unknown = args.names.iter().find(|n| *n != "all" && CASES.iter().all(|c| c.name != n.as_str()));
    if let Some(name) = unknown {
        return Err(CliError::Usage(format!("no bench is named '{name}'; `cairn bench` lists them")));
    }
    warn_of_memory(&directory(&args));
    let mut measured = Vec::new();
    for case in CASES.iter().filter(|c| all || args.names.iter().any(|n| n == c.name)) {
        if all && args.s3.is_none() && matches!(case.setting, Setting::UnderStore) {
            eprintln!("{}: left out: it needs a bucket (--s3)", case.name);
            continue;
        }
        eprintln!("{}: {} runs", case.name, args.runs);
        measured.push(run_case(case, connect, &args).await?);
    }
    if args.json { report::json(&measured) } else { report::table(&measured) }
}

/// Where a bench keeps its files.
fn directory(args: &BenchArgs) -> PathBuf {
    args.dir.clone().unwrap_or_else(std::env::temp_dir)
}

/// Says so when the limits are not those of a disk.
fn warn_of_memory(directory: &Path) {
    let in_memory = rustix::fs::statfs(directory)
        .is_ok_and(|fs| IN_MEMORY.iter().any(|kind| i128::from(fs.f_type) == i128::from(*kind)));
    if in_memory {
        eprintln!(
            "cairn: {} is in memory (tmpfs): an fsync costs nothing there, so limits and ratios of it say nothing \
             of a disk; name a directory of a disk with --dir",
            directory.display()
        );
    }
}

async fn run_case(case: &Case, connect: &Connect, args: &BenchArgs) -> Result<Measured, CliError> {
    let (metas, datas, copies) = match case.setting {
        Setting::Cluster { metas, datas, replicas } => (metas, datas, Copies::exactly(replicas)),
        _ if connect.given => {
            return Err(CliError::Usage(format!(
                "{} runs on servers of its own: leave --meta out",
                case.name
            )));
        }
        Setting::Kept => return large::run(case, args).await,
        Setting::Killed => (3, 0, Copies::exactly(1)),
        Setting::KilledData => (3, 3, Copies { wanted: 3, least: 2 }),
        Setting::UnderStore | Setting::Restarted => (1, 1, Copies::exactly(1)),
    };
    let under_store = match case.setting {
        Setting::UnderStore => Some(under_store::config(args).ok_or_else(|| {
            CliError::Usage(format!("{} needs a bucket: name it with --s3 s3://bucket/prefix", case.name))
        })?),
        _ => None,
    };
    if connect.given {
        let client = crate::fs::connect(connect).await?;
        let outcome = run_on(case, &client, (&directory(args), None), args).await;
        client.close().await?;
        return outcome;
    }
    let mut cluster =
        BenchCluster::start((metas, datas), copies, under_store.as_ref(), args.dir.as_deref()).await?;
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.lease_reads = case.name.ends_with("-lease");
    let reads = case.name.starts_with("read-") && case.name.ends_with("-cached");
    if reads && options.transport == Transport::Auto {
        // As from another machine.
        options.transport = Transport::Tcp;
    }
    let client = Client::connect(options).await?;
    let outcome = match case.setting {
        Setting::Killed => failover::run(case, &mut cluster, &client, args).await,
        Setting::UnderStore if case.name.starts_with("mount-") => mount::run(case, &client, args).await,
        Setting::UnderStore => under_store::run(case, &client, args).await,
        Setting::Restarted => restart::run(case, &mut cluster, &client, args).await,
        Setting::KilledData => failover::appends(case, &mut cluster, &client, args).await,
        _ => run_on(case, &client, (cluster.directory(), Some(&cluster)), args).await,
    };
    client.close().await?;
    outcome
}

async fn run_on(
    case: &Case,
    client: &Client,
    (directory, own): (&Path, Option<&BenchCluster>),
    args: &BenchArgs,
) -> Result<Measured, CliError> {
    let mut runs: Vec<Sample> = Vec::new();
    let mut limit_name = "";
    let root = format!("/{}", cases::run_name(case.name));
    client.mkdir_all(root.as_str(), 0o755).await?;
    let scale = cases::Scale { seconds: args.seconds, entries: args.entries };
    let mut prepared = cases::prepare(case.name, client, &root, &scale).await?;
    if case.name == "read-seq-local" {
        let own = own.ok_or_else(|| CliError::Usage(format!("{} runs on servers of its own", case.name)))?;
        let mut options = ConnectOptions::new(own.meta_addresses());
        options.transport = Transport::Tcp;
        prepared.over_tcp = Some(Client::connect(options).await?);
    }
    for n in 0..args.runs {
        let run_root = format!("{root}/run{n}");
        client.mkdir_all(run_root.as_str(), 0o755).await?;
        let before = own.and_then(BenchCluster::written_bytes);
        let measured = cases::measure(case.name, client, &run_root, &prepared, &scale).await?;
        let written = own.and_then(BenchCluster::written_bytes).zip(before).map(|(now, then)| now - then);
        let (name, limit) =
            cases::limit(case.name, client, (directory, &run_root), &prepared, &scale).await?;
        limit_name = name;
        let beside = cases::beside(case.name, &scale).await?;
        let told = beside.map(|(name, run)| format!(", {name} {}", run.short(case.unit))).unwrap_or_default();
        eprintln!("  run {}: {}, limit {}{told}", n + 1, measured.short(case.unit), limit.short(case.unit));
        if let (Some(written), Some(each)) = (written, cases::bytes_each(case.name, case.unit)) {
            let ratio = written as f64 / (measured.count * each).max(1.0);
            eprintln!("    bytes written to the disk per byte acknowledged: {ratio:.2}");
        }
        runs.push(Sample { run: measured, limit, beside });
    }
    if let Some(client) = prepared.over_tcp {
        client.close().await?;
    }
    Ok(median(case, limit_name, &runs))
}
