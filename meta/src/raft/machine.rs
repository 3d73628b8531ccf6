//! The state machine's driver: applies committed entries to the state in batches, flushes it now
//! and then, makes and installs snapshots.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cairn_types::{Clock, ClusterId, FeatureLevel, FeatureLevels, LogIndex};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{oneshot, watch};

use super::beside::beside;
use super::digest::{self, MARK_EVERY, Mark, Marks};
use super::log_store::DurableMark;
use super::record::AppliedRecord;
use super::snapshot::{Snapshot, SnapshotData, Snapshots};
use super::state::{self, LevelFault, State, StateDir, StateError};
use super::tail;
use super::types::{Answer, Entry, LogId, Members, SnapshotMeta, TypeConfig};
use crate::namespace::{self, Bounds, Command, Memory, jobs};
use crate::slow::{self, Lines, SLOW_IO};
use crate::store::{Recent, Remembered, Txn};

static SLOW_BATCHES: Lines = Lines::new();

/// Entries in one batch, at most.
const BATCH_ENTRIES_MAX: usize = 1024;
/// Entries that are applied without leaving the thread to other tasks first, which costs more than
/// they do.
const INLINE_ENTRIES_MAX: usize = 64;
/// The same in bytes.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Bytes of entries in one batch, at most.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Bytes of rows that are kept for the entries to come.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// How often the state is made durable without the log, and how much log stays behind a snapshot.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Flush after so many entries: a restart re-applies no more.
    pub flush_entries: u64,
    /// Flush after so many bytes of entries.
    pub flush_bytes: u64,
    /// Entries that stay in the log below a snapshot, for followers that lag a little.
    pub keep_entries: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { flush_entries: 200_000, flush_bytes: 64 << 20, keep_entries: 100_000 }
    }
}

/// What the rest of the server sees of the state machine.
#[derive(Clone)]
pub struct View {
    /// The state in use.
    pub current: Arc<Current>,
    /// The last applied entry.
    pub applied: watch::Receiver<LogIndex>,
    /// The cluster's identity, once applied.
    pub cluster: watch::Receiver<Option<ClusterId>>,
    /// The last entry that is durable in the state; a snapshot is cheap whenever it moves.
    pub flushed: watch::Receiver<LogIndex>,
    /// Digests of the state at entries that every server remembers.
    pub marks: watch::Receiver<Marks>,
    /// The cluster's feature level, as far as it is applied.
    pub level: watch::Receiver<FeatureLevel>,
    /// Why this server applies nothing any more: it met a level that is not among its own.
    pub unfit: watch::Receiver<Option<LevelFault>>,
}

/// The state in use; empty once the state machine has ended, so that its files are closed even
/// while someone still holds this. The lock is held for a copy of the reference only.
#[derive(Default)]
pub struct Current(RwLock<Option<Arc<State>>>);

impl Current {
    /// The state in use; `None` after the end.
    #[must_use]
    pub fn get(&self) -> Option<Arc<State>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, state: Option<Arc<State>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// The state machine's driver.
pub struct StateMachine {
    dir: StateDir,
    snapshots: Arc<Snapshots>,
    durable: DurableMark,
    clock: Arc<dyn Clock>,
    pace: Pace,
    applied: Option<LogId>,
    members: Members,
    digest: Mark,
    marks: watch::Sender<Marks>,
    fitness: Fitness,
    level: watch::Sender<FeatureLevel>,
    state: Arc<State>,
    recent: Recent,
    memory: Memory,
    current: Arc<Current>,
    published: watch::Sender<LogIndex>,
    cluster: watch::Sender<Option<ClusterId>>,
    flushed: watch::Sender<LogIndex>,
    unflushed_entries: u64,
    unflushed_bytes: u64,
    flushing: Option<oneshot::Receiver<()>>,
    flush_failed: Arc<AtomicBool>,
}

type Item = (Entry, Option<ApplyResponder<TypeConfig>>);

/// What this server applies, and what it met that it does not.
struct Fitness {
    levels: FeatureLevels,
    unfit: watch::Sender<Option<LevelFault>>,
}

impl Fitness {
    /// Refuses a level that this server does not apply; whoever ends the server is told.
    fn check_level(&self, level: FeatureLevel) -> Result<(), StateError> {
        Ok(LevelFault::check(level, self.levels).inspect_err(|fault| {
            tracing::error!(%fault, "this server applies nothing any more: it stops");
            self.unfit.send_replace(Some(*fault));
        })?)
    }

