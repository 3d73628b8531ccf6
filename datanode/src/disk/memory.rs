//! [`MemoryDisk`]: a disk in memory that forgets what was not synced when its power goes.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Capacity, Disk, DiskError, DiskFile};

/// What a disk writes wholly or not at all.
pub const SECTOR_BYTES: usize = 512;

struct Contents {
    /// As every reader sees it.
    seen: Vec<u8>,
    /// As it is after a loss of power.
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    /// Names as every reader sees them, and what they name.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    /// Raised by a loss of power: older handles are dead.
    life: u64,
    calls: u64,
    /// Calls after which the power is off.
    calls_max: Option<u64>,
    capacity_bytes: u64,
}

impl State {
    fn call(&mut self, name: &str, operation: &'static str) -> Result<(), DiskError> {
        if self.calls_max.is_some_and(|max| self.calls >= max) {
            return Err(off(name, operation));
        }
        self.calls += 1;
        Ok(())
    }
}

fn off(name: &str, operation: &'static str) -> DiskError {
    DiskError::Io { name: name.to_owned(), operation, errno: rustix::io::Errno::NODEV.raw_os_error() }
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryDisk {
    /// Guards the whole disk, so that a call and its count are one step; never held over a call out.
    state: Arc<Mutex<State>>,
}

impl MemoryDisk {
    /// An empty disk of `capacity_bytes`.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let state = State { capacity_bytes, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far that changed something: writes, syncs, creations, renames, removals.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Cuts the power after `calls` further changing calls: all later ones fail.
    pub fn power_off_after(&self, calls: u64) {
        let mut state = self.lock();
        state.calls_max = Some(state.calls.saturating_add(calls));
    }

    /// Loss of power, and power back: of what was not synced, each sector of each write is kept or
    /// lost as `keep` says. Files opened before are dead.
    pub fn power_loss(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.lock();
        for file in &mut state.files {
            for (offset, bytes) in std::mem::take(&mut file.unsynced) {
                let mut at = 0;
                while at < bytes.len() {
                    let sector_end = (offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
                    let end = (sector_end - offset).min(bytes.len());
                    if keep() {
                        file.durable[offset + at..offset + end].copy_from_slice(&bytes[at..end]);
                    }
                    at = end;
                }
            }
            file.seen = file.durable.clone();
        }
        state.names = state.durable_names.clone();
        state.life += 1;
        state.calls_max = None;
    }

    /// Flips one bit of the byte at `offset`, on the platter and in memory.
    pub fn rot(&self, name: &str, offset: usize) {
        let mut state = self.lock();
        let Some(&index) = state.names.get(name) else { return };
        let file = &mut state.files[index];
        file.seen[offset] ^= 1;
        file.durable[offset] ^= 1;
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, on the platter and in memory.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        let mut state = self.lock();
        let Some(&index) = state.names.get(name) else { return };
        let file = &mut state.files[index];
        file.seen[offset] ^= 1 << (bit & 7);
        file.durable[offset] ^= 1 << (bit & 7);
    }

    /// Another disk with the same durable files.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let state = self.lock();
        let copy = |file: &Contents| Contents {
            seen: file.durable.clone(),
            durable: file.durable.clone(),
            unsynced: Vec::new(),
        };
        let copied = State {
            names: state.durable_names.clone(),
            durable_names: state.durable_names.clone(),
            files: state.files.iter().map(copy).collect(),
            capacity_bytes: state.capacity_bytes,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copied)) }
    }

    /// The bytes of a file as readers see them.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|&index| state.files[index].seen.clone())
    }

    fn handle(&self, state: &State, name: &str, index: usize) -> Arc<dyn DiskFile> {
        let bytes = state.files[index].seen.len() as u64;
        let (disk, name) = (self.clone(), name.to_owned());
        Arc::new(MemoryFile { disk, name, index, life: state.life, bytes })
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.lock();
        state.call(name, "create")?;
        let used: u64 = state.names.values().map(|&i| state.files[i].seen.len() as u64).sum();
        if used + bytes > state.capacity_bytes {
            return Err(DiskError::Full { name: name.to_owned() });
        }
        let length = bytes as usize;
        let index = state.files.len();
        state.files.push(Contents { seen: vec![0; length], durable: vec![0; length], unsynced: Vec::new() });
        state.names.insert(name.to_owned(), index);
        state.durable_names.insert(name.to_owned(), index);
        Ok(self.handle(&state, name, index))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.lock();
        let index = *state.names.get(name).ok_or_else(|| DiskError::NotFound { name: name.to_owned() })?;
        Ok(self.handle(&state, name, index))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let state = self.lock();
        let split = |name: &String| match name.rsplit_once('/') {
            Some((parent, rest)) => (parent.to_owned(), rest.to_owned()),
            None => (String::new(), name.clone()),
        };
        let entries = state.names.keys().map(split);
        Ok(entries.filter(|(parent, _)| parent == directory).map(|(_, rest)| rest).collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.call(name, "remove")?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| DiskError::NotFound { name: name.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.call(from, "rename")?;
        let index = state.names.remove(from).ok_or_else(|| DiskError::NotFound { name: from.to_owned() })?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.call(directory, "fsync")?;
        let inside = |name: &str| name.rsplit_once('/').map_or("", |(parent, _)| parent) == directory;
        let mut durable = std::mem::take(&mut state.durable_names);
        durable.retain(|name, _| !inside(name));
        durable.extend(state.names.iter().filter(|(n, _)| inside(n)).map(|(n, i)| (n.clone(), *i)));
        state.durable_names = durable;
        Ok(())
    }

    fn capacity(&self) -> Result<Capacity, DiskError> {
        let state = self.lock();
        let used: u64 = state.names.values().map(|&i| state.files[i].seen.len() as u64).sum();
        let total_bytes = state.capacity_bytes;
        Ok(Capacity { total_bytes, free_bytes: total_bytes.saturating_sub(used) })
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    name: String,
    index: usize,
    life: u64,
    bytes: u64,
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(off(&self.name, "write"));
        }
        // A write that the power cut interrupts may still have reached the platter in part.
        let alive = state.call(&self.name, "write");
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let offset = offset as usize;
        let file = &mut state.files[self.index];
        let Some(target) = file.seen.get_mut(offset..offset + bytes.len()) else {
            return Err(off(&self.name, "write"));
        };
        target.copy_from_slice(&bytes);
        file.unsynced.push((offset, bytes));
        alive
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        let state = self.disk.lock();
        let offset = offset as usize;
        let source = state.files[self.index].seen.get(offset..offset + bytes.len());
        let source = source.ok_or_else(|| off(&self.name, "read"))?;
        if state.life != self.life {
            return Err(off(&self.name, "read"));
        }
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(off(&self.name, "fdatasync"));
        }
        state.call(&self.name, "fdatasync")?;
        let file = &mut state.files[self.index];
        for (offset, bytes) in std::mem::take(&mut file.unsynced) {
            file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_lost_sector_by_sector() {
        let disk = MemoryDisk::new(1 << 20);
        let file = disk.create("a", 4096).unwrap();
        file.write_at(0, &[IoSlice::new(&[1; 1024])]).unwrap();
        file.sync_data().unwrap();
        file.write_at(256, &[IoSlice::new(&[2; 1024])]).unwrap();
        let mut count = 0;
        disk.power_loss(|| {
            count += 1;
            count == 2
        });
        let bytes = disk.contents("a").unwrap();
        assert!(bytes[..512].iter().all(|b| *b == 1));
        assert!(bytes[512..1024].iter().all(|b| *b == 2));
        assert!(bytes[1024..].iter().all(|b| *b == 0));
        assert!(file.sync_data().is_err(), "a handle from before the loss is dead");
    }

    #[test]
    fn a_name_is_lost_unless_its_directory_was_synced() {
        let disk = MemoryDisk::new(1 << 20);
        disk.create("a.tmp", 512).unwrap();
        disk.rename("a.tmp", "a").unwrap();
        disk.power_loss(|| true);
        assert_eq!(disk.list("").unwrap(), ["a.tmp"]);
    }
}
