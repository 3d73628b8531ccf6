//! Who may be a member: what the state says of an id and a directory, and how servers ask each
//! other. A server that waits to be added asks until it is; one that was removed finds it out.

use std::time::Duration;

use cairn_proto::v1::raft_client::RaftClient;
use cairn_proto::v1::{AdmissionRequest, ApplicantRequest};
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::{ClusterId, FeatureLevel, FeatureLevels, NodeId};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::state::{StateError, read_applied};
use crate::keys::servers::DirectoryId;
use crate::namespace::jobs;
use crate::store::Rows;

/// How a server stands with the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not a member, as far as the one who was asked knows: it may become one.
    Stranger,
    /// It is a member.
    Member,
    /// The id belongs to another server, or to this one before it lost its directory.
    Other,
    /// It was a member, and was removed for good.
    Removed,
}

impl Admission {
    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Stranger => 0,
            Self::Member => 1,
            Self::Other => 2,
            Self::Removed => 3,
        }
    }

    /// What a number says; one of a newer build says nothing.
    fn of(number: u32) -> Self {
        match number {
            1 => Self::Member,
            2 => Self::Other,
            3 => Self::Removed,
            _ => Self::Stranger,
        }
    }
}

/// How the server `node` on `directory` stands, as the applied state has it.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn judge(rows: &dyn Rows, node: NodeId, directory: DirectoryId) -> Result<Admission, StateError> {
    let members = read_applied(rows)?.membership.members;
    let member = members.iter().any(|(id, _)| *id == node.0);
    let known = jobs::servers(rows)?.get(node);
    Ok(match known {
        Some(server) if server.removed && !member => Admission::Removed,
        Some(server) if server.directory != directory => Admission::Other,
        // A first member has a directory without an id, and is not written down.
        None if member && directory != DirectoryId::default() => Admission::Other,
        Some(_) | None if member => Admission::Member,
        Some(_) | None => Admission::Stranger,
    })
}

/// A server that was asked whether it waits to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Its id.
    pub node: NodeId,
    /// Its directory.
    pub directory: DirectoryId,
    /// Its log is empty, and it waits to be added.
    pub waiting: bool,
    /// The feature levels that it applies.
    pub levels: FeatureLevels,
}

/// The levels that a server tells; one of an older build tells none.
#[must_use]
pub fn levels(told: Option<v1::FeatureLevels>) -> FeatureLevels {
    told.map_or(FeatureLevels::UNTOLD, |told| FeatureLevels {
        lowest: FeatureLevel(told.lowest),
        highest: FeatureLevel(told.highest),
    })
}

/// What a server was told of itself by one of the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// How it stands.
    pub admission: Admission,
    /// The cluster's feature level; 0 when the other server is older than levels are.
    pub level: FeatureLevel,
}

/// Why a server did not say who it is.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// No connection, or no answer in time.
    #[error("it cannot be reached")]
    Unreachable(#[from] tonic::transport::Error),
    /// It answered that it will not.
    #[error("it refused")]
    Refused(#[from] Box<Status>),
    /// No answer in time.
    #[error("it did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    /// An answer that lacks a field.
    #[error("its answer is malformed")]
    Malformed,
}

impl Silence {
    /// True when it belongs to another cluster.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Refused(status) => {
                let error = WireError::from(Status::clone(status));
                error == WireError::Service(ServiceError::ForeignCluster)
            }
            _ => false,
        }
    }
}

pub(super) async fn connect(address: &str) -> Result<RaftClient<Channel>, Silence> {
    Ok(RaftClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?))
}

