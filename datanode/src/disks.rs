//! The disks of a process at its start: each is locked, then taken for the cluster and recovered. Of several, one
//! that cannot be used is left out, and the process serves with the others.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::{Clock, ClusterId, DiskId, SystemRandom};

use crate::budget::Budget;
use crate::chunk::{ChunkStore, Fill, QueuedBytes, StoreOptions};
use crate::config::Config;
use crate::dirs;
use crate::disk::{Disk, DiskError, Identity, RealDisk};
use crate::format::{self, FormatError};
use crate::serve::{ServeError, none_left};
use crate::standing::Standings;

/// A directory that this process has to itself.
pub struct Locked {
    /// Where it is.
    pub dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Disks of this process that share its filesystem, itself among them.
    sharing: u64,
}

/// A disk that was taken and recovered.
pub struct Opened {
    /// Where it is.
    pub dir: PathBuf,
    /// Its identity.
    pub id: DiskId,
    /// Bytes of all segments.
    pub capacity_bytes: u64,
    /// Its replicas.
    pub store: ChunkStore,
}

/// A directory that was locked, and the identity that it has, unless it is new.
type Found = (Arc<dyn Disk>, Option<DiskId>);

/// What came of a directory.
type Tried<T> = (PathBuf, Result<T, ServeError>);

/// Those of several disks that can be used; the others are said to be left out. The failure of a disk that is alone
/// is the node's.
///
/// # Errors
/// That one's; [`ServeError::NoDisk`] when of several none is left.
pub fn sift<T>(
    tried: impl IntoIterator<Item = Tried<T>>,
    standings: &Standings,
) -> Result<Vec<T>, ServeError> {
    let mut kept = Vec::new();
    for (dir, outcome) in tried {
        match outcome {
            Ok(disk) => kept.push(disk),
            Err(error) if standings.count() == 1 => return Err(error),
            Err(error) => {
                tracing::error!(dir = %dir.display(), %error, "a disk is left out");
                standings.refuse(&dir, &error.to_string());
            }
        }
    }
    if kept.is_empty() {
        return Err(none_left(standings));
    }
    Ok(kept)
}

/// Locks the directories; an identity that does not read is refused before anything else happens.
///
/// # Errors
/// As [`sift`].
pub async fn lock(config: &Config, standings: &Standings) -> Result<Vec<Locked>, ServeError> {
    let (dirs, makes) = (config.disks(), config.dirs.is_empty());
    let tried = tokio::task::spawn_blocking(move || lock_all(dirs, makes)).await?;
    let failed = |error: FormatError| ServeError::Format(error);
    sift(tried.into_iter().map(|(dir, outcome)| (dir, outcome.map_err(failed))), standings)
}

fn lock_all(dirs: Vec<PathBuf>, makes: bool) -> Vec<(PathBuf, Result<Locked, FormatError>)> {
    let mut real: Vec<PathBuf> = Vec::new();
    let mut tried: Vec<(PathBuf, Result<Found, FormatError>)> = Vec::new();
    for dir in dirs {
        let outcome =
            if makes { lock_one(&dir) } else { there(&dir, &mut real).and_then(|()| lock_one(&dir)) };
        tried.push((dir, outcome));
    }
    let mut places: HashMap<DiskId, Vec<PathBuf>> = HashMap::new();
    for (dir, outcome) in &tried {
        if let Ok((_, Some(disk))) = outcome {
            places.entry(*disk).or_default().push(dir.clone());
        }
    }
    let devices: Vec<Option<u64>> = tried.iter().map(|(dir, _)| device(dir)).collect();
    let sharing = |dir: &Path| devices.iter().filter(|d| d.is_some() && **d == device(dir)).count() as u64;
    let judged = tried.into_iter().map(|(dir, outcome)| {
        let judged = outcome.and_then(|(disk, id)| match id.and_then(|id| places.get(&id).zip(Some(id))) {
            // Which of the two is the one that counts, nobody knows here.
            Some((dirs, id)) if dirs.len() > 1 => Err(FormatError::Copied { disk: id, dirs: dirs.clone() }),
            _ => Ok(Locked { dir: dir.clone(), disk, sharing: sharing(&dir).max(1) }),
        });
        (dir, judged)
    });
    judged.collect()
}

fn device(dir: &Path) -> Option<u64> {
    std::fs::metadata(dir).ok().map(|found| found.dev())
}

fn lock_one(dir: &Path) -> Result<Found, FormatError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
    let identity = Identity::read(disk.as_ref(), None)?;
    Ok((disk, identity.map(|identity| identity.disk)))
}

