//! [`Tail`]: follows the bytes of a file as they are acknowledged.

use std::time::Duration;

use bytes::Bytes;
use cairn_proto::ServiceError;
use cairn_proto::v1::WaitFileRequest;
use cairn_types::{FsError, InodeId};
use futures::Stream;

use crate::answer::regular;
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::file::OPEN_TRIES_MAX;
use crate::open_files::OpenFile;
use crate::read::View;
use crate::target::At;

/// Bytes in one event, at most.
const BYTES_MAX: u64 = 1 << 20;
/// How long a primary is asked to wait. One that hangs is given up after it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause after the first wait that failed, and the most there is after later ones.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What became of a file that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailEvent {
    /// The next bytes: 1 byte to 1 MiB. They may end within a record that was appended.
    Bytes {
        /// Of the first one, in the file.
        offset: u64,
        /// They are acknowledged.
        data: Bytes,
    },
    /// The file was cut: it ends here, before what was told. What comes next lies from here on.
    Truncated {
        /// Its length.
        length: u64,
    },
    /// The file has lost its last name: it was unlinked, or another was renamed over it. Told once, when
    /// all its bytes were. Those who have it open may still append to it, and that is told.
    Unlinked,
}

/// Follows a file: its bytes from an offset on, each once and in order, as they are acknowledged.
///
/// - Only acknowledged bytes are told, as durable as [`Appender::append`](crate::Appender::append) says: a
///   byte that was told stays part of the file whatever dies, unless the file is cut or written over.
/// - It waits, and does not poll: an append is told a round trip or two after its acknowledgement. A file
///   that nobody appends to costs a request in some seconds.
/// - Seals, planned rolls, dead data nodes and new metadata leaders are gone through inside. When a primary
///   hangs, or is cut off without a word, what follows is told some seconds late.
/// - It stays with the inode that the path led to, over renames, and holds it open: bytes of an unlinked file
///   are told as long as this handle is there and the session lives. To go by the name, ask for the path
///   again after [`TailEvent::Unlinked`].
/// - When a writer closes the file nothing is told: another may come.
/// - What is written over below [`offset`](Self::offset) is not told; nor is a cut that has grown over again
///   before it was looked at.
///
/// To go on in another process, keep [`offset`](Self::offset) and begin there.
pub struct Tail {
    client: Client,
    subject: String,
    ino: InodeId,
    view: View,
    offset: u64,
    /// The view is to be loaded anew.
    is_stale: bool,
    /// The view was not used since it was loaded.
    is_fresh: bool,
    told_unlinked: bool,
    /// Waits in a row that failed.
    failures: u32,
    /// Says that the file is open, and when the handle goes that it is not.
    _open: OpenFile,
}

impl Client {
    /// Follows a file from an offset on. Where the file is shorter, the first event is
    /// [`TailEvent::Truncated`].
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, and what else [`open`](Self::open) meets.
    pub async fn tail(&self, at: impl Into<At>, offset: u64) -> Result<Tail> {
        let at = at.into();
        let subject = at.to_string();
        for _ in 0..OPEN_TRIES_MAX {
            let opening = self.opening().await?;
            let view = View::load_from(self, &at.wire("follow", false)?, &subject, offset).await?;
            regular("follow", &subject, &view.inode)?;
            if let Some(open) = opening.found(&view.inode, view.seen_at) {
                return Ok(Tail {
                    client: self.clone(),
                    subject,
                    ino: view.inode.ino,
                    view,
                    offset,
                    is_stale: false,
                    is_fresh: true,
                    told_unlinked: false,
                    failures: 0,
                    _open: open,
                });
            }
        }
        // It was unlinked each time that it was looked at.
        Err(Error::new("follow", &subject, FsError::Stale))
    }
}

impl Tail {
    /// The file.
    #[must_use]
    pub fn ino(&self) -> InodeId {
        self.ino
    }

    /// Where the next bytes lie: all before was told. To go on later, begin here.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event; waits for it as long as it takes. May be dropped while it waits, as in `select!`:
    /// nothing is lost, nothing is told twice.
    ///
    /// # Errors
    /// `Stale` when the file is gone for this client too: it was unlinked and the session is over.
    /// `Unavailable`, `Corrupt` when its end, or bytes of it, cannot be had within the retry budget: it may
    /// be called again then, and goes on where it was.
    pub async fn next(&mut self) -> Result<TailEvent> {
        loop {
            if self.is_stale {
                self.load().await?;
            }
            let length = self.view.length();
            if length < self.offset {
                self.offset = length;
                // The view was loaded from the old offset on.
                self.is_stale = true;
                return Ok(TailEvent::Truncated { length });
            }
            if length > self.offset {
                match self.view.read(&self.client, self.offset, BYTES_MAX).await {
                    Ok(data) => return Ok(self.tell(data)),
                    // What an older view names may have been moved, or cut.
                    Err(error) if !self.is_fresh => {
                        tracing::debug!(subject = self.subject, %error, "a tail looks again");
                        self.is_stale = true;
                        continue;
                    }
                    Err(error) => {
                        self.is_stale = true;
                        return Err(error);
                    }
                }
            }
            if self.view.inode.nlink == 0 && !self.told_unlinked {
                self.told_unlinked = true;
                return Ok(TailEvent::Unlinked);
            }
            self.wait().await;
        }
    }

    fn tell(&mut self, data: Bytes) -> TailEvent {
        let offset = self.offset;
        self.offset += data.len() as u64;
        self.is_fresh = false;
        TailEvent::Bytes { offset, data }
    }

    async fn load(&mut self) -> Result<()> {
        let target = At::Inode(self.ino).wire("follow", true)?;
        self.view = View::load_from(&self.client, &target, &self.subject, self.offset).await?;
        (self.is_stale, self.is_fresh) = (false, true);
        Ok(())
    }

    /// Waits until there is something to look at. Why it failed shows at the next look.
    async fn wait(&mut self) {
        self.is_fresh = false;
        let waited = if self.view.is_growing() {
            match self.view.grow(&self.client, PATIENCE).await {
                Ok(true) => {
                    self.failures = 0;
                    return;
                }
                Ok(false) => Ok(()),
                Err(cause) => Err(cause),
            }
        } else {
            self.wait_for_change().await
        };
        self.is_stale = true;
        match waited {
            Ok(()) => self.failures = 0,
            // The metadata knows how it goes on.
            Err(Cause::Service(ServiceError::ChunkFenced { .. })) if self.failures == 0 => self.failures = 1,
            Err(cause) => {
                tracing::debug!(subject = self.subject, %cause, "a tail's wait failed");
                let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Waits at the metadata, for as long as one call may take.
    async fn wait_for_change(&self) -> std::result::Result<(), Cause> {
        let inode = &self.view.inode;
        let request = WaitFileRequest {
            ino: inode.ino.0,
            version: inode.version,
            tail: inode.tail.map_or(0, |tail| tail.chunk.0),
            timeout_ms: 0,
        };
        let leader = &self.client.reach().leader;
        let wait = leader.call("follow", &self.subject, request, |mut meta, request| async move {
            meta.wait_file(request).await
        });
        wait.await.map(|_| ()).map_err(|error| error.cause().clone())
    }

    /// The events as a [`Stream`]. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<TailEvent>> {
        futures::stream::try_unfold(self, |mut tail| async move { Ok(Some((tail.next().await?, tail))) })
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("ino", &self.ino).field("offset", &self.offset).finish_non_exhaustive()
    }
}
