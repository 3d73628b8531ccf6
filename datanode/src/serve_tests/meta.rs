//! A metadata server for tests: chunks in a map, seal rounds as rule R5 has them, no Raft.

mod services;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_proto::convert::replica_health;
use cairn_proto::v1;
use cairn_proto::v1::data_client::DataClient;
use cairn_proto::v1::meta_server::MetaServer;
use cairn_proto::v1::nodes_server::NodesServer;
use cairn_proto::{handshake, status};
use cairn_types::{ClusterId, FsError, ReplicaHealth};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

pub const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

#[derive(Default)]
pub struct State {
    pub nodes: Vec<v1::Replica>,
    pub chunks: HashMap<u64, v1::Chunk>,
    pub seals: Vec<v1::SealChunkRequest>,
    pub planned: Vec<v1::SealPlannedRequest>,
    pub grants: Vec<v1::RenewGrant>,
    /// The pause that grants are given with.
    pub pause_ms: u32,
    pub reports: Vec<v1::ReportWorkRequest>,
    pub work: HashMap<u64, mpsc::Sender<Result<v1::Work, Status>>>,
    pub heartbeats: HashMap<u64, u64>,
    /// Tail → its spare.
    pub spares: HashMap<u64, u64>,
    pub last_beat: HashMap<u64, v1::HeartbeatRequest>,
    pub sessions: u64,
    /// Seals are not decided while this is set.
    pub seals_held: bool,
}

#[derive(Clone)]
pub struct FakeMeta {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
    pub address: String,
}

