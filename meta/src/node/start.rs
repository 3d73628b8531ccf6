//! Starting and stopping a node: the directory, the log, the state, Raft, the tasks around it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_types::{Clock, ClusterId, LogIndex, NodeId, Policy, Random};
use openraft::SnapshotPolicy;
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::impls::BasicNode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::read::Reader;
use super::{Node, Shared, lead};
use crate::identity::{Identity, IdentityError};
use crate::raft::flusher::Flusher;
use crate::raft::log_disk::{LogDisk, LogError, RocksLog};
use crate::raft::log_store::{DurableMark, LogStore};
use crate::raft::machine::{Pace, StateMachine};
use crate::raft::network::Network;
use crate::raft::service::RaftService;
use crate::raft::snapshot::Snapshots;
use crate::raft::state::{StateDir, StateError};
use crate::raft::{Raft, TypeConfig, durable};

/// How long the parts of a node may take to end.
const STOP: Duration = Duration::from_secs(5);
/// How long one transfer of a snapshot may take.
const SNAPSHOT_MS: u64 = 20 * 60 * 1000;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server's id.
    pub id: NodeId,
    /// Its directory.
    pub dir: PathBuf,
    /// The first members with their addresses, this server among them; used when the directory is
    /// new.
    pub members: BTreeMap<NodeId, String>,
    /// The root's policy, used when the cluster is made.
    pub policy: Policy,
    /// A leader's heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// The least and the greatest time without a leader before an election, in milliseconds.
    pub election_ms: (u64, u64),
    /// Memory for the state's tables and caches, in bytes.
    pub memory_bytes: usize,
    /// How often the state is flushed and snapshots are made.
    pub pace: Pace,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory is another's, or in use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file or a thread could not be had.
    #[error("the server's files cannot be used")]
    File(#[from] io::Error),
    /// The settings do not fit openraft's rules.
    #[error("the Raft settings are refused")]
    Settings(#[source] openraft::ConfigError),
    /// Raft did not start from what is on disk.
    #[error("Raft did not start")]
    Raft(#[source] Fatal<TypeConfig>),
    /// The members cannot form a group with this server.
    #[error("the group cannot be formed")]
    Form(#[source] InitializeError<TypeConfig>),
}

/// A running node and what must be ended with it.
pub struct Started {
    /// The handle.
    pub node: Node,
    tasks: TaskTracker,
    stop: CancellationToken,
    flusher: JoinHandle<()>,
    closed: [watch::Receiver<()>; 2],
}

fn raft_config(settings: &Settings) -> Result<Arc<openraft::Config>, StartError> {
    let config = openraft::Config {
        cluster_name: "cairn".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_ms.0,
        election_timeout_max: settings.election_ms.1,
        install_snapshot_timeout: SNAPSHOT_MS,
        max_payload_entries: 4096,
        // A snapshot is made when the state has been flushed anyway: `keep_snapshots` below.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: settings.pace.keep_entries,
        enable_pre_vote: Some(true),
        // A leader that restarts must be elected again: what it knew to be committed may be ahead
        // of what it saved, and a read must never see an older state than an earlier one did.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    Ok(Arc::new(config.validate().map_err(StartError::Settings)?))
}

impl Started {
    /// Opens the directory, forms the group if it is new, and starts everything. The caller must
    /// serve [`Node::raft_service`] at this server's address.
    ///
    /// # Errors
    /// [`StartError`]; a directory that is refused is left as it was.
    pub async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let config = raft_config(&settings)?;
        let dir = settings.dir.clone();
        let mut identity = Identity::claim(&dir, settings.id)?;
        let incoming = dir.join("incoming");
        durable::remove_dir(&incoming)?;
        let log = dir.join("raft");
        durable::create_dir(&log)?;
        let disk = RocksLog::open(&log)?;
        let log_closed = disk.closed();
        let disk: Arc<dyn LogDisk> = Arc::new(disk);
        durable::sync_dir(&dir)?;
        let (queue, flusher) = Flusher::start(Arc::clone(&disk), Arc::clone(&clock))?;
        let flushes = queue.counts();
        let mark = DurableMark::default();
        let state_dir = StateDir::new(dir.join("state"), settings.memory_bytes);
        let closed = [log_closed, state_dir.closed()];
        let snapshots = Arc::new(Snapshots::open(&dir.join("snapshot"))?);
        let machine = StateMachine::open(
            state_dir,
            snapshots,
            mark.clone(),
            Arc::clone(&clock),
            settings.pace.clone(),
        )?;
        let log_store = LogStore::open(disk, queue, mark)?;
        let view = machine.view();
        let known = *view.cluster.borrow();
        if let Some(cluster) = known {
            identity.learn(cluster)?;
        }
        let own_cluster = watch::Sender::new(identity.cluster());
        let network = Network::new(settings.id.0, own_cluster.subscribe());
        let raft =
            Raft::new(settings.id.0, config, network, log_store, machine).await.map_err(StartError::Raft)?;
        form(&raft, &settings.members).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let service =
            RaftService::new(raft.clone(), settings.id.0, own_cluster.subscribe(), incoming, stop.clone());
        let (reader, rounds) = Reader::new();
        let leadership = watch::Sender::new(None);
        let node = Node {
            shared: Arc::new(Shared {
                id: settings.id,
                raft: raft.clone(),
                view: view.clone(),
                clock,
                admission: Admission::default(),
                reader,
                leadership: leadership.subscribe(),
                flushes,
                service,
            }),
        };
        tasks.spawn(lead::watch_leadership(raft.clone(), leadership, stop.clone()));
        tasks.spawn(rounds.run(node.clone(), stop.clone()));
        tasks.spawn(keep_snapshots(raft, view.flushed, stop.clone()));
        tasks.spawn(keep_identity(identity, view.cluster, own_cluster, stop.clone()));
        let (named, ended) = (node.clone(), stop.clone());
        tasks.spawn(async move { lead::name_cluster(named, settings.policy, random.as_ref(), ended).await });
        tasks.close();
        Ok(Self { node, tasks, stop, flusher, closed })
    }

    /// Ends everything and closes the files; when this returns, the directory can be opened again
    /// unless someone still holds a [`super::ReadView`].
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            tracing::warn!("a task of the node did not end in time");
        }
        if let Err(error) = self.node.shared.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end in order");
        }
        let closed =
            self.closed.into_iter().map(|mut end| async move { while end.changed().await.is_ok() {} });
        let flusher = tokio::task::spawn_blocking(move || self.flusher.join());
        let ended = async { tokio::join!(futures::future::join_all(closed), flusher) };
        if tokio::time::timeout(STOP, ended).await.is_err() {
            tracing::warn!("the files of the node were not closed in time");
        }
    }
}

