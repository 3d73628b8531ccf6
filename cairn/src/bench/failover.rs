//! A server killed: how long nobody is answered.

use std::time::{Duration, Instant};

use cairn_sdk::Client;

use super::Case;
use super::cases::run_name;
use super::cluster::BenchCluster;
use super::measure::{Measured, Recorder, Run, Sample, median};
use crate::cli::BenchArgs;
use crate::exit::CliError;

/// What the project promises: of the metadata, and of appends.
const AIM: Duration = Duration::from_millis(2500);
const APPEND_AIM: Duration = Duration::from_secs(1);
/// How long all members may take to be in step again.
const IN_STEP: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Appends before a kill, and how long they go on after it.
const WARM: usize = 20;
const WATCHED: Duration = Duration::from_secs(4);

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
        let killed = Instant::now();
        cluster.kill(leader);
        client.create_entry(&format!("{root}/after-{n}").into(), 0o644, true, false).await?;
        let (run, limit) = (Run::of(killed.elapsed()), Run::aim(AIM));
        eprintln!("  run {}: {}", n + 1, run.short(case.unit));
        samples.push(Sample { run, limit, beside: None });
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

/// Kills one data node after the other under a writer: the longest that an append took meanwhile. Each
/// run kills all of them in turn, so one of its pauses is that of a primary.
pub async fn appends(
    case: &Case,
    cluster: &mut BenchCluster,
    client: &Client,
    args: &BenchArgs,
) -> Result<Measured, CliError> {
    let root = format!("/{}", run_name("failover"));
    client.mkdir(root.as_str(), 0o755).await?;
    let mut samples = Vec::new();
    for n in 0..args.runs {
        let mut recorder = Recorder::start();
        let mut pauses = Vec::new();
        for place in cluster.data_nodes() {
            all_alive(cluster, client).await?;
            let log = client.open_append(format!("{root}/wal-{n}-{place}")).await?;
            for _ in 0..WARM {
                log.append(vec![7; 4096]).await?;
            }
            cluster.kill(place);
            let mut longest = Duration::ZERO;
            let until = Instant::now() + WATCHED;
            while Instant::now() < until {
                let started = Instant::now();
                log.append(vec![7; 4096]).await?;
                longest = longest.max(started.elapsed());
            }
            log.close().await?;
            recorder.record(longest, 1.0);
            pauses.push(format!("{} ms", longest.as_millis()));
            cluster.spawn(place)?;
        }
        let run = recorder.finish();
        let limit = Run::aim(APPEND_AIM);
        eprintln!("  run {}: pauses of {}", n + 1, pauses.join(", "));
        samples.push(Sample { run, limit, beside: None });
    }
    Ok(median(case, "aim, at most", &samples))
}

/// Waits until every data node is there.
async fn all_alive(cluster: &BenchCluster, client: &Client) -> Result<(), CliError> {
    let deadline = Instant::now() + IN_STEP;
    while client.status().await?.nodes.iter().filter(|n| n.alive).count() < cluster.data_nodes().len() {
        if Instant::now() > deadline {
            return Err(CliError::Usage("the bench's data nodes did not come back".to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
