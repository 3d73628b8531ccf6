//! [`Listing`]: a directory's entries, in order, as a stream.

use std::collections::VecDeque;
use std::time::Duration;

use cairn_proto::v1::{self, ListRequest};
use cairn_types::{Inode, LogIndex, Name};
use futures::Stream;
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

/// Times in a row that a broken stream is taken up again without an entry in between.
const RESUMES_MAX: usize = 30;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListingOptions {
    /// Only names greater than this one: resumes a listing.
    pub start_after: Option<Vec<u8>>,
    /// At most so many entries; 0 for all.
    pub limit: u64,
    /// Any metadata server may answer, from a state that is at most so old (1 ms at least);
    /// [`Listing::age_ms`] tells how old. `None`: everything acknowledged before is there.
    pub max_age: Option<Duration>,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingEntry {
    /// Its name.
    pub name: Name,
    /// Its attributes at the listing's point in time.
    pub inode: Inode,
    /// True while it grows by appends: its size is the last one recorded.
    pub growing: bool,
}

/// A directory's entries in the byte order of their names, from one point in time.
///
/// When the stream breaks or takes longer than 60 s it goes on after the last name, from a
/// new point in time: [`Listing::snapshots`] tells how many there were.
pub struct Listing {
    client: Client,
    target: At,
    start_after: Vec<u8>,
    left: Option<u64>,
    batches: Option<Streaming<v1::ListBatch>>,
    ready: VecDeque<v1::ListEntry>,
    freshness: Freshness,
    age_ms: u64,
    snapshots: u64,
    snapshot_index: u64,
    failures: usize,
    ended: bool,
}

impl Listing {
    pub(crate) fn new(client: Client, target: At, options: ListingOptions) -> Self {
        Self {
            client,
            target,
            start_after: options.start_after.unwrap_or_default(),
            left: (options.limit > 0).then_some(options.limit),
            batches: None,
            ready: VecDeque::new(),
            freshness: options.max_age.map_or(Freshness::Newest, Freshness::Within),
            age_ms: 0,
            snapshots: 0,
            snapshot_index: 0,
            failures: 0,
            ended: false,
        }
    }

    /// Points in time that the entries so far come from; 1 for all but very long listings.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// The listing shows every change that was acknowledged longer than this before it began, in
    /// milliseconds; of its latest point in time. 0 unless [`ListingOptions::max_age`] was given.
    #[must_use]
    pub fn age_ms(&self) -> u64 {
        self.age_ms
    }

    /// The entry of the log up to which the entries of the newest point in time show everything;
    /// `None` before the first [`next`](Self::next). A watch that begins after it misses nothing
    /// ([`Client::watch`]); of several listings, or of one with several points in time, take the
    /// index of the first.
    #[must_use]
    pub fn snapshot_index(&self) -> Option<LogIndex> {
        (self.snapshot_index > 0).then_some(LogIndex(self.snapshot_index))
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// What the namespace refused (no such directory, not a directory), or `Unavailable` when
    /// no server answers within the retry budget.
    pub async fn next(&mut self) -> Result<Option<ListingEntry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return self.convert(entry).map(Some);
            }
            if self.ended {
                return Ok(None);
            }
            self.next_batch().await?;
        }
    }

    fn convert(&mut self, entry: v1::ListEntry) -> Result<ListingEntry> {
        let bad = |field| Error::new("list", &self.target, Cause::MalformedAnswer(field));
        let inode = entry.inode.as_ref().ok_or_else(|| bad("entry.inode"))?;
        let inode = Inode::try_from(inode).map_err(|e| Error::new("list", &self.target, e))?;
        let name = Name::new(entry.name.to_vec()).map_err(|_| bad("entry.name"))?;
        Ok(ListingEntry { name, inode, growing: entry.growing })
    }

    async fn next_batch(&mut self) -> Result<()> {
        let Some(batches) = self.batches.as_mut() else {
            let batches = self.open().await?;
            self.batches = Some(batches);
            self.snapshots += 1;
            self.snapshot_index = 0;
            return Ok(());
        };
        match batches.message().await {
            Ok(Some(batch)) => {
                self.failures = 0;
                (self.snapshot_index, self.age_ms) = (batch.snapshot_index, batch.age_ms);
                if let Some(last) = batch.entries.last() {
                    self.start_after = last.name.to_vec();
                }
                if let Some(left) = self.left.as_mut() {
                    *left = left.saturating_sub(batch.entries.len() as u64);
                }
                self.ended = batch.last || self.left == Some(0);
                self.ready.extend(batch.entries);
                Ok(())
            }
            // The server ended it before the last batch: go on after the last name.
            Ok(None) => self.resume(Cause::Closed),
            Err(status) => self.resume(status.into()),
        }
    }

    fn resume(&mut self, cause: Cause) -> Result<()> {
        self.batches = None;
        self.failures += 1;
        if self.failures > RESUMES_MAX || matches!(cause, Cause::Fs(_)) {
            return Err(Error::new("list", &self.target, cause));
        }
        Ok(())
    }

    async fn open(&self) -> Result<Streaming<v1::ListBatch>> {
        let (consistency, max_age_ms) = self.freshness.wire(&self.client.reach().options);
        let target = self.target.wire("list", false)?;
        let request = |session| ListRequest {
            group: 0,
            target: Some(target.clone()),
            start_after: self.start_after.clone().into(),
            limit: self.left.unwrap_or(0),
            consistency,
            max_age_ms,
            session,
        };
        let asked = (self.freshness, request);
        self.client
            .ask_imported("list", &self.target.to_string(), asked, |mut meta, mut request| async move {
                // The stream outlives the deadline of the call that opens it.
                request.metadata_mut().remove("grpc-timeout");
                meta.list(request).await
            })
            .await
    }

    /// The entries as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<ListingEntry>> {
        futures::stream::unfold(Some(self), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                Ok(Some(entry)) => Some((Ok(entry), Some(listing))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("target", &self.target).finish_non_exhaustive()
    }
}
