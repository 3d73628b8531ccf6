//! The file `directory`: the random id that a directory gets when a server first starts to join a
//! cluster. It tells a server that was added from one that lost its directory and begins anew.
//!
//! `directory`: format byte 1, the 16 bytes, CRC32C of all before it, little-endian. Written once.

use std::fs;
use std::io;
use std::path::Path;

use cairn_types::Random;
use cairn_types::codec;

use super::durable;
use crate::keys::servers::DirectoryId;

const FORMAT: u8 = 1;

fn encode(id: DirectoryId) -> Vec<u8> {
    let mut bytes = codec::encode(FORMAT, &id);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<DirectoryId> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    codec::decode(FORMAT, body).ok()
}

/// Reads the file; all zero when there is none, as for a first member.
///
/// # Errors
/// The kernel's; `InvalidData` for a file that is damaged, or that a newer build wrote.
pub fn read(path: &Path) -> io::Result<DirectoryId> {
    match fs::read(path) {
        Ok(bytes) => decode(&bytes).ok_or_else(|| {
            let text = format!("{}: the file is damaged, or a newer build wrote it", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DirectoryId::default()),
        Err(error) => Err(error),
    }
}

/// Reads the file, or makes it; durable when this returns.
///
/// # Errors
/// As [`read`].
pub fn claim(path: &Path, random: &dyn Random) -> io::Result<DirectoryId> {
    let known = read(path)?;
    if known != DirectoryId::default() {
        return Ok(known);
    }
    let id = DirectoryId(random.next_id());
    durable::replace_file(path, &encode(id))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use cairn_types::SystemRandom;

    use super::*;

    #[test]
    fn a_directory_keeps_its_id_and_a_damaged_one_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("directory");
        assert_eq!(read(&path).unwrap(), DirectoryId::default());
        let id = claim(&path, &SystemRandom).unwrap();
        assert_eq!(claim(&path, &SystemRandom).unwrap(), id);
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!((bytes[0], &bytes[1..17], bytes.len()), (1, &id.0[..], 21));
        bytes[3] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(claim(&path, &SystemRandom).is_err());
        assert_eq!(fs::read(&path).unwrap(), bytes, "left as it was");
    }
}
