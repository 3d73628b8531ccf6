//! What a node's directory says about itself: its disk's identity, the cluster it belongs to, and
//! the sizes fixed at its format (append protocol R7). And the lock that one process holds on it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{ClusterId, DiskId, Random};
use rustix::fs::FlockOperation;

/// The format of the identity file: a format byte, the record, its CRC32C.
const FORMAT: u8 = 1;
const FILE: &str = "identity";
const DRAFT: &str = "identity.new";
const LOCK: &str = "LOCK";
/// The directory of the segments.
pub const SEGMENTS: &str = "segments";
/// Of the free space, what a node takes when it is not told (percent).
const CAPACITY_PERCENT: u64 = 80;
/// Segments in the smallest store.
const SEGMENTS_MIN: u64 = 6;

/// The identity of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// Made at the format, never again.
    pub disk: DiskId,
    /// The cluster whose bytes it holds.
    pub cluster: ClusterId,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of all segments.
    pub capacity_bytes: u64,
}

/// Why a directory is not this node's.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory or one of its files cannot be used.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process works in it.
    #[error("{path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There are segments and no identity: it is not ours to format.
    #[error("{path} holds segments but no identity; it is not formatted again")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The identity does not read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CodecError,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {theirs}, the metadata servers to {ours}")]
    ForeignCluster {
        /// The directory.
        path: PathBuf,
        /// The directory's cluster.
        theirs: ClusterId,
        /// The one asked for.
        ours: ClusterId,
    },
    /// There is not enough room for the smallest store.
    #[error("{path} has room for {free_bytes} bytes, {needed_bytes} are needed")]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
}

/// A locked directory. The lock is held until this is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory when it is missing and locks it. Nothing else is written.
    ///
    /// # Errors
    /// [`IdentityError::InUse`] when another process holds the lock; [`IdentityError::Io`].
    pub fn lock(path: &Path) -> Result<Self, IdentityError> {
        std::fs::create_dir_all(path).map_err(failed("make", path))?;
        let name = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
        let lock = lock.map_err(failed("open", &name))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(IdentityError::InUse { path: path.to_owned() }),
            Err(errno) => Err(failed("lock", &name)(errno.into())),
        }
    }

    /// The identity, or `None` when the directory was never formatted.
    ///
    /// # Errors
    /// [`IdentityError::Missing`], [`IdentityError::Unreadable`], [`IdentityError::Io`].
    pub fn identity(&self) -> Result<Option<Identity>, IdentityError> {
        let name = self.path.join(FILE);
        match std::fs::read(&name) {
            Ok(bytes) => match parse(&bytes) {
                Ok(identity) => Ok(Some(identity)),
                Err(source) => Err(IdentityError::Unreadable { path: name, source }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let segments = self.path.join(SEGMENTS);
                let used = std::fs::read_dir(segments).is_ok_and(|mut entries| entries.next().is_some());
                if used { Err(IdentityError::Missing { path: self.path.clone() }) } else { Ok(None) }
            }
            Err(error) => Err(failed("read", &name)(error)),
        }
    }

    /// The identity, made now when there is none. `capacity_bytes` 0: 80 % of the free space.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`IdentityError::ForeignCluster`], [`IdentityError::NoRoom`], and as [`Self::identity`].
    pub fn claim(
        &self,
        cluster: ClusterId,
        segment_bytes: u64,
        capacity_bytes: u64,
        random: &dyn Random,
    ) -> Result<Identity, IdentityError> {
        if let Some(identity) = self.identity()? {
            if identity.cluster == cluster {
                return Ok(identity);
            }
            let (path, theirs) = (self.path.clone(), identity.cluster);
            return Err(IdentityError::ForeignCluster { path, theirs, ours: cluster });
        }
        let capacity_bytes = self.capacity(segment_bytes, capacity_bytes)?;
        let disk = DiskId(random.next_id());
        let identity = Identity { disk, cluster, segment_bytes, capacity_bytes };
        self.write(&identity)?;
        tracing::info!(%disk, %cluster, capacity_bytes, "formatted a disk");
        Ok(identity)
    }

    fn capacity(&self, segment_bytes: u64, wanted: u64) -> Result<u64, IdentityError> {
        let stat =
            rustix::fs::statvfs(&self.path).map_err(|errno| failed("look at", &self.path)(errno.into()))?;
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let capacity = if wanted == 0 { free_bytes / 100 * CAPACITY_PERCENT } else { wanted };
        let needed_bytes = SEGMENTS_MIN * segment_bytes;
        if capacity < needed_bytes || free_bytes < needed_bytes {
            return Err(IdentityError::NoRoom { path: self.path.clone(), free_bytes, needed_bytes });
        }
        Ok(capacity)
    }

    fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        let draft = self.path.join(DRAFT);
        let mut bytes = codec::encode(FORMAT, identity);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut file = File::create(&draft).map_err(failed("make", &draft))?;
        file.write_all(&bytes).map_err(failed("write", &draft))?;
        file.sync_all().map_err(failed("fsync", &draft))?;
        let name = self.path.join(FILE);
        std::fs::rename(&draft, &name).map_err(failed("rename", &draft))?;
        let directory = File::open(&self.path).map_err(failed("open", &self.path))?;
        directory.sync_all().map_err(failed("fsync", &self.path))
    }
}