/// Checks that `dir` is there, and is none of `real` by another name. It is not made: where a disk is not mounted its
/// directory is missing, and must not appear on the filesystem below.
fn there(dir: &Path, real: &mut Vec<PathBuf>) -> Result<(), FormatError> {
    let name = || dir.display().to_string();
    let found = std::fs::canonicalize(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FormatError::Missing { dir: dir.to_owned() },
        _ => {
            let errno = error.raw_os_error().unwrap_or_default();
            FormatError::Disk(DiskError::Io { name: name(), operation: "open", errno })
        }
    })?;
    if let Some(clash) = real.iter().find_map(|before| dirs::clash(&found, before)) {
        return Err(FormatError::Dirs(clash));
    }
    real.push(found);
    Ok(())
}

/// Takes the disks for the cluster and recovers their stores; on threads of their own, since that reads the disks.
///
/// # Errors
/// As [`sift`].
pub async fn open(
    locked: Vec<Locked>,
    config: &Config,
    cluster: ClusterId,
    boot_id: [u8; 16],
    clock: &Arc<dyn Clock>,
    standings: &Standings,
) -> Result<Vec<Opened>, ServeError> {
    let queued = QueuedBytes::default();
    let stores = locked.len();
    let options = StoreOptions {
        disk: DiskId::default(),
        segment_bytes: config.segment_mib << 20,
        capacity_bytes: config.capacity_mib << 20,
        boot_id,
        threads: true,
        queue_bytes: Budget::of(config.memory_mib).queue_bytes,
        fill: Fill { high_percent: config.space_high_percent, low_percent: config.space_low_percent },
    };
    let opening = locked.into_iter().map(|locked| {
        let (dir, clock, queued) = (locked.dir.clone(), Arc::clone(clock), queued.clone());
        let opened =
            tokio::task::spawn_blocking(move || open_one(locked, cluster, clock, options, stores, queued));
        async move { (dir, opened.await.unwrap_or_else(|panicked| Err(panicked.into()))) }
    });
    sift(futures::future::join_all(opening).await, standings)
}

