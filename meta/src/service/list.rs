//! `List`: a directory's names with their attributes, or the keys of all that lies below it, in
//! order, from one snapshot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use cairn_types::{Credentials, FsError, Inode, InodeId, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::call::malformed;
use super::stat::{about, age_ms, caller_of, consistency, imported, importing};
use super::{Context, decode};
use crate::namespace::read::{self, ImportNeeded, Names};
use crate::namespace::subtree::{KeyFound, Next, Subtree, Wanted};
use crate::node::ReadView;

/// Entries in the first batch, at most: they shall be there at once.
const ENTRIES_FIRST: usize = 128;
/// Entries in one batch, at most.
const ENTRIES_MAX: usize = 1024;
/// Bytes of entries in one batch, at most, a last one aside.
const BYTES_MAX: usize = 256 << 10;
/// Batches that wait for a slow client, at most.
const BATCHES_MAX: usize = 4;
/// How long one snapshot is kept for a listing: afterwards the stream ends without its last batch,
/// and the client resumes by name, from a new point in time.
const SNAPSHOT_KEPT: Duration = Duration::from_secs(60);
/// A name's bytes, about.
const NAME_BYTES: usize = 24;
/// An inode's attributes on the wire, about.
const INODE_BYTES: usize = 96;

/// The stream of a listing.
pub type ListStream = ReceiverStream<Result<v1::ListBatch, Status>>;

/// Begins a listing; what is wrong with its target is answered at once.
pub async fn list(
    ctx: Arc<Context>,
    request: v1::ListRequest,
    _deadline: Duration,
) -> Result<ListStream, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let kind = if request.recursive { "subtree" } else { "directory" };
    metrics::counter!("cairn_meta_listings_total", "kind" => kind).increment(1);
    check(&request)?;
    let target = decode::target(request.target.clone())?;
    let consistency = consistency(request.consistency, request.max_age_ms)?;
    let view = ctx.node.read(consistency).await?;
    let age_ms = age_ms(&ctx, &view, consistency);
    let caller = caller_of(&view, consistency, request.session)?;
    imported(&ctx, &view, &target, true).await?;
    let directory = read::resolve_as(&*view.store, caller.as_ref(), &target).map_err(super::refusal)?;
    if !directory.is_dir() {
        return Err(FsError::NotDirectory.into());
    }
    read::may_list(&*view.store, caller.as_ref(), &directory).map_err(super::refusal)?;
    let time = read::cluster(&*view.store).map_err(super::fault)?.time;
    let left = if request.limit == 0 { u64::MAX } else { request.limit };
    let now = time.max(ctx.clock.wall());
    let place = Place::begin(&directory, request, caller);
    let cursor = Cursor { view, now, place, left, entries: ENTRIES_FIRST, age_ms };
    let (tx, rx) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(async move {
        let stream = send(&ctx, cursor, &tx);
        if tokio::time::timeout(SNAPSHOT_KEPT, stream).await.is_err() {
            tracing::info!(directory = %directory.ino, "a listing outlived its snapshot");
        }
    });
    Ok(ReceiverStream::new(rx))
}

/// Checks that the texts are no longer than names, or keys, can be.
fn check(request: &v1::ListRequest) -> Result<(), WireError> {
    let bytes_max = if request.recursive { PATH_BYTES_MAX } else { NAME_BYTES_MAX };
    let (only_recursive, never_recursive) = (&request.delimiter, &request.until);
    match () {
        () if request.start_after.len() > bytes_max => Err(malformed("start_after")),
        () if request.prefix.len() > bytes_max => Err(malformed("prefix")),
        () if only_recursive.len() > NAME_BYTES_MAX => Err(malformed("delimiter")),
        () if !request.recursive && !only_recursive.is_empty() => Err(malformed("delimiter")),
        () if never_recursive.len() > NAME_BYTES_MAX => Err(malformed("until")),
        () if request.recursive && !never_recursive.is_empty() => Err(malformed("until")),
        () => Ok(()),
    }
}

/// A listing under way.
struct Cursor {
    view: ReadView,
    now: Timestamp,
    place: Place,
    left: u64,
    /// Entries in the next batch, at most.
    entries: usize,
    /// How old the view may be.
    age_ms: u64,
}

/// Where it is.
enum Place {
    /// In the names of a directory.
    Names { directory: InodeId, after: Vec<u8>, until: Vec<u8>, prefix: Vec<u8> },
    /// In the keys below it.
    Keys(Box<Subtree>),
}

impl Place {
    fn begin(directory: &Inode, request: v1::ListRequest, caller: Option<Credentials>) -> Self {
        let (prefix, after) = (request.prefix.to_vec(), request.start_after.to_vec());
        if request.recursive {
            let wanted = Wanted { prefix, delimiter: request.delimiter.to_vec(), start_after: after };
            return Self::Keys(Box::new(Subtree::new(directory, wanted, caller)));
        }
        Self::Names { directory: directory.ino, after, until: request.until.to_vec(), prefix }
    }
}

