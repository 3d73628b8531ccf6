//! The services of a [`FakeMeta`].

use std::pin::Pin;

use cairn_proto::v1::meta_server::Meta;
use cairn_proto::v1::nodes_server::Nodes;
use cairn_proto::{handshake, status, v1};
use cairn_types::FsError;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{CLUSTER, FakeMeta};

fn unserved<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not a part of this test"))
}

#[tonic::async_trait]
impl Nodes for FakeMeta {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        handshake::check(request.metadata(), Some(CLUSTER), false)?;
        let asked = request.into_inner();
        let node = self.change(|state| {
            let known = state.nodes.iter().position(|node| node.disk == asked.disk);
            let node = known.map_or(state.nodes.len() as u64 + 1, |at| at as u64 + 1);
            let replica = v1::Replica {
                node,
                address: asked.address,
                incarnation: asked.incarnation,
                disk: asked.disk,
            };
            match known {
                Some(at) => state.nodes[at] = replica,
                None => state.nodes.push(replica),
            }
            node
        });
        Ok(Response::new(v1::RegisterReply { node, cluster_id: CLUSTER.0.to_vec().into(), retired: false }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        let beat = request.into_inner();
        let known = self.change(|state| {
            *state.heartbeats.entry(beat.node).or_default() += 1;
            let known =
                state.nodes.iter().any(|node| node.node == beat.node && node.incarnation == beat.incarnation);
            state.last_beat.insert(beat.node, beat);
            known
        });
        if !known {
            return Err(status::fs_status(&FsError::NotFound));
        }
        let healthy = self.state().nodes.iter().map(|node| node.node).collect();
        Ok(Response::new(v1::HeartbeatReply { interval_ms: 50, healthy, processes: Vec::new() }))
    }

    type PullWorkStream = ReceiverStream<Result<v1::Work, Status>>;

    async fn pull_work(
        &self,
        request: Request<v1::PullWorkRequest>,
    ) -> Result<Response<Self::PullWorkStream>, Status> {
        let (sender, work) = mpsc::channel(16);
        self.change(|state| state.work.insert(request.into_inner().node, sender));
        Ok(Response::new(ReceiverStream::new(work)))
    }

    async fn report_work(
        &self,
        request: Request<v1::ReportWorkRequest>,
    ) -> Result<Response<v1::ReportWorkReply>, Status> {
        self.change(|state| state.reports.push(request.into_inner()));
        Ok(Response::new(v1::ReportWorkReply {}))
    }

    async fn seal_planned(
        &self,
        request: Request<v1::SealPlannedRequest>,
    ) -> Result<Response<v1::Chunk>, Status> {
        let end = request.into_inner();
        let open = self.change(|state| {
            state.planned.push(end.clone());
            state.chunks[&end.chunk].state() == v1::ChunkState::Open
        });
        if !open {
            return Err(status::fs_status(&FsError::ChunkState { chunk: end.chunk.into() }));
        }
        Ok(Response::new(self.sealed(end.chunk, end.length, end.chain, end.marks, None)))
    }

    async fn prepare_spare(
        &self,
        request: Request<v1::PrepareSpareRequest>,
    ) -> Result<Response<v1::Chunk>, Status> {
        Ok(Response::new(self.spare_after(request.into_inner().chunk)))
    }

    async fn roll(&self, request: Request<v1::RollRequest>) -> Result<Response<v1::RollReply>, Status> {
        let asked = request.into_inner();
        let seal = asked.seal.clone().unwrap();
        let sealed = self.seal_planned(Request::new(seal.clone())).await?.into_inner();
        let next = self.activate(&seal, asked.next);
        Ok(Response::new(v1::RollReply { sealed: Some(sealed), next: Some(next) }))
    }
}

#[tonic::async_trait]
impl Meta for FakeMeta {
    async fn hello(&self, _: Request<v1::HelloRequest>) -> Result<Response<v1::HelloReply>, Status> {
        let cluster_id = CLUSTER.0.to_vec().into();
        Ok(Response::new(v1::HelloReply { cluster_id, ..v1::HelloReply::default() }))
    }

