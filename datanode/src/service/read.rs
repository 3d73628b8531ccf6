//! Reads: bytes of chunks and objects in frames, each with its checksum; and records, for replicas
//! that are brought up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::{CHUNK_BYTES_MAX, READ_FRAME_BYTES_MAX};
use cairn_types::{ChunkId, FsError, NodeId};
use futures::{Stream, StreamExt};
use tokio::time::timeout;
use tonic::Status;

use super::data::{Replies, internal};
use crate::cache;
use crate::chunk::{AppendRecord, ChunkStore, ReadError, ReplicaPhase};
use crate::connection::DEADLINE;
use crate::node::{Node, Nodes};
use crate::replicate::{record, refusal};
use crate::slow::Begun;

/// How long a peer may take for a piece that can be had from S3 instead.
const PEER_OR_S3: Duration = Duration::from_millis(500);
/// Reads up to this size are done where the call is served; larger ones, which the page cache is
/// less likely to hold, on a thread that may block.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Frames of one read that are prepared at once: one is sent while the next is read.
const FRAMES_AHEAD: usize = 2;
/// Payload bytes of records read at once, and bytes of one frame of records, about.
const RECORDS_BYTES: usize = 128 << 10;
const RECORD_FRAME_BYTES: usize = 2 << 20;
/// What a record takes in a message besides its payload, at most.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// The frames of a read, in order.
pub(super) async fn frames(
    nodes: &Nodes,
    request: v1::ReadRequest,
) -> Result<Replies<v1::ReadFrame>, Status> {
    let end = request.offset.checked_add(request.length).ok_or_else(|| malformed("length"))?;
    match request.source.ok_or_else(|| malformed("source"))? {
        v1::read_request::Source::Chunk(range) => {
            if end > CHUNK_BYTES_MAX {
                return Err(malformed("length"));
            }
            let node = Arc::clone(nodes.reader(ChunkId(range.chunk)));
            Ok(Box::pin(chunk_frames(node, Arc::new(range), (request.offset, end), request.trace)))
        }
        v1::read_request::Source::Object(range) => {
            if end > range.size {
                return Err(malformed("length"));
            }
            // One disk keeps an object's blocks.
            let node = Arc::clone(nodes.keeper(u64::from(crc32c::crc32c(&range.key))));
            let range = Arc::new(range);
            let frames = pieces(request.offset, end).map(move |(offset, length)| {
                let (node, range) = (Arc::clone(&node), Arc::clone(&range));
                async move {
                    let begun = Begun::at(node.context.clock.boottime(), request.trace);
                    let bytes = node.cache.read_object(&range, offset, length).await;
                    let key = || String::from_utf8_lossy(&range.key).into_owned();
                    ended(&node, key, (offset, length), &begun);
                    Ok(frame(offset, bytes?))
                }
            });
            Ok(Box::pin(frames.buffered(FRAMES_AHEAD)))
        }
    }
}

fn chunk_frames(
    node: Arc<Node>,
    range: Arc<v1::ChunkRange>,
    (from, end): (u64, u64),
    trace: u64,
) -> impl Stream<Item = Result<v1::ReadFrame, Status>> + Send {
    pieces(from, end)
        .map(move |(offset, length)| {
            let (node, range) = (Arc::clone(&node), Arc::clone(&range));
            async move {
                let begun = Begun::at(node.context.clock.boottime(), trace);
                let bytes = chunk_piece(&node, &range, (offset, length), trace).await;
                ended(&node, || ChunkId(range.chunk).to_string(), (offset, length), &begun);
                Ok(frame(offset, bytes?))
            }
        })
        .buffered(FRAMES_AHEAD)
}

/// A piece of a read is there, or cannot be had.
fn ended(node: &Node, of: impl FnOnce() -> String, piece: (u64, usize), begun: &Begun) {
    node.context.slow.read(of, piece, begun, node.context.clock.boottime());
}

