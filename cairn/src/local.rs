//! Walking a local tree.

use std::path::{Path, PathBuf};

use crate::exit::CliError;

/// One thing of a local tree.
#[derive(Debug)]
pub struct LocalEntry {
    /// Where it is.
    pub path: PathBuf,
    /// The same, from the tree's root on; empty for the root.
    pub relative: PathBuf,
    /// What it is.
    pub meta: std::fs::Metadata,
}

/// Everything under `root`, parents before children, in order of names. Symlinks are not followed.
pub fn walk(root: &Path) -> Result<Vec<LocalEntry>, CliError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e| CliError::io("read", path, e)
    };
    let mut out = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(&relative) };
        let meta = std::fs::symlink_metadata(&path).map_err(failed(&path))?;
        if meta.is_dir() {
            let mut below = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(failed(&path))? {
                below.push(relative.join(entry.map_err(failed(&path))?.file_name()));
            }
            below.sort();
            below.reverse();
            waiting.append(&mut below);
        }
        out.push(LocalEntry { path, relative, meta });
    }
    Ok(out)
}
