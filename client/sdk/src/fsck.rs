//! [`Fsck`]: a check of the cluster's metadata, as a stream of what it finds.

use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::{self, FsckRequest};
use cairn_types::{FsError, NodeId};
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::progress;

/// The server says something at least every second or so; a repair may take ten.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ACTION: &str = "check the metadata";

/// How to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Mend what can be mended, one entry of the log a finding. Each is on a majority of the
    /// metadata servers when it is told as mended.
    pub repair: bool,
    /// The server whose state is checked; the leader's when there is none. Only the leader repairs.
    pub server: Option<NodeId>,
}

/// A check that is under way. Dropping it ends it; what was mended stays mended.
#[derive(Debug)]
pub struct Fsck {
    subject: String,
    messages: Streaming<v1::FsckProgress>,
    done: bool,
}

impl Client {
    /// Checks the metadata at one point in time: every row against every other that it says something
    /// about. It runs beside the server's other work, for as long as it takes.
    ///
    /// # Errors
    /// `NotFound` when [`FsckOptions::server`] is no metadata server; `NotLeader` when that one
    /// shall repair and does not lead; `Overloaded` while another check runs there.
    pub async fn fsck(&self, options: FsckOptions) -> Result<Fsck> {
        let request = FsckRequest { repair: options.repair, local: options.server.is_some() };
        let messages = match options.server {
            None => {
                let leader = &self.reach().leader;
                leader
                    .call(ACTION, "", request, |mut meta, mut request| async move {
                        // The stream outlives the deadline of the call that opens it.
                        request.metadata_mut().remove("grpc-timeout");
                        meta.fsck(request).await
                    })
                    .await?
            }
            Some(server) => self.fsck_at(server, request).await?,
        };
        let subject = options.server.map(|server| server.to_string()).unwrap_or_default();
        Ok(Fsck { subject, messages, done: false })
    }

    async fn fsck_at(&self, server: NodeId, request: FsckRequest) -> Result<Streaming<v1::FsckProgress>> {
        let error = |cause: Cause| Error::new(ACTION, server, cause);
        let known = self.status().await?.servers.into_iter().find(|s| s.node == server.0);
        let address = known.ok_or_else(|| error(Cause::Fs(FsError::NotFound)))?.address;
        let connections = &self.reach().connections;
        let mut meta = connections.meta(&address).map_err(error)?;
        let opened = meta.fsck(connections.open_ended(request));
        match tokio::time::timeout(SILENCE_MAX, opened).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(error(status.into())),
            Err(_) => Err(error(Cause::Service(ServiceError::Deadline))),
        }
    }
}

impl Fsck {
    /// What was found since the last call, or `None` when the check is done.
    ///
    /// # Errors
    /// When it could not finish: what was not told is not known. The kind is `Unavailable`, also
    /// where a repair's outcome is unknown: checking again tells.
    pub async fn next(&mut self) -> Result<Option<v1::FsckProgress>> {
        if self.done {
            return Ok(None);
        }
        let told = progress::next(&mut self.messages, SILENCE_MAX).await;
        self.done = told.as_ref().map_or(true, |message| message.done);
        let broken = |cause| Error::new(ACTION, &self.subject, cause).with_kind(ErrorKind::Unavailable);
        told.map(Some).map_err(broken)
    }
}
