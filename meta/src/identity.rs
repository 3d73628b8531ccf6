//! Whose directory this is: the file `identity` names the server and its cluster, the file `LOCK`
//! keeps a second process out.
//!
//! `identity`: format byte 1, bincode (node id, cluster id; all zero until it is known), CRC32C of
//! all before it, little-endian.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use cairn_types::codec::{self, CodecError};
use cairn_types::{ClusterId, NodeId};
use rustix::fs::FlockOperation;

use crate::raft::durable;

const FORMAT: u8 = 1;

/// Why a directory is refused. Nothing in it has been changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process uses it.
    #[error("{dir}: another process uses this directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to another server.
    #[error("{dir}: this directory belongs to {found}, not to {expected}")]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asks.
        expected: NodeId,
    },
    /// It belongs to another cluster.
    #[error("{dir}: this directory belongs to cluster {found}, the state to {expected}")]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster in `identity`.
        found: ClusterId,
        /// The cluster of the state.
        expected: ClusterId,
    },
    /// A newer build wrote it.
    #[error("{dir}: format {found} is newer than this build reads ({known})")]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format byte found.
        found: u8,
        /// The newest this build knows.
        known: u8,
    },
    /// The file is damaged.
    #[error("{dir}: the file `identity` is damaged")]
    Damaged {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds data but no identity: it is no metadata server's, or it is broken.
    #[error("{dir}: there is data in this directory but no file `identity`")]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The kernel refused.
    #[error("{dir}: the directory cannot be used")]
    Disk {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A locked directory whose identity has been checked. The lock goes with this value.
#[derive(Debug)]
pub struct Identity {
    dir: PathBuf,
    node: NodeId,
    cluster: Option<ClusterId>,
    _lock: File,
}

fn encode(node: NodeId, cluster: ClusterId) -> Vec<u8> {
    let mut bytes = codec::encode(FORMAT, &(node, cluster));
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(dir: &Path, bytes: &[u8]) -> Result<(NodeId, ClusterId), IdentityError> {
    let dir = || dir.to_owned();
    // The format comes first: a newer one may end otherwise than by this checksum.
    match bytes.first() {
        Some(&found) if found > FORMAT => {
            return Err(IdentityError::NewerFormat { dir: dir(), found, known: FORMAT });
        }
        _ => {}
    }
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| IdentityError::Damaged { dir: dir() })?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(IdentityError::Damaged { dir: dir() });
    }
    codec::decode(FORMAT, body).map_err(|_: CodecError| IdentityError::Damaged { dir: dir() })
}

impl Identity {
    /// Locks `dir`, made if absent, and checks that it is `node`'s; a new one becomes `node`'s,
    /// durably when this returns.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing is changed.
    pub fn claim(dir: &Path, node: NodeId) -> Result<Self, IdentityError> {
        let disk = |source| IdentityError::Disk { dir: dir.to_owned(), source };
        durable::create_dir(dir).map_err(disk)?;
        let path = dir.join("LOCK");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(disk)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            if errno == rustix::io::Errno::WOULDBLOCK {
                IdentityError::InUse { dir: dir.to_owned() }
            } else {
                disk(errno.into())
            }
        })?;
        let claimed = |cluster| Self { dir: dir.to_owned(), node, cluster, _lock: lock };
        match fs::read(dir.join("identity")) {
            Ok(bytes) => {
                let (found, cluster) = decode(dir, &bytes)?;
                if found != node {
                    return Err(IdentityError::OtherNode { dir: dir.to_owned(), found, expected: node });
                }
                Ok(claimed(Some(cluster).filter(|c| !c.is_nil())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ["raft", "state"].iter().any(|name| dir.join(name).exists()) {
                    return Err(IdentityError::Missing { dir: dir.to_owned() });
                }
                let path = dir.join("identity");
                durable::replace_file(&path, &encode(node, ClusterId::default())).map_err(disk)?;
                Ok(claimed(None))
            }
            Err(error) => Err(disk(error)),
        }
    }

    /// The cluster, once it is known.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Checks the cluster that the state names, and writes it down when it was not known; durable
    /// when this returns.
    ///
    /// # Errors
    /// `OtherCluster`, `Disk`.
    pub fn learn(&mut self, cluster: ClusterId) -> Result<(), IdentityError> {
        match self.cluster {
            Some(found) if found == cluster => Ok(()),
            Some(found) => {
                Err(IdentityError::OtherCluster { dir: self.dir.clone(), found, expected: cluster })
            }
            None => {
                let disk = |source| IdentityError::Disk { dir: self.dir.clone(), source };
                durable::replace_file(&self.dir.join("identity"), &encode(self.node, cluster))
                    .map_err(disk)?;
                self.cluster = Some(cluster);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    #[test]
    fn a_directory_keeps_its_owner_and_its_cluster() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let mut first = Identity::claim(&dir, NodeId(1)).unwrap();
        assert!(matches!(Identity::claim(&dir, NodeId(1)), Err(IdentityError::InUse { .. })));
        first.learn(CLUSTER).unwrap();
        drop(first);
        let other = Identity::claim(&dir, NodeId(2));
        assert!(matches!(other, Err(IdentityError::OtherNode { found: NodeId(1), .. })));
        let mut again = Identity::claim(&dir, NodeId(1)).unwrap();
        assert_eq!(again.cluster(), Some(CLUSTER));
        assert!(matches!(again.learn(ClusterId([8; 16])), Err(IdentityError::OtherCluster { .. })));
    }

    #[test]
    fn a_newer_or_damaged_or_missing_identity_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("identity");
        fs::write(&file, [9, 1, 2]).unwrap();
        let newer = Identity::claim(temp.path(), NodeId(1));
        assert!(matches!(newer, Err(IdentityError::NewerFormat { found: 9, .. })));
        let mut bytes = encode(NodeId(1), CLUSTER);
        bytes[5] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(matches!(Identity::claim(temp.path(), NodeId(1)), Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read(&file).unwrap(), bytes);
        fs::remove_file(&file).unwrap();
        fs::create_dir(temp.path().join("raft")).unwrap();
        assert!(matches!(Identity::claim(temp.path(), NodeId(1)), Err(IdentityError::Missing { .. })));
    }

    #[test]
    fn the_bytes_of_an_identity() {
        let bytes = encode(NodeId(3), CLUSTER);
        assert_eq!(bytes[..2], [1, 3]);
        assert_eq!(bytes[2..18], [7; 16]);
        assert_eq!(bytes[18..], crc32c::crc32c(&bytes[..18]).to_le_bytes());
        assert_eq!(bytes.len(), 22);
    }
}
