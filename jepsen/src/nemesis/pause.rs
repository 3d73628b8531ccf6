//! SIGSTOP to one server, or to a metadata server and a data node at once; they go on after a while,
//! with all that they had in hand.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use crate::cluster::Patient;

/// Pauses, waits, resumes.
pub async fn strike(patient: &mut Patient, random: &mut StdRng) {
    let count = if random.random_bool(0.3) { 2 } else { 1 };
    for _ in 0..count {
        if let Some(victim) = patient.victims().choose(random) {
            patient.pause(*victim);
        }
    }
    // Around the deadlines of appends (0.3-0.6 s) and elections (1-2 s), on both sides of them.
    sleep(Duration::from_millis(random.random_range(100..4000))).await;
    for victim in patient.down() {
        patient.resume(victim);
    }
}
