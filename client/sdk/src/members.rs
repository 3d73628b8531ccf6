//! The members of the metadata group: who they are, and changes of them while the cluster runs.

use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::members_client::MembersClient;
use cairn_proto::v1::{
    AddMemberRequest, GroupStatusReply, GroupStatusRequest, MemberReply, ProbeReply, ProbeRequest,
    PromoteMemberRequest, RemoveMemberRequest, ServerStatusReply, ServerStatusRequest, TakeSnapshotReply,
    TakeSnapshotRequest,
};
use cairn_types::NodeId;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::error::Result;

/// How long one server may take to say what it knows of itself.
const SERVER: Duration = Duration::from_secs(2);
/// How long one attempt at a change may take: two entries, and the lead handed over.
const CHANGE: Duration = Duration::from_secs(20);
/// How long one attempt of a probe may take.
const PROBE: Duration = Duration::from_secs(5);
/// How long a snapshot may take.
const SNAPSHOT: Duration = Duration::from_secs(120);

impl Client {
    /// The members of the metadata group, as the leader sees them.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn group_status(&self) -> Result<GroupStatusReply> {
        let request = GroupStatusRequest {};
        self.members(SERVER, "ask for the members", "", request, async |mut c, r| c.group_status(r).await)
            .await
    }

    /// What the metadata server at `address` (`host:port`) knows of itself; `None` when it does not
    /// answer within 2 s.
    pub async fn server_status(&self, address: &str) -> Option<ServerStatusReply> {
        let connections = &self.reach().connections;
        let mut members = connections.members(address).ok()?;
        let request = connections.request(ServerStatusRequest {}, SERVER);
        let answer = tokio::time::timeout(SERVER, members.server_status(request)).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    /// Adds the empty server that waits at `address` (`host:port`, as the others and the clients reach
    /// it) as a learner: it gets the log, and does not vote. In the log of a majority when this
    /// returns; true when it was a member before. Repeating it is safe.
    ///
    /// # Errors
    /// `MemberIdUsed`, `NotWaiting`, `MemberUnreachable`, `ForeignCluster`: nothing is changed then.
    pub async fn add_member(&self, node: NodeId, address: &str) -> Result<bool> {
        let request = AddMemberRequest { node: node.0, address: address.to_owned() };
        self.change_members("add", node, request, async |mut c, r| c.add_member(r).await).await
    }

    /// Makes a learner that has caught up a voter. In the log of a majority when this returns; true
    /// when it was one before. Repeating it is safe.
    ///
    /// # Errors
    /// `NoSuchMember`, `MemberUnreachable`, `MemberBehind`, `NoLiveMajority`: nothing is changed then.
    pub async fn promote_member(&self, node: NodeId) -> Result<bool> {
        let request = PromoteMemberRequest { node: node.0 };
        self.change_members("promote", node, request, async |mut c, r| c.promote_member(r).await).await
    }

    /// Takes a server out of the metadata group, for ever: its id is never used again. In the log of a
    /// majority when this returns; true when it was removed before. Repeating it is safe.
    ///
    /// # Errors
    /// `NoSuchMember`, `NoLiveMajority`: nothing is changed then.
    pub async fn remove_member(&self, node: NodeId) -> Result<bool> {
        let request = RemoveMemberRequest { node: node.0 };
        self.change_members("remove", node, request, async |mut c, r| c.remove_member(r).await).await
    }

    /// Makes a snapshot on the metadata leader, of what is applied there; durable when this returns.
    ///
    /// # Errors
    /// `Unavailable` when no leader makes one in time.
    pub async fn take_snapshot(&self) -> Result<TakeSnapshotReply> {
        let request = TakeSnapshotRequest {};
        self.members(SNAPSHOT, "make a snapshot", "", request, async |mut c, r| c.take_snapshot(r).await)
            .await
    }

    /// Has the metadata servers write an entry that changes nothing; answers when it is on the disks of a
    /// majority and applied on the leader. Needs feature level 2.
    ///
    /// # Errors
    /// `NeedsLevel` while some metadata server is of an older build; `Unavailable` when no majority writes.
    pub async fn probe(&self) -> Result<ProbeReply> {
        let request = ProbeRequest {};
        self.members(PROBE, "probe the log", "", request, async |mut c, r| c.probe(r).await).await
    }

    async fn change_members<M: Clone>(
        &self,
        action: &'static str,
        node: NodeId,
        request: M,
        send: impl AsyncFn(
            MembersClient<Channel>,
            Request<M>,
        ) -> std::result::Result<Response<MemberReply>, Status>,
    ) -> Result<bool> {
        let reply = self.members(CHANGE, action, &node.to_string(), request, send).await?;
        // Clients and this one find each other's servers by what the leader says from now on.
        self.reach().leader.refresh().await;
        Ok(reply.already)
    }

    /// Calls the leader until it answers or refuses; one attempt takes `limit` at most.
    async fn members<M: Clone, R>(
        &self,
        limit: Duration,
        action: &'static str,
        subject: &str,
        request: M,
        send: impl AsyncFn(MembersClient<Channel>, Request<M>) -> std::result::Result<Response<R>, Status>,
    ) -> Result<R> {
        let (connections, send, request) = (&self.reach().connections, &send, &request);
        let leader = &self.reach().leader;
        let budget = leader.retry_budget().max(limit);
        let attempt = |address: String, _| async move {
            let members = connections.members(&address)?;
            let request = connections.request(request.clone(), limit);
            match tokio::time::timeout(limit, send(members, request)).await {
                Ok(answer) => Ok(answer?.into_inner()),
                Err(_) => Err(ServiceError::Deadline.into()),
            }
        };
        leader.retry(budget, action, subject, attempt).await
    }
}