    /// Refuses a command of a level that this server does not apply. True when it raises the level.
    fn check_command(&self, command: &Command) -> Result<bool, StateError> {
        if let Command::RaiseLevel { to } = command {
            self.check_level(*to)?;
            return Ok(true);
        }
        // That the log may hold it was said by an entry before: a leader that broke this is not followed.
        let needs = command.needs();
        if needs > self.levels.highest {
            self.check_level(needs)?;
        }
        Ok(false)
    }
}

impl StateMachine {
    /// Opens the state in `dir`. `durable` is raised as the state becomes durable. Entries of other
    /// feature levels than `levels` are not applied.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(
        dir: StateDir,
        snapshots: Arc<Snapshots>,
        durable: DurableMark,
        clock: Arc<dyn Clock>,
        pace: Pace,
        levels: FeatureLevels,
    ) -> Result<Self, StateError> {
        let state = dir.open()?;
        let (applied, members) = state.applied()?.open()?;
        let level = jobs::level(state.store())?;
        // An empty state has no level yet that could be too low.
        if applied.is_some() {
            LevelFault::check(level, levels)?;
        }
        // What is there at a start was flushed before.
        let index = applied.map_or(0, |id| id.index);
        durable.raise(index);
        let cluster = state::read_cluster(state.store())?;
        let digest = digest::read(state.store(), index)?;
        let state = Arc::new(state);
        let current = Arc::new(Current::default());
        current.replace(Some(Arc::clone(&state)));
        Ok(Self {
            dir,
            snapshots,
            durable,
            clock,
            pace,
            applied,
            members,
            digest,
            marks: watch::Sender::default(),
            fitness: Fitness { levels, unfit: watch::Sender::new(None) },
            level: watch::Sender::new(level),
            state,
            recent: Recent::new(RECENT_BYTES_MAX),
            memory: Memory::default(),
            current,
            published: watch::Sender::new(LogIndex(index)),
            cluster: watch::Sender::new(cluster),
            flushed: watch::Sender::new(LogIndex(index)),
            unflushed_entries: 0,
            unflushed_bytes: 0,
            flushing: None,
            flush_failed: Arc::default(),
        })
    }

