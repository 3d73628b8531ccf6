//! Starting and stopping a node: the directory, the log, the state, Raft, the tasks around it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_types::{Clock, ClusterId, FeatureLevels, LogIndex, NodeId, Policy, Random};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::compare::Comparison;
use super::form::{self, Newcomer};
use super::join::{self, Joiner};
use super::read::Reader;
use super::{Node, Shared, lead, level, members};
use crate::identity::{Identity, IdentityError};
use crate::keys::servers::DirectoryId;
use crate::raft::engine::{self, ConfigError, Fatal, InitializeError, RaftConfig};
use crate::raft::flusher::{FlushCounts, Flusher};
use crate::raft::lease::{self, Lease};
use crate::raft::log_disk::{LogDisk, LogError, RocksLog};
use crate::raft::log_store::{DurableMark, LogStore};
use crate::raft::machine::{Pace, StateMachine};
use crate::raft::met::{Met, MetError};
use crate::raft::network::Network;
use crate::raft::service::{Own, RaftService};
use crate::raft::snapshot::Snapshots;
use crate::raft::standing::Standing;
use crate::raft::state::{LevelFault, StateDir, StateError};
use crate::raft::{Raft, TypeConfig, directory, durable};

/// Faults that may wait to be looked at: one of each task that tells any.
const FAULTS: usize = 3;
/// How long the parts of a node may take to end.
const STOP: Duration = Duration::from_secs(5);

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
    /// Servers of a cluster that this one is to be added to, `host:port`; used when the directory is
    /// new, and then it forms none. Empty: it forms one.
    pub join: Vec<String>,
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
    /// The pause between two comparisons of the state with the other servers'.
    pub compare_every: Duration,
    /// The feature levels that this server applies.
    pub levels: FeatureLevels,
}

/// Why a node did not start, or ended because it should not have.
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
    State(StateError),
    /// The cluster is at a feature level that this server does not apply.
    #[error(transparent)]
    Level(#[from] LevelFault),
    /// The members met before are not known.
    #[error(transparent)]
    Met(#[from] MetError),
    /// The log is empty, and another member has a promise from this server: its directory was lost.
    #[error(
        "{node} has an empty Raft log, but {peer} knows it as a member of {}: its directory was lost, and with it \
         what it had acknowledged; restore the directory, or remove this server (`cairn admin raft remove`) and add \
         one with a new id", named(.cluster)
    )]
    Lost {
        /// This server.
        node: NodeId,
        /// Who knows it.
        peer: NodeId,
        /// The cluster, if that one knows.
        cluster: Option<ClusterId>,
    },
    /// The id under which this server waits to be added is another's, or was.
    #[error(
        "{server} says that the id of {node} is, or was, that of another server (or of this one, with a directory \
         that is lost): start it with an empty directory under an id that was never used"
    )]
    IdUsed {
        /// This server.
        node: NodeId,
        /// Who said so.
        server: String,
    },
    /// The directory was made to join a cluster, and nobody is named that could say whether it was
    /// added.
    #[error(
        "{dir}: this directory was made to join a cluster, and was never added to one: name its servers in join"
    )]
    NeverAdded {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to a cluster, but its log is empty.
    #[error(
        "{dir}: this directory belongs to cluster {cluster}, but its Raft log is empty: the log was lost, and with \
         it what this server had acknowledged; restore it"
    )]
    LogLost {
        /// The directory.
        dir: PathBuf,
        /// The cluster.
        cluster: ClusterId,
    },
    /// The state is not the one that a majority of the servers hold.
    #[error(
        "{node} holds another state than a majority of the servers, at entry {index} at the latest: a fault of \
         its disk, its memory or its build; keep the directory for those who look for the cause, and \
         let a server with an empty directory take its place"
    )]
    Diverged {
        /// This server.
        node: NodeId,
        /// The entry at which it is seen.
        index: u64,
    },
    /// A file or a thread could not be had.
    #[error("the server's files cannot be used")]
    File(#[from] io::Error),
    /// The settings do not fit openraft's rules.
    #[error("the Raft settings are refused")]
    Settings(#[source] ConfigError),
    /// Raft did not start from what is on disk.
    #[error("Raft did not start")]
    Raft(#[source] Fatal<TypeConfig>),
    /// The members cannot form a group with this server.
    #[error("the group cannot be formed")]
    Form(#[source] InitializeError<TypeConfig>),
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Level(fault) => Self::Level(fault),
            other => Self::State(other),
        }
    }
}

/// A cluster in a message.
fn named(cluster: &Option<ClusterId>) -> String {
    cluster.map_or_else(|| "a cluster without a name yet".to_owned(), |id| format!("cluster {id}"))
}

/// A running node and what must be ended with it.
pub struct Started {
    /// The handle.
    pub node: Node,
    tasks: TaskTracker,
    stop: CancellationToken,
    flusher: JoinHandle<()>,
    closed: [watch::Receiver<()>; 2],
    faults: mpsc::Receiver<StartError>,
}

/// A server that restarted asks for no vote while a leader that it has heard before may still count on that.
async fn hold_elections(raft: Raft, lease: Duration, stop: CancellationToken) {
    let alone = raft.with_raft_state(|state| state.membership_state.effective().voter_ids().count() <= 1);
    if alone.await.unwrap_or(true) {
        return;
    }
    raft.runtime_config().elect(false);
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(lease) => raft.runtime_config().elect(true),
    }
}

