//! [`TreeListing`]: all that lies below a directory, as the keys of a bucket, as a stream.

use cairn_proto::v1::{self, ListRequest};
use cairn_types::Inode;
use futures::Stream;

use crate::batches::Batches;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

/// What to list below a directory. *Keys* are paths relative to it, a directory's with a slash at
/// its end.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// Only keys that begin with it; empty for all.
    pub prefix: Vec<u8>,
    /// Keys that hold it behind the prefix are rolled up, as S3 does, to one entry for each common
    /// prefix up to its end; empty: none are.
    pub delimiter: Vec<u8>,
    /// Only keys, and common prefixes, greater than this one ([`TreeEntry::key`]): resumes a listing.
    pub start_after: Vec<u8>,
    /// At most so many entries; 0 for all.
    pub limit: u64,
}

/// One entry of a listing of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path relative to the listed directory; of a common prefix the prefix, delimiter included.
    pub path: Vec<u8>,
    /// Its attributes at the listing's point in time. A common prefix has those of the directory
    /// whose key it is, if it is one's.
    pub inode: Option<Inode>,
    /// True while it grows by appends: its size is the last one recorded.
    pub growing: bool,
    /// It stands for all keys that begin with it.
    pub common_prefix: bool,
}

impl TreeEntry {
    /// True for a directory, and for a common prefix that is one's key.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.inode.as_ref().is_some_and(Inode::is_dir)
    }

    /// The entry's place in the order: its path, a directory's with a slash at its end.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let slash: &[u8] = if self.is_dir() && !self.common_prefix { b"/" } else { b"" };
        [self.path.as_slice(), slash].concat()
    }
}

/// All that lies below a directory, in the byte order of the keys, so that a directory comes before
/// what it holds, and `a-b` before the directory `a`. From one point in time; symlinks are not
/// followed.
///
/// When the stream breaks, takes longer than 60 s, or meets a directory of a mount that must be read
/// from S3 first, it goes on after the last key, from a new point in time:
/// [`TreeListing::snapshots`] tells how many there were.
pub struct TreeListing {
    batches: Batches,
}

impl TreeListing {
    /// Points in time that the entries so far come from.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.batches.snapshots
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// What the namespace refused (no such directory, not a directory; `NameTooLong` where a path
    /// below it has more than 4,096 bytes), or `Unavailable` when no server answers within the retry
    /// budget.
    pub async fn next(&mut self) -> Result<Option<TreeEntry>> {
        let entry = self.batches.next().await?;
        entry.map(|entry| self.convert(entry)).transpose()
    }

    fn convert(&self, entry: v1::ListEntry) -> Result<TreeEntry> {
        let inode = entry.inode.as_ref().map(Inode::try_from).transpose();
        let inode = inode.map_err(|e| Error::new("list", &self.batches.target, e))?;
        let v1::ListEntry { name, growing, common_prefix, .. } = entry;
        Ok(TreeEntry { path: name.to_vec(), inode, growing, common_prefix })
    }

    /// The entries as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<TreeEntry>> {
        futures::stream::try_unfold(self, |mut listing| async move {
            Ok(listing.next().await?.map(|entry| (entry, listing)))
        })
    }
}

impl std::fmt::Debug for TreeListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeListing").field("target", &self.batches.target).finish_non_exhaustive()
    }
}

impl Client {
    /// All that lies below a directory, with attributes, in the order of an S3 listing, from one point
    /// in time. The first entries come at once, whatever the size.
    pub fn list_tree(&self, at: impl Into<At>, options: TreeOptions) -> TreeListing {
        let request = ListRequest {
            recursive: true,
            prefix: options.prefix.into(),
            delimiter: options.delimiter.into(),
            start_after: options.start_after.into(),
            limit: options.limit,
            ..ListRequest::default()
        };
        TreeListing { batches: Batches::new(self.clone(), at.into(), Freshness::Newest, request) }
    }
}
