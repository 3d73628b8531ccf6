//! A simulated server: the real log store, state machine and openraft, over disks that forget.

use std::io;
use std::sync::Arc;

use cairn_types::FeatureLevels;
use openraft::AsyncRuntime;

use super::hub::{Hub, Running, SimClock, SimRaft, Slot};
use super::lie::Lie;
use super::life::Life;
use super::log::ForgetfulLog;
use super::net::Network;
use super::recorded::Recorded;
use super::runtime::Runtime;
use super::store::{ForgetfulStore, Shared};
use crate::raft::flusher::{FlushCounts, Flusher, Flushes, Waiting};
use crate::raft::log_disk::LogDisk;
use crate::raft::log_store::{DurableMark, LogStore};
use crate::raft::machine::{Pace, StateMachine};
use crate::raft::snapshot::Snapshots;
use crate::raft::state::{StateDir, StateError};
use crate::raft::{durable, engine, record};

/// Snapshots are made often, and the log behind them is short.
const PACE: Pace = Pace { flush_entries: 40, flush_bytes: 1 << 20, keep_entries: 15 };

/// Runs a server until its life is over.
pub async fn run(hub: &Arc<Hub>, life: &Arc<Life>, slot: Slot) -> io::Result<()> {
    let clock = Arc::new(SimClock(hub.world.clone()));
    let log = ForgetfulLog::open(life, &slot.platter, hub.lie);
    let (queue, waiting) = Flusher::queue_alone();
    hub.world.spawn(flush(Arc::clone(&log), Arc::clone(hub), waiting));
    durable::remove_dir(&slot.dir.join("incoming"))?;
    durable::create_dir(&slot.dir.join("incoming"))?;
    let mark = DurableMark::default();
    let snapshots = Arc::new(Snapshots::open(&slot.dir.join("snapshot"))?);
    let (owner, lie) = (Arc::clone(life), hub.lie);
    let open = move |path: &std::path::Path| {
        let store = ForgetfulStore::open(&owner, path, lie)?;
        Ok(Box::new(Shared(store)) as Box<dyn crate::store::DurableStore>)
    };
    let state = StateDir::of(slot.dir.join("state"), Arc::new(open));
    let machine = StateMachine::open(state, snapshots, mark.clone(), clock, PACE, FeatureLevels::default())?;
    let view = machine.view();
    let applied = view.current.get().map(|state| state.applied()).transpose().map_err(in_state)?;
    let applied = applied.and_then(|record| record.applied);
    hub.ledger.returns(life.server, &slot.platter.lock().unwrap(), applied);
    let disk: Arc<dyn LogDisk> = log;
    let log_store = LogStore::open(disk, queue, mark)?;
    let settings = engine::settings(100, (400, 800), PACE.keep_entries).map_err(io::Error::other)?;
    let network = Network { from: life.server, hub: Arc::clone(hub) };
    let machine = Recorded { machine, server: life.server, hub: Arc::clone(hub) };
    let raft: SimRaft = openraft::Raft::new(life.server, settings, network, log_store, machine)
        .await
        .map_err(io::Error::other)?;
    let mut flushed = view.flushed.clone();
    hub.answers(life.server, Running { life: Arc::clone(life), raft: raft.clone(), view });
    while flushed.changed().await.is_ok() {
        if raft.trigger().snapshot().await.is_err() {
            break;
        }
    }
    Ok(())
}

fn in_state(error: StateError) -> io::Error {
    error.into()
}

/// As the flusher's thread: one fsync for all that wait, which takes its time and covers what had been
/// written when it began.
async fn flush(log: Arc<ForgetfulLog>, hub: Arc<Hub>, mut waiting: tokio::sync::mpsc::Receiver<Waiting>) {
    let (clock, counts) = (SimClock(hub.world.clone()), FlushCounts::default());
    let (mut flushes, mut batch) = (Flushes::default(), Vec::new());
    while let Some(first) = waiting.recv().await {
        batch.push(first);
        while let Ok(more) = waiting.try_recv() {
            batch.push(more);
        }
        let mut honest = Vec::new();
        for waiter in batch.drain(..) {
            let lie = if matches!(waiter, Waiting::Write(_)) { Lie::Votes } else { Lie::Entries };
            if log.lies(lie) { waiter.complete(Ok(())) } else { honest.push(waiter) }
        }
        if honest.is_empty() {
            continue;
        }
        log.begin_sync();
        let time = hub.world.roll(|dice| {
            if dice.percent(5) { dice.micros(10_000, 200_000) } else { dice.micros(100, 4_000) }
        });
        Runtime::sleep(time).await;
        flushes.complete(&mut honest, &*log, &clock, &counts);
    }
}

/// The vote and the last entry of a log, for messages.
pub fn shown(id: Option<record::LogIdRecord>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| format!("{}-{}", id.term, id.index))
}
