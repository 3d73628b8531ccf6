//! Loading a dump into a namespace that holds nothing but its root, step by step.

use bytes::Bytes;
use cairn_proto::v1::{self, load_request::Step};
use cairn_types::{ClusterId, LogIndex};

use crate::client::Client;
use crate::error::{Cause, Error, Result};

const ACTION: &str = "load a dump";

/// Which dump: a load is gone on with for the same one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadId {
    /// The cluster that was dumped.
    pub cluster: ClusterId,
    /// The last entry that the dumped state had applied.
    pub log_index: LogIndex,
    /// Facts in the dump.
    pub facts: u64,
    /// The checksum in its last line.
    pub crc32c: u32,
}

/// How a load stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadState {
    /// The dump that is being loaded; `None`: none is.
    pub load: Option<LoadId>,
    /// Facts of it that are in the namespace.
    pub loaded: u64,
    /// It is being taken out again.
    pub discarding: bool,
    /// [`Client::load_state`] alone tells: the namespace holds nothing but its root.
    pub empty: bool,
}

impl Client {
    /// Whether a dump is being loaded. Changes nothing.
    ///
    /// # Errors
    /// When the leader cannot be reached.
    pub async fn load_state(&self) -> Result<LoadState> {
        self.ask_load(Step::Look(v1::LoadLook {})).await
    }

    /// Begins the load of the dump whose first line is `header`, or goes on with it: the answer says how
    /// many facts are there. Until [`end_load`](Self::end_load) nobody else changes the namespace.
    /// Durable on a majority of the metadata servers when it returns, as each step is.
    ///
    /// # Errors
    /// `NotEmpty`; `Loading` while another dump is loaded, or this one taken out.
    pub async fn begin_load(&self, load: LoadId, header: Bytes) -> Result<LoadState> {
        self.ask_load(Step::Begin(v1::LoadBegin { load: Some(load.into()), header })).await
    }

    /// Loads the facts of the dump after the first `first` ones: `lines`, 2 MiB of them at most. What is
    /// loaded already changes nothing.
    ///
    /// # Errors
    /// `NothingLeft` names a chunk that is in no pack and of which no data node here has a replica; with
    /// `accept_loss` it ends at 0 instead, and what points at it cannot be read. The lines before it are
    /// loaded then, and it may be gone on from there.
    pub async fn load_lines(
        &self,
        load: LoadId,
        first: u64,
        lines: Bytes,
        accept_loss: bool,
    ) -> Result<LoadState> {
        self.ask_load(Step::Lines(v1::LoadLines { load: Some(load.into()), first, lines, accept_loss })).await
    }

    /// Ends a load of which all is there: the namespace is that of the dump.
    ///
    /// # Errors
    /// `InvalidRequest` while facts are missing; `NotFound` when no load is under way, also when an attempt
    /// whose answer was lost has ended it.
    pub async fn end_load(&self, load: LoadId) -> Result<LoadState> {
        self.ask_load(Step::End(v1::LoadEnd { load: Some(load.into()) })).await
    }

    /// Takes some of what was loaded out again. To be called until [`LoadState::load`] is `None`: the
    /// namespace is as it was before the load then.
    ///
    /// # Errors
    /// `NotFound` when no load is under way.
    pub async fn discard_load(&self) -> Result<LoadState> {
        self.ask_load(Step::Discard(v1::LoadDiscard {})).await
    }

    async fn ask_load(&self, step: Step) -> Result<LoadState> {
        let request = v1::LoadRequest { step: Some(step) };
        let leader = &self.reach().leader;
        let reply = leader
            .call(ACTION, "", request, |mut meta, request| async move { meta.load(request).await })
            .await?;
        let load =
            reply.load.map(LoadId::try_from).transpose().map_err(|cause| Error::new(ACTION, "", cause))?;
        Ok(LoadState { load, loaded: reply.loaded, discarding: reply.discarding, empty: reply.empty })
    }
}

impl From<LoadId> for v1::LoadId {
    fn from(id: LoadId) -> Self {
        Self {
            cluster_id: id.cluster.0.to_vec().into(),
            log_index: id.log_index.0,
            facts: id.facts,
            crc32c: id.crc32c,
        }
    }
}

impl TryFrom<v1::LoadId> for LoadId {
    type Error = Cause;

    fn try_from(id: v1::LoadId) -> std::result::Result<Self, Cause> {
        let cluster =
            ClusterId::from_bytes(&id.cluster_id).ok_or(Cause::MalformedAnswer("load.cluster_id"))?;
        Ok(Self { cluster, log_index: LogIndex(id.log_index), facts: id.facts, crc32c: id.crc32c })
    }
}
