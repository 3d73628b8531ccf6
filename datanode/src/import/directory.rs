//! [`import`]: carries out the work `Import`.

use bytes::Bytes;
use cairn_proto::v1;
use tokio::sync::{Semaphore, mpsc};

use super::names::{Named, Names};
use super::{BATCH_ENTRIES_MAX, ImportError};
use crate::understore::{ListRequest, UnderStore};

/// Imports in this process at once: bounds the names held to some 200 MiB, whoever asks.
static TURNS: Semaphore = Semaphore::const_new(2);

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

/// Lists the directory that `work` names and sends its entries in batches of at most 1,000, in name
/// order, each with the range (start_after, end] of names that it covers completely; the last one
/// has an empty `end`. An empty directory gives one empty batch.
///
/// All names are gathered and sorted before the first batch goes out (at most a million: some
/// 100 MiB), so that the ranges hold whatever the endpoint's order is. Two run at once in a process,
/// others wait.
///
/// # Errors
/// [`ImportError`]; `Stopped` when `batches` is closed. Asking again begins anew, or after
/// `work.start_after`.
pub async fn import(
    store: &dyn UnderStore,
    work: &v1::Import,
    batches: &mpsc::Sender<v1::ImportedBatch>,
) -> Result<ImportSummary, ImportError> {
    let prefix = prefix(work)?;
    // Never closed.
    let _turn = TURNS.acquire().await.ok();
    let names = gather(store, &prefix, batches).await?;
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
            entries: batch.iter().map(|named| imported(&prefix, named)).collect(),
        };
        batches.send(message).await.map_err(|_| ImportError::Stopped)?;
        if last {
            break;
        }
    }
    metrics::counter!("cairn_data_imported_entries_total").increment(entries);
    metrics::counter!("cairn_data_import_skipped_keys_total").increment(names.skipped);
    if names.skipped + names.shadowed > 0 {
        let (skipped, shadowed) = (names.skipped, names.shadowed);
        tracing::warn!(mount = work.mount, prefix, skipped, shadowed, "keys that are no names of their own");
    }
    Ok(ImportSummary { entries, skipped: names.skipped, shadowed: names.shadowed })
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
) -> Result<Names, ImportError> {
    let mut names = Names::default();
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
        if page.continuation.is_some() && page.continuation == request.continuation {
            return Err(ImportError::Endless);
        }
        request.continuation = page.continuation;
        if request.continuation.is_none() {
            break;
        }
    }
    names.settle()?;
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
