//! [`At`]: what a call acts on, a path or an inode.

use std::fmt;

use cairn_proto::v1;
use cairn_types::{FsPath, InodeId};

use crate::error::{Error, Result};

/// What a call acts on: an absolute path, or an inode.
///
/// Strings convert to paths; a bad path is an error of the call, which then changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// An absolute path.
    Path(Vec<u8>),
    /// An inode, whatever its names.
    Inode(InodeId),
}

impl At {
    /// The wire form; `no_follow` keeps a symlink that is the last component.
    pub(crate) fn wire(&self, action: &'static str, no_follow: bool) -> Result<v1::Target> {
        match self {
            Self::Inode(ino) => Ok(v1::Target { ino: ino.0, path: Default::default(), no_follow }),
            Self::Path(bytes) => {
                let path = FsPath::parse(bytes).map_err(|e| Error::new(action, self, e))?;
                Ok(v1::Target { ino: 0, path: path.to_bytes().into(), no_follow })
            }
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Inode(ino) => write!(f, "{ino}"),
        }
    }
}

impl From<&str> for At {
    fn from(path: &str) -> Self {
        Self::Path(path.as_bytes().to_vec())
    }
}

impl From<&String> for At {
    fn from(path: &String) -> Self {
        Self::Path(path.as_bytes().to_vec())
    }
}

impl From<String> for At {
    fn from(path: String) -> Self {
        Self::Path(path.into_bytes())
    }
}

impl From<&[u8]> for At {
    fn from(path: &[u8]) -> Self {
        Self::Path(path.to_vec())
    }
}

impl From<Vec<u8>> for At {
    fn from(path: Vec<u8>) -> Self {
        Self::Path(path)
    }
}

impl From<&FsPath> for At {
    fn from(path: &FsPath) -> Self {
        Self::Path(path.to_bytes())
    }
}

impl From<InodeId> for At {
    fn from(ino: InodeId) -> Self {
        Self::Inode(ino)
    }
}

impl From<&At> for At {
    fn from(at: &At) -> Self {
        at.clone()
    }
}
