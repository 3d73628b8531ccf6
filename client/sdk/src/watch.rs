//! [`Watch`]: changes under a path, in the order in which they were made.

use std::collections::VecDeque;
use std::time::Duration;

use cairn_proto::convert::file_kind;
use cairn_proto::v1;
use cairn_types::{FileKind, InodeId, LogIndex, MountId};
use futures::Stream;
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

/// A server that says nothing for so long, not even how far its log has come, is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Streams in a row that may break before they bring anything.
const RESUMES_MAX: u32 = 30;
/// The pause after the first of them; each next one is longer by as much.
const PAUSE: Duration = Duration::from_millis(50);

/// What to watch, and from where on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Also what changes in the directories below.
    pub recursive: bool,
    /// What changed after this entry of the log; `None`: what changes from now on. It is the index
    /// of an event, of [`Watch::index`], or of [`Listing::snapshot_index`](crate::Listing::snapshot_index).
    pub after: Option<LogIndex>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The entry of the log that made it: the same on all servers, greater for later changes.
    pub index: LogIndex,
    /// Its number among the changes of that entry, which happened at one time.
    pub number: u32,
    /// The inode that changed.
    pub ino: InodeId,
    /// Its kind.
    pub kind: FileKind,
    /// Its version after the change.
    pub version: u64,
    /// The directory of the name that the change is about: for a change of the inode itself, its
    /// first name's. 0 for the root.
    pub parent: InodeId,
    /// That name; empty for the root. Both are empty for the one side of a rename that a client with
    /// credentials may not be told.
    pub name: Vec<u8>,
    /// The name lies in what is watched. It need not, for a rename that came in from outside.
    pub inside: bool,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The name came to be: of something new, or one more name of a file.
    Created,
    /// The name went.
    Removed {
        /// It was the inode's last one.
        last: bool,
    },
    /// The name became another, in one step. What had that other name was removed by an event
    /// before this one, of the same index.
    Renamed {
        /// The directory of the new name.
        to_parent: InodeId,
        /// The new name.
        to_name: Vec<u8>,
        /// The new name lies in what is watched.
        to_inside: bool,
    },
    /// The name and another were swapped, in one step.
    Exchanged {
        /// The directory of the other name, which leads to the event's inode now.
        to_parent: InodeId,
        /// The other name.
        to_name: Vec<u8>,
        /// The other name lies in what is watched.
        to_inside: bool,
        /// What is at the event's name now.
        other: InodeId,
        /// Its kind.
        other_kind: FileKind,
        /// Its version.
        other_version: u64,
    },
    /// The file's bytes or its length changed: a write was committed, it was truncated or replaced,
    /// or what was appended was sealed. An append shows when its chunk is sealed, not before.
    Content,
    /// Mode, owner, group or times were set.
    Attributes,
    /// The directory's own policy was set.
    Policy,
    /// The directory became the root of a mount.
    MountAdded {
        /// The mount.
        mount: MountId,
    },
    /// The mount was removed: its root and all below it are gone.
    MountRemoved {
        /// The mount.
        mount: MountId,
        /// The empty directory that has the name now.
        fresh: InodeId,
    },
    /// The directory, of a mount, became what its bucket holds: names, or the content of files,
    /// differ from before. What changed is not told one by one: list it.
    Imported,
}

/// The changes under a path, without end.
///
/// It goes on by itself when its server dies or loses its leader, and neither misses nor repeats
/// a change.
pub struct Watch {
    client: Client,
    at: At,
    watched: InodeId,
    recursive: bool,
    /// All up to this entry has arrived here.
    arrived: LogIndex,
    batches: Option<Streaming<v1::WatchBatch>>,
    ready: VecDeque<WatchEvent>,
    failures: u32,
    gone: bool,
}

impl Client {
    /// Watches a directory, or a single file, from now on or from an entry of the log on. What is
    /// changed after this returns, by whomever, is told.
    ///
    /// The path is resolved once: the watch stays with its inode, wherever that is moved. Events
    /// are told once they are on a majority of the metadata servers and applied by the one that is
    /// asked. The cluster keeps the newest 262,144 events at least. To have the state and all that
    /// changes it: list first, then watch after the [`snapshot_index`](crate::Listing::snapshot_index)
    /// of the first listing.
    ///
    /// # Errors
    /// `Compacted` when not all since [`WatchOptions::after`] is kept: list anew, and watch from
    /// there. `NotFound` and what else path resolution meets; `Unavailable` when no server answers,
    /// or none takes another watch, within the retry budget.
    pub async fn watch(&self, at: impl Into<At>, options: WatchOptions) -> Result<Watch> {
        let at = at.into();
        let mut watch = Watch {
            client: self.clone(),
            at,
            watched: InodeId(0),
            recursive: options.recursive,
            arrived: options.after.unwrap_or_default(),
            batches: None,
            ready: VecDeque::new(),
            failures: 0,
            gone: false,
        };
        while watch.watched == InodeId(0) {
            let target = watch.at.wire("watch", false)?;
            watch.receive(target, options.after, false).await?;
        }
        Ok(watch)
    }
}

