//! [`Disk`]: the seam through which the store reaches a disk, with a real, a memory and a faulty
//! implementation.

use std::io::IoSlice;
use std::sync::Arc;

mod direct;
pub mod faulty;
pub mod identity;
pub mod memory;
pub mod real;

pub use direct::DIRECT_BYTES;
pub use faulty::{FaultyDisk, Operation};
pub use identity::{Identity, IdentityError};
pub use memory::MemoryDisk;
pub use real::RealDisk;

/// Why a disk refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("{name}: no such file")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// No space is left for it.
    #[error("{name}: no space left on the disk")]
    Full {
        /// The file.
        name: String,
    },
    /// The directory is in use by another process.
    #[error("{name}: in use by another process")]
    Locked {
        /// The directory.
        name: String,
    },
    /// The kernel reported a failure.
    #[error("{name}: {operation} failed with errno {errno}")]
    Io {
        /// The file.
        name: String,
        /// What was being done: `create`, `open`, `read`, `write`, `fdatasync`, ...
        operation: &'static str,
        /// The errno.
        errno: i32,
    },
}

impl DiskError {
    /// The errno that stands for it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            Self::NotFound { .. } => Errno::NOENT.raw_os_error(),
            Self::Full { .. } => Errno::NOSPC.raw_os_error(),
            Self::Locked { .. } => Errno::WOULDBLOCK.raw_os_error(),
            Self::Io { errno, .. } => *errno,
        }
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "open",
            Self::Full { .. } => "create",
            Self::Locked { .. } => "lock",
            Self::Io { operation, .. } => operation,
        }
    }
}

/// Space on the filesystem that holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What an unprivileged writer may still take, in bytes.
    pub free_bytes: u64,
}

/// A directory of files with durable names. File names are relative, with at most one `/`.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file of `bytes` zeros that are really written, so that a later `sync_data` of an
    /// overwrite commits no metadata. File and name are durable when it returns.
    ///
    /// # Errors
    /// `Full` when it does not fit (nothing is left behind); `Io`.
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Opens a file for reading and writing in place.
    ///
    /// # Errors
    /// `NotFound`; `Io`.
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// The names of the files in `directory` (empty: the root), without it, sorted.
    ///
    /// # Errors
    /// `Io`. A directory that does not exist is empty.
    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError>;

    /// Removes a file. Not durable before [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    /// `NotFound`; `Io`.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Gives a file another name in the same directory, in place of what has it. Atomic; not
    /// durable before [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    /// `NotFound`; `Io`.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Makes the names in `directory` (empty: the root) durable.
    ///
    /// # Errors
    /// `Io`.
    fn sync_directory(&self, directory: &str) -> Result<(), DiskError>;

    /// Space on the filesystem.
    ///
    /// # Errors
    /// `Io`.
    fn capacity(&self) -> Result<Capacity, DiskError>;
}

/// A file of a fixed size.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `parts`, one after the other, at `offset`. Not durable before
    /// [`sync_data`](Self::sync_data). Whole pages of [`DIRECT_BYTES`] and more may go past the cache above the
    /// medium.
    ///
    /// # Errors
    /// `Io`; part of it may have been written.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError>;

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// `Io`, also at the file's end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError>;

    /// Makes everything written durable (fdatasync).
    ///
    /// # Errors
    /// `Io`: what was written may be lost, and asking again proves nothing.
    fn sync_data(&self) -> Result<(), DiskError>;

    /// The file's size in bytes.
    fn bytes(&self) -> u64;

    /// Asks that the next read of these bytes come from the medium, not from a cache above it. Does
    /// nothing where there is none, and promises nothing.
    fn uncache(&self, _offset: u64, _bytes: u64) {}
}
