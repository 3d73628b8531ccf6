//! [`Fact`]: one fact of the namespace, as a line of a dump has it. docs/DUMP.md describes each.

use bincode::{Decode, Encode};
use cairn_types::{
    ChunkId, DeviceNumber, ExtentSource, FileKind, Generation, Inode, InodeId, IntentId, MountId, ObjectKey,
    PackId, Policy, TailRef, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::chunk::ChunkFact;
use super::json::{content, maybe_text, octal, text};
use crate::keys::contents::ContentId;

/// One fact of the namespace. The log carries those of a load, so that new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case", deny_unknown_fields)]
#[allow(clippy::large_enum_variant, reason = "nearly every fact is a name or an extent")]
pub enum Fact {
    /// An object of the cluster's own bucket. What its chunks come to follows from them.
    Pack {
        /// Its id.
        pack: PackId,
        /// Its key under the prefix that the data nodes are configured with.
        key: String,
        /// The ETag it was given.
        etag: String,
        /// Its length.
        bytes: u64,
        /// When it was recorded.
        created_ns: Timestamp,
        /// The unfinished intent that deletes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deletion: Option<IntentId>,
    },
    /// Unfinished work: an object that must be deleted. Its pack may never have been recorded.
    PackDeletion {
        /// The intent.
        intent: IntentId,
        /// The pack.
        pack: PackId,
        /// Its key.
        key: String,
        /// When the intent was made.
        created_ns: Timestamp,
    },
    /// A chunk.
    Chunk(ChunkFact),
    /// A mount.
    Mount {
        /// Its id.
        mount: MountId,
        /// Its root directory.
        root: InodeId,
        /// The bucket.
        bucket: String,
        /// What every key starts with.
        prefix: String,
        /// The endpoint's URL; empty for AWS.
        endpoint: String,
        /// The region.
        region: String,
        /// Age above which a directory is read again.
        refresh_ms: u64,
        /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
        force_path_style: bool,
        /// When it was made.
        created_ns: Timestamp,
    },
    /// A name, and the inode that has it: its first name.
    Name {
        /// The directory; 0 for the root's own.
        parent: InodeId,
        /// The name; empty for the root's.
        #[serde(with = "text")]
        name: Vec<u8>,
        /// The inode.
        #[serde(with = "InodeJson")]
        inode: Inode,
    },
    /// A further hard link.
    Link {
        /// The directory.
        parent: InodeId,
        /// The name.
        #[serde(with = "text")]
        name: Vec<u8>,
        /// The inode that it leads to.
        ino: InodeId,
        /// What that is.
        #[serde(with = "KindJson")]
        kind: FileKind,
    },
    /// An extended attribute.
    Xattr {
        /// Of which inode.
        ino: InodeId,
        /// Its name.
        #[serde(with = "text")]
        name: Vec<u8>,
        /// Its value.
        #[serde(with = "text")]
        value: Vec<u8>,
    },
    /// A directory of a mount, as far as it was read from its bucket.
    Import {
        /// The directory.
        directory: InodeId,
        /// The mount.
        mount: MountId,
        /// What the keys of its names start with.
        #[serde(with = "text")]
        prefix: Vec<u8>,
        /// When it was last read to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        imported_ns: Option<Timestamp>,
    },
    /// An object of a mounted bucket, as it was last seen, and the file that stands for it.
    Object {
        /// The mount.
        mount: MountId,
        /// The whole key.
        #[serde(with = "text")]
        key: Vec<u8>,
        /// The file.
        ino: InodeId,
        /// The ETag.
        etag: String,
        /// The size in bytes.
        size: u64,
    },
    /// Where the extents of a file lie that was cut.
    Parts {
        /// The file.
        ino: InodeId,
        /// In order; the first begins at 0.
        parts: Vec<PartFact>,
    },
    /// Unfinished work: extents that no file names any more.
    Detached {
        /// Their content.
        #[serde(with = "content")]
        content: ContentId,
        /// From this file offset on.
        from: u64,
    },
    /// A range of a file and where its bytes are.
    Extent {
        /// The file, or the content that one of its parts names.
        #[serde(with = "content")]
        content: ContentId,
        /// The first file offset.
        offset: u64,
        /// Bytes, at least 1.
        length: u64,
        /// Where they are.
        #[serde(with = "source")]
        source: ExtentSource,
    },
    /// Unfinished work: an inode without a name whose rows are not all gone.
    Orphan {
        /// The inode as it was.
        #[serde(with = "InodeJson")]
        inode: Inode,
    },
    /// Unfinished work: a directory that was removed with all below it, which is not all gone.
    Tree {
        /// Where it was.
        parent: InodeId,
        /// Its name there.
        #[serde(with = "text")]
        name: Vec<u8>,
        /// The directory as it was.
        #[serde(with = "InodeJson")]
        inode: Inode,
        /// When it was removed.
        removed_ns: Timestamp,
        /// Names below it that are gone.
        purged: u64,
        /// Branches in its stack.
        height: u64,
    },
    /// A directory of a removed tree that is being emptied.
    Branch {
        /// The tree's directory.
        tree: InodeId,
        /// Its place in the tree's stack, from 0.
        place: u64,
        /// The directory that is being emptied.
        directory: InodeId,
        /// Its names up to this one are gone.
        #[serde(with = "text")]
        after: Vec<u8>,
    },
}

/// From where on a file's extents lie under a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFact {
    /// The first file offset.
    pub from: u64,
    /// The content.
    #[serde(with = "content")]
    pub content: ContentId,
}

