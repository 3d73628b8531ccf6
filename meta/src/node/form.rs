//! Making the group, and the admission of a server whose log is empty: it may be the first start
//! of a new member, or that of an old one whose directory was lost (docs/adr/0009).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, FeatureLevels, NodeId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::start::{Settings, StartError};
use crate::raft::Raft;
use crate::raft::engine::{BasicNode, InitializeError, RaftError};
use crate::raft::standing::{self, Answers, Standing, Verdict};
use crate::raft::state::LevelFault;

/// How long each other member has for its first answer, before anything is written.
const FIRST_ASK: Duration = Duration::from_millis(500);
/// How long each has for a later one.
const ASK: Duration = Duration::from_secs(1);
/// The pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the others may need to find out, as this server just has, that they may vote.
const AHEAD: Duration = Duration::from_millis(25);
/// What a first member waits for each one with a lower id before it stands for election.
const TURN: Duration = Duration::from_millis(150);
/// After this time a majority of empty members forms the group without those who are silent.
const FORM_WAIT: Duration = Duration::from_secs(10);

/// Makes the group of a new directory. Every first member does so with the same members, which is
/// safe: they elect one leader among them.
pub async fn form(raft: &Raft, members: &BTreeMap<NodeId, String>) -> Result<(), StartError> {
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

/// Before anything is written to a directory that is new: refuses when another member that answers
/// at once has been promised something by this server. Those that do not answer are asked again by
/// [`Newcomer::run`].
pub async fn check_new(settings: &Settings) -> Result<(), StartError> {
    if settings.members.len() < 2 || settings.dir.join("identity").exists() {
        return Ok(());
    }
    let answers = standing::ask_all(settings.id, &settings.members, FIRST_ASK).await;
    match standing::judge(&answers, false) {
        Verdict::Lost { peer, cluster } => Err(StartError::Lost { node: settings.id, peer, cluster }),
        Verdict::Wait | Verdict::Join | Verdict::Form { .. } => Ok(()),
    }
}

/// A server with an empty log in a group of several.
pub struct Newcomer {
    /// Its Raft core, which does nothing yet.
    pub raft: Raft,
    /// Its id.
    pub id: NodeId,
    /// The first members, itself among them.
    pub members: BTreeMap<NodeId, String>,
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The feature levels that it applies.
    pub levels: FeatureLevels,
    /// Told once it may take part.
    pub standing: watch::Sender<Standing>,
    /// Told when it may not.
    pub faults: mpsc::Sender<StartError>,
}

impl Newcomer {
    /// Asks the other members until it is clear whether this server may take part, then lets it.
    pub async fn run(self, stop: CancellationToken) {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = self.settle() => outcome,
        };
        if let Err(error) = outcome {
            tracing::error!(%error, cause = ?error, "this server may not take part");
            // Nobody listens any more when the server is ending already.
            let _ = self.faults.send(error).await;
        }
    }

    async fn settle(&self) -> Result<(), StartError> {
        let begun = self.clock.boottime();
        let mut told = false;
        loop {
            let answers = standing::ask_all(self.id, &self.members, ASK).await;
            if let Some(level) = standing::level(&answers) {
                LevelFault::check(level, self.levels)?;
            }
            let waited = self.clock.boottime().saturating_sub(begun) >= FORM_WAIT;
            match standing::judge(&answers, waited) {
                Verdict::Lost { peer, cluster } => {
                    return Err(StartError::Lost { node: self.id, peer, cluster });
                }
                Verdict::Join => {
                    tracing::info!("joining a cluster that exists: its leader sends the log");
                    self.standing.send_replace(Standing::Sure);
                    return Ok(());
                }
                Verdict::Form { sure } => {
                    tracing::info!(sure, "forming a cluster");
                    self.standing.send_replace(if sure { Standing::Sure } else { Standing::Unsure });
                    tokio::time::sleep(self.turn()).await;
                    return form(&self.raft, &self.members).await;
                }
                Verdict::Wait if waited && !told => {
                    told = true;
                    tracing::warn!(
                        silent = %silent(&answers),
                        "this server has an empty log and waits: members that do not answer may know it"
                    );
                }
                Verdict::Wait => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// When it stands for election. The members of a new cluster find each other in the same
    /// milliseconds: if all stood at once, each would vote for itself, and nobody would lead until the
    /// first election timeout.
    fn turn(&self) -> Duration {
        let lower = self.members.range(..self.id).count();
        AHEAD + TURN * u32::try_from(lower).unwrap_or(u32::MAX)
    }
}

fn silent(answers: &Answers) -> String {
    let silent = answers.iter().filter(|(_, answer)| answer.is_none());
    silent.map(|(member, _)| member.to_string()).collect::<Vec<_>>().join(", ")
}
