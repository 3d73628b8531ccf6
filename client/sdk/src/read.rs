//! [`View`]: a file's extents at one point in time, and reading through them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_proto::v1::{
    self, ChunkRange, ExtentsRequest, ObjectRange, ReadRequest, TailLengthRequest, read_request,
};
use cairn_proto::{ServiceError, v1::StatusRequest};
use cairn_types::{ChunkId, Extent, ExtentSource, Inode};
use futures::{StreamExt, TryStreamExt, stream};

use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};

/// Bytes in one read request, at most.
const PIECE_BYTES: u64 = 4 << 20;
/// Read requests of one call under way at once, at most.
const PIECES_AT_ONCE: usize = 4;

/// What is known of a file: enough to read it without asking the metadata again.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) inode: Inode,
    pub(crate) policy: v1::Policy,
    extents: Vec<Extent>,
    chunks: HashMap<u64, v1::Chunk>,
    mounts: HashMap<u32, v1::Mount>,
    tail: Option<Tail>,
}

#[derive(Clone, Debug)]
struct Tail {
    chunk: ChunkId,
    base: u64,
    committed: u64,
}

/// A run of bytes from one place; `None` is a gap.
struct Piece {
    offset: u64,
    length: u64,
    source: Option<ExtentSource>,
}

impl View {
    /// Loads the extents of a whole file; a growing file's tail is asked for its length after.
    pub(crate) async fn load(client: &Client, target: &v1::Target, subject: &str) -> Result<Self> {
        loop {
            let mut view = Self::load_extents(client, target, subject).await?;
            match view.ask_tail(client).await {
                Ok(()) => return Ok(view),
                // Its primary is gone: the decided end is what counts.
                Err(chunk) => client.seal(chunk, "a reader could not reach its primary").await?,
            }
        }
    }

    async fn load_extents(client: &Client, target: &v1::Target, subject: &str) -> Result<Self> {
        let mut offset = 0;
        let mut view: Option<Self> = None;
        loop {
            let request = ExtentsRequest {
                group: 0,
                target: Some(target.clone()),
                offset,
                length: u64::MAX >> 1,
                consistency: 0,
            };
            let reply = client
                .ask_imported("open", subject, request, |mut meta, request| async move {
                    meta.extents(request).await
                })
                .await?;
            let bad = |field| Error::new("open", subject, Cause::MalformedAnswer(field));
            let inode = reply.inode.as_ref().ok_or_else(|| bad("inode"))?;
            let inode = Inode::try_from(inode).map_err(|e| Error::new("open", subject, e))?;
            let extents =
                reply.extents.iter().map(Extent::try_from).collect::<std::result::Result<Vec<_>, _>>();
            let extents = extents.map_err(|e| Error::new("open", subject, e))?;
            let end = extents.last().map(Extent::end);
            // Pages of two versions do not belong together: start again.
            let same = view.as_ref().is_none_or(|v| v.inode.version == inode.version);
            if !same {
                (view, offset) = (None, 0);
                continue;
            }
            let view_now = view.get_or_insert_with(|| Self {
                inode,
                policy: reply.policy.unwrap_or_default(),
                extents: Vec::new(),
                chunks: HashMap::new(),
                mounts: HashMap::new(),
                tail: None,
            });
            view_now.extents.extend(extents);
            view_now.chunks.extend(reply.chunks.into_iter().map(|c| (c.chunk, c)));
            view_now.mounts.extend(reply.mounts.into_iter().map(|m| (m.mount, m)));
            match end {
                Some(end) if reply.more => offset = end,
                _ => return view.ok_or_else(|| bad("inode")),
            }
        }
    }

