//! [`Order`]: an object to be written, as the leader ordered it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_proto::v1;
use cairn_types::ClusterId;

use super::{INTENT, ObjectError, Terms};
use crate::understore::{Condition, SourceVersion};

/// An object to be written, checked.
#[derive(Clone, Debug)]
pub struct Order {
    pub(super) key: String,
    /// What must be there.
    pub(super) condition: Condition,
    pub(super) length: u64,
    pub(super) pieces: Vec<Piece>,
    /// With the intent.
    pub(super) metadata: BTreeMap<String, String>,
    /// What it is to look like.
    pub(super) like: Option<(String, String)>,
    /// What marks the object as this order's.
    pub(super) mark: String,
    pub(super) terms: Terms,
}

/// Bytes of the object.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Where its first byte is in the object.
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) source: Source,
}

/// Where a piece's bytes come from, and where its first one is there.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Chunk { range: Arc<v1::ChunkRange>, offset: u64 },
    Object { version: Arc<SourceVersion>, offset: u64 },
    Hole,
}

impl Order {
    /// The order that `work` of `cluster` is.
    ///
    /// # Errors
    /// [`ObjectError::Malformed`].
    pub fn new(cluster: ClusterId, work: &v1::PutObject) -> Result<Self, ObjectError> {
        let bucket = work.bucket.as_ref().ok_or(ObjectError::Malformed { field: "bucket" })?;
        let (mut pieces, mut at) = (Vec::with_capacity(work.pieces.len()), 0_u64);
        for piece in work.pieces.iter().filter(|piece| piece.length > 0) {
            pieces.push(Piece { at, length: piece.length, source: source(piece)? });
            at = at.checked_add(piece.length).ok_or(ObjectError::Malformed { field: "pieces" })?;
        }
        if at != work.length {
            return Err(ObjectError::Malformed { field: "length" });
        }
        let condition = match work.replaces.as_str() {
            "" => Condition::Absent,
            etag => Condition::Version(etag.to_owned()),
        };
        let like = match (text(&work.like_key, "like_key")?, &work.like_etag) {
            (key, _) if key.is_empty() => None,
            (_, etag) if etag.is_empty() => return Err(ObjectError::Malformed { field: "like_etag" }),
            (key, etag) => Some((key, etag.clone())),
        };
        let mark = format!("{cluster}-{}", work.intent);
        let mut metadata: BTreeMap<String, String> = work.metadata.clone().into_iter().collect();
        metadata.insert(INTENT.to_owned(), mark.clone());
        let (key, length, terms) = (key(&work.key)?, work.length, Terms::of(bucket));
        Ok(Self { key, condition, length, pieces, metadata, like, mark, terms })
    }

    /// True when the object is, byte for byte, one other object.
    pub(super) fn is_copy_of(&self) -> Option<&Arc<SourceVersion>> {
        match self.pieces.as_slice() {
            [Piece { source: Source::Object { version, offset: 0 }, length, .. }]
                if *length == version.size =>
            {
                Some(version)
            }
            _ => None,
        }
    }

    /// Bytes that come from elsewhere than the bucket.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        let elsewhere = self.pieces.iter().filter(|piece| !matches!(piece.source, Source::Object { .. }));
        elsewhere.map(|piece| piece.length).sum()
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

fn source(piece: &v1::ObjectPiece) -> Result<Source, ObjectError> {
    let malformed = |field| ObjectError::Malformed { field };
    let (offset, end) = (piece.offset, piece.offset.checked_add(piece.length));
    match &piece.source {
        Some(v1::object_piece::Source::Chunk(range)) => {
            // Of a chunk that is open yet, what a file names of it was acknowledged.
            let length = if range.sealed_length > 0 { range.sealed_length } else { range.known_committed };
            if end.is_none_or(|end| end > length) {
                return Err(malformed("pieces.chunk"));
            }
            Ok(Source::Chunk { range: Arc::new(range.clone()), offset })
        }
        Some(v1::object_piece::Source::Object(object)) => {
            if object.etag.is_empty() || end.is_none_or(|end| end > object.size) {
                return Err(malformed("pieces.object"));
            }
            let (key, etag) = (key(&object.key)?, object.etag.clone());
            Ok(Source::Object { version: Arc::new(SourceVersion { key, etag, size: object.size }), offset })
        }
        Some(v1::object_piece::Source::Hole(_)) => Ok(Source::Hole),
        None => Err(malformed("pieces.source")),
    }
}

/// A key as S3's client takes it.
pub(super) fn key(bytes: &[u8]) -> Result<String, ObjectError> {
    let key = text(bytes, "key")?;
    if key.is_empty() { Err(ObjectError::Malformed { field: "key" }) } else { Ok(key) }
}

fn text(bytes: &[u8], field: &'static str) -> Result<String, ObjectError> {
    std::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| ObjectError::Malformed { field })
}
