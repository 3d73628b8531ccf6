//! Nemeses: what goes wrong during a run.

mod kill;
mod pause;

use std::time::Duration;

use cairn_tests::cluster::ClusterError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::cluster::Patient;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Nemesis {
    /// Nothing.
    None,
    /// Servers are killed and started again.
    Kill,
    /// Servers stand still and go on.
    Pause,
    /// Both, one after the other and at once.
    Mixed,
}

/// What was done, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Processes killed.
    pub kills: u32,
    /// Processes paused.
    pub pauses: u32,
}

impl Nemesis {
    /// Strikes for so long, in a way that follows from the seed, then heals everything.
    ///
    /// # Errors
    /// When a server does not start, or the cluster does not come back.
    pub async fn strike(
        self,
        patient: &mut Patient,
        seed: u64,
        duration: Duration,
    ) -> Result<Struck, ClusterError> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut struck = Struck::default();
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            let quiet = Duration::from_millis(random.random_range(300..1500)).min(left);
            sleep(quiet).await;
            let kills = match self {
                Self::None => continue,
                Self::Kill => true,
                Self::Pause => false,
                Self::Mixed => random.random_bool(0.5),
            };
            if kills {
                kill::strike(patient, &mut random).await?;
                struck.kills += 1;
            } else {
                pause::strike(patient, &mut random).await;
                struck.pauses += 1;
            }
        }
        patient.heal().await?;
        Ok(struck)
    }
}
