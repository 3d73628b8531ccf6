//! What goes to an under-store and what comes back.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use cairn_types::Timestamp;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::BodyFailed;

/// An object's bytes in order, in pieces of any size.
pub type Body = BoxStream<'static, Result<Bytes, BodyFailed>>;

/// An object to be written.
pub struct NewObject {
    /// Its size; a body of another size is refused.
    pub length: u64,
    /// CRC32C of all its bytes; a body with another one is refused.
    pub crc32c: u32,
    /// User metadata: lower-case ASCII names, ASCII values. A local directory does not keep it.
    pub metadata: BTreeMap<String, String>,
    /// Its bytes.
    pub body: Body,
}

impl fmt::Debug for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewObject")
            .field("length", &self.length)
            .field("crc32c", &self.crc32c)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// What became of a [`put_new`](super::UnderStore::put_new).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, durable, with this ETag (without quotes).
    Created {
        /// The new object's ETag.
        etag: String,
    },
    /// The key existed: compare before believing it is ours.
    Exists,
}

/// What a store knows of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// When it was last written, by the store's clock.
    pub mtime: Timestamp,
    /// CRC32C over the whole object as the store itself checked it on the way in; `None` when
    /// the store keeps none.
    pub crc32c: Option<u32>,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes.
    pub bytes: Bytes,
    /// ETag of the object they come from, without quotes.
    pub etag: String,
    /// The whole object's size.
    pub size: u64,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Keys that begin with it.
    pub prefix: String,
    /// Fold what lies behind the next `/` after the prefix into common prefixes.
    pub delimiter: bool,
    /// Only keys that come after it in the endpoint's order.
    pub start_after: Option<String>,
    /// Where the last page ended: [`ListPage::continuation`].
    pub continuation: Option<String>,
    /// Entries at most; 0 means [`LIST_PAGE_MAX`](super::LIST_PAGE_MAX).
    pub max: u16,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// When it was last written, by the store's clock.
    pub mtime: Timestamp,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects, in the endpoint's order.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, each with its final `/`.
    pub prefixes: Vec<String>,
    /// Where to go on; `None` on the last page.
    pub continuation: Option<String>,
}

/// What a store was found to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// A PUT with If-None-Match refuses an existing key.
    pub put_if_absent: bool,
    /// So does completing a multipart upload.
    pub complete_if_absent: bool,
    /// A GET with If-Match refuses another version.
    pub get_if_match: bool,
    /// A DELETE with If-Match refuses another version.
    pub delete_if_match: bool,
    /// It tells an object's CRC32C in a HEAD, and only one that it checked.
    pub crc32c: bool,
    /// Listings come in byte order of the keys.
    pub byte_order: bool,
}

impl Capabilities {
    /// True when no write replaces an object, however large: what packs need.
    #[must_use]
    pub fn never_overwrites(&self) -> bool {
        self.put_if_absent && self.complete_if_absent
    }
}

/// Cuts a [`Body`] into parts of one size, keeping count and checksum of what went by.
pub(super) struct PartReader {
    body: Body,
    // What has arrived and is not handed out yet.
    pending: BytesMut,
    length: u64,
    crc32c: u32,
}

impl PartReader {
    pub(super) fn new(body: Body) -> Self {
        Self { body, pending: BytesMut::new(), length: 0, crc32c: 0 }
    }

    /// The next `size` bytes, fewer at the end; `None` after it.
    pub(super) async fn next_part(&mut self, size: usize) -> Result<Option<Bytes>, BodyFailed> {
        while self.pending.len() < size {
            let Some(piece) = self.body.next().await else { break };
            self.pending.extend_from_slice(&piece?);
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        let part = self.pending.split_to(size.min(self.pending.len())).freeze();
        self.length += part.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &part);
        Ok(Some(part))
    }

    /// True when what went by has this length and checksum.
    pub(super) fn is_exactly(&self, length: u64, crc32c: u32) -> bool {
        self.length == length && self.crc32c == crc32c
    }
}