fn raft_config(settings: &Settings) -> Result<Arc<RaftConfig>, StartError> {
    engine::settings(settings.heartbeat_ms, settings.election_ms, settings.pace.keep_entries)
        .map_err(StartError::Settings)
}

/// The directory's files, open and found to belong together.
struct Files {
    identity: Identity,
    incoming: PathBuf,
    log_store: LogStore,
    machine: StateMachine,
    snapshots: Arc<Snapshots>,
    directory: DirectoryId,
    met: Arc<Met>,
    flusher: JoinHandle<()>,
    flushes: Arc<FlushCounts>,
    log: Weak<dyn LogDisk>,
    closed: [watch::Receiver<()>; 2],
}

impl Files {
    fn open(settings: &Settings, clock: &Arc<dyn Clock>, random: &dyn Random) -> Result<Self, StartError> {
        let dir = settings.dir.clone();
        let mut identity = Identity::claim(&dir, settings.id)?;
        let incoming = dir.join("incoming");
        durable::remove_dir(&incoming)?;
        let met = Arc::new(Met::open(&dir.join("met"))?);
        let log = dir.join("raft");
        durable::create_dir(&log)?;
        let disk = RocksLog::open(&log)?;
        let log_closed = disk.closed();
        let disk: Arc<dyn LogDisk> = Arc::new(disk);
        let weak = Arc::downgrade(&disk);
        durable::sync_dir(&dir)?;
        let mark = DurableMark::default();
        let state_dir = StateDir::new(dir.join("state"), settings.memory_bytes);
        let closed = [log_closed, state_dir.closed()];
        let snapshots = Arc::new(Snapshots::open(&dir.join("snapshot"))?);
        let (own_clock, pace) = (Arc::clone(clock), settings.pace.clone());
        let machine = StateMachine::open(
            state_dir,
            Arc::clone(&snapshots),
            mark.clone(),
            own_clock,
            pace,
            settings.levels,
        )?;
        // After all that may refuse the directory: its thread keeps the log open.
        let (queue, flusher) = Flusher::start(Arc::clone(&disk), Arc::clone(clock))?;
        let flushes = queue.counts();
        let log_store = LogStore::open(disk, queue, mark)?;
        let known = *machine.view().cluster.borrow();
        if let Some(cluster) = known {
            identity.learn(cluster)?;
        }
        if let Some(cluster) = identity.cluster().filter(|_| log_store.is_new()) {
            return Err(StartError::LogLost { dir, cluster });
        }
        let path = dir.join("directory");
        let joins = log_store.is_new() && !settings.join.is_empty();
        let directory = if joins { directory::claim(&path, random)? } else { directory::read(&path)? };
        if log_store.is_new() && !joins && directory != DirectoryId::default() {
            return Err(StartError::NeverAdded { dir });
        }
        Ok(Self {
            identity,
            incoming,
            log_store,
            machine,
            snapshots,
            directory,
            met,
            flusher,
            flushes,
            log: weak,
            closed,
        })
    }
}

