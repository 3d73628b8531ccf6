//! openraft's own storage suite on the real log store and state machine.

use std::sync::Arc;

use cairn_types::{FeatureLevels, SystemClock};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::flusher::Flusher;
use super::log_disk::RocksLog;
use super::log_store::{DurableMark, LogStore};
use super::machine::{Pace, StateMachine};
use super::snapshot::Snapshots;
use super::state::StateDir;
use super::types::TypeConfig;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let temp = tempfile::tempdir().unwrap();
        let disk = Arc::new(RocksLog::open(&temp.path().join("raft")).unwrap());
        let clock = Arc::new(SystemClock);
        let (flusher, _) = Flusher::start(disk.clone(), clock.clone()).unwrap();
        // The suite purges without ever making the state durable.
        let mark = DurableMark::default();
        mark.raise(u64::MAX);
        let log = LogStore::open(disk, flusher, mark.clone()).unwrap();
        let snapshots = Arc::new(Snapshots::open(&temp.path().join("snapshot")).unwrap());
        let state = StateDir::new(temp.path().join("state"), 16 << 20);
        let machine =
            StateMachine::open(state, snapshots, mark, clock, Pace::default(), FeatureLevels::default())
                .unwrap();
        Ok((temp, log, machine))
    }
}

#[test]
fn openrafts_suite_passes_on_the_real_stores() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // On a worker thread, since the state machine gives its thread away while it writes.
    let suite =
        runtime.spawn(Suite::<TypeConfig, LogStore, StateMachine, Builder, TempDir>::test_all(Builder));
    runtime.block_on(suite).unwrap().unwrap();
}
