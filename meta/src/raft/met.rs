//! [`Met`]: the file `met`, the members from which this server has taken a promise: a vote, an
//! acknowledged append, an installed snapshot, or leadership itself.
//!
//! It is how a server whose directory was lost is told from one that starts for the first time
//! (docs/adr/0009): whoever has the benefit of a promise writes down who made it, durably, before
//! the promise is used.
//!
//! `met`: format byte 1, bincode (vector of node ids, ascending), CRC32C of all before it,
//! little-endian. Replaced as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_types::codec;

use super::durable;

const FORMAT: u8 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetError {
    /// It is damaged, or a newer build wrote it.
    #[error("{path}: the file is damaged, or a newer build wrote it")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("{path}: the file cannot be read")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The members that this server has a promise from.
#[derive(Debug)]
pub struct Met {
    path: PathBuf,
    // Guards that whoever is in it is in the file, durably. Held over the writing of the file, which
    // happens once for each other member in a server's life.
    known: Mutex<BTreeSet<u64>>,
}

fn encode(known: &BTreeSet<u64>) -> Vec<u8> {
    let nodes: Vec<u64> = known.iter().copied().collect();
    let mut bytes = codec::encode(FORMAT, &nodes);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<BTreeSet<u64>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let nodes: Vec<u64> = codec::decode(FORMAT, body).ok()?;
    Some(nodes.into_iter().collect())
}

impl Met {
    /// Reads the file; one that is not there names nobody.
    ///
    /// # Errors
    /// [`MetError`].
    pub fn open(path: &Path) -> Result<Self, MetError> {
        let known = match fs::read(path) {
            Ok(bytes) => decode(&bytes).ok_or_else(|| MetError::Damaged { path: path.to_owned() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(source) => return Err(MetError::Disk { path: path.to_owned(), source }),
        };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when this server has ever had a promise from `node`.
    #[must_use]
    pub fn has(&self, node: u64) -> bool {
        self.lock().contains(&node)
    }

    /// Writes down that there is a promise from `node`, durably when this returns.
    ///
    /// # Errors
    /// The kernel's; the promise must not be used.
    pub fn note(&self, node: u64) -> io::Result<()> {
        if self.has(node) {
            return Ok(());
        }
        tokio::task::block_in_place(|| {
            let mut known = self.lock();
            let mut grown = known.clone();
            if grown.insert(node) {
                durable::replace_file(&self.path, &encode(&grown))?;
                *known = grown;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_met_is_known_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("met");
        let met = Met::open(&path).unwrap();
        assert!(!met.has(2));
        met.note(3).unwrap();
        met.note(2).unwrap();
        met.note(2).unwrap();
        let again = Met::open(&path).unwrap();
        assert!(again.has(2) && again.has(3) && !again.has(1));
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..4], [1, 2, 2, 3], "format, length, ids");
        assert_eq!(bytes.len(), 8);
        bytes[2] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Met::open(&path), Err(MetError::Damaged { .. })));
    }

    #[test]
    fn a_promise_that_cannot_be_written_down_is_not_known() {
        let temp = tempfile::tempdir().unwrap();
        let met = Met::open(&temp.path().join("gone/met")).unwrap();
        assert!(met.note(2).is_err());
        assert!(!met.has(2));
    }
}