    async fn open_session(
        &self,
        _: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionReply>, Status> {
        let session = self.change(|state| {
            state.sessions += 1;
            state.sessions
        });
        Ok(Response::new(v1::OpenSessionReply { session, lease_ms: 30_000 }))
    }

    async fn mutate(&self, request: Request<v1::MutateRequest>) -> Result<Response<v1::MutateReply>, Status> {
        let Some(v1::mutate_request::Operation::RenewGrant(renew)) = request.into_inner().operation else {
            return unserved();
        };
        let (chunk, pause_ms) = self.change(|state| {
            state.grants.push(renew);
            let chunk = state.chunks.get_mut(&renew.chunk).unwrap();
            chunk.activation.as_mut().unwrap().grant_bytes = renew.grant_bytes;
            (chunk.clone(), state.pause_ms)
        });
        Ok(Response::new(v1::MutateReply { chunk: Some(chunk), pause_ms, ..v1::MutateReply::default() }))
    }

    async fn mutate_all(
        &self,
        _: Request<v1::MutateAllRequest>,
    ) -> Result<Response<v1::MutateAllReply>, Status> {
        unserved()
    }

    async fn get_chunk(&self, request: Request<v1::GetChunkRequest>) -> Result<Response<v1::Chunk>, Status> {
        let chunk = request.into_inner().chunk;
        let found = self.state().chunks.get(&chunk).cloned();
        found.map(Response::new).ok_or_else(|| status::fs_status(&FsError::NotFound))
    }

    async fn seal_chunk(
        &self,
        request: Request<v1::SealChunkRequest>,
    ) -> Result<Response<v1::Chunk>, Status> {
        let asked = request.into_inner();
        let chunk = asked.chunk;
        self.change(|state| state.seals.push(asked));
        Ok(Response::new(self.seal(chunk).await?))
    }

    async fn keep_alive(
        &self,
        _: Request<v1::KeepAliveRequest>,
    ) -> Result<Response<v1::KeepAliveReply>, Status> {
        unserved()
    }
    async fn close_session(
        &self,
        _: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionReply>, Status> {
        unserved()
    }
    async fn stat(&self, _: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        unserved()
    }
    type FsckStream = Pin<Box<dyn Stream<Item = Result<v1::FsckProgress, Status>> + Send>>;
    async fn fsck(&self, _: Request<v1::FsckRequest>) -> Result<Response<Self::FsckStream>, Status> {
        unserved()
    }
    type GcStream = Pin<Box<dyn Stream<Item = Result<v1::GcProgress, Status>> + Send>>;
    async fn gc(&self, _: Request<v1::GcRequest>) -> Result<Response<Self::GcStream>, Status> {
        unserved()
    }
    type DumpStream = Pin<Box<dyn Stream<Item = Result<v1::DumpBatch, Status>> + Send>>;
    async fn dump(&self, _: Request<v1::DumpRequest>) -> Result<Response<Self::DumpStream>, Status> {
        unserved()
    }
    async fn load(&self, _: Request<v1::LoadRequest>) -> Result<Response<v1::LoadReply>, Status> {
        unserved()
    }
    async fn wait_file(
        &self,
        _: Request<v1::WaitFileRequest>,
    ) -> Result<Response<v1::WaitFileReply>, Status> {
        unserved()
    }
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchBatch, Status>> + Send>>;
    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        unserved()
    }
    async fn stat_all(&self, _: Request<v1::StatAllRequest>) -> Result<Response<v1::StatAllReply>, Status> {
        unserved()
    }
    async fn extents(&self, _: Request<v1::ExtentsRequest>) -> Result<Response<v1::ExtentsReply>, Status> {
        unserved()
    }
    type ListStream = Pin<Box<dyn Stream<Item = Result<v1::ListBatch, Status>> + Send>>;
    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        unserved()
    }
    async fn get_xattr(
        &self,
        _: Request<v1::GetXattrRequest>,
    ) -> Result<Response<v1::GetXattrReply>, Status> {
        unserved()
    }
    async fn list_xattrs(
        &self,
        _: Request<v1::ListXattrsRequest>,
    ) -> Result<Response<v1::ListXattrsReply>, Status> {
        unserved()
    }
    async fn accept_loss(
        &self,
        _: Request<v1::AcceptLossRequest>,
    ) -> Result<Response<v1::AcceptLossReply>, Status> {
        unserved()
    }
    async fn remove_node(
        &self,
        _: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeReply>, Status> {
        unserved()
    }
    async fn drain_node(
        &self,
        _: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeReply>, Status> {
        unserved()
    }
    async fn wait_tree(
        &self,
        _: Request<v1::WaitTreeRequest>,
    ) -> Result<Response<v1::WaitTreeReply>, Status> {
        unserved()
    }
    async fn split_directory(
        &self,
        _: Request<v1::SplitDirectoryRequest>,
    ) -> Result<Response<v1::SplitDirectoryReply>, Status> {
        unserved()
    }
    async fn wait_intent(
        &self,
        _: Request<v1::WaitIntentRequest>,
    ) -> Result<Response<v1::WaitIntentReply>, Status> {
        unserved()
    }
    async fn wait_persisted(
        &self,
        _: Request<v1::WaitPersistedRequest>,
    ) -> Result<Response<v1::WaitPersistedReply>, Status> {
        unserved()
    }
    async fn test_lock(
        &self,
        _: Request<v1::TestLockRequest>,
    ) -> Result<Response<v1::TestLockReply>, Status> {
        unserved()
    }
    async fn wait_lock(
        &self,
        _: Request<v1::WaitLockRequest>,
    ) -> Result<Response<v1::WaitLockReply>, Status> {
        unserved()
    }
    async fn list_mounts(
        &self,
        _: Request<v1::ListMountsRequest>,
    ) -> Result<Response<v1::ListMountsReply>, Status> {
        unserved()
    }
    async fn list_conflicts(
        &self,
        _: Request<v1::ListConflictsRequest>,
    ) -> Result<Response<v1::ListConflictsReply>, Status> {
        unserved()
    }
    async fn import_now(
        &self,
        _: Request<v1::ImportNowRequest>,
    ) -> Result<Response<v1::ImportNowReply>, Status> {
        unserved()
    }
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        unserved()
    }
    async fn stat_fs(&self, _: Request<v1::StatFsRequest>) -> Result<Response<v1::StatFsReply>, Status> {
        unserved()
    }
    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        unserved()
    }
    async fn get_policy(
        &self,
        _: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyReply>, Status> {
        unserved()
    }
    type LagStream = Pin<Box<dyn Stream<Item = Result<v1::LagProgress, Status>> + Send>>;
    async fn lag(&self, _: Request<v1::LagRequest>) -> Result<Response<Self::LagStream>, Status> {
        unserved()
    }
    type ExplainStream = Pin<Box<dyn Stream<Item = Result<v1::ExplainPart, Status>> + Send>>;
    async fn explain(&self, _: Request<v1::ExplainRequest>) -> Result<Response<Self::ExplainStream>, Status> {
        unserved()
    }
}
