//! Records and chunk specifications to and from the wire. What comes in is checked.

use bytes::Bytes;
use cairn_proto::{BadMessage, v1};
use cairn_types::limits::{APPEND_BYTES_MAX, CHUNK_BYTES_MAX, WRITERS_PER_FILE_MAX};
use cairn_types::{Ack, Chain, ChunkId, Epoch, Generation, Incarnation, Sequence, WriterId, WriterMark};
use prost::Message;

use crate::chunk::{AppendRecord, ChunkSpec};

/// A record as the wire has it.
#[must_use]
pub fn to_wire(record: &AppendRecord) -> v1::ReplicaRecord {
    v1::ReplicaRecord {
        chunk: record.chunk.0,
        epoch: record.epoch.0,
        offset: record.offset,
        generation: record.generation.0,
        writer: record.writer.0,
        sequence: record.sequence.0,
        payload_crc32c: record.payload_crc32c,
        previous_chain: record.previous_chain.0,
        chain: record.chain.0,
        committed: record.committed,
        payload: record.payload.clone(),
        close: record.close,
    }
}

/// A record from the wire: its sizes are checked here, its content by the store.
///
/// # Errors
/// [`BadMessage`] naming the field.
pub fn from_wire(record: v1::ReplicaRecord) -> Result<AppendRecord, BadMessage> {
    let length = record.payload.len();
    if record.close != (length == 0) || length > APPEND_BYTES_MAX {
        return Err(BadMessage("payload"));
    }
    if record.offset > CHUNK_BYTES_MAX - length as u64 {
        return Err(BadMessage("offset"));
    }
    Ok(AppendRecord {
        chunk: ChunkId(record.chunk),
        epoch: Epoch(record.epoch),
        offset: record.offset,
        generation: Generation(record.generation),
        writer: WriterId(record.writer),
        sequence: Sequence(record.sequence),
        payload_crc32c: record.payload_crc32c,
        previous_chain: Chain(record.previous_chain),
        chain: Chain(record.chain),
        committed: record.committed,
        payload: record.payload,
        close: record.close,
    })
}

/// The epoch in which every chunk is opened; a seal round raises it.
pub const OPENED: Epoch = Epoch(1);

/// The replica that `chunk` describes, opened when this node was `incarnation`.
///
/// # Errors
/// [`BadMessage`] naming the field that is missing or out of its range.
pub fn spec(chunk: &v1::Chunk, incarnation: Incarnation) -> Result<ChunkSpec, BadMessage> {
    let policy = chunk.policy.as_ref().ok_or(BadMessage("chunk.policy"))?;
    if chunk.chunk == 0 {
        return Err(BadMessage("chunk.chunk"));
    }
    if chunk.marks.len() > WRITERS_PER_FILE_MAX {
        return Err(BadMessage("chunk.marks"));
    }
    // A sealed chunk's marks are those at its end: a copy begins without any.
    let began = if chunk.state() == v1::ChunkState::Sealed { &[][..] } else { &chunk.marks };
    Ok(ChunkSpec {
        chunk: ChunkId(chunk.chunk),
        epoch: OPENED,
        ack: if policy.ack_memory { Ack::Memory } else { Ack::Fsync },
        opened_incarnation: incarnation,
        base: chunk.activation.as_ref().map_or(0, |activation| activation.base),
        marks: began.iter().map(WriterMark::from).collect(),
        record: Bytes::from(chunk.encode_to_vec()),
    })
}
