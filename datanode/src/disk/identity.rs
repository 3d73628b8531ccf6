//! [`Identity`]: who a disk is, so that an empty or foreign one under an old name is refused (R7).

use std::io::IoSlice;

use cairn_types::{ClusterId, DiskId, Timestamp};

use super::{Disk, DiskError};

const NAME: &str = "identity";
const TEMPORARY: &str = "identity.tmp";
/// The format byte that this build writes and reads.
pub const IDENTITY_FORMAT: u8 = 1;
/// Format byte, disk, cluster, time, checksum.
const BYTES: usize = 1 + 16 + 16 + 8 + 4;

/// A disk's identity, made when it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The disk.
    pub disk: DiskId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// When it was formatted.
    pub formatted_at: Timestamp,
}

/// Why a disk's identity was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The disk belongs to another cluster.
    #[error("the disk belongs to cluster {found}, not to {wanted}")]
    ForeignCluster {
        /// Written on the disk.
        found: ClusterId,
        /// Asked for.
        wanted: ClusterId,
    },
    /// A newer build wrote it.
    #[error("the disk's format {found} is newer than this build reads ({IDENTITY_FORMAT})")]
    NewerFormat {
        /// The format byte.
        found: u8,
    },
    /// The file's bytes are damaged.
    #[error("the disk's identity file is damaged")]
    Corrupt,
    /// The disk holds segments and no identity: it is not formatted over.
    #[error("the disk holds segments but no identity")]
    Missing,
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Identity {
    /// Format byte, disk id, cluster id, formatted at (ns, little-endian), CRC32C of all before.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![IDENTITY_FORMAT];
        bytes.extend_from_slice(&self.disk.0);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.formatted_at.0.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// `NewerFormat`, `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let found = *bytes.first().ok_or(IdentityError::Corrupt)?;
        if found > IDENTITY_FORMAT {
            return Err(IdentityError::NewerFormat { found });
        }
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| IdentityError::Corrupt)?;
        let (body, crc) = bytes.split_at(BYTES - 4);
        if found != IDENTITY_FORMAT || crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(IdentityError::Corrupt);
        }
        let disk = DiskId::from_bytes(&body[1..17]).ok_or(IdentityError::Corrupt)?;
        let cluster = ClusterId::from_bytes(&body[17..33]).ok_or(IdentityError::Corrupt)?;
        let time = body[33..41].try_into().map_err(|_| IdentityError::Corrupt)?;
        Ok(Self { disk, cluster, formatted_at: Timestamp(i64::from_le_bytes(time)) })
    }

    /// The identity on `disk`, or `None` when it was never formatted. With `cluster` it must be
    /// that one's.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing is changed.
    pub fn read(disk: &dyn Disk, cluster: Option<ClusterId>) -> Result<Option<Self>, IdentityError> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(DiskError::NotFound { .. }) => {
                let segments = disk.list("segments")?;
                return if segments.is_empty() { Ok(None) } else { Err(IdentityError::Missing) };
            }
            Err(error) => return Err(error.into()),
        };
        // A newer format may be of any length; its first byte says so.
        let mut bytes = vec![0; usize::try_from(file.bytes()).unwrap_or(usize::MAX).min(4096)];
        file.read_at(0, &mut bytes)?;
        let identity = Self::decode(&bytes)?;
        match cluster {
            Some(wanted) if wanted != identity.cluster => {
                Err(IdentityError::ForeignCluster { found: identity.cluster, wanted })
            }
            _ => Ok(Some(identity)),
        }
    }

    /// Formats `disk`: writes the identity, durable when it returns.
    ///
    /// # Errors
    /// [`IdentityError::Disk`].
    pub fn write(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        let bytes = self.encode();
        let file = disk.create(TEMPORARY, bytes.len() as u64)?;
        file.write_at(0, &[IoSlice::new(&bytes)])?;
        file.sync_data()?;
        disk.rename(TEMPORARY, NAME)?;
        disk.sync_directory("")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    const ID: Identity = Identity {
        disk: DiskId([0xd1; 16]),
        cluster: ClusterId([0xc2; 16]),
        formatted_at: Timestamp(0x0102_0304_0506_0708),
    };

    #[test]
    fn the_identity_file_is_pinned() {
        let bytes = ID.encode();
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..17], [0xd1; 16]);
        assert_eq!(bytes[17..33], [0xc2; 16]);
        assert_eq!(bytes[33..41], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes.len(), 45);
        assert_eq!(Identity::decode(&bytes), Ok(ID));
    }

    #[test]
    fn foreign_newer_and_corrupt_identities_are_refused() {
        let disk = MemoryDisk::new(1 << 20);
        assert_eq!(Identity::read(&disk, None), Ok(None));
        ID.write(&disk).unwrap();
        disk.power_loss(|| false);
        assert_eq!(Identity::read(&disk, Some(ID.cluster)), Ok(Some(ID)));
        let wanted = ClusterId([1; 16]);
        let foreign = IdentityError::ForeignCluster { found: ID.cluster, wanted };
        assert_eq!(Identity::read(&disk, Some(wanted)), Err(foreign));
        disk.rot("identity", 20);
        assert_eq!(Identity::read(&disk, None), Err(IdentityError::Corrupt));
        let mut newer = ID.encode();
        newer[0] = 2;
        assert_eq!(Identity::decode(&newer), Err(IdentityError::NewerFormat { found: 2 }));
    }

    #[test]
    fn segments_without_an_identity_are_not_formatted_over() {
        let disk = MemoryDisk::new(1 << 20);
        disk.create("segments/00000000.seg", 4096).unwrap();
        assert_eq!(Identity::read(&disk, None), Err(IdentityError::Missing));
    }
}
