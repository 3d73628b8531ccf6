//! [`Inode`]: the attributes of a file, a directory, or whatever else has a name.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{ChunkId, Generation, InodeId, MountId, Policy};

/// Nanoseconds since the Unix epoch; negative before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe: a name and attributes; what goes through it is between processes of one machine.
    Fifo,
    /// A socket's name; its ends are processes of one machine.
    Socket,
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
}

/// Which device a special file stands for (POSIX `st_rdev`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// The driver: 0–4,095.
    pub major: u32,
    /// The device: 0–1,048,575.
    pub minor: u32,
}

impl DeviceNumber {
    /// True for what Linux can express.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.major < 1 << 12 && self.minor < 1 << 20
    }
}

impl FileKind {
    /// The device that it stands for, if it is one.
    #[must_use]
    pub fn device(self) -> Option<DeviceNumber> {
        match self {
            Self::CharacterDevice(device) | Self::BlockDevice(device) => Some(device),
            _ => None,
        }
    }

    /// One word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharacterDevice(_) => "character-device",
            Self::BlockDevice(_) => "block-device",
        }
    }
}

/// The open chunk that an appended file grows into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TailRef {
    /// The chunk.
    pub chunk: ChunkId,
    /// The file offset of the chunk's first byte.
    pub base: u64,
}

/// An inode, whole: what `stat` answers and what the `nodes` row holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Inode {
    /// Its id.
    pub ino: InodeId,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 0–0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead here; for a directory 2 + its subdirectories.
    pub nlink: u32,
    /// Bytes of content; the end of the last committed extent while a tail is open.
    pub size: u64,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of attributes.
    pub ctime: Timestamp,
    /// Last access that was recorded (never updated by reads).
    pub atime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
    /// Raised by every change of this inode.
    pub version: u64,
    /// Writer generation, raised by `open_exclusive` (append protocol R11).
    pub generation: Generation,
    /// The open tail, while the file grows by appends.
    pub tail: Option<TailRef>,
    /// A symlink's target.
    pub target: Option<Vec<u8>>,
    /// A directory's own policy; `None` inherits.
    pub policy: Option<Policy>,
    /// The mount this inode lies under, if any.
    pub mount: Option<MountId>,
}

impl Inode {
    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }
}
