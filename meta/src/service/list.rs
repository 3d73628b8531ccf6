//! `List`: a directory's names with their attributes, in order, from one snapshot.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::NAME_BYTES_MAX;
use cairn_types::{FsError, InodeId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::call::malformed;
use super::stat::{consistency, imported};
use super::{Context, decode};
use crate::namespace::read::{self, Listed};
use crate::node::ReadView;

/// Entries in one batch, at most.
const ENTRIES_MAX: usize = 1024;
/// Bytes of entries in one batch, at most, a last one aside.
const BYTES_MAX: usize = 256 << 10;
/// Batches that wait for a slow client, at most.
const BATCHES_MAX: usize = 4;
/// How long one snapshot is kept for a listing: afterwards the stream ends without its last batch,
/// and the client resumes by name, from a new point in time.
const SNAPSHOT_KEPT: Duration = Duration::from_secs(60);
/// An inode's attributes on the wire, about.
const INODE_BYTES: usize = 96;

/// The stream of a listing.
pub type ListStream = ReceiverStream<Result<v1::ListBatch, Status>>;

/// Begins a listing; what is wrong with its target is answered at once.
pub async fn list(
    ctx: &Context,
    request: v1::ListRequest,
    _deadline: Duration,
) -> Result<ListStream, WireError> {
    decode::group(request.group)?;
    if request.start_after.len() > NAME_BYTES_MAX {
        return Err(malformed("start_after"));
    }
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency)?).await?;
    imported(ctx, &view, &target, true).await?;
    let directory = read::resolve(&*view.store, &target).map_err(super::refusal)?;
    if !directory.is_dir() {
        return Err(FsError::NotDirectory.into());
    }
    let limit = if request.limit == 0 { u64::MAX } else { request.limit };
    let cursor = Cursor { view, directory: directory.ino, after: request.start_after.to_vec(), left: limit };
    let (tx, rx) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(async move {
        let stream = send(cursor, &tx);
        if tokio::time::timeout(SNAPSHOT_KEPT, stream).await.is_err() {
            tracing::info!(directory = %directory.ino, "a listing outlived its snapshot");
        }
    });
    Ok(ReceiverStream::new(rx))
}

/// Where a listing is.
struct Cursor {
    view: ReadView,
    directory: InodeId,
    after: Vec<u8>,
    left: u64,
}

async fn send(mut cursor: Cursor, sink: &mpsc::Sender<Result<v1::ListBatch, Status>>) {
    loop {
        // A read of the store blocks; a client that is slow must hold up no thread meanwhile.
        let read = tokio::task::spawn_blocking(move || cursor.next_batch());
        let (back, batch) = match read.await {
            Ok((back, Ok(batch))) => (back, batch),
            Ok((_, Err(error))) => {
                drop(sink.send(Err(error.into())).await);
                return;
            }
            Err(_) => {
                drop(sink.send(Err(ServiceError::Internal.into())).await);
                return;
            }
        };
        cursor = back;
        metrics::counter!("cairn_meta_listed_entries_total").increment(batch.entries.len() as u64);
        let last = batch.last;
        // An error means that the client has gone.
        if sink.send(Ok(batch)).await.is_err() || last || cursor.left == 0 {
            return;
        }
    }
}

impl Cursor {
    fn next_batch(mut self) -> (Self, Result<v1::ListBatch, WireError>) {
        let batch = self.read();
        (self, batch)
    }

    fn read(&mut self) -> Result<v1::ListBatch, WireError> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(ENTRIES_MAX);
        let listing =
            read::list(&*self.view.store, self.directory, &self.after, limit).map_err(super::refusal)?;
        let mut entries = Vec::with_capacity(listing.entries.len());
        let mut bytes = 0;
        let mut last = listing.last;
        for listed in listing.entries {
            if bytes >= BYTES_MAX {
                last = false;
                break;
            }
            bytes += INODE_BYTES + listed.name.len() + listed.inode.target.as_ref().map_or(0, Vec::len);
            entries.push(entry(listed));
        }
        if let Some(entry) = entries.last() {
            self.after = entry.name.to_vec();
        }
        self.left = self.left.saturating_sub(entries.len() as u64);
        Ok(v1::ListBatch { snapshot_index: self.view.applied.0, entries, last })
    }
}

fn entry(listed: Listed) -> v1::ListEntry {
    let growing = listed.inode.tail.is_some();
    v1::ListEntry {
        inode: Some(v1::Inode::from(&listed.inode)),
        name: listed.name.into(),
        growing,
        common_prefix: false,
    }
}
