//! [`RealDisk`]: a directory of the machine's filesystem.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::direct::{DirectWriter, Gathering};
use super::{Capacity, DIRECT_BYTES, Disk, DiskError, DiskFile};
use crate::ancestry;

/// Bytes of zeros written at once where a filesystem cannot allocate.
const ZERO_BYTES: usize = 1 << 20;
/// What is fetched ahead behind a large read that the page cache did not have.
const AHEAD_BYTES: u64 = 2 << 20;
/// Slices in one pwritev, at most (Linux's IOV_MAX).
const SLICES_MAX: usize = 1024;

/// A directory, locked for this process as long as the value lives.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Of all its files: 4 MiB once a large write came.
    gathering: Arc<Gathering>,
    _lock: File,
}

fn failed(name: &str, operation: &'static str, errno: Errno) -> DiskError {
    let name = name.to_owned();
    match errno {
        Errno::NOENT => DiskError::NotFound { name },
        Errno::NOSPC | Errno::DQUOT => DiskError::Full { name },
        _ => DiskError::Io { name, operation, errno: errno.raw_os_error() },
    }
}

fn failed_std(name: &str, operation: &'static str, error: &std::io::Error) -> DiskError {
    failed(name, operation, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

impl RealDisk {
    /// Opens the directory `root`, making it and `segments/` when they are not there, and locks it.
    /// Both are durable when it returns, and so is every name in them.
    ///
    /// # Errors
    /// `Locked` when another process has it; `Io`.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, DiskError> {
        let root = root.as_ref().to_path_buf();
        let name = root.display().to_string();
        std::fs::create_dir_all(root.join("segments")).map_err(|e| failed_std(&name, "mkdir", &e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.join("LOCK"))
            .map_err(|e| failed_std(&name, "open", &e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DiskError::Locked { name }),
            Err(errno) => return Err(failed(&name, "flock", errno)),
        }
        let disk = Self { root, gathering: Arc::default(), _lock: lock };
        // A process before this one may have made any of these names and died before it fsynced them.
        disk.sync_directory("segments")?;
        ancestry::sync_ancestry(&disk.root).map_err(|e| failed_std(&name, "fsync", &e))?;
        Ok(disk)
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }

    /// Gives the file its blocks, which read as zeros. They are written to when the log comes to them: to write
    /// them twice would cost half of the disk's rate.
    fn allocate(file: &File, name: &str, bytes: u64) -> Result<(), DiskError> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // A filesystem that cannot: only what is written is there for certain.
            Err(Errno::OPNOTSUPP) => Self::fill_with_zeros(file, name, bytes)?,
            Err(errno) => return Err(failed(name, "create", errno)),
        }
        rustix::fs::fsync(file).map_err(|e| failed(name, "fsync", e))
    }

    fn file(&self, file: File, name: &str, bytes: u64) -> RealFile {
        let direct = DirectWriter::new(self.root.join(name));
        RealFile { file, direct, gathering: Arc::clone(&self.gathering), name: name.to_owned(), bytes }
    }

    fn fill_with_zeros(file: &File, name: &str, bytes: u64) -> Result<(), DiskError> {
        let zeros = vec![0u8; ZERO_BYTES];
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            write_all(file, name, at, &[IoSlice::new(&zeros[..length])])?;
            at += length as u64;
        }
        Ok(())
    }
}

fn write_all(file: &File, name: &str, mut offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
    // Of nothing nothing is written, which would look like a disk that takes no more.
    let mut copies: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut left = copies.as_mut_slice();
    while !left.is_empty() {
        let window = left.len().min(SLICES_MAX);
        match rustix::io::pwritev(file.as_fd(), &left[..window], offset) {
            Ok(0) => return Err(failed(name, "write", Errno::IO)),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(name, "write", errno)),
        }
    }
    Ok(())
}

