//! The services' verbs, each handed to its file.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::trace::TraceId;
use cairn_proto::v1::members_server::Members;
use cairn_proto::v1::meta_server::Meta;
use cairn_proto::v1::nodes_server::Nodes;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::call::admit;
use super::{
    Context, drain, dump, explain, extents, fsck, gc, lag, list, load, lock, loss, members, mounts, mutate,
    nodes, policy, pull, removal, report, roll, seal, session, split, stat, statfs, status, wait, watch,
    xattrs,
};
use crate::trace;

type Answered<R> = Result<Response<R>, Status>;

/// What all verbs have in common: the handshake, the deadline, the span, the metrics.
#[derive(Clone)]
struct Verbs {
    context: Arc<Context>,
}

impl Verbs {
    async fn call<T, R, F, Fut>(&self, verb: &'static str, request: Request<T>, act: F) -> Answered<R>
    where
        F: FnOnce(Arc<Context>, T, Duration) -> Fut,
        Fut: Future<Output = Result<R, WireError>>,
    {
        let deadline = admit(request.metadata(), self.context.node.cluster_id())?;
        let began = self.context.clock.boottime();
        // A caller that names none is followed from here on.
        let trace = TraceId::of(request.metadata());
        let trace = trace.unwrap_or_else(|| TraceId(self.context.random.next_u64()));
        let span = tracing::debug_span!("rpc", verb, %trace);
        let acting = act(self.context.clone(), request.into_inner(), deadline).instrument(span);
        let timed = async {
            let result = match tokio::time::timeout(deadline, acting).await {
                Ok(result) => result,
                Err(_) => Err(ServiceError::Deadline.into()),
            };
            let now = self.context.clock.boottime();
            let took = now.saturating_sub(began);
            self.context.slow.ended(verb, took, now, result.as_ref().err());
            (result, took)
        };
        let (result, took) = trace::within(trace, timed).await;
        metrics::histogram!("cairn_meta_rpc_seconds", "verb" => verb).record(took.as_secs_f64());
        result.map(Response::new).map_err(|error| {
            metrics::counter!("cairn_meta_rpc_errors_total", "verb" => verb).increment(1);
            tracing::debug!(verb, %error, "refused");
            error.into()
        })
    }
}

/// The `Meta` service.
#[derive(Clone)]
pub struct MetaService(Verbs);

impl MetaService {
    /// Serves clients.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(Verbs { context })
    }
}

#[tonic::async_trait]
impl Meta for MetaService {
    type ListStream = list::ListStream;
    type WatchStream = watch::WatchStream;
    type FsckStream = fsck::FsckStream;
    type DumpStream = dump::DumpStream;
    type GcStream = gc::GcStream;
    type LagStream = lag::LagStream;
    type ExplainStream = explain::ExplainStream;

    async fn hello(&self, request: Request<v1::HelloRequest>) -> Answered<v1::HelloReply> {
        let context = &self.0.context;
        handshake::check(request.metadata(), context.node.cluster_id(), true)?;
        Ok(Response::new(session::hello(context)))
    }

    async fn open_session(&self, r: Request<v1::OpenSessionRequest>) -> Answered<v1::OpenSessionReply> {
        self.0.call("OpenSession", r, async |ctx, m, d| session::open(&ctx, m, d).await).await
    }

    async fn keep_alive(&self, r: Request<v1::KeepAliveRequest>) -> Answered<v1::KeepAliveReply> {
        self.0.call("KeepAlive", r, async |ctx, m, d| session::keep_alive(&ctx, m, d).await).await
    }

    async fn close_session(&self, r: Request<v1::CloseSessionRequest>) -> Answered<v1::CloseSessionReply> {
        self.0.call("CloseSession", r, async |ctx, m, d| session::close(&ctx, m, d).await).await
    }

    async fn mutate(&self, r: Request<v1::MutateRequest>) -> Answered<v1::MutateReply> {
        self.0.call("Mutate", r, async |ctx, m, d| mutate::mutate(&ctx, m, d).await).await
    }

