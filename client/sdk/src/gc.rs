//! [`Gc`]: a look at what waits to be collected, as a stream of how far it has come.

use std::time::Duration;

use cairn_proto::v1::{self, GcReport, GcRequest};
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::progress;

/// The rows of a large state are read without a word in between.
const SILENCE_MAX: Duration = Duration::from_secs(600);
const ACTION: &str = "collect what is dead";

/// A look that is under way. Dropping it ends it; what got its tombstone keeps it.
#[derive(Debug)]
pub struct Gc {
    messages: Streaming<v1::GcProgress>,
    report: Option<GcReport>,
}

impl Client {
    /// Looks at what nothing points at any more: chunks, packs and their copies as the metadata knows
    /// them, objects in the under-store and replicas on the data nodes' disks that it does not. With
    /// `only_look` nothing is changed. Else what was found gets its tombstones, and what waits is looked
    /// at at once; nothing goes before its delay is over.
    ///
    /// # Errors
    /// `Overloaded` while another look is under way; `Loading` while a dump is loaded.
    pub async fn gc(&self, only_look: bool) -> Result<Gc> {
        let leader = &self.reach().leader;
        let messages = leader
            .call(ACTION, "", GcRequest { only_look }, |mut meta, mut request| async move {
                // The stream outlives the deadline of the call that opens it.
                request.metadata_mut().remove("grpc-timeout");
                meta.gc(request).await
            })
            .await?;
        Ok(Gc { messages, report: None })
    }
}

impl Gc {
    /// What it is at, or `None` when it is done: then [`report`](Self::report) has what was found.
    ///
    /// # Errors
    /// When it could not finish. The kind is `Unavailable`: looking again tells.
    pub async fn next(&mut self) -> Result<Option<v1::GcProgress>> {
        if self.report.is_some() {
            return Ok(None);
        }
        let told = progress::next(&mut self.messages, SILENCE_MAX).await;
        let message =
            told.map_err(|cause| Error::new(ACTION, "", cause).with_kind(ErrorKind::Unavailable))?;
        if message.report.is_none() {
            return Ok(Some(message));
        }
        self.report = message.report;
        Ok(None)
    }

    /// What was found, once it is done.
    #[must_use]
    pub fn report(self) -> Option<GcReport> {
        self.report
    }
}
