//! [`Client::mount_sync`]: directories of a mount are read from their bucket now.

use cairn_proto::v1::ImportNowRequest;
use cairn_types::{FsError, InodeId, IntentId};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::client::Client;
use crate::error::Result;
use crate::freshness::Freshness;
use crate::listing::ListingOptions;
use crate::target::At;

const ACTION: &str = "read from the bucket";

/// How to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// All directories below, too.
    pub recursive: bool,
    /// Directories read at once, one at least.
    pub at_once: usize,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self { recursive: false, at_once: 16 }
    }
}

/// What a sync has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountSync {
    /// Directories, to their ends.
    pub directories: u64,
    /// Files in them.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Directories that are known and not read yet.
    pub waiting: u64,
}

/// What one directory was found to hold.
#[derive(Default)]
struct Read {
    files: u64,
    bytes: u64,
    below: Vec<InodeId>,
}

impl Client {
    /// Reads a directory of a mount from its bucket now, whatever its `refresh`, and with `recursive` all
    /// below it, several at once. When it returns, the namespace shows what the bucket held when the call
    /// began, or later, but for what is still to be brought there. `told` gets how far it is.
    ///
    /// # Errors
    /// Those of [`list`](Self::list); `NoSuchMount` outside of mounts; `Unavailable` when the bucket does not
    /// answer. What was read until then stays.
    pub async fn mount_sync(
        &self,
        at: impl Into<At>,
        options: SyncOptions,
        mut told: impl FnMut(&MountSync),
    ) -> Result<MountSync> {
        let at = at.into();
        let mut sum = MountSync::default();
        let top = self.sync_directory(&at, options.recursive).await?;
        // Numbers alone: there may be millions. The newest first, so that few wait.
        let mut waiting = Vec::new();
        sum.add(top, &mut waiting);
        told(&sum);
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < options.at_once.max(1)
                && let Some(next) = waiting.pop()
            {
                running.push(async move { self.sync_directory(&At::Inode(next), true).await });
            }
            let Some(read) = running.next().await else { break };
            match read {
                Ok(read) => sum.add(read, &mut waiting),
                // Somebody removed it meanwhile.
                Err(error) if matches!(error.fs(), Some(FsError::NotFound | FsError::Stale)) => {}
                Err(error) => return Err(error),
            }
            sum.waiting = (waiting.len() + running.len()) as u64;
            told(&sum);
        }
        Ok(sum)
    }

    async fn sync_directory(&self, at: &At, below: bool) -> Result<Read> {
        self.import_now(at).await?;
        let mut read = Read::default();
        let mut listing = self.list(at, ListingOptions::default());
        while let Some(entry) = listing.next().await? {
            if !entry.inode.is_dir() {
                read.files += 1;
                read.bytes += entry.inode.size;
            } else if below {
                read.below.push(entry.inode.ino);
            }
        }
        Ok(read)
    }

    /// Has a directory read from its bucket, and waits until it was.
    async fn import_now(&self, at: &At) -> Result<()> {
        let target = at.wire(ACTION, false)?;
        let request = |session| ImportNowRequest { group: 0, target: Some(target.clone()), session };
        let reply = self
            .ask_imported(
                ACTION,
                &at.to_string(),
                (Freshness::Newest, request),
                |mut meta, request| async move { meta.import_now(request).await },
            )
            .await?;
        match reply.intent {
            0 => Ok(()),
            intent => self.wait_intent_done(IntentId(intent)).await.map_err(|error| error.about(at)),
        }
    }
}

impl MountSync {
    fn add(&mut self, read: Read, waiting: &mut Vec<InodeId>) {
        self.directories += 1;
        self.files += read.files;
        self.bytes += read.bytes;
        waiting.extend(read.below);
        self.waiting = waiting.len() as u64;
    }
}
