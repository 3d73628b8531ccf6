//! [`View`]: a file's extents at one point in time, and reading through them.

mod growing;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_proto::ServiceError;
use cairn_proto::v1::{self, ChunkRange, ExtentsRequest, ObjectRange, TailLengthRequest, read_request};
use cairn_types::{ChunkId, Extent, ExtentSource, Inode, LogIndex, MountId, ObjectKey, TailRef};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tonic::Code;

use crate::answer::{extents_of, inode_of};
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::fetch::{FIRST_FROM_DISK, FIRST_FROM_S3, Parts, Place, fetch};
use crate::freshness::Freshness;
use crate::trace::{self, TraceId};
use crate::wire_stream;

/// Bytes in one read request, at most.
const PIECE_BYTES: u64 = 4 << 20;
/// Read requests of one call under way at once, at most.
const PIECES_AT_ONCE: usize = 4;

/// What is known of a file: enough to read it without asking the metadata again.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) inode: Inode,
    pub(crate) policy: v1::Policy,
    /// The last entry that the state had applied in which it was so.
    pub(crate) seen_at: LogIndex,
    extents: Vec<Extent>,
    chunks: HashMap<u64, v1::Chunk>,
    mounts: HashMap<u32, v1::Mount>,
    /// The sizes of objects that are not the file's.
    sizes: HashMap<ObjectKey, u64>,
    tail: Option<Tail>,
}

#[derive(Clone, Debug)]
struct Tail {
    chunk: ChunkId,
    base: u64,
    committed: u64,
}

/// A run of bytes from one place; `None` is a gap.
#[derive(PartialEq)]
struct Piece {
    offset: u64,
    length: u64,
    source: Option<ExtentSource>,
}

impl View {
    /// Loads the extents of a whole file; a growing file's tail is asked for its length after.
    ///
    /// A tail whose primary is not reached, or is silent twice, the second time for the deadline
    /// of an RPC, is sealed: its decided end is what counts then. A primary that is only busy
    /// keeps its tail.
    pub(crate) async fn load(client: &Client, target: &v1::Target, subject: &str) -> Result<Self> {
        Self::load_from(client, target, subject, 0).await
    }

    /// As [`load`](Self::load), of what lies from `from` on: nothing before it can be read.
    pub(crate) async fn load_from(
        client: &Client,
        target: &v1::Target,
        subject: &str,
        from: u64,
    ) -> Result<Self> {
        let options = &client.reach().options;
        let until = Instant::now() + options.retry_budget;
        let mut silent: Option<ChunkId> = None;
        loop {
            let mut view = Self::load_extents(client, target, subject, from).await?;
            let Some(TailRef { chunk, base }) = view.inode.tail else { return Ok(view) };
            let asked_before = silent == Some(chunk);
            let limit = if asked_before { options.rpc_deadline } else { options.append_deadline };
            // Only a file that grows needs room for it.
            let cause = match Box::pin(view.ask_tail(client, chunk, limit)).await {
                Ok(committed) => {
                    view.tail = Some(Tail { chunk, base, committed });
                    return Ok(view);
                }
                Err(cause) => cause,
            };
            if Instant::now() >= until {
                let (seconds, last) = (options.retry_budget.as_secs(), cause.to_string());
                return Err(Error::new("open", subject, Cause::RetriesUsedUp { seconds, last }));
            }
            if !asked_before && is_silence(&cause) {
                silent = Some(chunk);
            } else {
                silent = None;
                Box::pin(client.seal(chunk, "a reader could not reach its primary")).await?;
            }
        }
    }

    /// As [`load`](Self::load), without asking for the length of a growing file.
    pub(crate) async fn load_recorded(client: &Client, target: &v1::Target, subject: &str) -> Result<Self> {
        Self::load_extents(client, target, subject, 0).await
    }