    /// Asks the open tail's primary for the committed length.
    async fn ask_tail(&mut self, client: &Client) -> std::result::Result<(), ChunkId> {
        let Some(tail) = self.inode.tail else { return Ok(()) };
        let chunk = self.chunks.get(&tail.chunk.0).ok_or(tail.chunk)?;
        let primary = chunk.replicas.iter().find(|r| r.node == chunk.primary).ok_or(tail.chunk)?;
        let limit = client.reach().options.append_deadline;
        let asked = async {
            let request = TailLengthRequest { chunk: tail.chunk.0, epoch: chunk.epoch };
            let request = client.reach().connections.request(request, limit);
            let reply = client.reach().connections.data(&primary.address)?.tail_length(request).await?;
            Ok::<_, Cause>(reply.into_inner().committed)
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(committed)) => {
                self.tail = Some(Tail { chunk: tail.chunk, base: tail.base, committed });
                Ok(())
            }
            _ => Err(tail.chunk),
        }
    }

    /// The file's length in this view.
    pub(crate) fn length(&self) -> u64 {
        self.tail.as_ref().map_or(self.inode.size, |t| self.inode.size.max(t.base + t.committed))
    }

    /// Reads up to `length` bytes from `offset`; fewer only at the end of the file.
    pub(crate) async fn read(&self, client: &Client, offset: u64, length: u64) -> Result<Bytes> {
        let length = length.min(self.length().saturating_sub(offset));
        let pieces = self.pieces(offset, length);
        if let [piece] = pieces.as_slice() {
            return self.read_piece(client, piece).await;
        }
        let mut out = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        // Not a closure over `iter()`: its lifetime would keep callers from spawning a read.
        let mut reads = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            reads.push(self.read_piece(client, piece));
        }
        let mut parts = stream::iter(reads).buffered(PIECES_AT_ONCE);
        while let Some(part) = parts.try_next().await? {
            out.extend_from_slice(&part);
        }
        Ok(out.freeze())
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

    async fn read_piece(&self, client: &Client, piece: &Piece) -> Result<Bytes> {
        let Some(source) = &piece.source else {
            return Ok(Bytes::from(vec![0; usize::try_from(piece.length).unwrap_or(0)]));
        };
        let (source, offset, mut nodes) = self.place(client, source).await?;
        let mut last = Cause::Service(ServiceError::UnderStore);
        let mut asked_all = false;
        loop {
            for address in &nodes {
                let request = ReadRequest {
                    source: Some(source.clone()),
                    offset,
                    length: piece.length,
                    capability: Bytes::new(),
                };
                let limit = client.reach().options.rpc_deadline;
                match tokio::time::timeout(limit, read_from(client, address, request, piece.length)).await {
                    Ok(Ok(bytes)) => return Ok(bytes),
                    Ok(Err(cause)) => last = cause,
                    Err(_) => last = ServiceError::Deadline.into(),
                }
                tracing::debug!(address, cause = %last, "read failed, asking the next node");
            }
            if asked_all {
                break;
            }
            asked_all = true;
            let tried = nodes;
            nodes = client.alive_nodes(true).await?.into_iter().filter(|a| !tried.contains(a)).collect();
        }
        let error = Error::new("read", format!("bytes {}+{}", piece.offset, piece.length), last);
        let kind = error.kind();
        Err(if matches!(kind, ErrorKind::Unknown | ErrorKind::RetryElsewhere) {
            error.with_kind(ErrorKind::Unavailable)
        } else {
            error
        })
    }

    /// What to ask for, from which offset, and whom, best first.
    async fn place(
        &self,
        client: &Client,
        source: &ExtentSource,
    ) -> Result<(read_request::Source, u64, Vec<String>)> {
        match source {
            ExtentSource::Chunk { chunk, offset } => {
                let known = self.chunks.get(&chunk.0);
                let bad = || Error::new("read", chunk, Cause::MalformedAnswer("extents.chunks"));
                let known = known.ok_or_else(bad)?;
                let open = known.state == v1::ChunkState::Open as i32;
                let committed = self.tail.as_ref().filter(|t| t.chunk == *chunk).map_or(0, |t| t.committed);
                let mut nodes: Vec<(u64, String)> = known
                    .replicas
                    .iter()
                    .filter(|r| !r.address.is_empty())
                    .map(|r| {
                        (
                            if open && r.node == known.primary { 0 } else { rendezvous(chunk.0, r.node) },
                            r.address.clone(),
                        )
                    })
                    .collect();
                nodes.sort();
                let range = ChunkRange {
                    chunk: chunk.0,
                    known_committed: committed,
                    place: known.place.clone(),
                    sealed_length: known.length,
                    replicas: known.replicas.clone(),
                };
                Ok((read_request::Source::Chunk(range), *offset, nodes.into_iter().map(|n| n.1).collect()))
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
                    size: self.inode.size,
                };
                let mut nodes = client.alive_nodes(false).await?;
                let seed = u64::from(crc32c::crc32c(&object.key));
                nodes.sort_by_key(|address| rendezvous(seed, u64::from(crc32c::crc32c(address.as_bytes()))));
                Ok((read_request::Source::Object(range), *offset, nodes))
            }
        }
    }
}

async fn read_from(
    client: &Client,
    address: &str,
    request: ReadRequest,
    length: u64,
) -> std::result::Result<Bytes, Cause> {
    let from = request.offset;
    let request = client.reach().connections.request(request, client.reach().options.rpc_deadline);
    let mut frames = client.reach().connections.data(address)?.read(request).await?.into_inner();
    let mut out = BytesMut::new();
    while let Some(frame) = frames.message().await? {
        if crc32c::crc32c(&frame.data) != frame.crc32c {
            return Err(ServiceError::ChecksumMismatch.into());
        }
        if frame.offset != from + out.len() as u64 {
            return Err(Cause::MalformedAnswer("frame.offset"));
        }
        if out.is_empty() && frame.data.len() as u64 == length {
            return Ok(frame.data);
        }
        out.extend_from_slice(&frame.data);
        if out.len() as u64 > length {
            return Err(Cause::MalformedAnswer("frame.data"));
        }
    }
    if out.len() as u64 == length { Ok(out.freeze()) } else { Err(Cause::MalformedAnswer("read.length")) }
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

/// The addresses of the data nodes that are alive.
pub(crate) async fn alive_nodes(client: &Client) -> Result<Vec<String>> {
    let status = client
        .reach()
        .leader
        .call_within(
            Duration::from_secs(5),
            "find data nodes",
            "",
            StatusRequest {},
            |mut meta, request| async move { meta.status(request).await },
        )
        .await?;
    Ok(status.nodes.into_iter().filter(|n| n.alive).map(|n| n.address).collect())
}
