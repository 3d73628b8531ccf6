//! [`Tenure`]: what a leader keeps in memory for as long as it leads, and how its jobs act.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::v1;
use cairn_types::{ChunkId, Clock, ClusterId, FsError, NodeId, Random};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::compact::Compacting;
use super::data::DataNodes;
use super::drain::Drains;
use super::gc::Gc;
use super::holds::HoldAnswers;
use super::lag::Told;
use super::leases::Leases;
use super::merge::{Fragments, Merging};
use super::mounting::retries::Retries;
use super::nodes::{ERROR_BYTES_MAX, Registry, View};
use super::removal::Losses;
use super::repair::Repairs;
use super::rows;
use super::seal::{SealAsks, Seals};
use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::namespace::read;
use crate::namespace::{Answer, Command, clipped};
use crate::node::{Node, NodeError, ReadView, Term};

/// How long the cluster's own proposals may take.
const PROPOSE: Duration = Duration::from_secs(5);
/// Chunks that someone waits to see in S3, at most; beyond that they go in their turn.
const URGENT_MAX: usize = 65_536;
/// How long a chunk stays urgent without being asked for again.
const URGENT: Duration = Duration::from_secs(120);
/// How long a failed upload counts when nothing is heard after it: the work may be gone.
const UPLOAD_ERROR: Duration = Duration::from_secs(60);