/// Asks the server at `address` whether it waits to be added to `cluster`.
///
/// # Errors
/// [`Silence`].
pub async fn applicant(
    from: NodeId,
    cluster: Option<ClusterId>,
    address: &str,
    limit: Duration,
) -> Result<Applicant, Silence> {
    let asked = async {
        let mut request = Request::new(ApplicantRequest { group: 0, from: from.0 });
        handshake::stamp(&mut request, cluster);
        let reply = connect(address).await?.applicant(request).await.map_err(Box::new)?.into_inner();
        let directory = if reply.directory.is_empty() {
            DirectoryId::default()
        } else {
            DirectoryId(reply.directory.as_ref().try_into().map_err(|_| Silence::Malformed)?)
        };
        let (node, levels) = (NodeId(reply.node), levels(reply.levels));
        Ok::<_, Silence>(Applicant { node, directory, waiting: reply.waiting, levels })
    };
    tokio::time::timeout(limit, asked).await?
}

/// Asks the server at `address` how the server `node` on `directory` stands. A server that knows no
/// cluster yet knows nothing.
///
/// # Errors
/// [`Silence`].
pub async fn ask(
    node: NodeId,
    directory: DirectoryId,
    cluster: Option<ClusterId>,
    address: &str,
    limit: Duration,
) -> Result<Word, Silence> {
    let asked = async {
        let directory = directory.0.to_vec().into();
        let mut request = Request::new(AdmissionRequest { group: 0, from: node.0, directory });
        handshake::stamp(&mut request, cluster);
        let reply = connect(address).await?.admission(request).await.map_err(Box::new)?.into_inner();
        let known = ClusterId::from_bytes(&reply.cluster_id).is_some_and(|id| !id.is_nil());
        let admission = if known { Admission::of(reply.admission) } else { Admission::Stranger };
        Ok::<_, Silence>(Word { admission, level: FeatureLevel(reply.level) })
    };
    tokio::time::timeout(limit, asked).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Record;
    use crate::keys::servers::{self, KnownServer, Servers};
    use crate::raft::record::{AppliedRecord, MembershipRecord};
    use crate::raft::state::write_applied;
    use crate::store::{MemoryStore, Store, Table, WriteBatch};

    const NONE: DirectoryId = DirectoryId([0; 16]);
    const OWN: DirectoryId = DirectoryId([4; 16]);
    const NEW: DirectoryId = DirectoryId([5; 16]);

    #[test]
    fn an_id_stands_as_the_state_and_the_membership_say() {
        let store = MemoryStore::default();
        let mut batch = WriteBatch::default();
        let members = [1, 3, 4, 6].map(|id| (id, format!("h:{id}"))).to_vec();
        let membership = MembershipRecord { voters: vec![vec![1, 3, 4, 6]], members };
        write_applied(&mut batch, &AppliedRecord { applied: None, membership_id: None, membership });
        let known = |node, directory, removed| KnownServer { node: NodeId(node), directory, removed };
        let known = vec![
            known(2, NONE, true),
            known(3, NONE, true),
            known(4, OWN, false),
            known(5, OWN, false),
            known(7, OWN, true),
        ];
        batch.put(Table::Counters, servers::KEY.to_vec(), Servers { known }.to_bytes());
        store.write(batch).unwrap();
        let of = |node, directory| judge(&store, NodeId(node), directory).unwrap();
        assert_eq!(of(1, NONE), Admission::Member, "a first member");
        assert_eq!(of(1, NEW), Admission::Other, "another server under a first member's id");
        assert_eq!(of(2, NONE), Admission::Removed);
        assert_eq!(of(2, NEW), Admission::Removed);
        assert_eq!(of(3, NONE), Admission::Member, "its removal has begun, and is not done");
        assert_eq!(of(4, OWN), Admission::Member);
        assert_eq!(of(4, NEW), Admission::Other, "it lost its directory");
        assert_eq!(of(5, OWN), Admission::Stranger, "it has its id, and is not added yet");
        assert_eq!(of(5, NEW), Admission::Other);
        assert_eq!(of(7, OWN), Admission::Removed);
        assert_eq!(of(9, NEW), Admission::Stranger);
        for admission in [Admission::Stranger, Admission::Member, Admission::Other, Admission::Removed] {
            assert_eq!(Admission::of(admission.number()), admission);
        }
    }
}
