//! Files and directories that must be there after a loss of power.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Fsyncs the directory `dir`, so that the names in it last.
///
/// # Errors
/// The kernel's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes `path` hold exactly `bytes`, durably when this returns: after a crash it holds either
/// what it held before or all of `bytes`.
///
/// # Errors
/// The kernel's; the old content stands.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = staging_name(path);
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&staged, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn staging_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// Makes the directory and its parents, with their names durable when this returns.
///
/// # Errors
/// The kernel's.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dir(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        return sync_dir(parent);
    }
    fs::create_dir_all(path)
}

/// Removes the directory and all in it; one that is not there is fine.
///
/// # Errors
/// The kernel's.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
