//! The directories of a node's disks, as its configuration names them.

use std::path::{Component, Path, PathBuf};

/// Disks of one process, at most.
pub const DISKS_MAX: usize = 64;

/// What is wrong with a list of directories.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirsError {
    /// One has no name.
    #[error("one of them is empty")]
    Empty,
    /// One is there twice.
    #[error("{dir} is named twice")]
    Twice {
        /// It.
        dir: PathBuf,
    },
    /// One lies in another.
    #[error("{inner} lies in {outer}: two disks cannot share a directory")]
    Nested {
        /// The one below.
        inner: PathBuf,
        /// The one above.
        outer: PathBuf,
    },
    /// There are too many.
    #[error("{count} are named, {DISKS_MAX} can be at most")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// The path without `.` and doubled slashes, from the root on: two that lead to the same place by name are equal.
fn plain(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.components().filter(|part| *part != Component::CurDir).collect()
}

/// How two directories get into each other's way; `None`: they do not.
#[must_use]
pub fn clash(one: &Path, other: &Path) -> Option<DirsError> {
    if one == other {
        return Some(DirsError::Twice { dir: one.to_owned() });
    }
    let nested = |inner: &Path, outer: &Path| DirsError::Nested { inner: inner.into(), outer: outer.into() };
    if one.starts_with(other) {
        return Some(nested(one, other));
    }
    other.starts_with(one).then(|| nested(other, one))
}

/// Checks that the directories can be disks beside each other, as far as their names tell.
///
/// # Errors
/// [`DirsError`]: the first that is found.
pub fn check(dirs: &[PathBuf]) -> Result<(), DirsError> {
    if dirs.len() > DISKS_MAX {
        return Err(DirsError::TooMany { count: dirs.len() });
    }
    if dirs.iter().any(|dir| dir.as_os_str().is_empty()) {
        return Err(DirsError::Empty);
    }
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| plain(dir)).collect();
    for (n, dir) in dirs.iter().enumerate() {
        if let Some(wrong) = dirs[..n].iter().find_map(|before| clash(dir, before)) {
            return Err(wrong);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(dirs: &[&str]) -> Result<(), DirsError> {
        check(&dirs.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn disks_have_directories_of_their_own() {
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&["/d1", "/d2", "/d11"]), Ok(()), "a common beginning is no common place");
        assert_eq!(checked(&["/d1", "/d2", "/d1"]), Err(DirsError::Twice { dir: "/d1".into() }));
        assert_eq!(checked(&["/d1", "/./d1/"]), Err(DirsError::Twice { dir: "/d1".into() }));
        let nested = || Err(DirsError::Nested { inner: "/d/1".into(), outer: "/d".into() });
        assert_eq!(checked(&["/d", "/d/1"]), nested());
        assert_eq!(checked(&["/d/1", "/d//"]), nested());
        assert_eq!(checked(&["/d", ""]), Err(DirsError::Empty));
        let here = std::env::current_dir().unwrap();
        assert!(checked(&["x", here.join("x").to_str().unwrap()]).is_err(), "one by its way from here");
        let many: Vec<String> = (0..=DISKS_MAX).map(|n| format!("/d{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(checked(&many), Err(DirsError::TooMany { count: DISKS_MAX + 1 }));
    }
}
