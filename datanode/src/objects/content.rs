//! [`Content`]: the bytes of an object that is to be written.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use futures::{StreamExt, TryStreamExt};

use super::ObjectError;
use super::order::{Order, Piece, Source};
use crate::understore::{GET_BYTES_MAX, MountedStore, SourceVersion, UnderStoreError};
use crate::upload::ReadFailed;

/// Bytes of a chunk that are read at once.
const CHUNK_READ_BYTES: u64 = 1 << 20;
/// Reads at once: they may each be a GET.
const READS_AT_ONCE: usize = 4;

/// Where bytes of sealed chunks are read.
#[async_trait]
pub trait Chunks: Send + Sync + 'static {
    /// Exactly `length` bytes (1 MiB at most) at `offset` of a chunk, checked.
    ///
    /// # Errors
    /// [`ReadFailed`].
    async fn read(&self, range: &v1::ChunkRange, offset: u64, length: usize) -> Result<Bytes, ReadFailed>;
}

/// An object's bytes, read as they are wanted.
#[derive(Clone)]
pub(super) struct Content {
    order: Arc<Order>,
    store: Arc<dyn MountedStore>,
    chunks: Arc<dyn Chunks>,
}

impl Content {
    pub(super) fn new(order: Arc<Order>, store: Arc<dyn MountedStore>, chunks: Arc<dyn Chunks>) -> Self {
        Self { order, store, chunks }
    }

    /// The bytes of `range`.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let malformed = ObjectError::Malformed { field: "length" };
        let length = usize::try_from(range.end - range.start).map_err(|_| malformed)?;
        let pieces = within(&self.order.pieces, &range);
        let mut parts = futures::stream::iter(pieces)
            .map(|piece| async move { self.piece(&piece).await })
            .buffered(READS_AT_ONCE);
        let mut whole = BytesMut::with_capacity(length);
        while let Some(part) = parts.try_next().await? {
            match part {
                Read::Bytes(bytes) => whole.extend_from_slice(&bytes),
                Read::Zeros(count) => whole.resize(whole.len() + count, 0),
            }
        }
        Ok(whole.freeze())
    }

    /// The range, cut where its pieces are.
    pub(super) fn runs(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let cut = |piece: &Piece| piece.at.max(range.start)..(piece.at + piece.length).min(range.end);
        self.order.pieces.iter().map(cut).filter(|run| !run.is_empty()).collect()
    }

    async fn piece(&self, piece: &Piece) -> Result<Read, ObjectError> {
        match &piece.source {
            Source::Hole => Ok(Read::Zeros(piece.length as usize)),
            Source::Chunk { range, offset } => {
                let bytes = self.chunks.read(range, *offset, piece.length as usize).await?;
                Ok(Read::Bytes(bytes))
            }
            Source::Object { version, offset } => {
                self.object(version, *offset..offset + piece.length).await.map(Read::Bytes)
            }
        }
    }

    async fn object(&self, version: &SourceVersion, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let length = range.end - range.start;
        let changed = || ObjectError::SourceChanged { source_version: version.clone() };
        match self.store.get_range(&version.key, range, Some(&version.etag)).await {
            Ok(fetched) if fetched.size == version.size && fetched.bytes.len() as u64 == length => {
                Ok(fetched.bytes)
            }
            Ok(_) | Err(UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. }) => {
                Err(changed())
            }
            Err(error) => Err(error.into()),
        }
    }
}

enum Read {
    Bytes(Bytes),
    Zeros(usize),
}

/// What of the pieces lies in `range`, cut as it is read.
fn within(pieces: &[Piece], range: &Range<u64>) -> Vec<Piece> {
    let first = pieces.partition_point(|piece| piece.at + piece.length <= range.start);
    let mut cut = Vec::new();
    for piece in pieces[first..].iter().take_while(|piece| piece.at < range.end) {
        let (mut at, end) = (piece.at.max(range.start), (piece.at + piece.length).min(range.end));
        let most = match piece.source {
            Source::Chunk { .. } => CHUNK_READ_BYTES,
            Source::Object { .. } => GET_BYTES_MAX,
            Source::Hole => u64::MAX,
        };
        while at < end {
            let (length, skipped) = ((end - at).min(most), at - piece.at);
            let source = match &piece.source {
                Source::Chunk { range, offset } => {
                    Source::Chunk { range: Arc::clone(range), offset: offset + skipped }
                }
                Source::Object { version, offset } => {
                    Source::Object { version: Arc::clone(version), offset: offset + skipped }
                }
                Source::Hole => Source::Hole,
            };
            cut.push(Piece { at, length, source });
            at += length;
        }
    }
    cut
}