impl Watch {
    /// The next change; `None` when what was watched is removed, or no path leads to it any more.
    /// May be dropped while it waits, as in `select!`: nothing is lost.
    ///
    /// # Errors
    /// `Compacted` when it was away for so long that not all is kept; `Unavailable` when no server
    /// answers within the retry budget: it may be called again then, and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.gone {
                return Ok(None);
            }
            let target = At::Inode(self.watched).wire("watch", true)?;
            self.receive(target, Some(self.arrived), true).await?;
        }
    }

    /// What is watched.
    #[must_use]
    pub fn watched(&self) -> InodeId {
        self.watched
    }

    /// The entry of the log to watch after, to go on where this watch is: every change up to it was
    /// answered by [`next`](Self::next). It moves on also while nothing changes here.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        match self.ready.front() {
            // The rest of an entry that is partly answered comes again.
            Some(next) => LogIndex(next.index.0.saturating_sub(1)),
            None => self.arrived,
        }
    }

    /// Takes one batch; opens a stream when there is none.
    async fn receive(&mut self, target: v1::Target, after: Option<LogIndex>, local: bool) -> Result<()> {
        let Some(batches) = self.batches.as_mut() else {
            self.batches = Some(self.open(target, after, local).await?);
            return Ok(());
        };
        let cause = match tokio::time::timeout(SILENCE, batches.message()).await {
            Ok(Ok(Some(batch))) => return self.take(batch),
            // The server ended it without a reason.
            Ok(Ok(None)) => Cause::Closed,
            Ok(Err(status)) => status.into(),
            Err(_) => Cause::Service(cairn_proto::ServiceError::Deadline),
        };
        self.batches = None;
        self.failures += 1;
        if self.failures > RESUMES_MAX || matches!(cause, Cause::Fs(_)) {
            self.failures = 0;
            return Err(Error::new("watch", &self.at, cause));
        }
        tracing::debug!(subject = %self.at, %cause, "a watch broke off and goes on");
        tokio::time::sleep(PAUSE * self.failures).await;
        Ok(())
    }

    async fn open(
        &self,
        target: v1::Target,
        after: Option<LogIndex>,
        local: bool,
    ) -> Result<Streaming<v1::WatchBatch>> {
        let request = |session| v1::WatchRequest {
            group: 0,
            target: Some(target.clone()),
            recursive: self.recursive,
            after_index: after.map(|index| index.0),
            local,
            session,
        };
        self.client
            .ask_imported(
                "watch",
                &self.at.to_string(),
                (Freshness::Newest, request),
                |mut meta, mut request| async move {
                    // The stream outlives the deadline of the call that opens it.
                    request.metadata_mut().remove("grpc-timeout");
                    meta.watch(request).await
                },
            )
            .await
    }

    fn take(&mut self, batch: v1::WatchBatch) -> Result<()> {
        self.failures = 0;
        let events: Option<Vec<WatchEvent>> = batch.events.into_iter().map(event).collect();
        let malformed = || Error::new("watch", &self.at, Cause::MalformedAnswer("event"));
        self.ready.extend(events.ok_or_else(malformed)?);
        self.arrived = self.arrived.max(LogIndex(batch.index));
        self.watched = InodeId(batch.watched);
        self.gone = batch.gone;
        Ok(())
    }

    /// The changes as a [`Stream`]. It ends with what is watched, or after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchEvent>> {
        futures::stream::try_unfold(self, |mut watch| async move {
            Ok(watch.next().await?.map(|event| (event, watch)))
        })
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("at", &self.at).field("index", &self.index()).finish_non_exhaustive()
    }
}

/// `None` for what this build does not know.
fn event(wire: v1::WatchEvent) -> Option<WatchEvent> {
    use v1::WatchKind as Kind;
    let (to_parent, to_inside) = (InodeId(wire.to_parent), wire.to_inside);
    let to_name = wire.to_name.to_vec();
    let change = match Kind::try_from(wire.kind).ok()? {
        Kind::Unspecified => return None,
        Kind::Created => Change::Created,
        Kind::Removed => Change::Removed { last: wire.last },
        Kind::Renamed => Change::Renamed { to_parent, to_name, to_inside },
        Kind::Exchanged => Change::Exchanged {
            to_parent,
            to_name,
            to_inside,
            other: InodeId(wire.other),
            other_kind: file_kind(wire.other_kind, wire.other_device).ok()?,
            other_version: wire.other_version,
        },
        Kind::Content => Change::Content,
        Kind::Attributes => Change::Attributes,
        Kind::Policy => Change::Policy,
        Kind::MountAdded => Change::MountAdded { mount: MountId(wire.mount) },
        Kind::MountRemoved => Change::MountRemoved { mount: MountId(wire.mount), fresh: InodeId(wire.other) },
        Kind::Imported => Change::Imported,
    };
    Some(WatchEvent {
        index: LogIndex(wire.index),
        number: wire.number,
        ino: InodeId(wire.ino),
        kind: file_kind(wire.file_kind, wire.device).ok()?,
        version: wire.version,
        parent: InodeId(wire.parent),
        name: wire.name.to_vec(),
        inside: wire.inside,
        change,
    })
}
