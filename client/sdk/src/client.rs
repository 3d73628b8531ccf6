//! [`Client`]: a connection to a cluster. The calls that it takes are in files of their own, by
//! what they are about.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_proto::v1::{self, StatFsReply, StatFsRequest, StatusReply, StatusRequest};
use cairn_types::{ClusterId, NodeId, SessionId};

use crate::chunk_writer::SharedChunks;
use crate::connection::Connections;
use crate::error::Result;
use crate::gather::Gather;
use crate::growth::Reach;
use crate::hedge::Pace;
use crate::lock::Releases;
use crate::meta::Leader;
use crate::options::ConnectOptions;
use crate::remembered::Memory;
use crate::session::Session;
use crate::slow::SlowWork;
use crate::suspects::Suspects;

/// A connection to a cluster with one session. Cheap to clone; share it between tasks.
#[derive(Clone)]
pub struct Client {
    reach: Reach,
    chunks: SharedChunks,
    suspects: Suspects,
    pace: Pace,
    releases: Releases,
    owner: (u32, u32),
    // Guards: what is remembered for a few seconds to save round trips, never for safety.
    memory: Arc<Mutex<Memory>>,
}

/// Stats that wait for a call to a server, at most.
const STATS_WAITING_MAX: usize = 8192;

impl Client {
    /// Connects: finds the leader, checks the cluster, opens a session.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers within the retry budget, `Invalid` when the servers
    /// belong to another cluster than [`ConnectOptions::cluster_id`].
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let options = Arc::new(options);
        let connections = Connections::new(Duration::from_secs(1), options.transport);
        let leader = Leader::connect(connections.clone(), Arc::clone(&options)).await?;
        let session = Session::open(leader.clone(), &options.name, options.credentials.clone()).await?;
        let owner = match &options.credentials {
            Some(who) => (who.uid, who.gid),
            None => (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        };
        let stats = Gather::new(connections.clone(), STATS_WAITING_MAX);
        let slow = Arc::new(SlowWork::new(options.slow_operation));
        let reach = Reach { connections, leader, session, stats, options, slow };
        let chunks = SharedChunks::new(reach.clone());
        let releases = Releases::start(reach.session.clone());
        let (suspects, pace) = (Suspects::default(), Pace::default());
        Ok(Self { reach, chunks, suspects, pace, releases, owner, memory: Arc::default() })
    }

    /// The same connection, which gives what it creates to this owner and group.
    #[must_use]
    pub fn with_owner(&self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self.clone() }
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.reach.connections.cluster()
    }

    /// The session in force.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.reach.session.id()
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn chunks(&self) -> &SharedChunks {
        &self.chunks
    }

    pub(crate) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Reads for which a second holder was asked, since the first took longer than reads usually do. At most
    /// one in ten, and one holder more for each.
    #[must_use]
    pub fn hedged_reads(&self) -> u64 {
        self.pace.hedged()
    }

    pub(crate) fn releases(&self) -> &Releases {
        &self.releases
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uid(&self) -> u32 {
        self.owner.0
    }

    pub(crate) fn gid(&self) -> u32 {
        self.owner.1
    }

    /// Closes the open chunks and ends the session. Handles still open fail from then on. The
    /// chunks' ends and the session's are on a majority of the metadata servers when this returns;
    /// bytes that a handle holds back are not written. A client whose last copy is dropped without
    /// it ends with its lease.
    ///
    /// # Errors
    /// When a chunk's end or the session's could not be told to the cluster: both then happen
    /// at the end of the session's lease. Nothing acknowledged is lost.
    pub async fn close(self) -> Result<()> {
        let rolled = self.chunks.roll_all().await;
        let closed = self.reach.session.close().await;
        rolled.and(closed)
    }

    /// Leaves without a word, as a crash would: the servers release what the session holds
    /// when its lease ends (what was being let go already may still be). For tests.
    pub fn abandon(self) {
        self.reach.session.abandon();
    }

    /// The cluster's state: servers, data nodes, lag.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn status(&self) -> Result<StatusReply> {
        self.reach
            .leader
            .call("ask for the status", "", StatusRequest {}, |mut meta, request| async move {
                meta.status(request).await
            })
            .await
    }

    /// How much room there is, as statvfs(3) asks: the capacity of the data nodes that live divided
    /// by the replicas of the root's policy; used is what may not be evicted, since S3 has not got
    /// it. What a leader has not yet heard of since its election it knows from registrations.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn statfs(&self) -> Result<StatFsReply> {
        self.reach()
            .leader
            .call("ask for the room", "", StatFsRequest {}, |mut meta, request| async move {
                meta.stat_fs(request).await
            })
            .await
    }

    /// Hands the lead to another metadata server, or to any. Answers the new leader.
    ///
    /// # Errors
    /// `Unavailable` when it did not take over in time.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId> {
        let request = v1::TransferLeaderRequest { to: to.map_or(0, |n| n.0) };
        let reply = self
            .reach
            .leader
            .call("transfer the lead", "", request, |mut meta, request| async move {
                meta.transfer_leader(request).await
            })
            .await?;
        Ok(NodeId(reply.leader))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("session", &self.session_id()).finish_non_exhaustive()
    }
}
