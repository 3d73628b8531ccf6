//! How many proposals may be on their way, in number and in bytes. Clients and the cluster's own
//! work have slots apart, so that a flood of the one never stops the other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::NodeError;

/// Bytes of one unit of a slot.
const UNIT_BYTES: usize = 1024;
/// Units that even the smallest proposal takes.
const UNITS_MIN: usize = 16;

/// Slots for one kind of proposer.
pub struct Slots {
    units: Arc<Semaphore>,
    most: usize,
    kind: &'static str,
}

impl Slots {
    fn new(kind: &'static str, bytes_max: usize) -> Self {
        let most = bytes_max / UNIT_BYTES;
        Self { units: Arc::new(Semaphore::new(most)), most, kind }
    }

    /// Tells how full they are.
    pub fn sample(&self) {
        let used = self.most.saturating_sub(self.units.available_permits());
        metrics::gauge!("cairn_meta_proposals_slots_used_ratio", "kind" => self.kind)
            .set(used as f64 / self.most as f64);
    }

    /// A slot for so many proposals with `bytes` together, given back when dropped.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`] when there is none.
    pub fn take(&self, proposals: usize, bytes: usize) -> Result<OwnedSemaphorePermit, NodeError> {
        let units = proposals * UNITS_MIN + bytes.div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).map_err(|_| NodeError::Overloaded)?;
        let taken = Arc::clone(&self.units).try_acquire_many_owned(units);
        let outcome = if taken.is_ok() { "admitted" } else { "overloaded" };
        metrics::counter!("cairn_meta_proposals_total", "kind" => self.kind, "outcome" => outcome)
            .increment(proposals as u64);
        taken.map_err(|_| NodeError::Overloaded)
    }
}

/// All slots of a server.
pub struct Admission {
    /// For clients: 4,096 small proposals or 64 MiB.
    pub clients: Slots,
    /// For the cluster's own work: 1,024 small proposals or 16 MiB.
    pub cluster: Slots,
}

impl Default for Admission {
    fn default() -> Self {
        Self { clients: Slots::new("client", 64 << 20), cluster: Slots::new("cluster", 16 << 20) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_clients_leaves_the_clusters_slots_free() {
        let admission = Admission::default();
        let mut held = Vec::new();
        while let Ok(slot) = admission.clients.take(1, 100) {
            held.push(slot);
        }
        assert!(held.len() > 3000, "{}", held.len());
        assert!(admission.cluster.take(1, 4 << 20).is_ok());
        held.pop();
        assert!(admission.clients.take(1, 100).is_ok());
    }
}