    async fn mutate_all(&self, r: Request<v1::MutateAllRequest>) -> Answered<v1::MutateAllReply> {
        self.0.call("MutateAll", r, async |ctx, m, d| mutate::mutate_all(&ctx, m, d).await).await
    }

    async fn stat(&self, r: Request<v1::StatRequest>) -> Answered<v1::StatReply> {
        self.0.call("Stat", r, async |ctx, m, d| stat::stat(&ctx, m, d).await).await
    }

    async fn stat_all(&self, r: Request<v1::StatAllRequest>) -> Answered<v1::StatAllReply> {
        self.0.call("StatAll", r, async |ctx, m, d| stat::stat_all(&ctx, m, d).await).await
    }

    async fn extents(&self, r: Request<v1::ExtentsRequest>) -> Answered<v1::ExtentsReply> {
        self.0.call("Extents", r, async |ctx, m, d| extents::extents(&ctx, m, d).await).await
    }

    async fn list(&self, r: Request<v1::ListRequest>) -> Answered<Self::ListStream> {
        self.0.call("List", r, async |ctx, m, d| list::list(ctx, m, d).await).await
    }

    async fn get_xattr(&self, r: Request<v1::GetXattrRequest>) -> Answered<v1::GetXattrReply> {
        self.0.call("GetXattr", r, async |ctx, m, _| xattrs::get(&ctx, m).await).await
    }

    async fn list_xattrs(&self, r: Request<v1::ListXattrsRequest>) -> Answered<v1::ListXattrsReply> {
        self.0.call("ListXattrs", r, async |ctx, m, _| xattrs::list(&ctx, m).await).await
    }

    async fn watch(&self, r: Request<v1::WatchRequest>) -> Answered<Self::WatchStream> {
        self.0.call("Watch", r, async |ctx, m, d| watch::watch(&ctx, m, d).await).await
    }

    async fn get_chunk(&self, r: Request<v1::GetChunkRequest>) -> Answered<v1::Chunk> {
        self.0.call("GetChunk", r, async |ctx, m, _| stat::chunk(&ctx, m).await).await
    }

    async fn seal_chunk(&self, r: Request<v1::SealChunkRequest>) -> Answered<v1::Chunk> {
        self.0.call("SealChunk", r, async |ctx, m, d| seal::seal(&ctx, m, d).await).await
    }

    async fn accept_loss(&self, r: Request<v1::AcceptLossRequest>) -> Answered<v1::AcceptLossReply> {
        self.0.call("AcceptLoss", r, async |ctx, m, _| loss::accept(&ctx, m).await).await
    }

    async fn remove_node(&self, r: Request<v1::RemoveNodeRequest>) -> Answered<v1::RemoveNodeReply> {
        self.0.call("RemoveNode", r, async |ctx, m, d| removal::remove(&ctx, m, d).await).await
    }

    async fn drain_node(&self, r: Request<v1::DrainNodeRequest>) -> Answered<v1::DrainNodeReply> {
        self.0.call("DrainNode", r, async |ctx, m, d| drain::drain(&ctx, m, d).await).await
    }

    async fn wait_tree(&self, r: Request<v1::WaitTreeRequest>) -> Answered<v1::WaitTreeReply> {
        self.0.call("WaitTree", r, async |ctx, m, d| wait::tree(&ctx, m, d).await).await
    }

    async fn split_directory(
        &self,
        r: Request<v1::SplitDirectoryRequest>,
    ) -> Answered<v1::SplitDirectoryReply> {
        self.0.call("SplitDirectory", r, async |ctx, m, d| split::split(&ctx, m, d).await).await
    }

    async fn wait_intent(&self, r: Request<v1::WaitIntentRequest>) -> Answered<v1::WaitIntentReply> {
        self.0.call("WaitIntent", r, async |ctx, m, d| wait::intent(&ctx, m, d).await).await
    }