/// Makes the group of a new directory. Every first member does so with the same members, which is
/// safe: they elect one leader among them.
async fn form(raft: &Raft, members: &BTreeMap<NodeId, String>) -> Result<(), StartError> {
    if raft.is_initialized().await.map_err(StartError::Raft)? {
        let only = raft.voter_ids().collect::<Vec<_>>() == [*raft.node_id()];
        if only {
            // Nobody else can lead: there is no reason to wait.
            raft.trigger().elect(false).await.map_err(StartError::Raft)?;
        }
        return Ok(());
    }
    let members: BTreeMap<u64, BasicNode> =
        members.iter().map(|(id, addr)| (id.0, BasicNode { addr: addr.clone() })).collect();
    match raft.initialize(members).await {
        // A vote or an entry of another first member has come in meanwhile.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(RaftError::APIError(error)) => Err(StartError::Form(error)),
        Err(RaftError::Fatal(fatal)) => Err(StartError::Raft(fatal)),
    }
}

/// Has a snapshot made whenever the state was flushed: a checkpoint is cheap then, and the log
/// below it can go.
async fn keep_snapshots(raft: Raft, mut flushed: watch::Receiver<LogIndex>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = flushed.changed() => if changed.is_err() { return },
        }
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

/// Writes the cluster's id down when the state has it, then lets the network use it. Holds the
/// directory's lock until the end.
async fn keep_identity(
    mut identity: Identity,
    mut cluster: watch::Receiver<Option<ClusterId>>,
    own: watch::Sender<Option<ClusterId>>,
    stop: CancellationToken,
) {
    loop {
        let learned = *cluster.borrow_and_update();
        if let Some(id) = learned.filter(|_| own.borrow().is_none()) {
            let written = tokio::task::block_in_place(|| identity.learn(id));
            if let Err(error) = written {
                tracing::error!(%error, cause = ?error, "the cluster's id could not be written down");
            }
            own.send_replace(identity.cluster());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = cluster.changed() => if changed.is_err() { break },
        }
    }
    stop.cancelled().await;
}