    async fn load_extents(client: &Client, target: &v1::Target, subject: &str, from: u64) -> Result<Self> {
        let mut offset = from;
        let mut view: Option<Self> = None;
        loop {
            let request = |session| ExtentsRequest {
                group: 0,
                target: Some(target.clone()),
                offset,
                length: u64::MAX >> 1,
                consistency: Freshness::Newest.wire(&client.reach().options).0,
                session,
            };
            let reply = client
                .ask_imported("open", subject, (Freshness::Newest, request), |mut meta, request| async move {
                    meta.extents(request).await
                })
                .await?;
            let inode = inode_of("open", subject, reply.inode.as_ref())?;
            let extents = extents_of("open", subject, &reply.extents)?;
            let end = extents.last().map(Extent::end);
            // Pages of two versions do not belong together: start again.
            let same = view.as_ref().is_none_or(|v| v.inode.version == inode.version);
            if !same {
                (view, offset) = (None, from);
                continue;
            }
            let view_now = view.get_or_insert_with(|| Self {
                inode,
                policy: reply.policy.unwrap_or_default(),
                seen_at: LogIndex(reply.log_index),
                extents: Vec::new(),
                chunks: HashMap::new(),
                mounts: HashMap::new(),
                sizes: HashMap::new(),
                tail: None,
            });
            view_now.sizes.extend(sizes(&reply.extents));
            view_now.extents.extend(extents);
            view_now.chunks.extend(reply.chunks.into_iter().map(|c| (c.chunk, c)));
            view_now.mounts.extend(reply.mounts.into_iter().map(|m| (m.mount, m)));
            match end {
                Some(end) if reply.more => offset = end,
                _ => return view.ok_or_else(|| Error::new("open", subject, Cause::MalformedAnswer("inode"))),
            }
        }
    }

