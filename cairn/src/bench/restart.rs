//! A data node killed and started again: how long until it answers a read.

use std::time::{Duration, Instant};

use cairn_sdk::Client;

use super::Case;
use super::cases::{files, run_name};
use super::cluster::BenchCluster;
use super::measure::{Measured, Run, Sample, median};
use crate::cli::BenchArgs;
use crate::exit::CliError;

/// What the project promises for an index of 100 GB.
const AIM: Duration = Duration::from_secs(10);
/// Files of 4 KiB: as many records as 100 GB in records of 1 MiB have.
const SMALL_FILES: u64 = 100_000;
/// Large files beside them, of 512 MiB each.
const LARGE_FILES: usize = 4;

pub async fn run(
    case: &Case,
    cluster: &mut BenchCluster,
    client: &Client,
    args: &BenchArgs,
) -> Result<Measured, CliError> {
    let root = format!("/{}", run_name("restart"));
    client.mkdir(root.as_str(), 0o755).await?;
    eprintln!("  making {SMALL_FILES} files of 4 KiB and {LARGE_FILES} of 512 MiB");
    let small = format!("{root}/small");
    files::fill_small_files(client, &small, SMALL_FILES).await?;
    for n in 0..LARGE_FILES {
        files::fill(client, &format!("{root}/large-{n}")).await?;
    }
    let probe = files::small_path(&small, SMALL_FILES / 2);
    let mut samples = Vec::new();
    for n in 0..args.runs {
        for place in cluster.data_nodes() {
            cluster.kill(place);
        }
        let started = Instant::now();
        for place in cluster.data_nodes() {
            cluster.spawn(place)?;
        }
        client.open(probe.as_str()).await?.read_at(0, files::SMALL_BYTES).await?;
        let (run, limit) = (Run::of(started.elapsed()), Run::aim(AIM));
        eprintln!("  run {}: {}", n + 1, run.short(case.unit));
        samples.push(Sample { run, limit, beside: None });
    }
    Ok(median(case, "aim, at most", &samples))
}