impl Disk for RealDisk {
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let path = self.root.join(name);
        let file = Self::options()
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| failed_std(name, "create", &e))?;
        if let Err(error) = Self::allocate(&file, name, bytes) {
            // The first error is the one to report; a file left behind is overwritten next time.
            let _second = std::fs::remove_file(&path);
            return Err(error);
        }
        self.sync_directory(name.rsplit_once('/').map_or("", |(directory, _)| directory))?;
        Ok(Arc::new(self.file(file, name, bytes)))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let file = Self::options().open(self.root.join(name)).map_err(|e| failed_std(name, "open", &e))?;
        let bytes = file.metadata().map_err(|e| failed_std(name, "open", &e))?.len();
        Ok(Arc::new(self.file(file, name, bytes)))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let entries = match std::fs::read_dir(self.root.join(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed_std(directory, "list", &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed_std(directory, "list", &e))?;
            if entry.file_type().is_ok_and(|t| t.is_file()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        std::fs::remove_file(self.root.join(name)).map_err(|e| failed_std(name, "remove", &e))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        std::fs::rename(self.root.join(from), self.root.join(to)).map_err(|e| failed_std(from, "rename", &e))
    }

    fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        let file = File::open(self.root.join(directory)).map_err(|e| failed_std(directory, "open", &e))?;
        rustix::fs::fsync(&file).map_err(|e| failed(directory, "fsync", e))
    }

    fn capacity(&self) -> Result<Capacity, DiskError> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| failed("", "statvfs", e))?;
        Ok(Capacity {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

struct RealFile {
    file: File,
    direct: DirectWriter,
    gathering: Arc<Gathering>,
    name: String,
    bytes: u64,
}

impl RealFile {
    /// Reads what of the range the page cache has, from its begin; the rest is fetched from here on, and what
    /// follows: whoever reads so much at once reads on.
    fn read_cached(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let length = bytes.len();
        let mut slices = [std::io::IoSliceMut::new(bytes)];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        // A kernel or filesystem without it: all is read as ever.
        let had = rustix::io::preadv2(&self.file, &mut slices, offset, flags).unwrap_or(0).min(length);
        if had < length {
            let missing = std::num::NonZeroU64::new((length - had) as u64 + AHEAD_BYTES);
            let from = offset + had as u64;
            // Only advice.
            let _ignored = rustix::fs::fadvise(&self.file, from, missing, rustix::fs::Advice::WillNeed);
        }
        had
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        match self.direct.write(&self.gathering, offset, parts) {
            Some(outcome) => outcome.map_err(|errno| failed(&self.name, "write", errno)),
            None => write_all(&self.file, &self.name, offset, parts),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        use std::os::unix::fs::FileExt;
        let had = if bytes.len() >= DIRECT_BYTES { self.read_cached(offset, bytes) } else { 0 };
        self.file.read_exact_at(&mut bytes[had..], offset + had as u64).map_err(|e| DiskError::Io {
            name: self.name.clone(),
            operation: "read",
            errno: Errno::from_io_error(&e).unwrap_or(Errno::IO).raw_os_error(),
        })
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        rustix::fs::fdatasync(&self.file).map_err(|e| DiskError::Io {
            name: self.name.clone(),
            operation: "fdatasync",
            errno: e.raw_os_error(),
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn uncache(&self, offset: u64, bytes: u64) {
        let length = std::num::NonZeroU64::new(bytes);
        // Only advice; pages that are not written back yet stay.
        let _ignored = rustix::fs::fadvise(&self.file, offset, length, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_and_bytes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        assert!(matches!(RealDisk::open(dir.path()), Err(DiskError::Locked { .. })));
        let file = disk.create("segments/a", 8192).unwrap();
        file.write_at(10, &[IoSlice::new(b"hello "), IoSlice::new(b"world")]).unwrap();
        file.write_at(3, &[IoSlice::new(b"")]).unwrap();
        file.write_at(10, &[IoSlice::new(b""), IoSlice::new(b"h"), IoSlice::new(b"")]).unwrap();
        file.sync_data().unwrap();
        drop((file, disk));
        let disk = RealDisk::open(dir.path()).unwrap();
        assert_eq!(disk.list("segments").unwrap(), ["a"]);
        let file = disk.open("segments/a").unwrap();
        assert_eq!(file.bytes(), 8192);
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&dir.path().join("segments/a").metadata().unwrap());
        assert!(blocks * 512 >= 8192, "its room on the disk is taken: {blocks} blocks");
        let mut bytes = [1u8; 13];
        file.read_at(9, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0hello world\0");
        assert!(file.read_at(8190, &mut bytes).is_err());
        assert!(matches!(disk.open("segments/b"), Err(DiskError::NotFound { .. })));
        assert!(disk.capacity().unwrap().total_bytes > 0);
    }
}
