//! What the job tells of each mount.

use std::collections::BTreeSet;

use cairn_types::MountId;

use super::Mounted;
use super::flights::{Flights, Kind};

/// The gauges of a mount.
const TOLD: [&str; 6] = [PENDING, OLDEST, SURPLUS, CONFLICTS, PUTS, DELETIONS];
const PENDING: &str = "cairn_meta_mount_pending_count";
const OLDEST: &str = "cairn_meta_mount_pending_oldest_seconds";
const SURPLUS: &str = "cairn_meta_mount_surplus_count";
const CONFLICTS: &str = "cairn_meta_mount_conflicts_count";
const PUTS: &str = "cairn_meta_mount_puts_count";
const DELETIONS: &str = "cairn_meta_mount_deletions_count";

/// The mounts that were told of. Those that are gone, and all when the job ends, are told as at rest: another
/// server tells then.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<MountId>);

impl Told {
    /// Tells how the mounts stand.
    pub fn tell(&mut self, mounts: &[Mounted], flights: &Flights) {
        let now: BTreeSet<MountId> = mounts.iter().map(|mounted| mounted.mount).collect();
        self.0.difference(&now).for_each(|mount| forget(*mount));
        self.0 = now;
        for Mounted { mount, counts, oldest_ms, .. } in mounts {
            gauge(PENDING, *mount).set(counts.pending as f64);
            gauge(OLDEST, *mount).set(*oldest_ms as f64 / 1000.0);
            gauge(SURPLUS, *mount).set(counts.surplus as f64);
            gauge(CONFLICTS, *mount).set(counts.conflicts as f64);
            gauge(PUTS, *mount).set(flights.of(*mount, Kind::Put) as f64);
            gauge(DELETIONS, *mount).set(flights.of(*mount, Kind::Deletion) as f64);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.iter().for_each(|mount| forget(*mount));
    }
}

fn gauge(name: &'static str, mount: MountId) -> metrics::Gauge {
    metrics::gauge!(name, "mount" => mount.0.to_string())
}

fn forget(mount: MountId) {
    TOLD.iter().for_each(|name| gauge(name, mount).set(0.0));
}
