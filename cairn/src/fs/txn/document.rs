//! [`Document`]: the JSON of a transaction. `cairn fs txn --help` and docs/TRANSACTIONS.md describe it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;

use cairn_sdk::types::{FsPath, InodeId};
use cairn_sdk::{At, AttrChange, Client, RenameMode, Transaction};
use serde::Deserialize;

use crate::exit::CliError;
use crate::fs::remote;

/// Bytes in one file's content, at most.
const CONTENT_BYTES_MAX: usize = 64 << 20;

/// A whole transaction.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What must hold.
    #[serde(default)]
    preconditions: Vec<Precondition>,
    /// What is done, in order.
    pub operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Precondition {
    path: String,
    #[serde(default)]
    absent: bool,
    ino: Option<u64>,
    version: Option<u64>,
    length: Option<u64>,
}

/// One change.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Makes a directory.
    Mkdir { path: String, mode: Option<String> },
    /// Makes a file; nothing may be there.
    Create { path: String, mode: Option<String>, text: Option<String>, file: Option<PathBuf> },
    /// Makes a file, or replaces its content.
    Put { path: String, mode: Option<String>, text: Option<String>, file: Option<PathBuf> },
    /// Makes a symlink.
    Symlink { path: String, to: String },
    /// Gives a file one more name.
    Link { from: String, path: String },
    /// Removes a name.
    Unlink { path: String },
    /// Removes an empty directory.
    Rmdir { path: String },
    /// Moves a name.
    Rename {
        from: String,
        path: String,
        #[serde(default)]
        no_replace: bool,
        #[serde(default)]
        exchange: bool,
    },
    /// Changes attributes.
    SetAttr {
        path: String,
        mode: Option<String>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        version: Option<u64>,
    },
    /// A file at a new name, sharing its bytes.
    Clone {
        from: String,
        path: String,
        #[serde(default)]
        replace: bool,
        #[serde(default)]
        recursive: bool,
    },
    /// Shares a range.
    CopyRange { from: String, from_offset: u64, path: String, offset: u64, length: Option<u64> },
    /// Appends files' contents.
    Concat { path: String, from: Vec<String> },
    /// Makes a range zeros.
    PunchHole { path: String, offset: u64, length: u64 },
    /// Grows a file.
    Allocate { path: String, offset: u64, length: u64 },
}

fn at(text: &str) -> Result<FsPath, CliError> {
    remote(OsStr::new(text))
}

fn octal(mode: Option<&String>, default: u32) -> Result<u32, CliError> {
    mode.map_or(Ok(default), |text| crate::cli::parse_mode(text).map_err(CliError::Usage))
}

/// The content of a file: a text, or a local file's bytes; empty without either.
fn content(text: Option<&String>, file: Option<&PathBuf>) -> Result<Vec<u8>, CliError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(CliError::Usage("an operation has 'text' or 'file', not both".to_owned())),
        (Some(text), None) => Ok(text.clone().into_bytes()),
        (None, Some(path)) => {
            let failed = |e| CliError::io("read", path.display(), e);
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(CONTENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() > CONTENT_BYTES_MAX {
                let path = path.display();
                return Err(CliError::Usage(format!("{path}: a transaction takes files of up to 64 MiB")));
            }
            Ok(bytes)
        }
        (None, None) => Ok(Vec::new()),
    }
}

impl Document {
    /// The same as the SDK asks for it.
    ///
    /// # Errors
    /// `Usage` and `Path` for what cannot be asked for; `Io` for a local file that cannot be read.
    pub fn transaction(&self, client: &Client) -> Result<Transaction, CliError> {
        let demanded = self.preconditions.iter().try_fold(client.transaction(), |t, p| p.add_to(t))?;
        self.operations.iter().try_fold(demanded, |t, operation| operation.add_to(t))
    }
}

impl Precondition {
    fn add_to(&self, transaction: Transaction) -> Result<Transaction, CliError> {
        let path = at(&self.path)?;
        let Self { absent, ino, version, length, .. } = *self;
        if !absent {
            return Ok(transaction.present(&path, ino.map(InodeId), version, length));
        }
        if ino.or(version).or(length).is_some() {
            let path = &self.path;
            return Err(CliError::Usage(format!("{path}: what is absent has no ino, version or length")));
        }
        Ok(transaction.absent(&path))
    }
}

impl Operation {
    /// The path that the operation makes, changes or removes.
    pub fn path(&self) -> &str {
        match self {
            Self::Mkdir { path, .. }
            | Self::Create { path, .. }
            | Self::Put { path, .. }
            | Self::Symlink { path, .. }
            | Self::Link { path, .. }
            | Self::Unlink { path }
            | Self::Rmdir { path }
            | Self::Rename { path, .. }
            | Self::SetAttr { path, .. }
            | Self::Clone { path, .. }
            | Self::CopyRange { path, .. }
            | Self::Concat { path, .. }
            | Self::PunchHole { path, .. }
            | Self::Allocate { path, .. } => path,
        }
    }

