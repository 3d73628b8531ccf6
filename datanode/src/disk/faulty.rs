//! [`FaultyDisk`]: a disk whose n-th call of a kind fails.

use std::io::IoSlice;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::{Capacity, Disk, DiskError, DiskFile};

/// Calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `DiskFile::write_at`
    Write,
    /// `DiskFile::sync_data`
    Sync,
    /// `DiskFile::read_at`
    Read,
    /// `Disk::create`
    Create,
}

#[derive(Default)]
struct Plan {
    /// Calls left before the failure; negative: none is planned.
    left: AtomicI64,
    /// What fails, and how. Held for a copy or a store only.
    fault: Mutex<Option<(Operation, i32)>>,
}

impl Plan {
    fn check(&self, operation: Operation, name: &str) -> Result<(), DiskError> {
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((planned, errno)) = fault else { return Ok(()) };
        if planned != operation || self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(());
        }
        let name = name.to_owned();
        if errno == Errno::NOSPC.raw_os_error() {
            return Err(DiskError::Full { name });
        }
        let operation = match operation {
            Operation::Write => "write",
            Operation::Sync => "fdatasync",
            Operation::Read => "read",
            Operation::Create => "create",
        };
        Err(DiskError::Io { name, operation, errno })
    }
}

/// Passes every call to another disk, but for the one that was planned to fail.
#[derive(Clone)]
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

impl FaultyDisk {
    /// A disk without a planned fault.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, plan: Arc::default() }
    }

    /// Lets `calls` more calls of `operation` pass, then one fails with `errno`.
    pub fn fail_after(&self, operation: Operation, calls: u32, errno: i32) {
        *self.plan.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((operation, errno));
        self.plan.left.store(calls.into(), Ordering::SeqCst);
    }

    fn wrap(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { file, name: name.to_owned(), plan: Arc::clone(&self.plan) })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.plan.check(Operation::Create, name)?;
        Ok(self.wrap(name, self.disk.create(name, bytes)?))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.wrap(name, self.disk.open(name)?))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(directory)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.disk.sync_directory(directory)
    }

    fn capacity(&self) -> Result<Capacity, DiskError> {
        self.disk.capacity()
    }
}

struct FaultyFile {
    file: Arc<dyn DiskFile>,
    name: String,
    plan: Arc<Plan>,
}

impl DiskFile for FaultyFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        self.plan.check(Operation::Write, &self.name)?;
        self.file.write_at(offset, parts)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.plan.check(Operation::Read, &self.name)?;
        self.file.read_at(offset, bytes)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.plan.check(Operation::Sync, &self.name)?;
        self.file.sync_data()
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn uncache(&self, offset: u64, bytes: u64) {
        self.file.uncache(offset, bytes);
    }
}
