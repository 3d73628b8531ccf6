//! [`Pull`]: the records of a range of a chunk, as another holder has them.

use std::time::Duration;
use std::vec;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::ChunkId;
use tokio::time::timeout;
use tonic::Streaming;

use super::context::Context;
use super::record;
use crate::chunk::AppendRecord;

/// How long a source may let a pull wait for its next records.
const STALL: Duration = Duration::from_millis(3_000);
/// How long a whole pull may take.
const PULL: Duration = Duration::from_millis(60_000);

/// A pull that is under way.
pub(super) struct Pull {
    chunk: ChunkId,
    frames: Streaming<v1::RecordFrame>,
    frame: vec::IntoIter<v1::ReplicaRecord>,
    /// Where the next record begins.
    at: u64,
    until: u64,
}

impl Pull {
    /// Asks `source` for the records of `[from, until)`.
    pub(super) async fn from(
        context: &Context,
        source: &v1::Replica,
        chunk: ChunkId,
        (from, until): (u64, u64),
    ) -> Result<Self, WireError> {
        let mut client = context.peers.client(&source.address)?;
        let message = v1::ReadRecordsRequest { chunk: chunk.0, from, until, node: source.node };
        let request = context.peers.request(message, PULL);
        let frames = timeout(STALL, client.read_records(request)).await.map_err(late)??.into_inner();
        Ok(Self { chunk, frames, frame: Vec::new().into_iter(), at: from, until })
    }

    /// The next record; each follows on the one before. `None`: the source says no more, be it all or not.
    pub(super) async fn next(&mut self) -> Result<Option<AppendRecord>, WireError> {
        loop {
            let Some(wire) = self.frame.next() else {
                let frame = timeout(STALL, self.frames.message()).await.map_err(late)??;
                let Some(frame) = frame else { return Ok(None) };
                self.frame = frame.records.into_iter();
                continue;
            };
            let record = record::from_wire(wire).map_err(ServiceError::from)?;
            // The close record is no part of the content, and a seal decides the end anyway.
            if record.close {
                continue;
            }
            if record.chunk != self.chunk || record.offset != self.at || record.end() > self.until {
                return Err(ServiceError::Corrupt { chunk: self.chunk }.into());
            }
            self.at = record.end();
            return Ok(Some(record));
        }
    }

    /// True when all that was asked for has come.
    pub(super) fn is_whole(&self) -> bool {
        self.at == self.until
    }
}

fn late(_: tokio::time::error::Elapsed) -> WireError {
    ServiceError::Deadline.into()
}
