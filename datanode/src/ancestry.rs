//! Durable names: what a directory holds is found again after a loss of power once the directory is
//! fsynced, and the directory itself once those above it are.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Makes the names in `directory` durable.
///
/// # Errors
/// The system's.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes `directory` durable under its whole path, whoever made a part of it and whenever.
///
/// # Errors
/// The system's, for `directory` and those above it that this process may open.
pub fn sync_ancestry(directory: &Path) -> Result<()> {
    sync_ancestry_by(directory, sync_directory)
}

/// Makes the name of `file` durable, and those of the directories between it and `root`, which is
/// durable itself.
///
/// # Errors
/// The system's.
pub fn sync_between(file: &Path, root: &Path) -> Result<()> {
    sync_between_by(file, root, sync_directory)
}

fn sync_ancestry_by(directory: &Path, mut sync: impl FnMut(&Path) -> Result<()>) -> Result<()> {
    let directory = std::fs::canonicalize(directory)?;
    sync(&directory)?;
    for above in directory.ancestors().skip(1) {
        match sync(above) {
            Ok(()) => {}
            // Not ours to make, so neither are those above it.
            Err(error) if is_foreign(error.kind()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn sync_between_by(file: &Path, root: &Path, sync: impl FnMut(&Path) -> Result<()>) -> Result<()> {
    file.ancestors().skip(1).take_while(|directory| directory.starts_with(root)).try_for_each(sync)
}

/// True when a directory may not be opened, or its filesystem cannot be written or fsynced.
fn is_foreign(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use std::io::Error;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_directory_up_to_the_top_is_synced() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().canonicalize().unwrap().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let mut synced: Vec<PathBuf> = Vec::new();
        let note = |directory: &Path| {
            synced.push(directory.to_owned());
            Ok(())
        };
        sync_ancestry_by(&deep, note).unwrap();
        assert!(synced.iter().map(PathBuf::as_path).eq(deep.ancestors()), "{synced:?}");
        sync_ancestry(&deep).unwrap();
        assert!(sync_ancestry(&deep.join("missing")).is_err());
    }

    #[test]
    fn a_directory_of_others_ends_the_way_up_and_a_failure_is_told() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        let failing = |kind: ErrorKind| {
            let own = root.clone();
            move |directory: &Path| if directory == own { Ok(()) } else { Err(Error::from(kind)) }
        };
        sync_ancestry_by(&root, failing(ErrorKind::PermissionDenied)).unwrap();
        assert!(sync_ancestry_by(&root, failing(ErrorKind::StorageFull)).is_err());
        assert!(sync_ancestry_by(&root, |_| Err(Error::from(ErrorKind::PermissionDenied))).is_err());
    }

    #[test]
    fn from_a_file_it_goes_to_the_root_and_no_further() {
        let mut synced: Vec<PathBuf> = Vec::new();
        let note = |directory: &Path| {
            synced.push(directory.to_owned());
            Ok(())
        };
        sync_between_by(Path::new("/r/s/a/b/file"), Path::new("/r/s"), note).unwrap();
        assert_eq!(synced, ["/r/s/a/b", "/r/s/a", "/r/s"].map(PathBuf::from));
    }
}
