//! SIGKILL to one server, or to a metadata server and a data node at once; started again after a while.

use std::time::Duration;

use cairn_tests::cluster::ClusterError;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use crate::cluster::Patient;

/// Kills, waits, starts again.
///
/// # Errors
/// When a server does not start.
pub async fn strike(patient: &mut Patient, random: &mut StdRng) -> Result<(), ClusterError> {
    let count = if random.random_bool(0.3) { 2 } else { 1 };
    for _ in 0..count {
        if let Some(victim) = patient.victims().choose(random) {
            patient.kill(*victim);
        }
    }
    sleep(Duration::from_millis(random.random_range(200..3000))).await;
    for victim in patient.down() {
        patient.restart(victim)?;
    }
    Ok(())
}