/// How a server begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// It may be that of a group that was formed; alone it forms one.
    First,
    /// Its log is empty, and others are to form the group with it, or have.
    Newcomer,
    /// Its log is empty, and it waits to be added.
    Joiner,
    /// It was added once: it never forms a group.
    Added,
}

impl Beginning {
    fn of(empty: bool, directory: DirectoryId, settings: &Settings) -> Self {
        match (empty, directory != DirectoryId::default()) {
            (true, true) => Self::Joiner,
            (false, true) => Self::Added,
            (true, false) if settings.members.len() > 1 => Self::Newcomer,
            (_, false) => Self::First,
        }
    }

    /// How a server stands at first; with one member, itself, it makes a cluster of its own until that has a
    /// name.
    fn standing(self, members: usize, empty: bool, cluster: Option<ClusterId>) -> Standing {
        match self {
            Self::First if members == 1 && cluster.is_none() => {
                if empty {
                    tracing::warn!(
                        "this server makes a new cluster, alone: nobody is named who could say whether it was \
                         in one before. If it was, and lost its directory, stop it: `join` in its \
                         configuration says so"
                    );
                }
                Standing::Alone
            }
            Self::First | Self::Added => Standing::Sure,
            Self::Newcomer => Standing::Asking,
            Self::Joiner => Standing::Waiting,
        }
    }

