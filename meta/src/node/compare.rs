//! Servers compare the digests of their states: one that differs from a majority ends itself, since
//! what it would answer, or vote for as a leader, is not what the others hold.

use std::time::Duration;

use cairn_types::NodeId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::start::StartError;
use crate::raft::Raft;
use crate::raft::digest::{self, Marks, Verdict};
use crate::raft::engine::WatchReceiver;
use crate::raft::network::Network;

/// How long a member has to tell its digests.
const ASK: Duration = Duration::from_secs(2);

/// Compares this server's state with the other members', again and again.
pub struct Comparison {
    /// Its Raft core, which knows the members.
    pub raft: Raft,
    /// The way to the others.
    pub network: Network,
    /// This server's digests.
    pub marks: watch::Receiver<Marks>,
    /// The pause between two comparisons.
    pub every: Duration,
    /// Told when this server's state is not the majority's.
    pub faults: mpsc::Sender<StartError>,
}

impl Comparison {
    /// Compares until `stop`, or until this server is found to differ.
    pub async fn run(mut self, stop: CancellationToken) {
        // Some voter has not answered yet.
        let mut unheard = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            // Nothing new, nothing to compare.
            if !unheard && !self.marks.has_changed().unwrap_or(false) {
                continue;
            }
            let (verdict, all) = tokio::select! {
                () = stop.cancelled() => return,
                compared = self.compare() => compared,
            };
            unheard = !all;
            metrics::gauge!("cairn_meta_state_differs").set(f64::from(verdict != Verdict::Agreed));
            match verdict {
                Verdict::Agreed => {}
                Verdict::Undecided { index } => {
                    tracing::error!(index, "the states of two servers differ: save their directories");
                }
                Verdict::Diverged { index, ours, theirs } => {
                    let node = *self.raft.node_id();
                    tracing::error!(
                        index,
                        ours,
                        theirs,
                        "this server's state is not the majority's: it stops"
                    );
                    // Nobody listens any more when the server is ending already.
                    let _ = self.faults.send(StartError::Diverged { node: NodeId(node), index }).await;
                    return;
                }
            }
        }
    }

    async fn compare(&mut self) -> (Verdict, bool) {
        let ours = self.marks.borrow_and_update().clone();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let own = *self.raft.node_id();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let members: Vec<(u64, String)> =
            metrics.membership_config.nodes().map(|(id, node)| (*id, node.addr.clone())).collect();
        let others = members.iter().filter(|(id, _)| *id != own && voters.contains(id));
        let asked = others.map(|(id, address)| self.network.digests(*id, address, ASK));
        let answers = futures::future::join_all(asked).await;
        let all = answers.iter().all(Option::is_some);
        let told: Vec<Marks> = answers.into_iter().flatten().collect();
        (digest::judge(&ours, &told, voters.len(), voters.contains(&own)), all)
    }
}
