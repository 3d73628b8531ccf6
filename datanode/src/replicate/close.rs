//! How a primary closes its chunk by plan (rule R5): the close record goes to every replica, then
//! the metadata is told the end, without a fence round.

use cairn_proto::{WireError, v1};
use cairn_types::{ChunkId, Sequence, WriterId};

use super::primary::{Closing, End, Primary};
use super::seal::{self, Reason};
use crate::chunk::AppendRecord;

impl Primary {
    /// Sends the close record, after everything taken has been acknowledged.
    pub(super) fn send_close(&mut self) -> Result<(), End> {
        let record = AppendRecord {
            chunk: self.chunk,
            epoch: self.epoch,
            offset: self.length,
            generation: self.generation,
            writer: WriterId(0),
            sequence: Sequence(0),
            payload_crc32c: 0,
            previous_chain: self.chain,
            chain: self.chain,
            committed: self.committed(),
            payload: bytes::Bytes::new(),
            close: true,
        };
        self.closing = Closing::Sent;
        self.send_everywhere(record, 0)
    }

    /// Tells the metadata the end of a chunk that is closed on every replica; when it will not take
    /// it, asks for a seal round. With a writer that goes on, and a chunk made ahead, the same entry
    /// activates that one.
    pub(super) async fn seal_planned(&mut self) -> Result<v1::CloseReply, WireError> {
        let request = v1::SealPlannedRequest {
            node: self.context.node.0,
            chunk: self.chunk.0,
            epoch: self.epoch.0,
            length: self.length,
            chain: self.chain.0,
            marks: self.writers.marks(self.base).iter().map(v1::WriterMark::from).collect(),
        };
        let metadata = &self.context.metadata;
        let spare = self.context.spares.after(self.chunk).filter(|_| self.goes_on);
        let closed = match spare {
            Some(next) => {
                let roll = v1::RollRequest { seal: Some(request), next: next.0 };
                metadata.roll(roll).await.map(|rolled| (rolled.sealed, rolled.next))
            }
            None => metadata.seal_planned(request).await.map(|sealed| (Some(sealed), None)),
        };
        match closed {
            Ok((chunk, next)) => Ok(v1::CloseReply { chunk, next }),
            Err(error) => {
                tracing::warn!(chunk = self.chunk.0, %error, "seal as planned");
                let sealed = seal::ask(metadata, self.chunk, self.epoch, Reason::Close, None).await?;
                let next = self.rolled_into(spare).await;
                Ok(v1::CloseReply { chunk: Some(sealed), next })
            }
        }
    }

    /// The spare, if a roll whose answer was lost has activated it.
    async fn rolled_into(&mut self, spare: Option<ChunkId>) -> Option<v1::Chunk> {
        let found = self.context.metadata.get_chunk(spare?).await.ok()?;
        (found.state() == v1::ChunkState::Open).then_some(found)
    }
}
