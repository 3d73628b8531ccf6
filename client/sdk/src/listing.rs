//! [`Listing`]: a directory's entries, in order, as a stream.

use std::time::Duration;

use cairn_proto::v1::{self, ListRequest, SplitDirectoryRequest};
use cairn_types::{Inode, LogIndex, Name};
use futures::Stream;

use crate::batches::Batches;
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

/// Ranges that one directory is divided into, at most.
const RANGES_MAX: u32 = 256;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListingOptions {
    /// Only names greater than this one: resumes a listing.
    pub start_after: Option<Vec<u8>>,
    /// Only names up to this one, itself included.
    pub until: Option<Vec<u8>>,
    /// Only names that begin with it; empty for all.
    pub prefix: Vec<u8>,
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
    batches: Batches,
}

impl Listing {
    pub(crate) fn new(client: Client, target: At, options: ListingOptions) -> Self {
        let request = ListRequest {
            start_after: options.start_after.unwrap_or_default().into(),
            until: options.until.unwrap_or_default().into(),
            prefix: options.prefix.into(),
            limit: options.limit,
            ..ListRequest::default()
        };
        let freshness = options.max_age.map_or(Freshness::Newest, Freshness::Within);
        Self { batches: Batches::new(client, target, freshness, request) }
    }

    /// Points in time that the entries so far come from; 1 for all but very long listings.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.batches.snapshots
    }

    /// The listing shows every change that was acknowledged longer than this before it began, in
    /// milliseconds; of its latest point in time. 0 unless [`ListingOptions::max_age`] was given.
    #[must_use]
    pub fn age_ms(&self) -> u64 {
        self.batches.age_ms
    }

    /// The entry of the log up to which the entries of the newest point in time show everything;
    /// `None` before the first [`next`](Self::next). A watch that begins after it misses nothing
    /// ([`Client::watch`]); of several listings, or of one with several points in time, take the
    /// index of the first.
    #[must_use]
    pub fn snapshot_index(&self) -> Option<LogIndex> {
        (self.batches.snapshot_index > 0).then_some(LogIndex(self.batches.snapshot_index))
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// What the namespace refused (no such directory, not a directory), or `Unavailable` when
    /// no server answers within the retry budget.
    pub async fn next(&mut self) -> Result<Option<ListingEntry>> {
        let entry = self.batches.next().await?;
        entry.map(|entry| self.convert(entry)).transpose()
    }

    fn convert(&self, entry: v1::ListEntry) -> Result<ListingEntry> {
        let target = &self.batches.target;
        let bad = |field| Error::new("list", target, Cause::MalformedAnswer(field));
        let inode = entry.inode.as_ref().ok_or_else(|| bad("entry.inode"))?;
        let inode = Inode::try_from(inode).map_err(|e| Error::new("list", target, e))?;
        let name = Name::new(entry.name.to_vec()).map_err(|_| bad("entry.name"))?;
        Ok(ListingEntry { name, inode, growing: entry.growing })
    }

    /// The entries as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<ListingEntry>> {
        futures::stream::try_unfold(self, |mut listing| async move {
            Ok(listing.next().await?.map(|entry| (entry, listing)))
        })
    }
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("target", &self.batches.target).finish_non_exhaustive()
    }
}

impl Client {
    /// A directory's entries with their attributes, in order, from one point in time.
    pub fn list(&self, at: impl Into<At>, options: ListingOptions) -> Listing {
        Listing::new(self.clone(), at.into(), options)
    }

    /// Divides a directory into ranges of names, `ranges` at most (1 to 256), of roughly as many
    /// names each: listings that can go on side by side, in the order of their names. One after the
    /// other they are the listing of the whole; each is of a point in time of its own. A directory
    /// of few names has fewer ranges.
    ///
    /// # Errors
    /// Those of [`Listing::next`].
    pub async fn list_ranges(&self, at: impl Into<At>, ranges: u32) -> Result<Vec<Listing>> {
        let at = at.into();
        let target = at.wire("divide", false)?;
        let request = |session| SplitDirectoryRequest {
            target: Some(target.clone()),
            parts: ranges.clamp(1, RANGES_MAX),
            consistency: Freshness::Newest.wire(&self.reach().options).0,
            session,
            ..SplitDirectoryRequest::default()
        };
        let reply = self
            .ask_imported(
                "divide",
                &at.to_string(),
                (Freshness::Newest, request),
                |mut meta, request| async move { meta.split_directory(request).await },
            )
            .await?;
        let cuts: Vec<Vec<u8>> = reply.names.iter().map(|name| name.to_vec()).collect();
        let from = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
        let until = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
        let listing = |(start_after, until)| {
            let options = ListingOptions { start_after, until, ..ListingOptions::default() };
            self.list(&at, options)
        };
        Ok(from.zip(until).map(listing).collect())
    }
}