    /// Forms the group, or has a task find out whether this server may take part in one; it is told by
    /// `standing`, and by `faults` when it may not.
    async fn begin(
        self,
        raft: &Raft,
        settings: &Settings,
        directory: DirectoryId,
        clock: Arc<dyn Clock>,
        (standing, faults): (watch::Sender<Standing>, mpsc::Sender<StartError>),
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> Result<(), StartError> {
        let (id, levels) = (settings.id, settings.levels);
        match self {
            Self::Newcomer => {
                let (raft, members) = (raft.clone(), settings.members.clone());
                let newcomer = Newcomer { raft, id, members, clock, levels, standing, faults };
                tasks.spawn(newcomer.run(stop.clone()));
            }
            Self::Joiner => {
                let servers = settings.join.clone();
                let joiner = Joiner { id, directory, servers, levels, standing, faults };
                tasks.spawn(joiner.run(stop.clone()));
            }
            Self::First => form::form(raft, &settings.members).await?,
            Self::Added => {}
        }
        Ok(())
    }
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
        form::check_new(&settings).await?;
        let files = Files::open(&settings, &clock, random.as_ref())?;
        let Files { identity, incoming, log_store, machine, snapshots, directory, .. } = files;
        let Files { met, flusher, flushes, log, closed, .. } = files;
        let empty = log_store.is_new();
        let (begun, election_max) = (clock.boottime(), Duration::from_millis(settings.election_ms.1));
        let view = machine.view();
        let own_cluster = watch::Sender::new(identity.cluster());
        let network = Network::new(settings.id.0, own_cluster.subscribe(), Arc::clone(&met));
        let raft = Raft::new(settings.id.0, config, network.clone(), log_store, machine)
            .await
            // What is in the log is applied at the start, too.
            .map_err(|fatal| (*view.unfit.borrow()).map_or(StartError::Raft(fatal), StartError::Level))?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        if !empty {
            tasks.spawn(hold_elections(raft.clone(), lease::trusted(election_max), stop.clone()));
        }
        let (fault, faults) = mpsc::channel(FAULTS);
        let beginning = Beginning::of(empty, directory, &settings);
        let standing = beginning.standing(settings.members.len(), empty, identity.cluster());
        let standing = watch::Sender::new(standing);
        let own = Own {
            raft: raft.clone(),
            node: settings.id.0,
            directory,
            state: Arc::clone(&view.current),
            marks: view.marks.clone(),
            levels: settings.levels,
            level: view.level.clone(),
            votes_from: if empty { Duration::ZERO } else { begun + lease::trusted(election_max) },
        };
        let service = RaftService::new(
            own,
            Arc::clone(&clock),
            own_cluster.subscribe(),
            standing.subscribe(),
            met,
            incoming,
            stop.clone(),
        );
        let comparison = Comparison {
            raft: raft.clone(),
            network: network.clone(),
            marks: view.marks.clone(),
            every: settings.compare_every,
            faults: fault.clone(),
        };
        tasks.spawn(comparison.run(stop.clone()));
        let voices = (standing.clone(), fault.clone());
        beginning.begin(&raft, &settings, directory, Arc::clone(&clock), voices, (&tasks, &stop)).await?;
        let (reader, rounds) = Reader::new();
        let leadership = watch::Sender::new(None);
        let told = watch::Sender::new(level::Told::default());
        let node = Node {
            shared: Arc::new(Shared {
                id: settings.id,
                raft: raft.clone(),
                network,
                view: view.clone(),
                clock,
                admission: Admission::default(),
                reader,
                lease: Lease::new(election_max, begun),
                leadership: leadership.subscribe(),
                flushes,
                service,
                standing: standing.subscribe(),
                snapshots,
                log_dir: settings.dir.join("raft"),
                log,
                changing: Arc::new(Semaphore::new(1)),
                levels: settings.levels,
                told: told.subscribe(),
                leveling: Semaphore::new(1),
            }),
        };
        let silence = Duration::from_millis(settings.election_ms.1.saturating_mul(2));
        tasks.spawn(join::watch_removal(node.clone(), directory, standing, silence, stop.clone()));
        tasks.spawn(level::raise_levels(node.clone(), told, stop.clone()));
        tasks.spawn(members::finish_changes(node.clone(), stop.clone()));
        tasks.spawn(lead::watch_leadership(raft.clone(), leadership, stop.clone()));
        for rounds in rounds {
            tasks.spawn(rounds.run(node.clone(), stop.clone()));
        }
        tasks.spawn(keep_snapshots(raft, view.flushed, stop.clone()));
        tasks.spawn(keep_identity(identity, view.cluster, own_cluster, fault, stop.clone()));
        let (named, policy, ended) = (node.clone(), settings.policy, stop.clone());
        tasks.spawn(async move { lead::name_cluster(named, policy, random.as_ref(), ended).await });
        tasks.close();
        Ok(Self { node, tasks, stop, flusher, closed, faults })
    }

    /// Waits until it turns out that this server must not go on: it has been a member before and
    /// lost its directory, its directory and its state name different clusters, or it met a feature
    /// level that it does not apply. The caller ends the server.
    pub async fn fault(&mut self) -> StartError {
        let mut unfit = self.node.shared.view.unfit.clone();
        tokio::select! {
            Ok(fault) = unfit.wait_for(Option::is_some) => {
                if let Some(fault) = *fault {
                    return fault.into();
                }
            }
            Some(error) = self.faults.recv() => return error,
            else => {}
        }
        // Those who could tell have ended without a fault.
        std::future::pending().await
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

/// Writes the cluster's id down when the state has it, then lets the network use it; a state of
/// another cluster is a fault. Holds the directory's lock until the end.
async fn keep_identity(
    mut identity: Identity,
    mut cluster: watch::Receiver<Option<ClusterId>>,
    own: watch::Sender<Option<ClusterId>>,
    faults: mpsc::Sender<StartError>,
    stop: CancellationToken,
) {
    loop {
        let learned = *cluster.borrow_and_update();
        if let Some(id) = learned {
            let written = tokio::task::block_in_place(|| identity.learn(id));
            if let Err(error) = written {
                tracing::error!(%error, cause = ?error, "the cluster's id cannot be kept: this server stops");
                // Nobody listens any more when the server is ending already.
                let _ = faults.send(error.into()).await;
                break;
            }
            own.send_if_modified(|known| known.replace(id) != Some(id));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = cluster.changed() => if changed.is_err() { break },
        }
    }
    stop.cancelled().await;
}