    fn add_to(&self, t: Transaction) -> Result<Transaction, CliError> {
        let path = at(self.path())?;
        Ok(match self {
            Self::Mkdir { mode, .. } => t.mkdir(&path, octal(mode.as_ref(), 0o755)?),
            Self::Create { mode, text, file, .. } => {
                t.create(&path, octal(mode.as_ref(), 0o644)?, content(text.as_ref(), file.as_ref())?)
            }
            Self::Put { mode, text, file, .. } => {
                t.put(&path, octal(mode.as_ref(), 0o644)?, content(text.as_ref(), file.as_ref())?)
            }
            Self::Symlink { to, .. } => t.symlink(to, &path),
            Self::Link { from, .. } => t.link(&at(from)?, &path),
            Self::Unlink { .. } => t.unlink(&path),
            Self::Rmdir { .. } => t.rmdir(&path),
            Self::Rename { from, no_replace, exchange, .. } => {
                t.rename(&at(from)?, &path, rename_mode(*no_replace, *exchange)?)
            }
            Self::SetAttr { mode, uid, gid, size, version, .. } => {
                let mode = mode.as_ref().map(|mode| octal(Some(mode), 0)).transpose()?;
                let (uid, gid, size, expected_version) = (*uid, *gid, *size, *version);
                t.set_attr(&path, AttrChange { mode, uid, gid, size, expected_version, ..Default::default() })
            }
            _ => return self.add_share_to(t, &path),
        })
    }

    /// Adds what moves no bytes.
    fn add_share_to(&self, t: Transaction, path: &FsPath) -> Result<Transaction, CliError> {
        Ok(match self {
            Self::Clone { from, recursive: false, replace, .. } => t.clone_file(&at(from)?, path, *replace),
            Self::Clone { replace: true, .. } => {
                return Err(CliError::Usage("a tree is cloned to a name that is free".to_owned()));
            }
            Self::Clone { from, .. } => t.clone_tree(&at(from)?, path),
            Self::CopyRange { from, from_offset, offset, length, .. } => {
                t.copy_range((&at(from)?, *from_offset), (path, *offset), *length)
            }
            Self::Concat { from, .. } => {
                let from = from.iter().map(|text| at(text).map(|path| At::from(&path)));
                t.concat(path, &from.collect::<Result<Vec<At>, CliError>>()?)
            }
            Self::PunchHole { offset, length, .. } => t.punch_hole(path, *offset, *length),
            Self::Allocate { offset, length, .. } => t.allocate(path, *offset, *length),
            _ => t,
        })
    }
}

fn rename_mode(no_replace: bool, exchange: bool) -> Result<RenameMode, CliError> {
    match (no_replace, exchange) {
        (true, true) => Err(CliError::Usage("a rename is no_replace or exchange, not both".to_owned())),
        (true, false) => Ok(RenameMode::NoReplace),
        (false, true) => Ok(RenameMode::Exchange),
        (false, false) => Ok(RenameMode::Replace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_each_thing_once_and_nothing_unknown() {
        let good = r#"{"preconditions": [{"path": "/a", "absent": true}, {"path": "/b", "version": 3}],
            "operations": [{"op": "create", "path": "/a", "text": "x"}, {"op": "unlink", "path": "/b"}]}"#;
        let document: Document = serde_json::from_str(good).unwrap();
        assert_eq!((document.preconditions.len(), document.operations.len()), (2, 2));
        assert_eq!(document.operations.iter().map(Operation::path).collect::<Vec<_>>(), ["/a", "/b"]);
        for bad in [
            r#"{"preconditions": []}"#,
            r#"{"operations": [{"op": "chmod", "path": "/a"}]}"#,
            r#"{"operations": [{"op": "unlink", "path": "/a", "force": true}]}"#,
            r#"{"operations": [{"op": "unlink"}]}"#,
            r#"{"operations": [], "preconditions": [{"path": "/a", "missing": true}]}"#,
        ] {
            assert!(serde_json::from_str::<Document>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        let both = content(Some(&"x".to_owned()), Some(&PathBuf::from("/x")));
        assert!(matches!(both, Err(CliError::Usage(_))));
        assert!(rename_mode(true, true).is_err());
        assert!(octal(Some(&"9".to_owned()), 0).is_err());
        assert_eq!(octal(Some(&"640".to_owned()), 0).unwrap(), 0o640);
        assert_eq!(content(Some(&"x".to_owned()), None).unwrap(), b"x");
    }
}