    async fn wait_persisted(&self, r: Request<v1::WaitPersistedRequest>) -> Answered<v1::WaitPersistedReply> {
        self.0.call("WaitPersisted", r, async |ctx, m, d| wait::persisted(&ctx, m, d).await).await
    }

    async fn test_lock(&self, r: Request<v1::TestLockRequest>) -> Answered<v1::TestLockReply> {
        self.0.call("TestLock", r, async |ctx, m, _| lock::test(&ctx, m).await).await
    }

    async fn wait_lock(&self, r: Request<v1::WaitLockRequest>) -> Answered<v1::WaitLockReply> {
        self.0.call("WaitLock", r, async |ctx, m, d| lock::wait(&ctx, m, d).await).await
    }

    async fn list_mounts(&self, r: Request<v1::ListMountsRequest>) -> Answered<v1::ListMountsReply> {
        self.0.call("ListMounts", r, async |ctx, m, _| mounts::list(&ctx, m).await).await
    }

    async fn list_conflicts(&self, r: Request<v1::ListConflictsRequest>) -> Answered<v1::ListConflictsReply> {
        self.0.call("ListConflicts", r, async |ctx, m, _| mounts::conflicts(&ctx, m).await).await
    }

    async fn import_now(&self, r: Request<v1::ImportNowRequest>) -> Answered<v1::ImportNowReply> {
        self.0.call("ImportNow", r, async |ctx, m, d| mounts::import_now(&ctx, m, d).await).await
    }

    async fn status(&self, r: Request<v1::StatusRequest>) -> Answered<v1::StatusReply> {
        self.0.call("Status", r, async |ctx, _, _| status::status(&ctx)).await
    }

    async fn stat_fs(&self, r: Request<v1::StatFsRequest>) -> Answered<v1::StatFsReply> {
        self.0.call("StatFs", r, async |ctx, _, _| statfs::statfs(&ctx)).await
    }

    async fn transfer_leader(
        &self,
        r: Request<v1::TransferLeaderRequest>,
    ) -> Answered<v1::TransferLeaderReply> {
        self.0.call("TransferLeader", r, async |ctx, m, d| status::transfer(&ctx, m, d).await).await
    }

    async fn fsck(&self, r: Request<v1::FsckRequest>) -> Answered<Self::FsckStream> {
        self.0.call("Fsck", r, async |ctx, m, _| fsck::fsck(&ctx, m).await).await
    }

    async fn dump(&self, r: Request<v1::DumpRequest>) -> Answered<Self::DumpStream> {
        self.0.call("Dump", r, async |ctx, _, _| dump::dump(&ctx).await).await
    }

    async fn load(&self, r: Request<v1::LoadRequest>) -> Answered<v1::LoadReply> {
        self.0.call("Load", r, async |ctx, m, d| load::load(&ctx, m, d).await).await
    }

    async fn gc(&self, r: Request<v1::GcRequest>) -> Answered<Self::GcStream> {
        self.0.call("Gc", r, async |ctx, m, _| gc::gc(&ctx, m).await).await
    }

    async fn get_policy(&self, r: Request<v1::GetPolicyRequest>) -> Answered<v1::GetPolicyReply> {
        self.0.call("GetPolicy", r, async |ctx, m, _| policy::get(&ctx, m).await).await
    }

    async fn lag(&self, r: Request<v1::LagRequest>) -> Answered<Self::LagStream> {
        self.0.call("Lag", r, async |ctx, m, _| lag::lag(ctx, m).await).await
    }

    async fn explain(&self, r: Request<v1::ExplainRequest>) -> Answered<Self::ExplainStream> {
        self.0.call("Explain", r, async |ctx, m, _| explain::explain(ctx, m).await).await
    }

    async fn wait_file(&self, r: Request<v1::WaitFileRequest>) -> Answered<v1::WaitFileReply> {
        self.0.call("WaitFile", r, async |ctx, m, d| wait::file(&ctx, m, d).await).await
    }
}

