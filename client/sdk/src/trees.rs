//! Trees that go as a whole.

use std::collections::BTreeMap;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{RemoveTree, WaitTreeRequest};
use cairn_types::{FsError, Inode, InodeId};
use futures::stream::{self, FuturesUnordered, StreamExt};

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::Result;
use crate::target::At;
use crate::tree_listing::TreeOptions;

/// How long one call waits for a tree to be purged, in milliseconds.
const WAIT_MS: u64 = 4_000;

/// Names that are removed at once where each is removed for itself.
const NAMES_AT_ONCE: usize = 64;

/// What somebody else removed meanwhile is removed.
fn gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.fs() == Some(&FsError::NotFound) => Ok(()),
        removed => removed,
    }
}

impl Client {
    /// Removes a directory with all that is below it, whatever its size, in one atomic step: when
    /// this returns it is durable, on a majority of the metadata servers, and nobody finds any of it
    /// by a path or, but for files that have further names, by its inode. A file that has a name
    /// outside keeps that one. Who has a file of it open goes on with that, as with one that is
    /// unlinked ([`File`](crate::File)). What the tree took up is given back in the background:
    /// [`wait_purged`](Self::wait_purged). Answers the directory as it was.
    ///
    /// # Errors
    /// `NotDirectory`, `NotFound`, `IsRoot`, `ReadOnlyMount`; `IsMountRoot` when it is, or holds, the
    /// root of a mount; `NotPermitted` to a client with credentials other than user 0's, since what
    /// lies below has permissions of its own. Nothing is removed then.
    pub async fn remove_tree(&self, at: impl Into<At>) -> Result<Inode> {
        let at = at.into();
        let remove = RemoveTree { target: Some(at.wire("remove the tree", true)?) };
        let reply = self.change("remove the tree", &at, Operation::RemoveTree(remove)).await?;
        inode_of("remove the tree", &at.to_string(), reply.inode.as_ref())
    }

    /// Removes a file, a symlink, or a directory with all that is below it. Answers the directory that
    /// [`wait_purged`](Self::wait_purged) takes, if it was one that went in one step. Below a mount, and to a
    /// user that is checked, it goes name by name, files before directories: one that fails ends it half done.
    ///
    /// # Errors
    /// Those of [`unlink`](Self::unlink) and [`remove_tree`](Self::remove_tree).
    pub async fn remove_all(&self, at: impl Into<At>) -> Result<Option<InodeId>> {
        let at = at.into();
        match self.unlink(&at).await {
            Ok(()) => Ok(None),
            Err(error) if error.fs() == Some(&FsError::IsDirectory) => match self.remove_tree(&at).await {
                Ok(inode) => Ok(Some(inode.ino)),
                Err(error) => match &at {
                    // As a user that is checked, or below a mount: there each object is told of.
                    At::Path(path)
                        if matches!(error.fs(), Some(FsError::NotPermitted | FsError::NotSupported)) =>
                    {
                        self.remove_by_names(path).await.map(|()| None)
                    }
                    _ => Err(error),
                },
            },
            Err(error) => Err(error),
        }
    }

    /// Removes what lies below a directory name by name, several at once, then the directories from the deepest
    /// up: as each directory's own permissions allow.
    async fn remove_by_names(&self, top: &[u8]) -> Result<()> {
        let mut listing = self.list_tree(top, TreeOptions::default());
        let mut directories: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        while let Some(entry) = listing.next().await? {
            let below = [top, b"/", entry.path.as_slice()].concat();
            if entry.is_dir() {
                let depth = entry.path.iter().filter(|byte| **byte == b'/').count();
                directories.entry(depth).or_default().push(below);
                continue;
            }
            running.push(async move { gone(self.unlink(At::Path(below)).await) });
            if running.len() >= NAMES_AT_ONCE
                && let Some(removed) = running.next().await
            {
                removed?;
            }
        }
        while let Some(removed) = running.next().await {
            removed?;
        }
        for (_, level) in directories.into_iter().rev() {
            let removals =
                level.into_iter().map(|path| async move { gone(self.rmdir(At::Path(path)).await) });
            let mut removals = stream::iter(removals).buffer_unordered(NAMES_AT_ONCE);
            while let Some(removed) = removals.next().await {
                removed?;
            }
        }
        self.rmdir(top).await
    }

    /// Waits until all names of a removed tree are gone, and its inodes and bytes are counted off; it
    /// takes as long as that takes. The bytes of a file that somebody may have open go when nobody has,
    /// with the next answers of all clients. The bytes of a file of more than 256 extents may go some seconds later.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers within the retry budget.
    pub async fn wait_purged(&self, tree: InodeId) -> Result<()> {
        loop {
            let request = WaitTreeRequest { ino: tree.0, timeout_ms: WAIT_MS };
            let reply = self
                .reach()
                .leader
                .call("wait for the removal of", &tree.to_string(), request, |mut meta, request| async move {
                    meta.wait_tree(request).await
                })
                .await?;
            if reply.done {
                return Ok(());
            }
        }
    }
}
