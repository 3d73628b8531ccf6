//! [`FsPath`]: an absolute path of the namespace.

use std::fmt;
use std::str::FromStr;

use crate::limits::PATH_BYTES_MAX;
use crate::{FsError, Name};

/// An absolute path: at most 4,096 bytes, a sequence of [`Name`]s. The root has none.
///
/// Repeated and trailing slashes are folded and `.` is dropped, as POSIX resolves them.
/// `..` is refused: what it means depends on symlinks, so the caller resolves it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FsPath {
    components: Vec<Name>,
}

impl FsPath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses an absolute path.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`] unless it starts with `/` and is free of `..` and NUL;
    /// [`FsError::NameTooLong`] above 4,096 bytes or where a component is above 255.
    pub fn parse(bytes: &[u8]) -> Result<Self, FsError> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(FsError::NameTooLong);
        }
        if bytes.first() != Some(&b'/') {
            return Err(FsError::InvalidPath);
        }
        let components = bytes
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .map(Name::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| match e {
                FsError::InvalidName => FsError::InvalidPath,
                other => other,
            })?;
        Ok(Self { components })
    }

    /// The components from the root down.
    #[must_use]
    pub fn components(&self) -> &[Name] {
        &self.components
    }

    /// True for `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.components.is_empty()
    }

    /// The last component, or `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.components.last()
    }

    /// The directory that holds the last component, or `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.components.split_last()?;
        Some(Self { components: above.to_vec() })
    }

    /// This path with one more component.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut components = self.components.clone();
        components.push(name);
        Self { components }
    }

    /// True when `self` is `other` or lies under it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.components.starts_with(&other.components)
    }

    /// The path as bytes, with a leading slash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_root() {
            return b"/".to_vec();
        }
        let mut out = Vec::new();
        for name in &self.components {
            out.push(b'/');
            out.extend_from_slice(name.as_bytes());
        }
        out
    }
}

impl FromStr for FsPath {
    type Err = FsError;

    fn from_str(text: &str) -> Result<Self, FsError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl fmt::Debug for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_fold_and_dots_drop() {
        let path = FsPath::parse(b"//a/./b//").map(|p| p.to_string());
        assert_eq!(path, Ok("/a/b".to_owned()));
        assert_eq!(FsPath::parse(b"/").map(|p| p.is_root()), Ok(true));
    }

    #[test]
    fn bad_paths_are_refused() {
        assert_eq!(FsPath::parse(b"a/b"), Err(FsError::InvalidPath));
        assert_eq!(FsPath::parse(b""), Err(FsError::InvalidPath));
        assert_eq!(FsPath::parse(b"/a/../b"), Err(FsError::InvalidPath));
        assert_eq!(FsPath::parse(&[b'/'; 4097]), Err(FsError::NameTooLong));
        let long = [b"/".to_vec(), vec![b'x'; 256]].concat();
        assert_eq!(FsPath::parse(&long), Err(FsError::NameTooLong));
    }
}
