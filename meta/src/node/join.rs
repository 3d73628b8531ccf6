//! Joining a cluster that exists, and leaving one: an empty server waits until it is added, and a
//! member that was removed finds it out and is silent from then on.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_types::{FeatureLevels, NodeId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Node;
use super::start::StartError;
use crate::keys::servers::DirectoryId;
use crate::raft::admission::{self, Admission};
use crate::raft::standing::Standing;
use crate::raft::state::LevelFault;

/// How long a server has to answer.
const ASK: Duration = Duration::from_secs(1);
/// The pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause between two looks whether a leader is heard.
const LOOK: Duration = Duration::from_millis(500);

/// An empty server that waits to be added.
pub struct Joiner {
    /// Its id.
    pub id: NodeId,
    /// Its directory.
    pub directory: DirectoryId,
    /// Servers of the cluster, `host:port`.
    pub servers: Vec<String>,
    /// The feature levels that it applies.
    pub levels: FeatureLevels,
    /// Told once it is a member.
    pub standing: watch::Sender<Standing>,
    /// Told when it cannot become one.
    pub faults: mpsc::Sender<StartError>,
}

impl Joiner {
    /// Asks the cluster's servers whether this one is a member, until it is, then lets it take part.
    /// It asks for nothing else: an operator adds it.
    pub async fn run(self, stop: CancellationToken) {
        tracing::info!(
            id = self.id.0,
            servers = self.servers.join(", "),
            "waiting to be added: `cairn admin raft add {} ADDRESS`",
            self.id.0
        );
        loop {
            let round = self.servers.iter().map(|address| async move {
                let answer = admission::ask(self.id, self.directory, None, address, ASK).await;
                if let Err(error) = &answer {
                    tracing::debug!(%address, %error, cause = ?error, "a server of the cluster does not answer");
                }
                (address.clone(), answer.ok())
            });
            let answers = tokio::select! {
                () = stop.cancelled() => return,
                answers = futures::future::join_all(round) => answers,
            };
            let said = |what: Admission| {
                let found = answers.iter().find(|(_, word)| word.is_some_and(|w| w.admission == what));
                found.map(|(address, _)| address.clone())
            };
            let level = answers.iter().filter_map(|(_, word)| Some((*word)?.level)).max();
            if let Some(level) = level.filter(|level| level.0 > 0)
                && let Err(fault) = LevelFault::check(level, self.levels)
            {
                self.tell(fault.into()).await;
                return;
            }
            if said(Admission::Member).is_some() {
                tracing::info!("added: the leader sends the log");
                self.standing.send_replace(Standing::Sure);
                return;
            }
            if let Some(server) = said(Admission::Other).or_else(|| said(Admission::Removed)) {
                self.tell(StartError::IdUsed { node: self.id, server }).await;
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn tell(&self, error: StartError) {
        tracing::error!(%error, "this server cannot be added");
        // Nobody listens any more when the server is ending already.
        let _ = self.faults.send(error).await;
    }
}

/// Finds out that this server was removed: it may have been away when that was decided, and the
/// others send it nothing any more. From then on it answers no call of Raft's, stands for no election
/// and is not ready; it goes on serving what tells clients to ask elsewhere.
pub async fn watch_removal(
    node: Node,
    directory: DirectoryId,
    standing: watch::Sender<Standing>,
    silence: Duration,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let takes_part = matches!(*standing.borrow(), Standing::Sure | Standing::Unsure | Standing::Alone);
        if !takes_part || node.is_led(silence) {
            continue;
        }
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = is_removed(&node, directory) => found,
        };
        if found {
            standing.send_replace(Standing::Removed);
            node.shared.raft.runtime_config().elect(false);
            tracing::warn!(
                id = node.id().0,
                "this server was removed from the metadata group: it serves nothing any more, and can be stopped"
            );
            return;
        }
    }
}

/// True when this server's state says that it was removed, or another member does.
async fn is_removed(node: &Node, directory: DirectoryId) -> bool {
    if node.shared.service.own_standing() == Ok(Admission::Removed) {
        return true;
    }
    let others: BTreeSet<String> = {
        let members = node.metrics();
        let members = members.membership_config.nodes().filter(|(id, _)| **id != node.id().0);
        members.map(|(_, member)| member.addr.clone()).collect()
    };
    let cluster = node.cluster_id();
    let asked = others.iter().map(|address| admission::ask(node.id(), directory, cluster, address, ASK));
    let answers = futures::future::join_all(asked).await;
    answers.iter().any(|answer| answer.as_ref().is_ok_and(|word| word.admission == Admission::Removed))
}