/// The `Nodes` service.
#[derive(Clone)]
pub struct NodesService(Verbs);

impl NodesService {
    /// Serves data nodes.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(Verbs { context })
    }
}

#[tonic::async_trait]
impl Nodes for NodesService {
    type PullWorkStream = pull::WorkStream;

    async fn register(&self, r: Request<v1::RegisterRequest>) -> Answered<v1::RegisterReply> {
        self.0.call("Register", r, async |ctx, m, d| nodes::register(&ctx, m, d).await).await
    }

    async fn heartbeat(&self, r: Request<v1::HeartbeatRequest>) -> Answered<v1::HeartbeatReply> {
        self.0.call("Heartbeat", r, async |ctx, m, d| nodes::heartbeat(&ctx, m, d).await).await
    }

    async fn pull_work(&self, r: Request<v1::PullWorkRequest>) -> Answered<Self::PullWorkStream> {
        self.0.call("PullWork", r, async |ctx, m, _| pull::pull(&ctx, m)).await
    }

    async fn report_work(&self, r: Request<v1::ReportWorkRequest>) -> Answered<v1::ReportWorkReply> {
        self.0.call("ReportWork", r, async |ctx, m, d| report::report(&ctx, m, d).await).await
    }

    async fn seal_planned(&self, r: Request<v1::SealPlannedRequest>) -> Answered<v1::Chunk> {
        self.0.call("SealPlanned", r, async |ctx, m, d| nodes::seal_planned(&ctx, m, d).await).await
    }

    async fn prepare_spare(&self, r: Request<v1::PrepareSpareRequest>) -> Answered<v1::Chunk> {
        self.0.call("PrepareSpare", r, async |ctx, m, d| roll::prepare_spare(&ctx, m, d).await).await
    }

    async fn roll(&self, r: Request<v1::RollRequest>) -> Answered<v1::RollReply> {
        self.0.call("Roll", r, async |ctx, m, d| roll::roll(&ctx, m, d).await).await
    }
}

/// The `Members` service.
#[derive(Clone)]
pub struct MembersService(Verbs);

impl MembersService {
    /// Serves operators.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(Verbs { context })
    }
}

#[tonic::async_trait]
impl Members for MembersService {
    async fn group_status(&self, r: Request<v1::GroupStatusRequest>) -> Answered<v1::GroupStatusReply> {
        self.0.call("GroupStatus", r, async |ctx, _, _| members::group(&ctx)).await
    }

    async fn server_status(&self, r: Request<v1::ServerStatusRequest>) -> Answered<v1::ServerStatusReply> {
        self.0.call("ServerStatus", r, async |ctx, _, _| Ok(members::server(&ctx).await)).await
    }

    async fn add_member(&self, r: Request<v1::AddMemberRequest>) -> Answered<v1::MemberReply> {
        self.0.call("AddMember", r, async |ctx, m, _| members::add(&ctx, m).await).await
    }

    async fn promote_member(&self, r: Request<v1::PromoteMemberRequest>) -> Answered<v1::MemberReply> {
        self.0.call("PromoteMember", r, async |ctx, m, _| members::promote(&ctx, m).await).await
    }

    async fn remove_member(&self, r: Request<v1::RemoveMemberRequest>) -> Answered<v1::MemberReply> {
        self.0.call("RemoveMember", r, async |ctx, m, _| members::remove(&ctx, m).await).await
    }

    async fn probe(&self, r: Request<v1::ProbeRequest>) -> Answered<v1::ProbeReply> {
        self.0.call("Probe", r, async |ctx, _, d| members::probe(&ctx, d).await).await
    }

    async fn take_snapshot(&self, r: Request<v1::TakeSnapshotRequest>) -> Answered<v1::TakeSnapshotReply> {
        self.0.call("TakeSnapshot", r, async |ctx, _, d| members::snapshot(&ctx, d).await).await
    }
}
