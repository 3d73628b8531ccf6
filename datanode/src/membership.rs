//! A node's place in its cluster: whose it is, its registration, and the heartbeat that keeps it. Each disk of a
//! process is a node with an id of its own; they have one address.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ClusterId, DiskId, FsError, NodeId};
use tokio_util::sync::CancellationToken;

use crate::chunk::ChunkStore;
use crate::health::Health;
use crate::metadata::Metadata;
use crate::replicate::healthy::Healthy;
use crate::scrub::Figures;
use crate::standing::Standings;

/// The pause between heartbeats when the leader names none.
const INTERVAL: Duration = Duration::from_millis(1_000);
/// The range that a leader's choice is kept in.
const INTERVAL_LEAST: Duration = Duration::from_millis(50);
const INTERVAL_MOST: Duration = Duration::from_millis(5_000);
/// Heartbeats after which the leader is asked again who the metadata servers are.
const BEATS_PER_REFRESH: u32 = 5;
/// Damaged chunks that a heartbeat names.
const DAMAGED_TOLD_MAX: usize = 16;
/// What is said of a disk that failed before this process began.
const FAILED_BEFORE: &str = "the disk is retired: a write or an fsync failed there before";
/// The pause before the metadata servers are asked again at the start.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until the metadata servers say which cluster they are. `None`: stopped before.
pub async fn cluster(metadata: &Metadata, stop: &CancellationToken) -> Option<ClusterId> {
    let asked = async {
        loop {
            match metadata.hello().await {
                Ok(Some(cluster)) => return cluster,
                Ok(None) => tracing::info!("the cluster is forming"),
                Err(error) => tracing::warn!(%error, "reach the metadata servers"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(asked).await
}

/// True when no leader has answered, or not out of a sound state: the same may work later.
fn unreached(error: &WireError) -> bool {
    use ServiceError as E;
    let later =
        |e: &E| matches!(e, E::NotLeader { .. } | E::Deadline | E::Overloaded | E::Stopping | E::Internal);
    match error {
        WireError::Transport { .. } => true,
        WireError::Service(error) => later(error),
        WireError::Fs(error) => *error == FsError::Damaged,
    }
}

/// What a node tells the leader of itself.
pub struct Member {
    /// The metadata servers.
    pub metadata: Metadata,
    /// The replicas, whose figures are told.
    pub store: ChunkStore,
    /// The disk.
    pub disk: DiskId,
    /// Where it is.
    pub dir: PathBuf,
    /// Where others reach it.
    pub address: String,
    /// The machine's boot.
    pub boot_id: [u8; 16],
    /// Its zone; empty: none.
    pub zone: String,
    /// Its machine's name; empty: the boot id tells.
    pub host: String,
    /// Bytes of all segments.
    pub capacity_bytes: u64,
    /// How the under-store does.
    pub health: Health,
    /// Learns where new chunks are placed.
    pub healthy: Healthy,
    /// What scrubs and repairs found and did.
    pub scrub: Arc<Figures>,
    /// How the disks of the process stand.
    pub standings: Standings,
    /// The leader said that the disk failed in an earlier life.
    pub failed_before: AtomicBool,
}

impl Member {
    /// Registers until the leader takes it. `None`: stopped before.
    ///
    /// # Errors
    /// The leader refuses this node for good.
    pub async fn register(&self, stop: &CancellationToken) -> Option<Result<NodeId, WireError>> {
        let registered = async {
            loop {
                match self.register_once().await {
                    Err(error) if unreached(&error) => {}
                    outcome => return outcome,
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(registered).await
    }

    async fn register_once(&self) -> Result<NodeId, WireError> {
        let request = v1::RegisterRequest {
            disk: self.disk.0.to_vec().into(),
            address: self.address.clone(),
            incarnation: self.store.incarnation().0,
            boot_id: self.boot_id.to_vec().into(),
            capacity_bytes: self.capacity_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone: self.zone.clone(),
            host: self.host.clone(),
        };
        let reply = self.metadata.register(request).await;
        match &reply {
            Ok(reply) => tracing::info!(node = reply.node, "registered"),
            Err(error) => tracing::warn!(%error, "register"),
        }
        let reply = reply?;
        self.failed_before.store(reply.retired, Ordering::Relaxed);
        Ok(NodeId(reply.node))
    }

    /// Beats until `stop`. The process's first node, which `speaks`, tells the leader of the disks that are left out.
    pub async fn beat(self, node: NodeId, speaks: bool, stop: CancellationToken) {
        let mut pause = INTERVAL;
        let mut beats: u32 = 0;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let figures = self.figures(node, speaks);
            let Some(beat) = stop.run_until_cancelled(self.metadata.heartbeat(figures)).await else {
                return;
            };
            let reached = match beat {
                Ok(reply) => {
                    self.healthy.learn(&reply.healthy, &reply.processes);
                    beats = beats.wrapping_add(1);
                    if beats % BEATS_PER_REFRESH == 1 {
                        self.refresh(&stop).await;
                    }
                    let named = Some(reply.interval_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
                    pause = named.unwrap_or(INTERVAL).clamp(INTERVAL_LEAST, INTERVAL_MOST);
                    true
                }
                Err(error) if unreached(&error) => false,
                // The leader answered, and does not know this node (or this process): a new leader
                // may know less than the one before.
                Err(error) => {
                    tracing::warn!(%error, "heartbeat");
                    self.again(node).await
                }
            };
            self.stand(reached);
        }
    }

    /// Learns who the metadata servers are by now.
    async fn refresh(&self, stop: &CancellationToken) {
        if let Some(Err(error)) = stop.run_until_cancelled(self.metadata.refresh()).await {
            tracing::debug!(%error, "the metadata servers were not named");
        }
    }

    async fn again(&self, node: NodeId) -> bool {
        match self.register_once().await {
            Ok(same) if same == node => true,
            Ok(other) => {
                tracing::error!(node = node.0, other = other.0, "the cluster gave this disk another id");
                false
            }
            Err(_) => false,
        }
    }

    /// Notes whether the leader knows this node, for those who look at this process.
    pub fn stand(&self, known: bool) {
        self.standings.note(&self.dir, known, self.failure());
    }

    /// Why the disk is retired, if it is.
    fn failure(&self) -> Option<String> {
        let before = self.failed_before.load(Ordering::Relaxed).then(|| FAILED_BEFORE.to_owned());
        self.store.retired().map(|retired| retired.to_string()).or(before)
    }

    fn figures(&self, node: NodeId, speaks: bool) -> v1::HeartbeatRequest {
        let stats = self.store.stats();
        for (name, bytes) in [
            ("cairn_data_disk_used_bytes", stats.used_bytes),
            ("cairn_data_disk_pinned_bytes", stats.pinned_bytes),
            ("cairn_data_disk_capacity_bytes", self.capacity_bytes),
        ] {
            let (disk, dir) = (self.disk.to_string(), self.dir.display().to_string());
            metrics::gauge!(name, "disk" => disk, "dir" => dir).set(bytes as f64);
        }
        let (scrub, damaged) = (self.scrub.summary(), self.scrub.unrepaired());
        v1::HeartbeatRequest {
            node: node.0,
            incarnation: self.store.incarnation().0,
            used_bytes: stats.used_bytes,
            pinned_bytes: stats.pinned_bytes,
            capacity_bytes: self.capacity_bytes,
            retired: self.store.retired().is_some(),
            chunks: stats.chunks_open + stats.chunks_sealed,
            under_store_error: self.health.failure(),
            damaged_replicas: scrub.damaged_replicas,
            damaged_chunks: damaged.iter().take(DAMAGED_TOLD_MAX).map(|chunk| chunk.0).collect(),
            repaired_records: scrub.repaired,
            room_bytes: stats.room_bytes,
            dir: self.dir.display().to_string(),
            failure: self.failure().unwrap_or_default(),
            refused: if speaks { self.standings.refused() } else { Vec::new() },
        }
    }
}
