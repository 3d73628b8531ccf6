//! The leader killed: how long nobody is answered.

use std::time::{Duration, Instant};

use cairn_sdk::Client;

use super::Case;
use super::cases::run_name;
use super::cluster::BenchCluster;
use super::measure::{Measured, Recorder, Run, Sample, median};
use crate::cli::BenchArgs;
use crate::exit::CliError;

/// What the project promises.
const AIM: Duration = Duration::from_millis(2500);
/// How long all members may take to be in step again.
const IN_STEP: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Kills the leader again and again: from the kill to the first change that is acknowledged after it.
pub async fn run(
    case: &Case,
    cluster: &mut BenchCluster,
    client: &Client,
    args: &BenchArgs,
) -> Result<Measured, CliError> {
    let root = format!("/{}", run_name("failover"));
    client.mkdir(root.as_str(), 0o755).await?;
    let mut samples = Vec::new();
    for n in 0..args.runs {
        let leader = in_step(cluster, client).await?;
        client.create_entry(&format!("{root}/before-{n}").into(), 0o644, true, false).await?;
        let mut recorder = Recorder::start();
        let killed = Instant::now();
        cluster.kill(leader);
        client.create_entry(&format!("{root}/after-{n}").into(), 0o644, true, false).await?;
        recorder.record(killed.elapsed(), 1.0);
        let run = recorder.finish();
        let limit = Run { p50: AIM.as_secs_f64() * 1e6, ..Run::default() };
        eprintln!("  run {}: {}", n + 1, run.short(case.unit));
        samples.push(Sample { run, limit, echo: None });
        cluster.spawn(leader)?;
    }
    Ok(median(case, "aim, at most", &samples))
}

/// Waits until every member has what the leader has. Answers the leader's place in the cluster.
async fn in_step(cluster: &BenchCluster, client: &Client) -> Result<usize, CliError> {
    let addresses = cluster.meta_addresses();
    let deadline = Instant::now() + IN_STEP;
    loop {
        let status = client.status().await?;
        let behind = status.servers.iter().any(|s| s.matched_index < status.last_log_index);
        let leader = status.servers.iter().find(|server| server.node == status.leader);
        let place = leader.and_then(|leader| addresses.iter().position(|a| *a == leader.address));
        match place {
            Some(place) if !behind => return Ok(place),
            _ if Instant::now() > deadline => {
                return Err(CliError::Usage("the bench's cluster did not come into step".to_owned()));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