impl Fact {
    /// What kind of fact it is, as its line says.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pack { .. } => "pack",
            Self::PackDeletion { .. } => "pack_deletion",
            Self::Chunk(_) => "chunk",
            Self::Mount { .. } => "mount",
            Self::Name { .. } => "name",
            Self::Link { .. } => "link",
            Self::Xattr { .. } => "xattr",
            Self::Import { .. } => "import",
            Self::Object { .. } => "object",
            Self::Parts { .. } => "parts",
            Self::Detached { .. } => "detached",
            Self::Extent { .. } => "extent",
            Self::Orphan { .. } => "orphan",
            Self::Tree { .. } => "tree",
            Self::Branch { .. } => "branch",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Inode", deny_unknown_fields)]
struct InodeJson {
    ino: InodeId,
    #[serde(with = "KindJson")]
    kind: FileKind,
    #[serde(with = "octal")]
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    #[serde(rename = "mtime_ns")]
    mtime: Timestamp,
    #[serde(rename = "ctime_ns")]
    ctime: Timestamp,
    #[serde(rename = "atime_ns")]
    atime: Timestamp,
    #[serde(rename = "btime_ns")]
    btime: Timestamp,
    version: u64,
    generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<TailRef>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_text")]
    target: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mount: Option<MountId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FileKind", rename_all = "kebab-case")]
enum KindJson {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
}

/// Where bytes are: `{"chunk": {…}}` or `{"object": {…}}`.
mod source {
    use serde::{Deserializer, Serializer};

    use super::{ChunkId, Deserialize, ExtentSource, MountId, ObjectKey, Serialize, text};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Source {
        Chunk {
            id: ChunkId,
            offset: u64,
        },
        Object {
            mount: MountId,
            #[serde(with = "text")]
            key: Vec<u8>,
            etag: String,
            offset: u64,
        },
    }

    pub fn serialize<S: Serializer>(source: &ExtentSource, to: S) -> Result<S::Ok, S::Error> {
        let source = match source.clone() {
            ExtentSource::Chunk { chunk, offset } => Source::Chunk { id: chunk, offset },
            ExtentSource::Object { object: ObjectKey { mount, key, etag }, offset } => {
                Source::Object { mount, key, etag, offset }
            }
        };
        source.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ExtentSource, D::Error> {
        Ok(match Source::deserialize(from)? {
            Source::Chunk { id, offset } => ExtentSource::Chunk { chunk: id, offset },
            Source::Object { mount, key, etag, offset } => {
                ExtentSource::Object { object: ObjectKey { mount, key, etag }, offset }
            }
        })
    }
}
