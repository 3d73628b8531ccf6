//! `pictures`: intent → [`PictureRow`]: what a PutObject writes, as it was when the intent was made; and
//! `keeps`: ino → [`KeepRow`]: bytes of it that the file does not name any more, alive until the intent ends; and
//! (content, 0): a content of such bytes.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use cairn_types::{InodeId, IntentId};

use super::Record;
use super::contents::ContentId;
use crate::store::Table;

/// The content of an object that is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PictureRow {
    /// All bytes, in order. Object pieces are of the same mount.
    pub pieces: Vec<Piece>,
    /// User metadata: mode, owner and times in the names of other tools.
    pub metadata: BTreeMap<String, String>,
    /// The object whose user metadata, content type and tags are taken over: its key and ETag.
    pub like: Option<(Vec<u8>, String)>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Piece {
    /// The first byte's offset in the source.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Where they are.
    pub source: PieceSource,
}

/// Where a piece's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PieceSource {
    /// In a chunk.
    Chunk(cairn_types::ChunkId),
    /// In an object of the same bucket.
    Object {
        /// Its key.
        key: Vec<u8>,
        /// Its version.
        etag: String,
        /// Its size.
        size: u64,
    },
    /// Zeros.
    Hole,
}

/// What is kept of a file for the intent that writes it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeepRow {
    /// The intent.
    pub intent: IntentId,
    /// The content that ranges went to which the file does not name any more, one after the other.
    pub content: Option<ContentId>,
    /// The offset at which the next one is put there.
    pub next: u64,
    /// The contents that are kept: that one, and those that were cut off meanwhile. All are detached.
    pub contents: Vec<ContentId>,
    /// So many ranges of the file are an object's that bytes may only be added until the intent ends.
    pub frozen: bool,
}

impl Record for PictureRow {
    const TABLE: Table = Table::Pictures;
}

impl Record for KeepRow {
    const TABLE: Table = Table::Keeps;
}

/// The key in `pictures`.
#[must_use]
pub fn key(intent: IntentId) -> Vec<u8> {
    intent.0.to_be_bytes().to_vec()
}

/// The key in `keeps`.
#[must_use]
pub fn keep_key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}

/// The key in `keeps` that says of a detached content that it is kept.
#[must_use]
pub fn kept_key(content: ContentId) -> Vec<u8> {
    [content.0.to_be_bytes().as_slice(), &[0]].concat()
}