    /// Asks the open tail's primary for the committed length.
    async fn ask_tail(
        &self,
        client: &Client,
        tail: ChunkId,
        limit: Duration,
    ) -> std::result::Result<u64, Cause> {
        let (chunk, primary) = self.primary_of(tail)?;
        let connections = &client.reach().connections;
        let asked = async {
            let request = TailLengthRequest { chunk: tail.0, epoch: chunk.epoch };
            wire_stream::tail_length(connections, &primary.address, request, limit).await
        };
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(ServiceError::Deadline.into()))
    }

    fn primary_of(&self, chunk: ChunkId) -> std::result::Result<(&v1::Chunk, &v1::Replica), Cause> {
        let unknown = || Cause::MalformedAnswer("extents.chunks");
        let chunk = self.chunks.get(&chunk.0).ok_or_else(unknown)?;
        let primary = chunk.replicas.iter().find(|r| r.node == chunk.primary).ok_or_else(unknown)?;
        Ok((chunk, primary))
    }

    /// The file's length in this view.
    pub(crate) fn length(&self) -> u64 {
        self.tail.as_ref().map_or(self.inode.size, |t| self.inode.size.max(t.base + t.committed))
    }

    /// Reads up to `length` bytes from `offset`; fewer only at the end of the file.
    pub(crate) async fn read(&self, client: &Client, offset: u64, length: u64) -> Result<Bytes> {
        let length = length.min(self.length().saturating_sub(offset));
        let pieces = self.pieces(offset, length);
        // Not a closure over `iter()`: its lifetime would keep callers from spawning a read.
        let mut reads = Vec::with_capacity(pieces.len());
        // Of one read, so that all its pieces are found under one id.
        let trace = trace::current();
        for piece in &pieces {
            reads.push(self.read_piece(client, piece, trace));
        }
        let mut parts: Parts = Vec::new();
        let mut came = stream::iter(reads).buffered(PIECES_AT_ONCE);
        while let Some(more) = came.try_next().await? {
            parts.extend(more);
        }
        if parts.len() <= 1 {
            return Ok(parts.pop().unwrap_or_default());
        }
        let mut out = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        for part in parts {
            out.extend_from_slice(&part);
        }
        Ok(out.freeze())
    }

    /// True when `other` has the bytes of a range elsewhere, or has other bytes.
    pub(crate) fn differs_from(&self, other: &Self, offset: u64, length: u64) -> bool {
        let within = |view: &Self| view.pieces(offset, length.min(view.length().saturating_sub(offset)));
        within(self) != within(other)
    }

    /// True when `other` has the same bytes, if perhaps elsewhere. Of a mounted file it may be false of the same
    /// bytes, and is never true of others: an object that somebody else replaced within the precision of its
    /// time has another ETag at the same key.
    pub(crate) fn holds_what(&self, other: &Self) -> bool {
        let same = |view: &Self| (view.inode.ino, view.length(), view.inode.mtime);
        let replaced =
            |ours: &ObjectKey, theirs: &ObjectKey| ours.key == theirs.key && ours.etag != theirs.etag;
        let of_objects_alone = other.chunk_bytes() == 0;
        let other_version =
            || self.objects().any(|ours| other.objects().any(|theirs| replaced(ours, theirs)));
        same(self) == same(other) && !(of_objects_alone && other_version())
    }

    /// The objects that extents name.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.extents.iter().filter_map(|extent| match &extent.source {
            ExtentSource::Object { object, .. } => Some(object),
            ExtentSource::Chunk { .. } => None,
        })
    }

    /// Bytes in chunks, as far as extents name them.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        let chunks = self.extents.iter().filter(|e| matches!(e.source, ExtentSource::Chunk { .. }));
        chunks.map(|extent| extent.length).sum()
    }

    fn pieces(&self, offset: u64, length: u64) -> Vec<Piece> {
        let end = offset + length;
        let mut pieces = Vec::new();
        let mut at = offset;
        let tail = self.tail.as_ref().map(|t| Extent {
            file_offset: t.base,
            length: t.committed,
            source: ExtentSource::Chunk { chunk: t.chunk, offset: 0 },
        });
        let first = self.extents.partition_point(|e| e.end() <= offset);
        for extent in self.extents[first..].iter().chain(tail.as_ref().filter(|t| t.length > 0)) {
            if extent.file_offset >= end || extent.end() <= at {
                continue;
            }
            if extent.file_offset > at {
                push_pieces(&mut pieces, at, extent.file_offset - at, None);
                at = extent.file_offset;
            }
            let until = extent.end().min(end);
            push_pieces(&mut pieces, at, until - at, Some(shifted(&extent.source, at - extent.file_offset)));
            at = until;
        }
        if at < end {
            push_pieces(&mut pieces, at, end - at, None);
        }
        pieces
    }

    async fn read_piece(&self, client: &Client, piece: &Piece, trace: TraceId) -> Result<Parts> {
        let Some(source) = &piece.source else {
            return Ok(vec![Bytes::from(vec![0; usize::try_from(piece.length).unwrap_or(0)])]);
        };
        let place = self.place(client, source, piece.length).await?;
        fetch(client, place, (piece.offset, piece.length), trace).await
    }

    /// What to ask for, from which offset, and whom, best first.
    async fn place(&self, client: &Client, source: &ExtentSource, length: u64) -> Result<Place> {
        match source {
            ExtentSource::Chunk { chunk, offset } => {
                let known = self.chunks.get(&chunk.0);
                let bad = || Error::new("read", chunk, Cause::MalformedAnswer("extents.chunks"));
                let known = known.ok_or_else(bad)?;
                let open = known.state == v1::ChunkState::Open as i32;
                let committed = self.tail.as_ref().filter(|t| t.chunk == *chunk).map_or(0, |t| t.committed);
                // A holder on this machine; of an open chunk its primary, who knows its length; else another
                // for each chunk, so that they share the work.
                let connections = &client.reach().connections;
                let rank = |r: &v1::Replica| {
                    if open && r.node == known.primary { 0 } else { rendezvous(chunk.0, r.node) }
                };
                let holders = known.replicas.iter().filter(|r| !r.address.is_empty());
                let mut nodes: Vec<(bool, u64, String)> = holders
                    .map(|r| (!connections.is_local(&r.address), rank(r), r.address.clone()))
                    .collect();
                if nodes.is_empty() && known.place.is_some() {
                    // It is in S3 alone. One node reads it there, and keeps it for the next reader.
                    let seed = |address: &str| u64::from(crc32c::crc32c(address.as_bytes()));
                    let alive = client.alive_nodes(false).await?.into_iter();
                    nodes = alive.map(|at| (true, rendezvous(chunk.0, seed(&at)), at)).collect();
                }
                nodes.sort();
                // What an extent names was acknowledged: a secondary may not have heard so yet.
                let range = ChunkRange {
                    chunk: chunk.0,
                    known_committed: committed.max(offset + length),
                    place: known.place.clone(),
                    sealed_length: known.length,
                    replicas: known.replicas.clone(),
                };
                Ok(Place {
                    source: read_request::Source::Chunk(range),
                    offset: *offset,
                    nodes: nodes.into_iter().map(|n| n.2).collect(),
                    first: if known.place.is_some() { FIRST_FROM_S3 } else { FIRST_FROM_DISK },
                })
            }
            ExtentSource::Object { object, offset } => {
                let mount = self.mounts.get(&object.mount.0);
                let mount = mount
                    .ok_or_else(|| Error::new("read", object.mount, Cause::MalformedAnswer("mounts")))?;
                let range = ObjectRange {
                    mount: object.mount.0,
                    bucket: mount.bucket.clone(),
                    endpoint: mount.endpoint.clone(),
                    region: mount.region.clone(),
                    force_path_style: mount.force_path_style,
                    key: object.key.clone().into(),
                    etag: object.etag.clone(),
                    size: self.sizes.get(object).copied().unwrap_or(self.inode.size),
                    access: mount.access.clone(),
                };
                let mut nodes = client.alive_nodes(false).await?;
                let seed = u64::from(crc32c::crc32c(&object.key));
                nodes.sort_by_key(|address| rendezvous(seed, u64::from(crc32c::crc32c(address.as_bytes()))));
                let source = read_request::Source::Object(range);
                Ok(Place { source, offset: *offset, nodes, first: FIRST_FROM_S3 })
            }
        }
    }
}

