//! openraft's calls over the simulated network, in the bytes of the real one.

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Select2;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::hub::{Hub, Running, Silence};
use super::runtime::Runtime;
use crate::raft::record::{
    self, AppendRecord, AppendedRecord, AppliedRecord, AskVoteRecord, LogIdRecord, TransferRecord,
    VoteRecord, VotedRecord,
};
use crate::raft::snapshot::{Directory, Snapshot, SnapshotData};
use crate::raft::snapshot_wire;
use crate::raft::types::{TypeConfig, Vote};

/// A snapshot may take minutes, but not in silence: the real network probes its connections.
const SILENT_MAX: Duration = Duration::from_secs(4);

/// The network as one server sees it.
pub struct Network {
    pub from: u64,
    pub hub: Arc<Hub>,
}

/// The way to one other.
pub struct Peer {
    from: u64,
    to: u64,
    hub: Arc<Hub>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Peer {
        Peer { from: self.from, to: target, hub: Arc::clone(&self.hub) }
    }
}

/// The other's process ended meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("the server has stopped")]
struct Stopped;

impl Peer {
    fn silent(&self, action: RPCTypes, option: &RPCOption, silence: Silence) -> RPCError<TypeConfig> {
        match silence {
            Silence::Refused => RPCError::Unreachable(Unreachable::new(&Stopped)),
            Silence::Late => {
                let timeout = option.soft_ttl();
                RPCError::Timeout(Timeout { action, id: self.from, target: self.to, timeout })
            }
        }
    }

    async fn call<A, F>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        serve: impl Fn(Running) -> F + Send + Sync + 'static,
    ) -> Result<A, RPCError<TypeConfig>>
    where
        A: Send + 'static,
        F: Future<Output = Option<A>> + Send + 'static,
    {
        let limit = option.soft_ttl().min(SILENT_MAX);
        match self.hub.ask((self.from, self.to), limit, serve).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(RPCError::Network(NetworkError::new(&Stopped))),
            Err(silence) => Err(self.silent(action, option, silence)),
        }
    }
}

/// Every entry that an append tells of.
fn told(append: &AppendEntriesRequest<TypeConfig>) -> Vec<LogIdRecord> {
    let entries = append.entries.iter().map(|entry| LogIdRecord::from(&entry.log_id));
    append.prev_log_id.as_ref().map(LogIdRecord::from).into_iter().chain(entries).collect()
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        append: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let bytes = record::encode(&AppendRecord::from(&append));
        let (hub, to) = (Arc::clone(&self.hub), self.to);
        let serve = move |running: Running| {
            let (hub, bytes) = (Arc::clone(&hub), bytes.clone());
            async move {
                let append: AppendEntriesRequest<TypeConfig> =
                    record::decode::<AppendRecord>(&bytes).unwrap().try_into().unwrap();
                let (vote, entries) = (VoteRecord::from(&append.vote), told(&append));
                hub.ledger.leads(&vote);
                let reply = running.raft.append_entries(append).await.ok()?;
                if matches!(reply, AppendEntriesResponse::Success) {
                    hub.ledger.promises_vote(to, vote);
                    hub.ledger.promises_entries(to, entries.into_iter());
                }
                Some(record::encode(&AppendedRecord::from(&reply)))
            }
        };
        let answer = self.call(RPCTypes::AppendEntries, &option, serve).await?;
        Ok(record::decode::<AppendedRecord>(&answer).unwrap().into())
    }

    async fn vote(
        &mut self,
        ask: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let bytes = record::encode(&AskVoteRecord::from(&ask));
        let (hub, to) = (Arc::clone(&self.hub), self.to);
        let serve = move |running: Running| {
            let (hub, bytes) = (Arc::clone(&hub), bytes.clone());
            async move {
                let ask = VoteRequest::<TypeConfig>::from(record::decode::<AskVoteRecord>(&bytes).unwrap());
                let vote = VoteRecord::from(&ask.vote);
                let reply = running.raft.vote(ask).await.ok()?;
                if reply.vote_granted {
                    hub.ledger.pages().counts.elections += 1;
                    hub.ledger.promises_vote(to, vote);
                }
                Some(record::encode(&VotedRecord::from(&reply)))
            }
        };
        let answer = self.call(RPCTypes::Vote, &option, serve).await?;
        Ok(record::decode::<VotedRecord>(&answer).unwrap().into())
    }

    async fn pre_vote(
        &mut self,
        ask: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let bytes = record::encode(&AskVoteRecord::from(&ask));
        let serve = move |running: Running| {
            let bytes = bytes.clone();
            async move {
                let ask = VoteRequest::<TypeConfig>::from(record::decode::<AskVoteRecord>(&bytes).unwrap());
                let reply = running.raft.pre_vote(ask).await.ok()?;
                Some(record::encode(&VotedRecord::from(&reply)))
            }
        };
        let answer = self.call(RPCTypes::Vote, &option, serve).await?;
        Ok(record::decode::<VotedRecord>(&answer).unwrap().into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let vote = VoteRecord::from(&vote);
        let meta = AppliedRecord::new(snapshot.meta.last_log_id.as_ref(), &snapshot.meta.last_membership);
        let path = snapshot.snapshot.path();
        let listed = snapshot_wire::list(path).map_err(|e| NetworkError::new(&e))?;
        let read = |name: &String| Ok((name.clone(), fs::read(path.join(name))?));
        let files: Result<Vec<_>, std::io::Error> = listed.iter().map(|file| read(&file.name)).collect();
        let files = Arc::new(files.map_err(|e| NetworkError::new(&e))?);
        drop(snapshot);
        let hub = Arc::clone(&self.hub);
        let serve = move |running: Running| {
            let (hub, meta, files) = (Arc::clone(&hub), meta.clone(), Arc::clone(&files));
            async move {
                let incoming = hub.root.join(running.life.server.to_string()).join("incoming");
                let path = incoming.join(hub.number().to_string());
                fs::create_dir_all(&path).unwrap();
                for (name, bytes) in files.iter() {
                    fs::write(path.join(name), bytes).unwrap();
                }
                let snapshot =
                    Snapshot { meta: meta.meta().unwrap(), snapshot: Arc::new(Directory::doomed(path)) };
                let reply = running.raft.install_full_snapshot(vote.into(), snapshot).await.ok()?;
                Some(VoteRecord::from(&reply.vote))
            }
        };
        let work = pin!(self.call(RPCTypes::InstallSnapshot, &option, serve));
        match Runtime::select2(pin!(cancel), work).await {
            Select2::First(closed) => Err(closed.into()),
            Select2::Second(Ok(vote)) => Ok(SnapshotResponse::new(vote.into())),
            Select2::Second(Err(error)) => Err(error.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<Result<(), TransferLeaderError<TypeConfig>>, RPCError<TypeConfig>> {
        let bytes = record::encode(&TransferRecord::from(&request));
        let serve = move |running: Running| {
            let bytes = bytes.clone();
            async move {
                let request = record::decode::<TransferRecord>(&bytes).unwrap().into();
                running.raft.handle_transfer_leader(request).await.ok()
            }
        };
        self.call(RPCTypes::TransferLeader, &option, serve).await
    }
}