fn parse(bytes: &[u8]) -> Result<Identity, CodecError> {
    let (record, sum) = bytes.split_last_chunk::<4>().ok_or(CodecError::Empty)?;
    // A newer format says so, whatever its checksum looks like.
    let identity = codec::decode(FORMAT, record);
    if matches!(identity, Err(CodecError::Format { .. })) || crc32c::crc32c(record).to_le_bytes() == *sum {
        identity
    } else {
        Err(CodecError::Damaged)
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::SystemRandom;

    const OURS: ClusterId = ClusterId([7; 16]);
    const SEGMENT: u64 = 1 << 20;

    #[test]
    fn a_disk_keeps_its_identity_and_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let locked = Directory::lock(dir.path()).unwrap();
        assert!(locked.identity().unwrap().is_none());
        let made = locked.claim(OURS, SEGMENT, 64 * SEGMENT, &SystemRandom).unwrap();
        assert!(!made.disk.is_nil());
        let again = locked.claim(OURS, 2 * SEGMENT, 32 * SEGMENT, &SystemRandom).unwrap();
        assert_eq!(again, made);
        let foreign = locked.claim(ClusterId([8; 16]), SEGMENT, 0, &SystemRandom);
        assert!(matches!(foreign, Err(IdentityError::ForeignCluster { .. })));
    }

    #[test]
    fn a_directory_has_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::lock(dir.path()).unwrap();
        assert!(matches!(Directory::lock(dir.path()), Err(IdentityError::InUse { .. })));
        drop(first);
        assert!(Directory::lock(dir.path()).is_ok());
    }

    #[test]
    fn what_is_damaged_newer_or_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let locked = Directory::lock(dir.path()).unwrap();
        locked.claim(OURS, SEGMENT, 64 * SEGMENT, &SystemRandom).unwrap();
        let name = dir.path().join(FILE);
        let good = std::fs::read(&name).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&name, bytes).unwrap();
            locked.claim(OURS, SEGMENT, 0, &SystemRandom).unwrap_err()
        };
        let mut newer = good.clone();
        newer[0] = FORMAT + 1;
        let error = refused(&newer);
        assert!(matches!(error, IdentityError::Unreadable { source: CodecError::Format { .. }, .. }));
        let mut rotten = good.clone();
        rotten[5] ^= 1;
        let error = refused(&rotten);
        assert!(matches!(error, IdentityError::Unreadable { source: CodecError::Damaged, .. }));
        std::fs::remove_file(&name).unwrap();
        std::fs::create_dir(dir.path().join(SEGMENTS)).unwrap();
        std::fs::write(dir.path().join(SEGMENTS).join("1"), b"x").unwrap();
        assert!(matches!(locked.identity(), Err(IdentityError::Missing { .. })));
    }

    #[test]
    fn a_disk_too_small_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let locked = Directory::lock(dir.path()).unwrap();
        let error = locked.claim(OURS, 1 << 60, 0, &SystemRandom).unwrap_err();
        assert!(matches!(error, IdentityError::NoRoom { .. }));
    }
}
