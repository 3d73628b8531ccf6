//! [`Dump`]: the namespace at one point in time, as a stream of JSON lines.

use std::time::Duration;

use cairn_proto::v1::{self, DumpRequest};
use tonic::Streaming;

use crate::client::Client;
use crate::error::Result;
use crate::progress;

/// The server sends what it has read without a pause worth the name.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ACTION: &str = "dump the namespace";

/// A dump that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Dump {
    messages: Streaming<v1::DumpBatch>,
    done: bool,
}

impl Client {
    /// Reads the whole namespace at one point in time: the lines that docs/DUMP.md describes. It runs
    /// beside the server's other work; lines that are not taken for two minutes end it.
    ///
    /// # Errors
    /// `Overloaded` while another dump, or a check, runs on the leader; `Loading` while a dump is loaded.
    pub async fn dump(&self) -> Result<Dump> {
        let leader = &self.reach().leader;
        let messages = leader
            .call(ACTION, "", DumpRequest {}, |mut meta, mut request| async move {
                // The stream outlives the deadline of the call that opens it.
                request.metadata_mut().remove("grpc-timeout");
                meta.dump(request).await
            })
            .await?;
        Ok(Dump { messages, done: false })
    }
}

impl Dump {
    /// The next lines, or `None` when the dump is whole.
    ///
    /// # Errors
    /// When it could not finish: what was read is no whole dump. The kind is `Unavailable`, or `Corrupt`
    /// when a row of the metadata cannot be read.
    pub async fn next(&mut self) -> Result<Option<v1::DumpBatch>> {
        if self.done {
            return Ok(None);
        }
        let told = progress::next(&mut self.messages, SILENCE_MAX).await;
        self.done = told.as_ref().map_or(true, |batch| batch.done);
        told.map(Some).map_err(|cause| progress::broken_off(ACTION, "", cause))
    }
}