/// What a look at the store brought.
enum Read {
    Batch(v1::ListBatch),
    /// A directory must be read from S3 before the listing goes on.
    Import(ImportNeeded),
}

async fn send(ctx: &Context, mut cursor: Cursor, sink: &mpsc::Sender<Result<v1::ListBatch, Status>>) {
    loop {
        // A read of the store blocks; a client that is slow must hold up no thread meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            let read = cursor.read();
            (cursor, read)
        });
        let (back, read) = match read.await {
            Ok((back, read)) => (Some(back), read),
            Err(_) => (None, Err(ServiceError::Internal.into())),
        };
        let batch = match read {
            Ok(Read::Batch(batch)) => Ok(batch),
            Ok(Read::Import(needed)) => Err(importing(ctx, needed).await),
            Err(error) => Err(error),
        };
        let (batch, back) = match (batch, back) {
            (Ok(batch), Some(back)) => (batch, back),
            (Err(error), _) => return drop(sink.send(Err(error.into())).await),
            (Ok(_), None) => return,
        };
        metrics::counter!("cairn_meta_listed_entries_total").increment(batch.entries.len() as u64);
        let last = batch.last;
        // An error means that the client has gone.
        if sink.send(Ok(batch)).await.is_err() || last || back.left == 0 {
            return;
        }
        cursor = back;
    }
}

impl Cursor {
    fn read(&mut self) -> Result<Read, WireError> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.entries);
        self.entries = ENTRIES_MAX;
        let mut read = match &mut self.place {
            Place::Names { directory, after, until, prefix } => {
                let names = Names { start_after: after, until, prefix };
                let (entries, last) = names_batch(&self.view, *directory, names, limit)?;
                if let Some(entry) = entries.last() {
                    *after = entry.name.to_vec();
                }
                Read::Batch(v1::ListBatch { snapshot_index: self.view.applied.0, entries, last, age_ms: 0 })
            }
            Place::Keys(subtree) => keys_batch(&self.view, subtree, self.now, limit)?,
        };
        if let Read::Batch(batch) = &mut read {
            batch.age_ms = self.age_ms;
            self.left = self.left.saturating_sub(batch.entries.len() as u64);
        }
        Ok(read)
    }
}

fn names_batch(
    view: &ReadView,
    directory: InodeId,
    names: Names<'_>,
    limit: usize,
) -> Result<(Vec<v1::ListEntry>, bool), WireError> {
    let mut entries = Vec::with_capacity(limit.min(ENTRIES_MAX));
    // All names lie in one piece of memory.
    let (mut texts, mut ends, mut bytes) =
        (Vec::with_capacity(limit.min(ENTRIES_MAX) * NAME_BYTES), Vec::new(), 0);
    let last = read::visit_some(&*view.store, directory, names, &mut |name, inode| {
        bytes += size(name, Some(&inode));
        entries.push(entry(Bytes::new(), Some(&inode)));
        texts.extend_from_slice(name);
        ends.push(texts.len());
        entries.len() < limit && bytes < BYTES_MAX
    })
    .map_err(super::refusal)?;
    let (texts, mut begin) = (Bytes::from(texts), 0);
    for (entry, end) in entries.iter_mut().zip(ends) {
        entry.name = texts.slice(begin..end);
        begin = end;
    }
    Ok((entries, last))
}

fn keys_batch(
    view: &ReadView,
    subtree: &mut Subtree,
    now: Timestamp,
    limit: usize,
) -> Result<Read, WireError> {
    let (mut entries, mut bytes, mut last) = (Vec::new(), 0, false);
    while entries.len() < limit && bytes < BYTES_MAX {
        match subtree.next(&*view.store, now).map_err(super::refusal)? {
            Next::Key(KeyFound { mut key, inode, common_prefix }) => {
                if !common_prefix && inode.as_ref().is_some_and(Inode::is_dir) {
                    key.pop();
                }
                bytes += size(&key, inode.as_ref());
                entries.push(v1::ListEntry { common_prefix, ..entry(key.into(), inode.as_ref()) });
            }
            Next::End => {
                last = true;
                break;
            }
            Next::Import(needed) if entries.is_empty() => return Ok(Read::Import(needed)),
            // What is known already goes first.
            Next::Import(_) => break,
        }
    }
    Ok(Read::Batch(v1::ListBatch { snapshot_index: view.applied.0, entries, last, age_ms: 0 }))
}

fn size(name: &[u8], inode: Option<&Inode>) -> usize {
    INODE_BYTES + name.len() + inode.and_then(|i| i.target.as_ref()).map_or(0, Vec::len)
}

fn entry(name: Bytes, inode: Option<&Inode>) -> v1::ListEntry {
    let growing = inode.is_some_and(|i| i.tail.is_some());
    v1::ListEntry { name, inode: inode.map(v1::Inode::from), growing, common_prefix: false }
}
