//! [`Recorded`]: the state machine, and every entry that it was given written down.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, RaftStateMachine};

use super::hub::Hub;
use crate::raft::machine::{Builder, StateMachine};
use crate::raft::snapshot::{Snapshot, SnapshotData};
use crate::raft::types::{Entry, LogId, Members, SnapshotMeta, TypeConfig};

/// The real state machine of a server, watched.
pub struct Recorded {
    pub machine: StateMachine,
    pub server: u64,
    pub hub: Arc<Hub>,
}

impl RaftStateMachine<TypeConfig> for Recorded {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Members)> {
        self.machine.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<(Entry, Option<ApplyResponder<TypeConfig>>)>> + Unpin + OptionalSend,
    {
        let (hub, server) = (Arc::clone(&self.hub), self.server);
        let seen = entries.inspect(move |item| {
            if let Ok((entry, _)) = item {
                hub.ledger.applies(server, entry);
            }
        });
        self.machine.apply(seen).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        #[allow(deprecated, reason = "what the state machine implements")]
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let installed = self.machine.install_snapshot(meta, snapshot).await;
        if installed.is_ok() {
            self.hub.ledger.installed();
            self.hub.world.tell(|| format!("server {} has a snapshot", self.server));
        }
        installed
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.machine.get_current_snapshot().await
    }
}
