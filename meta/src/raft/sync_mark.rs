//! [`SyncMark`]: the file `SYNCED`, which says how far the Raft log was fsynced.
//!
//! `SYNCED`: the sequence number of RocksDB's last write that an fsync covered, 8 bytes
//! little-endian, then the CRC32C of those. Overwritten in place, in one sector, unsynced: after a
//! loss of power it may say less than is true, never more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::durable;

const BYTES: usize = 12;

/// The open file.
#[derive(Debug)]
pub struct SyncMark {
    file: File,
}

fn encode(sequence: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let body = sequence.to_le_bytes();
    bytes[..8].copy_from_slice(&body);
    bytes[8..].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes
}

/// `None` when these bytes are no mark.
fn decode(bytes: &[u8]) -> Option<u64> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let body: [u8; 8] = body.try_into().ok()?;
    (crc32c::crc32c(&body) == u32::from_le_bytes(*crc)).then(|| u64::from_le_bytes(body))
}

impl SyncMark {
    /// Opens the file, made if absent, and reads it; 0 when it says nothing. Its name and length are
    /// durable when this returns.
    ///
    /// A file that cannot be understood counts as 0: alone it proves nothing about the log.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<(Self, u64)> {
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let sequence = decode(&bytes);
        if sequence.is_none() && bytes.iter().any(|byte| *byte != 0) {
            tracing::warn!(path = %path.display(), "the file is damaged: the log's end cannot be checked");
        }
        let sequence = sequence.unwrap_or(0);
        let mark = Self { file };
        mark.raise(sequence)?;
        mark.file.sync_all()?;
        if let Some(dir) = path.parent() {
            durable::sync_dir(dir)?;
        }
        Ok((mark, sequence))
    }

    /// Says that an fsync has covered everything up to `sequence`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn raise(&self, sequence: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(sequence), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_damaged_one_says_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("SYNCED");
        let (mark, sequence) = SyncMark::open(&path).unwrap();
        assert_eq!(sequence, 0);
        mark.raise(0x0102_0304).unwrap();
        drop(mark);
        assert_eq!(SyncMark::open(&path).unwrap().1, 0x0102_0304);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..8], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(bytes.len(), BYTES);
        bytes[1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().1, 0);
        std::fs::write(&path, [0; BYTES]).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().1, 0);
    }
}
