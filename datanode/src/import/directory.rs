//! [`Imports`]: carries out the work `Import`.

use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::v1;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::names::{Bounds, Named, Names};
use super::{BATCH_ENTRIES_MAX, ImportError};
use crate::understore::{ListRequest, UnderStore};

/// Imports at once; of these, one may be of a directory that takes most of their memory.
const IMPORTS_MAX: usize = 2;
/// What they hold when nobody says otherwise.
const BYTES: usize = 200 << 20;

/// What an import found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Names sent.
    pub entries: u64,
    /// Keys left out: no valid names, or a name taken twice over.
    pub skipped: u64,
    /// Objects that are reachable under a longer name, since a directory has theirs.
    pub shadowed: u64,
}

/// The imports of a node, and the memory they share. Cheap to clone.
#[derive(Clone)]
pub struct Imports {
    bounds: Bounds,
    turns: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Imports {
    fn default() -> Self {
        Self::new(BYTES)
    }
}

impl Imports {
    /// Imports that hold some `bytes` of names at once.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let (turns, large) = (Semaphore::new(IMPORTS_MAX), Semaphore::new(1));
        Self { bounds: Bounds::of(bytes), turns: Arc::new(turns), large: Arc::new(large) }
    }

    /// Lists the directory that `work` names and sends its entries in batches of at most 1,000, in
    /// name order, each with the range (start_after, end] of names that it covers completely; the last
    /// one has an empty `end`. An empty directory gives one empty batch.
    ///
    /// All names are gathered and sorted before the first batch goes out (at most a million: some
    /// 100 MiB), so that the ranges hold whatever the endpoint's order is. Two run at once, others
    /// wait; of two that are large one waits for the other.
    ///
    /// # Errors
    /// [`ImportError`]; `Stopped` when `batches` is closed. Asking again begins anew, or after
    /// `work.start_after`.
    pub async fn import(
        &self,
        store: &dyn UnderStore,
        work: &v1::Import,
        batches: &mpsc::Sender<v1::ImportedBatch>,
    ) -> Result<ImportSummary, ImportError> {
        let prefix = prefix(work)?;
        // Neither is ever closed.
        let _turn = self.turns.acquire().await.ok();
        let mut large = Large { turns: &self.large, turn: None };
        let names =
            gather(store, &prefix, batches, Names::within(self.bounds, work.root), &mut large).await?;
        send(&names, &prefix, work, batches).await
    }
}

/// The turn of an import whose names have outgrown what two may hold.
struct Large<'a> {
    turns: &'a Semaphore,
    turn: Option<SemaphorePermit<'a>>,
}

impl Large<'_> {
    /// Waits for it when it is needed. Who has it waits for nothing but the endpoint.
    async fn take_for(&mut self, names: &Names) {
        if self.turn.is_none() && names.outgrown() {
            self.turn = self.turns.acquire().await.ok();
        }
    }
}

/// Sends the names that follow the work's start, batch by batch.
async fn send(
    names: &Names,
    prefix: &str,
    work: &v1::Import,
    batches: &mpsc::Sender<v1::ImportedBatch>,
) -> Result<ImportSummary, ImportError> {
    let mut start_after = work.start_after.clone();
    let mut rest = names.after(&work.start_after).peekable();
    let entries = rest.len() as u64;
    loop {
        let batch: Vec<Named<'_>> = rest.by_ref().take(BATCH_ENTRIES_MAX).collect();
        let last = rest.peek().is_none();
        let end = match batch.last() {
            Some(named) if !last => Bytes::copy_from_slice(named.name),
            _ => Bytes::new(),
        };
        let message = v1::ImportedBatch {
            mount: work.mount,
            directory: work.directory,
            start_after: std::mem::replace(&mut start_after, end.clone()),
            end,
            entries: batch.iter().map(|named| imported(prefix, named)).collect(),
        };
        batches.send(message).await.map_err(|_| ImportError::Stopped)?;
        if last {
            break;
        }
    }
    metrics::counter!("cairn_data_imported_entries_total").increment(entries);
    for (why, keys) in &names.skipped {
        let (mount, why) = (work.mount.to_string(), why.word());
        metrics::counter!("cairn_data_import_skipped_keys_total", "mount" => mount, "why" => why)
            .increment(*keys);
    }
    let (skipped, shadowed) = (names.left_out(), names.shadowed);
    if skipped + shadowed > 0 {
        tracing::warn!(mount = work.mount, prefix, skipped, shadowed, "keys that are no names of their own");
    }
    Ok(ImportSummary { entries, skipped, shadowed })
}

/// The directory's prefix: empty, or with a final `/`.
fn prefix(work: &v1::Import) -> Result<String, ImportError> {
    let mut prefix =
        std::str::from_utf8(&work.prefix).map_err(|_| ImportError::Malformed { field: "prefix" })?.to_owned();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(prefix)
}

async fn gather(
    store: &dyn UnderStore,
    prefix: &str,
    batches: &mpsc::Sender<v1::ImportedBatch>,
    mut names: Names,
    large: &mut Large<'_>,
) -> Result<Names, ImportError> {
    let mut request = ListRequest { prefix: prefix.to_owned(), delimiter: true, ..ListRequest::default() };
    loop {
        if batches.is_closed() {
            return Err(ImportError::Stopped);
        }
        let page = store.list(&request).await?;
        metrics::counter!("cairn_data_import_pages_total").increment(1);
        for object in &page.objects {
            // What an endpoint lists beside the prefix is not this directory's.
            if let Some(rest) = object.key.strip_prefix(prefix) {
                names.add_object(rest, object)?;
            }
        }
        for directory in &page.prefixes {
            if let Some(rest) = directory.strip_prefix(prefix) {
                names.add_directory(rest)?;
            }
        }
        large.take_for(&names).await;
        if page.continuation.is_some() && page.continuation == request.continuation {
            return Err(ImportError::Endless);
        }
        request.continuation = page.continuation;
        if request.continuation.is_none() {
            break;
        }
    }
    names.settle()?;
    // Some may have longer names now.
    large.take_for(&names).await;
    Ok(names)
}

fn imported(prefix: &str, named: &Named<'_>) -> v1::ImportedEntry {
    let mut key = [prefix.as_bytes(), named.key].concat();
    if named.directory {
        key.push(b'/');
    }
    v1::ImportedEntry {
        name: Bytes::copy_from_slice(named.name),
        directory: named.directory,
        size: named.size,
        etag: String::from_utf8_lossy(named.etag).into_owned(),
        mtime_ns: named.mtime.0,
        key: key.into(),
    }
}