/// The offsets and lengths of a range's frames.
fn pieces(from: u64, end: u64) -> impl Stream<Item = (u64, usize)> + Send {
    let starts = (from..end).step_by(READ_FRAME_BYTES_MAX);
    futures::stream::iter(starts.map(move |at| (at, (end - at).min(READ_FRAME_BYTES_MAX as u64) as usize)))
}

fn frame(offset: u64, data: Bytes) -> v1::ReadFrame {
    let crc32c = crc32c::crc32c(&data);
    v1::ReadFrame { offset, data, crc32c }
}

/// A piece of a chunk: from here, else from another holder, else from S3. What is in S3 is not long
/// waited for elsewhere: the client's time is for S3 too.
pub(crate) async fn chunk_piece(
    node: &Node,
    range: &v1::ChunkRange,
    (offset, length): (u64, usize),
    trace: u64,
) -> Result<Bytes, WireError> {
    let chunk = ChunkId(range.chunk);
    let mut error = match here(node, range, offset, length).await? {
        Ok(bytes) => {
            metrics::counter!("cairn_data_read_bytes", "from" => "here").increment(length as u64);
            return Ok(bytes);
        }
        Err(error) => refusal::of_read(&error, chunk),
    };
    let patience = if range.place.is_some() { PEER_OR_S3 } else { DEADLINE };
    for replica in range.replicas.iter().filter(|replica| replica.node != node.id.0) {
        let now = node.context.clock.boottime();
        if range.place.is_some() && node.silent.is_silent(NodeId(replica.node), now) {
            continue;
        }
        let message = of_peer(range, (offset, length), trace);
        match from_peer(node, replica, message, patience).await {
            Ok(bytes) => {
                metrics::counter!("cairn_data_read_bytes", "from" => "peer").increment(length as u64);
                return Ok(bytes);
            }
            Err(refused) => {
                tracing::debug!(chunk = chunk.0, peer = replica.node, error = %refused, "read from a peer");
                // That a peer could not be asked is not for the caller to ask this node again.
                if !matches!(
                    refused,
                    WireError::Transport { .. } | WireError::Service(ServiceError::Deadline)
                ) {
                    error = refused;
                }
            }
        }
    }
    match &range.place {
        Some(place) => {
            let bytes = match node.cache.read_persisted(chunk, place, offset, length).await {
                Err(cache::ReadError::Lost { .. }) => moved(node, chunk, place, offset, length).await?,
                read => read?,
            };
            metrics::counter!("cairn_data_read_bytes", "from" => "s3").increment(length as u64);
            Ok(bytes)
        }
        None => Err(error),
    }
}

/// The piece of a chunk that a compaction has moved since the reader was told its place, which is gone.
async fn moved(
    node: &Node,
    chunk: ChunkId,
    told: &v1::PackPlace,
    offset: u64,
    length: usize,
) -> Result<Bytes, WireError> {
    let found = node.context.metadata.get_chunk(chunk).await?;
    let Some(place) = found.place.filter(|place| place != told) else {
        return Err(ServiceError::NoSuchChunk { chunk }.into());
    };
    metrics::counter!("cairn_data_reads_moved_total").increment(1);
    Ok(node.cache.read_persisted(chunk, &place, offset, length).await?)
}

/// The piece from this node's segments: below what is committed, heard or sealed (rule R9).
async fn here(
    node: &Node,
    range: &v1::ChunkRange,
    offset: u64,
    length: usize,
) -> Result<Result<Bytes, ReadError>, WireError> {
    let chunk = ChunkId(range.chunk);
    let known = range.known_committed.max(range.sealed_length);
    let known = known.max(node.primaries.committed(chunk).unwrap_or(0));
    if length <= INLINE_BYTES_MAX {
        return Ok(node.context.store.read(chunk, offset, length, known));
    }
    let store = node.context.store.clone();
    let read = tokio::task::spawn_blocking(move || store.read(chunk, offset, length, known));
    read.await.map_err(|_| ServiceError::Internal.into())
}

