//! The state database on disk, `state/`, and its atomic replacement by a received snapshot.
//!
//! `state/CURRENT` names the directory in use, `state/db-<n>`. A received snapshot becomes the next
//! `db-<n>`, and the rename of a new `CURRENT` over the old one is the switch. Readers of the old
//! database go on; its directory goes with the last of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::{ClusterId, FeatureLevel, FeatureLevels};
use tokio::sync::watch;

use super::durable;
use super::record::{self, AppliedRecord, MembershipRecord, RecordError};
use super::snapshot::Directory;
use crate::keys::RowFault;
use crate::namespace;
use crate::store::{DurableStore, RocksStore, Rows, StoreFault, Table, WriteBatch};

const CURRENT: &str = "CURRENT";
/// The row of [`Table::Meta`] that moves with every batch.
pub const APPLIED_KEY: &[u8] = b"applied";

/// What went wrong with the state. Every one of them stops the server.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A row of the state is damaged, or the database failed.
    #[error(transparent)]
    Row(#[from] RowFault),
    /// A file or directory around it failed.
    #[error("a file of the state failed")]
    File(#[from] io::Error),
    /// A record of the Raft layer in the state is damaged.
    #[error("a record of the Raft layer in the state is damaged")]
    Record(#[from] RecordError),
    /// An entry of the log does not decode: damaged, or written by a newer build.
    #[error("log entry {index} does not decode")]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        source: cairn_types::codec::CodecError,
    },
    /// The digest of the state tells of another entry than the last one applied.
    #[error("the state's digest is that of entry {index}, and entry {applied} is the last one applied")]
    Digest {
        /// The digest's entry.
        index: u64,
        /// The last entry applied.
        applied: u64,
    },
    /// The state, or an entry of the log, is of a feature level that this server does not apply.
    #[error(transparent)]
    Level(#[from] LevelFault),
    /// A received snapshot does not hold what its manifest says.
    #[error("the snapshot covers another entry than its manifest says")]
    OtherSnapshot,
}

/// A server met a feature level that it does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster's feature level is {level}, and this server applies {levels}: start it from the release that the \
     other servers run (or raise its feature_level_max); its directory is as it was"
)]
pub struct LevelFault {
    /// The level that it met.
    pub level: FeatureLevel,
    /// Those that it applies.
    pub levels: FeatureLevels,
}

impl LevelFault {
    /// Refuses a level that `levels` do not include.
    ///
    /// # Errors
    /// The fault.
    pub fn check(level: FeatureLevel, levels: FeatureLevels) -> Result<(), Self> {
        if levels.include(level) { Ok(()) } else { Err(Self { level, levels }) }
    }
}

impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        Self::other(error)
    }
}

/// An open state database.
pub struct State {
    /// The database. Declared first: closed before its directory may go.
    store: Box<dyn DurableStore>,
    directory: Directory,
    // Dropped after both, so that who waits for it finds the directory free.
    _closed: Arc<watch::Sender<()>>,
}

impl State {
    /// The database.
    #[must_use]
    pub fn store(&self) -> &dyn DurableStore {
        &*self.store
    }

    /// What has been applied.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn applied(&self) -> Result<AppliedRecord, StateError> {
        read_applied(&*self.store)
    }

    /// From now on its directory goes when the last reader has let go.
    pub fn retire(&self) {
        self.directory.doom();
    }
}

/// Reads the row that moves with every batch.
///
/// # Errors
/// [`StateError`].
pub fn read_applied(rows: &dyn Rows) -> Result<AppliedRecord, StateError> {
    let empty = MembershipRecord { voters: Vec::new(), members: Vec::new() };
    Ok(match rows.get(Table::Meta, APPLIED_KEY)? {
        None => AppliedRecord { applied: None, membership_id: None, membership: empty },
        Some(bytes) => record::decode(&bytes)?,
    })
}

/// Adds that row to a batch.
pub fn write_applied(batch: &mut WriteBatch, applied: &AppliedRecord) {
    batch.put(Table::Meta, APPLIED_KEY, record::encode(applied));
}

/// The cluster's identity, once the state has it.
///
/// # Errors
/// [`StateError`].
pub fn read_cluster(rows: &dyn Rows) -> Result<Option<ClusterId>, StateError> {
    let cluster = namespace::read::cluster(rows)?.cluster;
    Ok((!cluster.is_nil()).then_some(cluster))
}

/// Opens the database in a directory, or makes it there.
pub type OpenStore = Arc<dyn Fn(&Path) -> Result<Box<dyn DurableStore>, StoreFault> + Send + Sync>;

/// The directory `state/`.
#[derive(Clone)]
pub struct StateDir {
    root: PathBuf,
    open_store: OpenStore,
    closed: Arc<watch::Sender<()>>,
}

impl StateDir {
    /// The directory at `root`; its database keeps within `memory_bytes`.
    #[must_use]
    pub fn new(root: PathBuf, memory_bytes: usize) -> Self {
        Self::of(root, Arc::new(move |path| Ok(Box::new(RocksStore::open(path, memory_bytes)?))))
    }

    /// The directory at `root`; `open_store` opens its databases.
    #[must_use]
    pub fn of(root: PathBuf, open_store: OpenStore) -> Self {
        Self { root, open_store, closed: Arc::new(watch::Sender::new(())) }
    }

    /// Ends (with an error) once this value and every database that it opened are gone.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<()> {
        self.closed.subscribe()
    }

    /// Opens the database in use, or makes the first one; removes what a crash left over.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(&self) -> Result<State, StateError> {
        durable::create_dir(&self.root)?;
        let current = self.root.join(CURRENT);
        let name = match fs::read(&current) {
            Ok(bytes) => record::decode::<String>(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = "db-1".to_owned();
                durable::replace_file(&current, &record::encode(&name))?;
                name
            }
            Err(error) => return Err(error.into()),
        };
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != name.as_str() {
                durable::remove_dir(&entry.path())?;
            }
        }
        self.open_database(self.root.join(name))
    }

    fn open_database(&self, path: PathBuf) -> Result<State, StateError> {
        let store = (self.open_store)(&path)?;
        durable::sync_dir(&self.root)?;
        Ok(State { store, directory: Directory::kept(path), _closed: Arc::clone(&self.closed) })
    }

    /// Moves a received checkpoint in and opens it; nobody uses it before [`StateDir::switch`].
    ///
    /// # Errors
    /// [`StateError`].
    pub fn adopt(&self, received: &Path) -> Result<State, StateError> {
        let mut greatest = 0;
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("db-")).and_then(|n| n.parse().ok());
            greatest = greatest.max(number.unwrap_or(0u64));
        }
        let path = self.root.join(format!("db-{}", greatest + 1));
        fs::rename(received, &path)?;
        durable::sync_dir(&self.root)?;
        self.open_database(path)
    }

    /// Makes `state` the one in use, durably when this returns.
    ///
    /// # Errors
    /// [`StateError`]; the old one stays in use.
    pub fn switch(&self, state: &State) -> Result<(), StateError> {
        let name = state.directory.path().file_name().and_then(|n| n.to_str()).unwrap_or_default();
        Ok(durable::replace_file(&self.root.join(CURRENT), &record::encode(&name.to_owned()))?)
    }
}