    /// What the rest of the server sees.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            current: Arc::clone(&self.current),
            applied: self.published.subscribe(),
            cluster: self.cluster.subscribe(),
            flushed: self.flushed.subscribe(),
            marks: self.marks.subscribe(),
            level: self.level.subscribe(),
            unfit: self.fitness.unfit.subscribe(),
        }
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Applies one batch, writes it, then answers.
    fn apply_batch(&mut self, batch: Vec<Item>) -> Result<(), StateError> {
        let begun = self.clock.boottime();
        let entries = batch.len();
        let state = self.state();
        let rows = Remembered::new(state.store(), &mut self.recent);
        let mut txn = Txn::continuing(&rows, self.digest.digest);
        let mut marks = Vec::new();
        let mut raised = false;
        let mut first_request = None;
        let mut answers = Vec::with_capacity(entries);
        for (entry, responder) in batch {
            let reply = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Membership(members) => {
                    self.members = Members::new(Some(entry.log_id), members.clone());
                    None
                }
                EntryPayload::Normal(proposal) => {
                    let index = entry.log_id.index;
                    let command = namespace::Entry::from_bytes(&proposal.0)
                        .map_err(|source| StateError::Entry { index, source })?;
                    raised |= self.fitness.check_command(&command.command)?;
                    if let Command::Request { session, sequence, .. } = &command.command {
                        first_request.get_or_insert((session.0, sequence.0));
                    }
                    let (index, bounds) = (LogIndex(index), Bounds::default());
                    Some(namespace::apply_after(&mut txn, &mut self.memory, index, &command, bounds)?)
                }
            };
            self.unflushed_bytes += tail::size_of(&entry) as u64;
            self.applied = Some(entry.log_id);
            self.digest = Mark { index: entry.log_id.index, digest: txn.digest(), ..self.digest };
            if self.digest.index.is_multiple_of(MARK_EVERY) {
                marks.push(self.digest);
            }
            answers.extend(responder.map(|r| (r, Answer(reply))));
        }
        self.unflushed_entries += entries as u64;
        let mut rows = txn.into_batch();
        state::write_applied(&mut rows, &AppliedRecord::new(self.applied.as_ref(), &self.members));
        digest::write(&mut rows, &self.digest);
        let changes = rows.changes().len();
        rows.changes().iter().for_each(|change| self.recent.note(change));
        state.store().write(rows)?;
        if !marks.is_empty() {
            self.marks.send_modify(|known| marks.into_iter().for_each(|mark| known.push(mark)));
        }
        if raised {
            self.level.send_replace(jobs::level(state.store())?);
        }
        self.publish(&state)?;
        for (responder, answer) in answers {
            responder.send(answer);
        }
        let now = self.clock.boottime();
        let took = now.saturating_sub(begun);
        metrics::histogram!("cairn_meta_apply_seconds").record(took.as_secs_f64());
        metrics::histogram!("cairn_meta_apply_batch_entries").record(entries as f64);
        if took > SLOW_IO
            && let Some(left_out) = SLOW_BATCHES.admit(now)
        {
            // For whom an entry is the log does not say beyond its session and sequence.
            let (session, sequence) = first_request.unwrap_or_default();
            let (what, on, took_ms, upto) = ("apply", "state", slow::millis(took), self.digest.index);
            tracing::warn!(
                what,
                on,
                took_ms,
                upto,
                entries,
                changes,
                session,
                sequence,
                left_out,
                "slow apply"
            );
        }
        Ok(())
    }

    fn publish(&self, state: &State) -> Result<(), StateError> {
        if self.cluster.borrow().is_none()
            && let Some(cluster) = state::read_cluster(state.store())?
        {
            self.cluster.send_replace(Some(cluster));
        }
        self.published.send_replace(LogIndex(self.applied.map_or(0, |id| id.index)));
        Ok(())
    }

    /// Starts a flush in the background when enough is unflushed; waits for the one before, so
    /// that what a restart re-applies stays bounded.
    async fn flush_if_due(&mut self) -> Result<(), StateError> {
        if self.flush_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("a flush of the state failed").into());
        }
        let due = self.unflushed_entries >= self.pace.flush_entries
            || self.unflushed_bytes >= self.pace.flush_bytes;
        let Some(applied) = self.applied.filter(|_| due) else { return Ok(()) };
        if let Some(before) = self.flushing.take() {
            before.await.map_err(io::Error::other)?;
        }
        (self.unflushed_entries, self.unflushed_bytes) = (0, 0);
        let (state, durable, flushed) = (self.state(), self.durable.clone(), self.flushed.clone());
        let (failed, clock) = (Arc::clone(&self.flush_failed), Arc::clone(&self.clock));
        self.flushing = Some(beside(move || {
            let begun = clock.boottime();
            match state.store().flush() {
                Ok(()) => {
                    durable.raise(applied.index);
                    flushed.send_replace(LogIndex(applied.index));
                }
                Err(error) => {
                    tracing::error!(%error, cause = ?error, "a flush of the state failed: this server stops");
                    failed.store(true, Ordering::Release);
                }
            }
            let took = clock.boottime().saturating_sub(begun);
            metrics::histogram!("cairn_meta_state_flush_seconds").record(took.as_secs_f64());
            tracing::info!(upto = applied.index, took_ms = took.as_millis() as u64, "state flushed");
        }));
        Ok(())
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.members.clone() }
    }

    /// A checkpoint of the state as it is: called between batches, so that it covers exactly what
    /// has been applied. Cheap after a flush.
    fn checkpoint(&self) -> io::Result<Snapshot> {
        let begun = self.clock.boottime();
        let state = self.state();
        let meta = self.meta();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let fill = |path: &std::path::Path| state.store().checkpoint(path).map_err(StateError::from);
        let snapshot = self.snapshots.create(meta, |path| Ok(fill(path)?))?;
        self.durable.raise(index);
        let took = self.clock.boottime().saturating_sub(begun);
        metrics::histogram!("cairn_meta_checkpoint_seconds").record(took.as_secs_f64());
        tracing::info!(index, took_ms = took.as_millis() as u64, "checkpoint made");
        Ok(snapshot)
    }

    fn install(&mut self, meta: &SnapshotMeta, received: &SnapshotData) -> Result<(), StateError> {
        let state = self.dir.adopt(received.path())?;
        let (applied, members) = state.applied()?.open()?;
        if applied != meta.last_log_id {
            state.retire();
            return Err(StateError::OtherSnapshot);
        }
        let level = jobs::level(state.store())?;
        if let Err(error) = self.fitness.check_level(level) {
            state.retire();
            return Err(error);
        }
        let digest = digest::read(state.store(), applied.map_or(0, |id| id.index))?;
        self.dir.switch(&state)?;
        let state = Arc::new(state);
        self.current.replace(Some(Arc::clone(&state)));
        std::mem::replace(&mut self.state, Arc::clone(&state)).retire();
        self.recent.clear();
        self.memory = Memory::default();
        (self.applied, self.members, self.digest) = (applied, members, digest);
        // The marks so far are those of the state before.
        self.marks.send_replace(Marks::default());
        self.level.send_replace(level);
        (self.unflushed_entries, self.unflushed_bytes) = (0, 0);
        let index = applied.map_or(0, |id| id.index);
        self.durable.raise(index);
        self.publish(&state)?;
        self.flushed.send_replace(LogIndex(index));
        self.checkpoint()?;
        tracing::info!(index, "snapshot installed");
        Ok(())
    }
}

impl Drop for StateMachine {
    fn drop(&mut self) {
        self.current.replace(None);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Members)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<Item>> + Unpin + OptionalSend,
    {
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
                let Some(item) = entries.next().await else { break };
                let item = item?;
                bytes += tail::size_of(&item.0);
                batch.push(item);
            }
            if batch.is_empty() {
                return Ok(());
            }
            if batch.len() <= INLINE_ENTRIES_MAX && bytes <= INLINE_BYTES_MAX {
                self.apply_batch(batch)?;
            } else {
                // It takes a while: let the other tasks of this thread move on.
                tokio::task::block_in_place(|| self.apply_batch(batch))?;
            }
            self.flush_if_due().await?;
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { made: Some(tokio::task::block_in_place(|| self.checkpoint())) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        if let Some(flushing) = self.flushing.take() {
            flushing.await.map_err(io::Error::other)?;
        }
        Ok(tokio::task::block_in_place(|| self.install(meta, &snapshot))?)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.newest())
    }
}

/// Hands out the checkpoint that was made when it was asked for.
pub struct Builder {
    made: Option<io::Result<Snapshot>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.made.take().unwrap_or_else(|| Err(io::Error::other("a builder makes one snapshot")))
    }
}