impl FakeMeta {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let meta = Self { state: Arc::default(), changes: Arc::new(watch::Sender::new(0)), address };
        let server = Server::builder()
            .add_service(MetaServer::new(meta.clone()))
            .add_service(NodesServer::new(meta.clone()))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(async move { server.await.unwrap() });
        meta
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.state());
        self.changes.send_modify(|n| *n += 1);
        out
    }

    /// Waits until `probe` finds something in the state.
    pub async fn wait<T>(&self, mut probe: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                if let Some(found) = probe(&self.state()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("it never happened")
    }

    /// Opens a chunk on `nodes`, the first of them its primary.
    pub fn open_chunk(&self, nodes: &[u64], grant_bytes: u64, marks: &[v1::WriterMark]) -> u64 {
        self.change(|state| {
            let chunk = state.chunks.len() as u64 + 1;
            let of = |id: &u64| state.nodes.iter().find(|node| node.node == *id).unwrap().clone();
            let policy = v1::Policy {
                replicas: nodes.len() as u32,
                min_replicas: 1,
                max_lag_ms: 30_000,
                max_lag_bytes: 1 << 30,
                ..v1::Policy::default()
            };
            let activation = v1::Activation {
                log_index: 9,
                ino: 100 + chunk,
                base: 1000,
                generation: 5,
                session: 0,
                grant_bytes,
            };
            let record = v1::Chunk {
                chunk,
                state: v1::ChunkState::Open.into(),
                epoch: 1,
                replicas: nodes.iter().map(of).collect(),
                primary: nodes[0],
                policy: Some(policy),
                marks: marks.to_vec(),
                activation: Some(activation),
                ..v1::Chunk::default()
            };
            state.chunks.insert(chunk, record);
            chunk
        })
    }

    /// Makes a tail age in so many milliseconds.
    pub fn age(&self, chunk: u64, max_lag_ms: u64) {
        self.change(|state| {
            state.chunks.get_mut(&chunk).unwrap().policy.as_mut().unwrap().max_lag_ms = max_lag_ms;
        });
    }

    /// The spare that was asked for behind a tail.
    pub fn spare_of(&self, tail: u64) -> Option<u64> {
        self.state().spares.get(&tail).copied()
    }

    /// The spare of a tail, on its nodes.
    fn spare_after(&self, tail: u64) -> v1::Chunk {
        self.change(|state| {
            let before = state.chunks[&tail].clone();
            let chunk = state.chunks.len() as u64 + 1;
            let spare = v1::Chunk {
                chunk,
                state: v1::ChunkState::Spare.into(),
                activation: None,
                marks: Vec::new(),
                ..before
            };
            state.chunks.insert(chunk, spare.clone());
            state.spares.insert(tail, chunk);
            spare
        })
    }

    /// Makes a spare the tail behind a chunk that is sealed at this end.
    fn activate(&self, end: &v1::SealPlannedRequest, spare: u64) -> v1::Chunk {
        self.change(|state| {
            let before = state.chunks[&end.chunk].activation.unwrap();
            let next = state.chunks.get_mut(&spare).unwrap();
            next.state = v1::ChunkState::Open.into();
            next.marks = end.marks.clone();
            next.activation = Some(v1::Activation { base: before.base + end.length, ..before });
            next.clone()
        })
    }

    pub fn chunk(&self, chunk: u64) -> v1::Chunk {
        self.state().chunks[&chunk].clone()
    }

    /// Gives a node a piece of work.
    pub async fn give(&self, node: u64, work: v1::work::Work) {
        let way = self.wait(|state| state.work.get(&node).cloned()).await;
        way.send(Ok(v1::Work { work: Some(work) })).await.unwrap();
    }

    pub async fn fence(
        &self,
        replica: &v1::Replica,
        chunk: u64,
        epoch: u32,
    ) -> Result<v1::FenceReply, Status> {
        let request = v1::FenceRequest {
            chunk,
            epoch,
            opened_incarnation: replica.incarnation,
            record: Some(self.chunk(chunk)),
            node: replica.node,
        };
        let mut client = DataClient::connect(format!("http://{}", self.address_of(replica)))
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client.fence(stamped(request)).await?.into_inner())
    }

    /// Where a replica's node is now: it may have started again.
    fn address_of(&self, replica: &v1::Replica) -> String {
        let state = self.state();
        let now = state.nodes.iter().find(|node| node.node == replica.node);
        now.unwrap_or(replica).address.clone()
    }

    /// One seal round: fence all that answer, take the longest, bring the others to it.
    pub async fn seal(&self, chunk: u64) -> Result<v1::Chunk, Status> {
        if self.state().seals_held {
            return Err(Status::deadline_exceeded("undecided"));
        }
        let record = self.change(|state| {
            let record = state.chunks.get_mut(&chunk).ok_or_else(|| status::fs_status(&FsError::NotFound))?;
            if record.state() == v1::ChunkState::Open {
                record.set_state(v1::ChunkState::Sealing);
                record.epoch += 1;
            }
            Ok::<_, Status>(record.clone())
        })?;
        if record.state() == v1::ChunkState::Sealed {
            return Ok(record);
        }
        let mut answers = Vec::new();
        for replica in &record.replicas {
            if let Ok(answer) = self.fence(replica, chunk, record.epoch).await {
                answers.push((replica.clone(), answer));
            }
        }
        let clean =
            answers.iter().any(|(_, answer)| replica_health(answer.health) == Ok(ReplicaHealth::Clean));
        if !clean && answers.len() < record.replicas.len() {
            return Err(Status::deadline_exceeded("undecided"));
        }
        let (_, end) = answers.iter().max_by_key(|(_, answer)| answer.length).unwrap();
        let (length, chain, marks) = (end.length, end.chain, end.marks.clone());
        for (replica, answer) in &answers {
            if answer.length < length {
                let request = v1::ExtendRequest {
                    chunk,
                    epoch: record.epoch,
                    length,
                    chain,
                    sources: answers.iter().map(|(replica, _)| replica.clone()).collect(),
                    record: Some(record.clone()),
                    node: replica.node,
                };
                let mut client =
                    DataClient::connect(format!("http://{}", self.address_of(replica))).await.unwrap();
                client.extend(stamped(request)).await?;
            }
        }
        let holders = answers.into_iter().map(|(replica, _)| replica).collect();
        Ok(self.sealed(chunk, length, chain, marks, Some(holders)))
    }

    fn sealed(
        &self,
        chunk: u64,
        length: u64,
        chain: u32,
        marks: Vec<v1::WriterMark>,
        holders: Option<Vec<v1::Replica>>,
    ) -> v1::Chunk {
        self.change(|state| {
            let record = state.chunks.get_mut(&chunk).unwrap();
            record.set_state(v1::ChunkState::Sealed);
            (record.length, record.chain, record.marks) = (length, chain, marks);
            if let Some(holders) = holders {
                record.replicas = holders;
            }
            record.clone()
        })
    }
}

pub fn stamped<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    handshake::stamp(&mut request, Some(CLUSTER));
    request.set_timeout(Duration::from_secs(10));
    request
}