/// `options` have the capacity that is wanted, 0 for what there is.
fn open_one(
    Locked { dir, disk, sharing }: Locked,
    cluster: ClusterId,
    clock: Arc<dyn Clock>,
    options: StoreOptions,
    stores: usize,
    queued: QueuedBytes,
) -> Result<Opened, ServeError> {
    let id = format::claim(&disk, cluster, clock.as_ref(), &SystemRandom)?;
    let capacity_bytes = format::capacity(&disk, options.segment_bytes, options.capacity_bytes, sharing)?;
    let options = StoreOptions { disk: id, capacity_bytes, ..options };
    let (store, report) = ChunkStore::open_among(disk, clock, options, stores, queued)?;
    let (unsealed, damaged) = (report.unsealed.len(), report.damaged.len());
    tracing::info!(
        dir = %dir.display(), disk = %id, incarnation = report.incarnation.0, unsealed, damaged,
        "recovered the store"
    );
    Ok(Opened { dir, id, capacity_bytes, store })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::IdentityError;
    use cairn_types::SystemClock;
    use tempfile::TempDir;

    const OURS: ClusterId = ClusterId([7; 16]);

    fn home(dirs: &[&str]) -> (TempDir, Vec<PathBuf>) {
        let home = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = dirs.iter().map(|dir| home.path().join(dir)).collect();
        paths.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        (home, paths)
    }

    fn config(dirs: &[PathBuf]) -> Config {
        Config { dirs: dirs.to_vec(), capacity_mib: 24, segment_mib: 4, ..Config::default() }
    }

    /// The disks of this configuration that are opened, and what is said of the others.
    async fn opened(config: &Config) -> (Result<Vec<Opened>, ServeError>, Vec<(PathBuf, String)>) {
        let standings = Standings::new(&config.disks());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let opened = match lock(config, &standings).await {
            Ok(locked) => open(locked, config, OURS, [1; 16], &clock, &standings).await,
            Err(error) => Err(error),
        };
        let refused = standings.refused().into_iter().map(|r| (PathBuf::from(r.dir), r.reason));
        (opened, refused.collect())
    }

    fn ids(opened: Vec<Opened>) -> Vec<(PathBuf, DiskId)> {
        let ids = opened.into_iter().map(|disk| {
            disk.store.close();
            (disk.dir, disk.id)
        });
        ids.collect()
    }

    #[tokio::test]
    async fn disks_keep_their_identities_in_whatever_order_they_are_named_and_new_ones_come() {
        let (_home, dirs) = home(&["a", "b", "c"]);
        let (first, refused) = opened(&config(&dirs[..2])).await;
        let first = ids(first.unwrap());
        assert!(refused.is_empty() && first[0].1 != first[1].1);
        let turned: Vec<PathBuf> = dirs.iter().rev().cloned().collect();
        let (second, refused) = opened(&config(&turned)).await;
        let second = ids(second.unwrap());
        assert!(refused.is_empty());
        assert_eq!(second[1..].iter().rev().cloned().collect::<Vec<_>>(), first);
        assert_eq!(second[0].0, dirs[2]);
    }

    #[tokio::test]
    async fn a_disk_that_is_missing_foreign_or_damaged_is_left_out() {
        let (_home, dirs) = home(&["good", "foreign", "damaged"]);
        let stranger = ClusterId([8; 16]);
        let foreign: Arc<dyn Disk> = Arc::new(RealDisk::open(&dirs[1]).unwrap());
        format::claim(&foreign, stranger, &SystemClock, &SystemRandom).unwrap();
        drop(foreign);
        std::fs::write(dirs[2].join("identity"), b"\x01none").unwrap();
        let missing = dirs[0].with_file_name("missing");
        let all = [missing.clone(), dirs[0].clone(), dirs[1].clone(), dirs[2].clone()];
        let (some, refused) = opened(&config(&all)).await;
        let some = ids(some.unwrap());
        assert_eq!(some.iter().map(|(dir, _)| dir).collect::<Vec<_>>(), [&dirs[0]]);
        let of =
            |dir: &PathBuf| refused.iter().find(|(of, _)| of == dir).map(|(_, why)| why.clone()).unwrap();
        assert!(of(&missing).contains("no such directory"), "{refused:?}");
        let other = IdentityError::ForeignCluster { found: stranger, wanted: OURS };
        assert_eq!(of(&dirs[1]), other.to_string());
        assert_eq!(of(&dirs[2]), IdentityError::Corrupt.to_string());
        assert!(!missing.exists(), "it is not made");
    }

    #[tokio::test]
    async fn without_a_disk_that_can_be_used_there_is_no_node_and_it_says_why() {
        let (_home, dirs) = home(&["a"]);
        let gone = [dirs[0].join("x"), dirs[0].join("y")];
        let (none, refused) = opened(&config(&gone)).await;
        let Err(error @ ServeError::NoDisk { .. }) = none else { panic!("there is none") };
        let said = error.to_string();
        assert!(gone.iter().all(|dir| said.contains(&dir.display().to_string())), "{said}");
        assert_eq!(refused.len(), 2);
        // One that is alone says it of itself, and one that is named by `dir` is made.
        let (alone, _) = opened(&config(&gone[..1])).await;
        assert!(matches!(alone, Err(ServeError::Format(FormatError::Missing { .. }))));
        let made = Config { dirs: Vec::new(), dir: gone[0].clone(), ..config(&[]) };
        assert_eq!(ids(opened(&made).await.0.unwrap()).len(), 1);
    }

    #[tokio::test]
    async fn one_directory_by_two_names_and_a_copied_disk_are_refused() {
        let (_home, dirs) = home(&["a", "copy", "c"]);
        ids(opened(&config(&dirs[..1])).await.0.unwrap());
        let link = dirs[0].with_file_name("link");
        std::os::unix::fs::symlink(&dirs[0], &link).unwrap();
        let (one, refused) = opened(&config(&[dirs[0].clone(), link.clone()])).await;
        assert_eq!(ids(one.unwrap()).len(), 1);
        assert!(refused[0].0 == link && refused[0].1.contains("twice"), "{refused:?}");
        std::fs::copy(dirs[0].join("identity"), dirs[1].join("identity")).unwrap();
        let (one, refused) = opened(&config(&dirs)).await;
        assert_eq!(ids(one.unwrap()).iter().map(|(dir, _)| dir).collect::<Vec<_>>(), [&dirs[2]]);
        assert_eq!(refused.len(), 2, "which of the two counts, nobody knows: {refused:?}");
    }

    #[test]
    fn disks_on_one_filesystem_share_what_is_free() {
        let (_home, dirs) = home(&["a", "b"]);
        let locked = lock_all(dirs, false);
        assert!(locked.iter().all(|(_, locked)| locked.as_ref().is_ok_and(|locked| locked.sharing == 2)));
    }
}
