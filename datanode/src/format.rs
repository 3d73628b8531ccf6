//! What a node's disk says about itself, and how much of it a node takes; made at the first start
//! (append protocol R7).

use std::path::PathBuf;
use std::sync::Arc;

use cairn_types::{Clock, ClusterId, DiskId, Random};

use crate::dirs::DirsError;
use crate::disk::{Disk, DiskError, Identity, IdentityError};

/// Of the space that is there, what a node takes when it is not told (percent).
const CAPACITY_PERCENT: u64 = 80;
/// Segments in the smallest store.
const SEGMENTS_MIN: u64 = 6;

/// Why a disk was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is not ours, or does not read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is too small.
    #[error("the disk has room for {free_bytes} bytes, {needed_bytes} are needed")]
    NoRoom {
        /// What is free.
        free_bytes: u64,
        /// What the smallest store takes.
        needed_bytes: u64,
    },
    /// One of several disks has no directory.
    #[error(
        "{}: no such directory. If the disk failed or is not mounted, see to it and restart the node; for a new one make the directory",
        dir.display()
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The same disk is in two directories.
    #[error("disk {disk} is in {} directories ({}): none of them is used until the copies are gone", dirs.len(), shown(dirs))]
    Copied {
        /// Its identity.
        disk: DiskId,
        /// Where it is.
        dirs: Vec<PathBuf>,
    },
    /// Another disk has the directory, by another name.
    #[error(transparent)]
    Dirs(#[from] DirsError),
}

fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<String>>().join(", ")
}

/// The identity of `disk`, which must be `cluster`'s; made now when the disk is new. Durable when it
/// returns.
///
/// # Errors
/// [`FormatError::Identity`] when it is another cluster's, newer, damaged, or missing beside segments.
pub fn claim(
    disk: &Arc<dyn Disk>,
    cluster: ClusterId,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<DiskId, FormatError> {
    if let Some(identity) = Identity::read(disk.as_ref(), Some(cluster))? {
        return Ok(identity.disk);
    }
    let id = DiskId(random.next_id());
    Identity { disk: id, cluster, formatted_at: clock.wall() }.write(disk.as_ref())?;
    tracing::info!(disk = %id, %cluster, "formatted a disk");
    Ok(id)
}

/// Bytes that the segments may take: those `wanted`, or with 0 four fifths of what is free or theirs
/// already, so that a restart does not shrink the store. What is free is shared by `sharing` disks.
///
/// # Errors
/// [`FormatError::NoRoom`] when the smallest store does not fit.
pub fn capacity(
    disk: &Arc<dyn Disk>,
    segment_bytes: u64,
    wanted: u64,
    sharing: u64,
) -> Result<u64, FormatError> {
    let made_bytes = disk.list("segments")?.len() as u64 * segment_bytes;
    let free_bytes = disk.capacity()?.free_bytes / sharing.max(1);
    let free_bytes = free_bytes.saturating_add(made_bytes);
    let capacity = if wanted == 0 { free_bytes / 100 * CAPACITY_PERCENT } else { wanted };
    let needed_bytes = SEGMENTS_MIN * segment_bytes;
    if capacity < needed_bytes || free_bytes < needed_bytes {
        return Err(FormatError::NoRoom { free_bytes, needed_bytes });
    }
    Ok(capacity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use cairn_types::{SystemClock, SystemRandom};

    #[test]
    fn a_disk_keeps_its_identity_and_is_refused_to_another_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
        let ours = ClusterId([7; 16]);
        let made = claim(&disk, ours, &SystemClock, &SystemRandom).unwrap();
        assert!(!made.is_nil());
        assert_eq!(claim(&disk, ours, &SystemClock, &SystemRandom), Ok(made));
        let foreign = claim(&disk, ClusterId([8; 16]), &SystemClock, &SystemRandom);
        assert!(matches!(foreign, Err(FormatError::Identity(IdentityError::ForeignCluster { .. }))));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
        assert_eq!(capacity(&disk, 1 << 20, 10 << 20, 1), Ok(10 << 20));
        assert!(capacity(&disk, 1 << 20, 0, 1).unwrap() > 6 << 20);
        assert!(matches!(capacity(&disk, 1 << 50, 0, 1), Err(FormatError::NoRoom { .. })));
        assert!(matches!(capacity(&disk, 1 << 20, 5 << 20, 1), Err(FormatError::NoRoom { .. })));
    }
}
