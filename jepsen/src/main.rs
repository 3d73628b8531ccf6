//! Long runs: `cairn-jepsen --workload append --nemesis mixed --minutes 60`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cairn_jepsen::nemesis::Nemesis;
use cairn_jepsen::workload::Workload;
use cairn_jepsen::{RunOptions, run, seed};
use clap::Parser;

/// Runs workloads under faults, round after round, until the time is up or a check fails.
#[derive(Debug, Parser)]
struct Options {
    /// What the clients do; both in turn when it is left out
    #[arg(long)]
    workload: Option<Workload>,
    /// What goes wrong
    #[arg(long, default_value = "mixed")]
    nemesis: Nemesis,
    /// For how long, in all
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// For how long the nemesis strikes in one round
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first round's seed; each round takes the next one
    #[arg(long)]
    seed: Option<u64>,
    /// Where the histories are written
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let end = tokio::time::Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut seed = options.seed.unwrap_or_else(seed);
    while tokio::time::Instant::now() < end {
        for workload in [Workload::Append, Workload::Rename] {
            if options.workload.is_some_and(|only| only != workload) {
                continue;
            }
            let history = options.out.join(format!("history-{workload:?}-{seed}.jsonl").to_lowercase());
            let round = RunOptions {
                seed,
                duration: Duration::from_secs(options.seconds),
                workload,
                nemesis: options.nemesis,
                history: Some(history.clone()),
            };
            match run(&round).await {
                Ok(report) => println!("{workload:?}, seed {seed}: {report:?}"),
                Err(error) => {
                    eprintln!("{workload:?}: {error}\nhistory: {}", history.display());
                    return ExitCode::FAILURE;
                }
            }
        }
        seed = seed.wrapping_add(1);
    }
    ExitCode::SUCCESS
}
