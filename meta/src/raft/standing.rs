//! Whether a server with an empty log may take part: it asks the other members whether they have
//! ever had a promise from it (docs/adr/0009).

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_proto::handshake;
use cairn_proto::v1::StandingRequest;
use cairn_types::{ClusterId, FeatureLevel, NodeId};
use tonic::Request;

use super::admission::{self, Silence};

/// Whether this server answers the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet: its log is empty, and it does not know whether it always was.
    Asking,
    /// It does, though not every member could be asked: until it knows the cluster it votes for
    /// nobody who knows one, since that cluster may be older than this directory.
    Unsure,
    /// It does: its log is not empty, or no member has ever had a promise from it.
    Sure,
    /// It makes a cluster of its own, and nobody is named that could say whether it was in another one
    /// before it lost its directory: it answers nobody until its cluster has a name, by which the servers
    /// of that other one are refused.
    Alone,
    /// Not yet: its log is empty, and it waits to be added to a cluster.
    Waiting,
    /// No more: it was a member, and was removed.
    Removed,
}

/// What one member knows of the server that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// The cluster that this member belongs to, once it knows.
    pub cluster: Option<ClusterId>,
    /// It has had a promise from the server that asks.
    pub joined: bool,
    /// The cluster's feature level, as far as this member has applied; 0 when it is older than levels are.
    pub level: FeatureLevel,
}

/// What each other member has answered; `None` for those that did not.
pub type Answers = BTreeMap<NodeId, Option<Knowledge>>;

/// What follows from the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few have answered: ask again.
    Wait,
    /// This server has been a member before, and its log is gone.
    Lost {
        /// Who knows.
        peer: NodeId,
        /// The cluster, if that one knows.
        cluster: Option<ClusterId>,
    },
    /// There is a cluster, and this server was never in it: its leader will send the log.
    Join,
    /// There is no cluster yet: the members make one.
    Form {
        /// Every other member has answered.
        sure: bool,
    },
}

/// What follows from `answers`. `waited` says that those who are silent have had their time.
///
/// Someone who is silent may be the only one who knows. So a cluster that exists is joined when all
/// have answered, however long that takes; but a majority of empty members does form one, since the
/// others may not have been started yet.
#[must_use]
pub fn judge(answers: &Answers, waited: bool) -> Verdict {
    let known = || answers.iter().filter_map(|(peer, answer)| Some((*peer, (*answer)?)));
    if let Some((peer, knowledge)) = known().find(|(_, knowledge)| knowledge.joined) {
        return Verdict::Lost { peer, cluster: knowledge.cluster };
    }
    let all = known().count() == answers.len();
    let exists = known().any(|(_, knowledge)| knowledge.cluster.is_some());
    // This server counts too.
    let majority = 2 * (known().count() + 1) > answers.len() + 1;
    match (all, exists) {
        (true, true) => Verdict::Join,
        (true, false) => Verdict::Form { sure: true },
        (false, false) if waited && majority => Verdict::Form { sure: false },
        (false, _) => Verdict::Wait,
    }
}

/// The highest feature level of the cluster that any of them has applied, if one tells any.
#[must_use]
pub fn level(answers: &Answers) -> Option<FeatureLevel> {
    answers.values().flatten().map(|knowledge| knowledge.level).filter(|level| level.0 > 0).max()
}

async fn ask(from: NodeId, to: NodeId, address: &str) -> Result<Knowledge, Silence> {
    let mut request = Request::new(StandingRequest { group: 0, from: from.0, to: to.0 });
    handshake::stamp(&mut request, None);
    let reply = admission::connect(address).await?.standing(request).await.map_err(Box::new)?.into_inner();
    let (cluster, level) = (ClusterId::from_bytes(&reply.cluster_id), FeatureLevel(reply.level));
    Ok(Knowledge { cluster, joined: reply.joined, level })
}

/// Asks every other of `members` once, all at the same time, for as long as `limit` at most.
pub async fn ask_all(from: NodeId, members: &BTreeMap<NodeId, String>, limit: Duration) -> Answers {
    let others = members.iter().filter(|(id, _)| **id != from);
    let asked = others.map(|(to, address)| async move {
        let answer = match tokio::time::timeout(limit, ask(from, *to, address)).await {
            Ok(answer) => answer,
            Err(late) => Err(late.into()),
        };
        if let Err(error) = &answer {
            tracing::debug!(member = %to, %address, %error, cause = ?error, "a member does not answer yet");
        }
        (*to, answer.ok())
    });
    futures::future::join_all(asked).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: Option<ClusterId> = Some(ClusterId([7; 16]));
    const SILENT: Option<Knowledge> = None;
    const EMPTY: Option<Knowledge> = knows(None, false);
    const MEMBER: Option<Knowledge> = knows(CLUSTER, false);
    const KNOWS: Option<Knowledge> = knows(CLUSTER, true);

    const fn knows(cluster: Option<ClusterId>, joined: bool) -> Option<Knowledge> {
        Some(Knowledge { cluster, joined, level: FeatureLevel::FIRST })
    }

    fn of(answers: &[Option<Knowledge>], waited: bool) -> Verdict {
        judge(&(2..).map(NodeId).zip(answers.iter().copied()).collect(), waited)
    }

    #[test]
    fn one_who_knows_is_enough() {
        let lost = |peer| Verdict::Lost { peer: NodeId(peer), cluster: CLUSTER };
        assert_eq!(of(&[KNOWS, SILENT], false), lost(2));
        assert_eq!(of(&[EMPTY, KNOWS], true), lost(3));
        assert_eq!(of(&[SILENT, SILENT, SILENT, KNOWS], true), lost(5));
    }

    #[test]
    fn a_first_formation_needs_all_or_a_majority_in_time() {
        assert_eq!(of(&[EMPTY, EMPTY], false), Verdict::Form { sure: true });
        assert_eq!(of(&[EMPTY, SILENT], false), Verdict::Wait);
        assert_eq!(of(&[EMPTY, SILENT], true), Verdict::Form { sure: false });
        assert_eq!(of(&[SILENT, SILENT], true), Verdict::Wait);
        assert_eq!(of(&[EMPTY, SILENT, SILENT, SILENT], true), Verdict::Wait);
        assert_eq!(of(&[EMPTY, EMPTY, SILENT, SILENT], true), Verdict::Form { sure: false });
        assert_eq!(of(&[SILENT], true), Verdict::Wait, "two form together or not at all");
        assert_eq!(of(&[EMPTY], false), Verdict::Form { sure: true });
    }

    #[test]
    fn a_cluster_that_exists_is_joined_when_all_have_answered() {
        assert_eq!(of(&[MEMBER, MEMBER], false), Verdict::Join);
        assert_eq!(of(&[MEMBER, EMPTY], false), Verdict::Join);
        assert_eq!(of(&[MEMBER, SILENT], true), Verdict::Wait);
        assert_eq!(of(&[MEMBER, EMPTY, EMPTY, SILENT], true), Verdict::Wait);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_has_not_answered() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let members = BTreeMap::from([
            (NodeId(1), "127.0.0.1:1".to_owned()),
            (NodeId(2), closed.to_string()),
            (NodeId(3), "no address".to_owned()),
        ]);
        let answers = ask_all(NodeId(1), &members, Duration::from_secs(5)).await;
        assert_eq!(answers, BTreeMap::from([(NodeId(2), None), (NodeId(3), None)]));
    }
}