/// The sizes of objects, where they are told.
fn sizes(extents: &[v1::Extent]) -> impl Iterator<Item = (ObjectKey, u64)> {
    extents.iter().filter_map(|extent| match &extent.source {
        Some(v1::extent::Source::Object(object)) if object.size > 0 => {
            let (mount, key, etag) = (MountId(object.mount), object.key.to_vec(), object.etag.clone());
            Some((ObjectKey { mount, key, etag }, object.size))
        }
        _ => None,
    })
}

/// True when the primary may be there and did not say.
fn is_silence(cause: &Cause) -> bool {
    match cause {
        Cause::Service(e) => matches!(e, ServiceError::Deadline | ServiceError::Overloaded),
        // How the transport says that the time it was given is over.
        Cause::Transport { code, .. } => matches!(code, Code::Cancelled | Code::DeadlineExceeded),
        _ => false,
    }
}

fn push_pieces(pieces: &mut Vec<Piece>, mut offset: u64, mut length: u64, source: Option<ExtentSource>) {
    let start = offset;
    while length > 0 {
        let now = length.min(PIECE_BYTES);
        let source = source.as_ref().map(|s| shifted(s, offset - start));
        pieces.push(Piece { offset, length: now, source });
        offset += now;
        length -= now;
    }
}

fn shifted(source: &ExtentSource, by: u64) -> ExtentSource {
    match source {
        ExtentSource::Chunk { chunk, offset } => ExtentSource::Chunk { chunk: *chunk, offset: offset + by },
        ExtentSource::Object { object, offset } => {
            ExtentSource::Object { object: object.clone(), offset: offset + by }
        }
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1998): the same order of nodes for every
/// client, another for every key. Never 0.
fn rendezvous(key: u64, node: u64) -> u64 {
    let mut x = key ^ node.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) | 1
}
