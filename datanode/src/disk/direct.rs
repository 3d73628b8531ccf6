//! [`DirectWriter`]: large writes past the page cache (open(2), O_DIRECT).
//!
//! A stream of a gigabyte a second through the page cache costs a page to be found, filled and written back for
//! every 4 KiB, and on a virtual machine that gives unused memory back a fault in its host for each of them. Past
//! it, the bytes are gathered once, in a buffer that stays, and fetched from there by the device.
//!
//! What was written past it must be read from the medium, by whoever uploads or follows. That is well for a medium
//! that is fast; a slow one is spared it: there a write takes its time whatever way it goes.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cairn_types::{Clock, SystemClock};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Writes of so many bytes go past the page cache, when they are whole pages: smaller ones are read again soon, and
/// cost little.
pub const DIRECT_BYTES: usize = 512 << 10;
/// What devices and filesystems want offset, length and memory to be multiples of.
pub(super) const ALIGN: usize = 4096;
/// Gathered at once, at most.
const GATHER_BYTES: usize = 4 << 20;
/// A medium that takes fewer bytes in a second is slow.
const FAST_BYTES: f64 = 300e6;
/// Large writes through the page cache before a slow medium is tried again.
const SPARED: u32 = 64;

/// Memory that begins at a multiple of [`ALIGN`].
#[derive(Default)]
struct Aligned(Vec<u8>);

impl Aligned {
    /// All of it; taken from the system when first asked for.
    fn bytes(&mut self) -> &mut [u8] {
        self.0.resize(GATHER_BYTES + ALIGN, 0);
        let skip = self.0.as_ptr().align_offset(ALIGN).min(ALIGN);
        &mut self.0[skip..skip + GATHER_BYTES]
    }
}

/// The buffer of a disk's direct writes: one at a time.
#[derive(Default)]
pub(super) struct Gathering(Mutex<Gathered>);

#[derive(Default)]
struct Gathered {
    memory: Aligned,
    /// Writes that go through the page cache from here on: the medium is slow.
    spared: u32,
}

impl Gathered {
    /// Notes how long the medium took.
    fn note(&mut self, bytes: usize, took: Duration) {
        if bytes as f64 / took.as_secs_f64().max(1e-9) < FAST_BYTES {
            self.spared = SPARED;
        }
    }
}

impl std::fmt::Debug for Gathering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gathering")
    }
}

/// A file's second description, for direct writes.
pub(super) struct DirectWriter {
    path: PathBuf,
    /// `None` once it was found that it cannot be had.
    file: OnceLock<Option<File>>,
}

impl DirectWriter {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: OnceLock::new() }
    }

    fn open(&self) -> Option<&File> {
        let open = || {
            let flags = OFlags::DIRECT.bits().cast_signed();
            let opened = OpenOptions::new().write(true).custom_flags(flags).open(&self.path);
            opened.inspect_err(|error| tracing::debug!(%error, "no writes past the page cache")).ok()
        };
        self.file.get_or_init(open).as_ref()
    }

    /// Writes `parts` at `offset`; `None` when that is to be done through the page cache: they are too small or no
    /// whole pages, or the filesystem cannot.
    pub(super) fn write(
        &self,
        gathering: &Gathering,
        mut offset: u64,
        parts: &[IoSlice<'_>],
    ) -> Option<Result<(), Errno>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let whole = total.is_multiple_of(ALIGN) && offset.is_multiple_of(ALIGN as u64);
        if total < DIRECT_BYTES || !whole {
            return None;
        }
        let file = self.open()?;
        let mut gathered = gathering.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gathered.spared > 0 {
            gathered.spared -= 1;
            return None;
        }
        let mut took = Duration::ZERO;
        let buffer = gathered.memory.bytes();
        let mut filled = 0;
        let mut left = parts.iter().map(|part| &part[..]);
        let mut part: &[u8] = &[];
        loop {
            if part.is_empty() {
                match left.next() {
                    Some(next) => part = next,
                    None => break,
                }
            }
            let now = part.len().min(buffer.len() - filled);
            buffer[filled..filled + now].copy_from_slice(&part[..now]);
            filled += now;
            part = &part[now..];
            let last = part.is_empty() && left.len() == 0;
            if filled == buffer.len() || last {
                let begun = SystemClock.boottime();
                match write_all(file, offset, &buffer[..filled]) {
                    // A device that wants more: nothing of this was written.
                    Err(Errno::INVAL) => return None,
                    Err(errno) => return Some(Err(errno)),
                    Ok(()) => took += SystemClock.boottime().saturating_sub(begun),
                }
                offset += filled as u64;
                filled = 0;
            }
        }
        gathered.note(total, took);
        Some(Ok(()))
    }
}

fn write_all(file: &File, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_page() {
        let mut memory = Aligned::default();
        let bytes = memory.bytes();
        assert_eq!((bytes.as_ptr() as usize % ALIGN, bytes.len()), (0, GATHER_BYTES));
    }

    #[test]
    fn a_slow_medium_is_spared_for_a_while() {
        let mut gathered = Gathered::default();
        gathered.note(4 << 20, Duration::from_millis(2));
        assert_eq!(gathered.spared, 0);
        gathered.note(4 << 20, Duration::from_millis(20));
        assert_eq!(gathered.spared, SPARED);
    }

    #[test]
    fn whole_pages_are_written_and_nothing_else_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        file.set_len(16 << 20).unwrap();
        let (writer, gathering) = (DirectWriter::new(path.clone()), Gathering::default());
        let pattern: Vec<u8> = (0..9_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect();
        let small = [IoSlice::new(&pattern[..ALIGN])];
        assert!(writer.write(&gathering, 0, &small).is_none(), "too small");
        let odd = [IoSlice::new(&pattern[..DIRECT_BYTES + 1])];
        assert!(writer.write(&gathering, 0, &odd).is_none(), "no whole pages");
        let whole = [IoSlice::new(&pattern[..DIRECT_BYTES])];
        assert!(writer.write(&gathering, 512, &whole).is_none(), "not at a page's begin");
        // Parts of all lengths, over more than one gathering.
        let mut cuts = vec![0, 0, 1, 700, 4096, 1 << 20, (4 << 20) - 1, 4 << 20, (8 << 20) + 5, 9 << 20];
        cuts.push(9 << 20);
        let parts: Vec<IoSlice<'_>> = cuts.windows(2).map(|w| IoSlice::new(&pattern[w[0]..w[1]])).collect();
        match writer.write(&gathering, 8192, &parts) {
            Some(outcome) => outcome.unwrap(),
            // The filesystem of the temporary directory cannot.
            None => return,
        }
        let found = std::fs::read(&path).unwrap();
        assert!(found[8192..8192 + pattern.len()] == pattern[..]);
        assert!(found[..8192].iter().chain(&found[8192 + pattern.len()..]).all(|byte| *byte == 0));
    }
}
