//! `trees`: ino → [`RemovedTree`], and `branches`: (ino, place in the stack) → [`Branch`].
//!
//! A removed directory goes with all below it, in steps. What is left to be done is a stack of
//! directories that have lost their names and whose own names are not all gone: of a tree of any
//! depth and width a step reads and writes a few rows of it.

use bincode::{Decode, Encode};
use cairn_types::{Inode, InodeId, Policy, Timestamp, codec};

use super::places::Place;
use super::{Record, RowFault};
use crate::store::Table;

/// A directory that was removed with all below it, which is not all gone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RemovedTree {
    /// The directory as it was; where files of the tree may be open, with the policy that was in force.
    pub inode: Inode,
    /// Where it was.
    pub place: Place,
    /// The state's time when it was removed.
    pub removed: Timestamp,
    /// Names below it that are gone.
    pub purged: u64,
    /// Branches in its stack; at least 1.
    pub height: u64,
    /// Which of its files a session may have open; `None`: all go, whoever has them open.
    pub open: Option<MayBeOpen>,
}

/// Which files of a removed tree a session may have open.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MayBeOpen {
    /// Any.
    Any,
    /// These at the most, and those that had a name outside later on.
    These(Vec<InodeId>),
}

impl RemovedTree {
    /// True for a file that lost its last way from the root with this tree, and that a session may have
    /// open.
    #[must_use]
    pub fn may_have_open(&self, inode: &Inode) -> bool {
        let Some(open) = self.open.as_ref().filter(|_| inode.is_file() && inode.mount.is_none()) else {
            return false;
        };
        match open {
            MayBeOpen::Any => true,
            // One that had another name since, by which it may have been opened, was changed when that went.
            MayBeOpen::These(inos) => inos.contains(&inode.ino) || inode.ctime >= self.removed,
        }
    }
}

/// Format 1: nobody was asked what was open.
#[derive(Encode, Decode)]
struct Unasked {
    inode: Inode,
    place: Place,
    removed: Timestamp,
    purged: u64,
    height: u64,
}

/// A directory of a removed tree that is being emptied. Its own name goes when that is done; where the
/// files of the tree are not kept for anybody, before.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Branch {
    /// The directory.
    pub directory: InodeId,
    /// Its names up to this one are gone; nobody makes new ones.
    pub after: Vec<u8>,
    /// The policy in force there, in a tree whose files are kept.
    pub policy: Option<Policy>,
}

/// Format 1: in a tree whose files are not kept.
#[derive(Encode, Decode)]
struct Emptied {
    directory: InodeId,
    after: Vec<u8>,
}

impl Record for RemovedTree {
    const TABLE: Table = Table::Trees;
    const FORMAT: u8 = 2;

    /// One that nobody was asked about is written as it ever was: older servers have the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        if self.open.is_some() {
            return codec::encode(Self::FORMAT, self);
        }
        let Self { inode, place, removed, purged, height, .. } = self.clone();
        codec::encode(1, &Unasked { inode, place, removed, purged, height })
    }

    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        let damaged = |_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() };
        if bytes.first() != Some(&1) {
            return codec::decode(Self::FORMAT, bytes).map_err(damaged);
        }
        let Unasked { inode, place, removed, purged, height } = codec::decode(1, bytes).map_err(damaged)?;
        Ok(Self { inode, place, removed, purged, height, open: None })
    }
}

impl Record for Branch {
    const TABLE: Table = Table::Branches;
    const FORMAT: u8 = 2;

    /// One without a policy is written as it ever was: older servers have the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        if self.policy.is_some() {
            return codec::encode(Self::FORMAT, self);
        }
        let Self { directory, after, .. } = self.clone();
        codec::encode(1, &Emptied { directory, after })
    }

    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        let damaged = |_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() };
        if bytes.first() != Some(&1) {
            return codec::decode(Self::FORMAT, bytes).map_err(damaged);
        }
        let Emptied { directory, after } = codec::decode(1, bytes).map_err(damaged)?;
        Ok(Self { directory, after, policy: None })
    }
}

/// The key in `trees`.
#[must_use]
pub fn key(top: InodeId) -> Vec<u8> {
    top.0.to_be_bytes().to_vec()
}

/// The key in `branches` of the `nth` directory of a tree's stack, counted from 0.
#[must_use]
pub fn branch_key(top: InodeId, nth: u64) -> Vec<u8> {
    [top.0.to_be_bytes(), nth.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::samples::{branch, inode, removed_tree};

    /// The lines `trees` and `branches` of golden.txt, as they were in format 1.
    const BEFORE: &str = include_str!("trees-before-holds.txt");

    fn same<R: Record + PartialEq + std::fmt::Debug>(record: &R, name: &str) {
        let before = BEFORE.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let bytes = record.to_bytes();
        let shown: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown, before);
        assert_eq!(&R::from_bytes(b"k", &bytes).unwrap(), record);
        assert!(R::from_bytes(b"k", &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn rows_of_format_1_are_read_and_written_as_they_were() {
        same(&RemovedTree { open: None, ..removed_tree() }, "trees ");
        same(&Branch { policy: None, ..branch() }, "branches ");
    }

    #[test]
    fn it_says_which_files_may_be_open() {
        let tree = |open| RemovedTree { removed: Timestamp(10), open, ..removed_tree() };
        let file = |ino, ctime| Inode {
            ino: InodeId(ino),
            kind: cairn_types::FileKind::File,
            ctime: Timestamp(ctime),
            mount: None,
            ..inode()
        };
        assert!(!tree(None).may_have_open(&file(7, 11)));
        assert!(tree(Some(MayBeOpen::Any)).may_have_open(&file(7, 1)));
        let these = tree(Some(MayBeOpen::These(vec![InodeId(7)])));
        let seen: Vec<bool> =
            [file(7, 1), file(8, 9), file(8, 10)].iter().map(|f| these.may_have_open(f)).collect();
        assert_eq!(seen, [true, false, true]);
        let mounted = Inode { mount: Some(cairn_types::MountId(1)), ..file(7, 1) };
        assert!(!these.may_have_open(&mounted));
        assert!(!these.may_have_open(&Inode { kind: cairn_types::FileKind::Symlink, ..file(7, 1) }));
    }
}