/// What a peer is asked: without peers and a place it answers from its own segments or not at all.
fn of_peer(range: &v1::ChunkRange, (offset, length): (u64, usize), trace: u64) -> v1::ReadRequest {
    let alone = v1::ChunkRange { replicas: Vec::new(), place: None, ..range.clone() };
    let source = Some(v1::read_request::Source::Chunk(alone));
    v1::ReadRequest { source, offset, length: length as u64, capability: Bytes::new(), trace }
}

async fn from_peer(
    node: &Node,
    replica: &v1::Replica,
    message: v1::ReadRequest,
    patience: Duration,
) -> Result<Bytes, WireError> {
    // The call's own deadline ends with its first answer; this one counts to the last frame.
    match timeout(patience, ask_peer(node, replica, message)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            node.silent.note(NodeId(replica.node), node.context.clock.boottime());
            Err(ServiceError::Deadline.into())
        }
    }
}

async fn ask_peer(node: &Node, replica: &v1::Replica, message: v1::ReadRequest) -> Result<Bytes, WireError> {
    let (offset, length) = (message.offset, usize::try_from(message.length).unwrap_or(usize::MAX));
    let mut frames = node.context.peers.read(&replica.address, message).await?;
    let mut bytes = BytesMut::with_capacity(length);
    while let Some(frame) = frames.next().await.transpose()? {
        if crc32c::crc32c(&frame.data) != frame.crc32c || frame.offset != offset + bytes.len() as u64 {
            return Err(ServiceError::ChecksumMismatch.into());
        }
        bytes.extend_from_slice(&frame.data);
    }
    if bytes.len() == length { Ok(bytes.freeze()) } else { Err(ServiceError::ChecksumMismatch.into()) }
}

/// The records of a chunk that does not grow any more, as stored.
pub(super) fn records(
    store: ChunkStore,
    request: v1::ReadRecordsRequest,
) -> Result<impl Stream<Item = Result<v1::RecordFrame, Status>> + Send, Status> {
    let chunk = ChunkId(request.chunk);
    let view = store.chunk(chunk).ok_or(ServiceError::NoSuchChunk { chunk })?;
    if view.phase == ReplicaPhase::Open {
        return Err(Status::from(WireError::Fs(FsError::ChunkState { chunk })));
    }
    let until = request.until.min(view.length);
    let pull = Pull { store, chunk, at: request.from, until, frames: VecDeque::new() };
    Ok(futures::stream::try_unfold(pull, Pull::next))
}

/// How far a stream of records has come.
struct Pull {
    store: ChunkStore,
    chunk: ChunkId,
    at: u64,
    until: u64,
    frames: VecDeque<v1::RecordFrame>,
}

impl Pull {
    async fn next(mut self) -> Result<Option<(v1::RecordFrame, Self)>, Status> {
        if self.frames.is_empty() && self.at < self.until {
            self.read().await?;
        }
        Ok(self.frames.pop_front().map(|frame| (frame, self)))
    }

    async fn read(&mut self) -> Result<(), Status> {
        let (store, chunk, at, until) = (self.store.clone(), self.chunk, self.at, self.until);
        let read = tokio::task::spawn_blocking(move || store.records(chunk, at, until, RECORDS_BYTES));
        let records = read.await.map_err(|error| internal("read records", error))?;
        let records = records.map_err(|error| Status::from(refusal::of_read(&error, chunk)))?;
        self.at = records.last().map_or(until, AppendRecord::end);
        let (mut frame, mut bytes) = (v1::RecordFrame::default(), 0);
        for record in &records {
            let size = record.payload.len() + RECORD_OVERHEAD_BYTES;
            if bytes + size > RECORD_FRAME_BYTES && !frame.records.is_empty() {
                self.frames.push_back(std::mem::take(&mut frame));
                bytes = 0;
            }
            bytes += size;
            frame.records.push(record::to_wire(record));
        }
        if !frame.records.is_empty() {
            self.frames.push_back(frame);
        }
        Ok(())
    }
}

fn malformed(field: &'static str) -> Status {
    ServiceError::Malformed { field: field.to_owned() }.into()
}
