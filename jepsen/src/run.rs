//! [`run`]: one workload under one nemesis, checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_sdk::Client;
use cairn_tests::cluster::{ClusterError, eventually};
use tokio_util::sync::CancellationToken;

use crate::checker::{self, CheckError};
use crate::cluster::Patient;
use crate::history::{History, Outcome, recorder};
use crate::nemesis::{Nemesis, Struck};
use crate::workload::{Process, Workload, append, rename};

/// Client processes.
const PROCESSES: u32 = 4;
/// Operations that must succeed once everything is healed.
const ALIVE_AFTER: u64 = 50;
/// How long that may take.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// How long the check of one register may take.
const CHECK_WITHIN: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What the choices of nemesis and workload follow from.
    pub seed: u64,
    /// How long the nemesis strikes.
    pub duration: Duration,
    /// What the clients do.
    pub workload: Workload,
    /// What goes wrong.
    pub nemesis: Nemesis,
    /// Where the history is written, whatever comes of the check; nowhere by default.
    pub history: Option<PathBuf>,
}

/// A run that passed.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Operations that succeeded.
    pub ok: usize,
    /// Operations that failed for certain.
    pub failed: usize,
    /// Operations of which nothing is known.
    pub unknown: usize,
    /// What the nemesis did.
    pub struck: Struck,
}

/// Why a run is no pass.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster did not start, or did not come back to life once everything was healed.
    #[error("seed {seed}: {source}")]
    Cluster {
        /// The seed.
        seed: u64,
        /// What happened.
        source: Box<ClusterError>,
    },
    /// The end cannot be looked at.
    #[error("seed {seed}: reading back: {reason}")]
    Observe {
        /// The seed.
        seed: u64,
        /// Why.
        reason: String,
    },
    /// The checker does not accept the history.
    #[error("seed {seed}: {source}")]
    Check {
        /// The seed.
        seed: u64,
        /// What is wrong.
        source: CheckError,
    },
    /// The harness itself failed.
    #[error("seed {seed}: the harness failed: {reason}")]
    Harness {
        /// The seed.
        seed: u64,
        /// How.
        reason: String,
    },
}

/// The seed: CAIRN_SEED, else one from the time.
#[must_use]
pub fn seed() -> u64 {
    let named = std::env::var("CAIRN_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| u64::from(t.subsec_nanos()));
    named.unwrap_or_else(now)
}

/// Runs one workload under one nemesis in a cluster of its own and checks what the clients saw:
/// first faults, where nothing may be wrong (safety), then none, where things must go on (liveness).
///
/// # Errors
/// [`RunError`], with the seed.
pub async fn run(options: &RunOptions) -> Result<Report, RunError> {
    let seed = options.seed;
    let cluster_failed = |source: ClusterError| RunError::Cluster { seed, source: Box::new(source) };
    let harness = |reason: String| RunError::Harness { seed, reason };
    let mut patient = Patient::start().await.map_err(cluster_failed)?;
    let observer = patient.cluster().client().await.map_err(cluster_failed)?;
    if options.workload == Workload::Rename {
        rename::prepare(&observer).await.map_err(|e| harness(e.to_string()))?;
    }
    let (recorder, collector) = recorder();
    let collecting = tokio::spawn(collector.collect());
    let stop = CancellationToken::new();
    let succeeded = Arc::new(AtomicU64::new(0));
    let mut processes = tokio::task::JoinSet::new();
    for number in 0..PROCESSES {
        let process = Process {
            number,
            client: patient.cluster().client().await.map_err(cluster_failed)?,
            recorder: recorder.clone(),
            stop: stop.clone(),
            succeeded: Arc::clone(&succeeded),
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(number)),
        };
        match options.workload {
            Workload::Append => processes.spawn(append::run(process)),
            Workload::Rename => processes.spawn(rename::run(process)),
        };
    }
    drop(recorder);
    let struck =
        options.nemesis.strike(&mut patient, seed, options.duration).await.map_err(cluster_failed)?;
    // Liveness: with all faults healed, operations succeed again.
    let wanted = succeeded.load(Ordering::Relaxed) + ALIVE_AFTER;
    let alive = || async { (succeeded.load(Ordering::Relaxed) >= wanted).then_some(()) };
    let lived = eventually("operations to succeed after the faults", ALIVE_WITHIN, alive).await;
    stop.cancel();
    while let Some(ended) = processes.join_next().await {
        ended.map_err(|e| harness(e.to_string()))?;
    }
    let history = collecting.await.map_err(|e| harness(e.to_string()))?;
    if let Some(path) = &options.history {
        let written =
            std::fs::File::create(path).and_then(|file| history.write(std::io::BufWriter::new(file)));
        written.map_err(|e| harness(format!("write {}: {e}", path.display())))?;
    }
    check(options, &history, &observer).await?;
    lived.map_err(cluster_failed)?;
    Ok(Report {
        ok: history.count(Outcome::Ok),
        failed: history.count(Outcome::Failed),
        unknown: history.count(Outcome::Unknown),
        struck,
    })
}

async fn check(options: &RunOptions, history: &History, observer: &Client) -> Result<(), RunError> {
    let seed = options.seed;
    let refused = |source: CheckError| RunError::Check { seed, source };
    match options.workload {
        Workload::Append => {
            for file in 0..append::FILES {
                let found = append::observe(observer, file).await;
                let found = found.map_err(|reason| RunError::Observe { seed, reason })?;
                checker::append::check(history, file, &found).map_err(refused)?;
            }
            Ok(())
        }
        Workload::Rename => {
            let history = history.clone();
            let checked =
                tokio::task::spawn_blocking(move || checker::linear::check(&history, CHECK_WITHIN)).await;
            checked.map_err(|e| RunError::Harness { seed, reason: e.to_string() })?.map_err(refused)
        }
    }
}