/// Why a proposal of the leader's came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The state machine refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It was not applied, or that is unknown.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Why a job's run broke off; it is tried again at its next turn.
#[derive(Debug, thiserror::Error)]
pub enum JobFault {
    /// A proposal was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The state is closed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The state could not be read.
    #[error(transparent)]
    Rows(#[from] RowFault),
    /// A reading task was cancelled or broke off.
    #[error("reading the state broke off")]
    Task(#[from] tokio::task::JoinError),
}

/// What every tenure needs from its server.
#[derive(Clone)]
pub struct Ground {
    /// The replicated state.
    pub node: Node,
    /// The machine's clocks, or a test's.
    pub clock: Arc<dyn Clock>,
    /// The machine's random source, or a test's.
    pub random: Arc<dyn Random>,
    /// A data node silent that long is not placed on and its work is given away.
    pub node_timeout: Duration,
    /// How long a session lives after its last sign of life.
    pub session_lease: Duration,
    /// Watches that this server takes, at most.
    pub watches_max: usize,
    /// How long a watcher may leave its events waiting before its stream is ended.
    pub watcher_patience: Duration,
    /// Names of removed trees that are purged in a second, at most; `None`: no bound.
    pub tree_purge_per_second: Option<NonZeroU32>,
    /// Bytes of further copies that a data node is asked to receive in a second, at most; `None`: no bound.
    pub repair_bytes_per_second: Option<NonZeroU64>,
    /// When packs are compacted, and how fast.
    pub compacting: Compacting,
    /// When small extents are merged, and how fast.
    pub merging: Merging,
    /// Objects of mounted buckets that are written, copied or deleted in a second, at most; `None`: no bound.
    pub mount_objects_per_second: Option<NonZeroU32>,
    /// How long a dead pack is kept in the under-store.
    pub pack_delay: Duration,
    /// A request that takes longer is told in the log; `None`: none is.
    pub slow_operation: Option<Duration>,
}

/// One term of leadership.
pub struct Tenure {
    /// The replicated state.
    pub node: Node,
    /// The cluster.
    pub cluster: ClusterId,
    /// The Raft term in which it began.
    pub term: Term,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// The machine's random source.
    pub random: Arc<dyn Random>,
    /// A data node silent that long is not placed on and its work is given away.
    pub node_timeout: Duration,
    /// Names of removed trees that are purged in a second, at most; `None`: no bound.
    pub tree_purge_per_second: Option<NonZeroU32>,
    /// Bytes of further copies that a data node is asked to receive in a second, at most; `None`: no bound.
    pub repair_bytes_per_second: Option<NonZeroU64>,
    /// When packs are compacted, and how fast.
    pub compacting: Compacting,
    /// When small extents are merged, and how fast.
    pub merging: Merging,
    /// Objects of mounted buckets that are written, copied or deleted in a second, at most; `None`: no bound.
    pub mount_objects_per_second: Option<NonZeroU32>,
    /// How long a dead pack is kept in the under-store.
    pub pack_delay: Duration,
    /// Who looks at what is to be collected.
    pub gc: Gc,
    /// What waits to be merged.
    pub fragments: Fragments,
    /// The data nodes.
    pub registry: Registry,
    /// The sessions' leases.
    pub leases: Leases,
    /// What sessions say of unlinked files.
    pub answers: HoldAnswers,
    /// The data nodes' work.
    pub board: Board,
    /// Connections to data nodes.
    pub data: DataNodes,
    /// The seal job's door.
    pub seals: Seals,
    /// What removed data nodes took with them.
    pub losses: Losses,
    /// How far the further copies are.
    pub repairs: Repairs,
    /// How far the nodes are that are to be shut down.
    pub drains: Drains,
    /// In which mounts what failed for good is to be tried once more.
    pub retries: Retries,
    /// Cancelled when leadership ends.
    pub stop: CancellationToken,
    stir: watch::Sender<u64>,
    // Guards: nothing beyond the map itself. Never held across an await.
    urgent: Mutex<HashMap<ChunkId, Duration>>,
    // Guards: nothing beyond the value itself. Never held across an await.
    upload_error: Mutex<Option<UploadError>>,
    // Guards: nothing beyond the value itself. Never held across an await.
    lag_age: Mutex<Option<LagAge>>,
    /// How often writers were told of the lag.
    pub lag_told: Told,
}

/// The newest failure of an upload.
struct UploadError {
    message: String,
    at: Duration,
}

/// The age of the oldest byte that is not in S3, when the persist job looked last.
#[derive(Clone, Copy)]
struct LagAge {
    age_ms: u64,
    at: Duration,
}

impl Tenure {
    /// Begins a term from the state as it is applied here.
    ///
    /// # Errors
    /// [`JobFault`] when the state cannot be read.
    pub fn begin(
        ground: Ground,
        cluster: ClusterId,
        term: Term,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, SealAsks), JobFault> {
        let Ground { node, clock, random, node_timeout, session_lease, .. } = ground;
        let Ground { tree_purge_per_second, repair_bytes_per_second, compacting, merging, .. } = ground;
        let Ground { mount_objects_per_second, pack_delay, .. } = ground;
        let view = node.read_local()?;
        let registry = Registry::new(clock.clone(), node_timeout, rows::known_nodes(&*view.store)?);
        let leases = Leases::new(clock.clone(), session_lease, rows::sessions(&*view.store)?);
        let (seals, asks) = Seals::new(clock.clone());
        let (stir, _) = watch::channel(0);
        let tenure = Self {
            cluster,
            term,
            registry,
            leases,
            answers: HoldAnswers::default(),
            board: Board::new(clock.clone(), random.clone()),
            data: DataNodes::new(cluster),
            seals,
            losses: Losses::default(),
            repairs: Repairs::default(),
            drains: Drains::default(),
            retries: Retries::default(),
            stop,
            stir,
            urgent: Mutex::new(HashMap::new()),
            upload_error: Mutex::new(None),
            lag_age: Mutex::new(None),
            lag_told: Told::default(),
            node,
            clock,
            random,
            node_timeout,
            tree_purge_per_second,
            repair_bytes_per_second,
            compacting,
            merging,
            mount_objects_per_second,
            pack_delay,
            gc: Gc::default(),
            fragments: Fragments::default(),
        };
        Ok((Arc::new(tenure), asks))
    }

    /// Proposes one of the cluster's own commands.
    ///
    /// # Errors
    /// [`Refused`]; every such command is safe to repeat.
    pub async fn propose(&self, command: Command) -> Result<Answer, Refused> {
        let (_, reply) = self.node.propose_internal(command, PROPOSE).await?;
        Ok(reply?)
    }

    /// As [`Self::propose`], where the state may have moved on meanwhile: a refusal by the state
    /// machine is `None`, and the job goes on with the rest.
    ///
    /// # Errors
    /// [`JobFault`] when the entry did not get into the log.
    pub async fn try_propose(&self, command: Command) -> Result<Option<Answer>, JobFault> {
        match self.propose(command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Refused::Fs(error)) => {
                tracing::debug!(%error, "the state has moved on");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The state as it is applied here.
    ///
    /// # Errors
    /// [`NodeError`] when the server stops.
    pub fn local(&self) -> Result<ReadView, NodeError> {
        self.node.read_local()
    }

    /// A chunk's record as it is applied here.
    ///
    /// # Errors
    /// [`JobFault`] when the state cannot be read.
    pub fn chunk(&self, chunk: ChunkId) -> Result<Option<ChunkRecord>, JobFault> {
        Ok(read::chunk(&*self.local()?.store, chunk)?)
    }

    /// Where a data node listens.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.registry.get(node).map(|v| v.registered.address)
    }

    /// Wakes the jobs: there is something for them in the state.
    pub fn stir(&self) {
        self.stir.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Changes whenever [`Self::stir`] is called.
    #[must_use]
    pub fn stirred(&self) -> watch::Receiver<u64> {
        self.stir.subscribe()
    }

    /// A chunk was sealed: those who wait are told, and its replicas of their new standing.
    pub fn announce_sealed(&self, record: &ChunkRecord) {
        self.seals.tell(record.chunk);
        for replica in record.replicas.iter().filter(|r| record.is_holder(r.node)) {
            if let Some(work) = super::notice::sealed(record, replica.node) {
                self.board.notify(replica.node, work);
            }
        }
        self.stir();
    }

    /// A chunk is in S3: its holders may evict it.
    pub fn announce_persisted(&self, record: &ChunkRecord) {
        let place = self
            .local()
            .map_err(JobFault::from)
            .and_then(|view| Ok(super::wire::place(&*view.store, self.cluster, record)?));
        let place = place.unwrap_or_else(|error| {
            // They hear of it when they next connect.
            tracing::warn!(chunk = %record.chunk, %error, "its holders cannot be told that it is in S3");
            None
        });
        for replica in record.replicas.iter().filter(|r| record.is_holder(r.node)) {
            if let Some(work) = super::notice::persisted(record.chunk, place.clone()) {
                self.board.notify(replica.node, work);
            }
        }
    }

    fn urgent(&self) -> std::sync::MutexGuard<'_, HashMap<ChunkId, Duration>> {
        self.urgent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone waits for these chunks to be in S3: they go at once.
    pub fn urge(&self, chunks: impl IntoIterator<Item = ChunkId>) {
        let now = self.clock.boottime();
        let mut urgent = self.urgent();
        if urgent.len() >= URGENT_MAX {
            urgent.retain(|_, until| *until > now);
        }
        for chunk in chunks {
            if urgent.len() < URGENT_MAX {
                urgent.insert(chunk, now + URGENT);
            }
        }
        drop(urgent);
        self.stir();
    }

    /// True while someone waits for the chunk to be in S3.
    #[must_use]
    pub fn is_urgent(&self, chunk: ChunkId) -> bool {
        let now = self.clock.boottime();
        self.urgent().get(&chunk).is_some_and(|until| *until > now)
    }

    /// Nobody needs to wait for the chunk any more.
    pub fn settled(&self, chunk: ChunkId) {
        self.urgent().remove(&chunk);
    }

    /// Notes the outcome of the newest upload: the failure, or empty after a success.
    pub fn note_upload(&self, failure: &str) {
        let message = clipped(failure, ERROR_BYTES_MAX);
        let at = self.clock.boottime();
        let noted = (!message.is_empty()).then_some(UploadError { message, at });
        *self.upload_error.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }

    /// The newest failure of an upload, unless it is long ago.
    fn upload_error(&self) -> Option<String> {
        let now = self.clock.boottime();
        let error = self.upload_error.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().filter(|e| now.saturating_sub(e.at) < UPLOAD_ERROR).map(|e| e.message.clone())
    }

    /// True while uploads fail, as far as this leader has heard.
    #[must_use]
    pub fn uploads_fail(&self) -> bool {
        self.upload_error().is_some()
    }

    /// The newest failure of the under-store, empty when all is well.
    #[must_use]
    pub fn under_store_error(&self) -> String {
        self.upload_error().unwrap_or_else(|| self.registry.under_store_error())
    }

    /// Notes the age of the oldest byte that is not in S3 at `at` by the boot clock; `None` when
    /// all is there.
    pub fn note_lag_age(&self, age_ms: Option<u64>, at: Duration) {
        let noted = age_ms.map(|age_ms| LagAge { age_ms, at });
        *self.lag_age.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }

    /// The age in milliseconds of the oldest byte that is not in S3, 0 when all is there.
    #[must_use]
    pub fn lag_age_ms(&self) -> u64 {
        let now = self.clock.boottime();
        let noted = *self.lag_age.lock().unwrap_or_else(PoisonError::into_inner);
        noted.map_or(0, |lag| {
            let since = u64::try_from(now.saturating_sub(lag.at).as_millis()).unwrap_or(u64::MAX);
            lag.age_ms.saturating_add(since)
        })
    }

    /// A data node as the wire has it.
    #[must_use]
    pub fn node_status(&self) -> Vec<v1::DataNode> {
        self.registry.all().iter().map(|view| self.status_of(view)).collect()
    }

    /// One of them as the wire has it, with what a drain has left of it.
    #[must_use]
    pub fn status_of(&self, view: &View) -> v1::DataNode {
        let left = self.drains.left(view.registered.node);
        let known = super::notice::node_status(view);
        v1::DataNode { drain_chunks: left.chunks, drain_bytes: left.bytes, ..known }
    }
}
