//! Metadata cases.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_sdk::{Client, Error, ListingOptions};
use tokio::task::JoinSet;

use crate::bench::measure::{Recorder, Run};
use crate::exit::CliError;

/// Calls under way at once.
pub const AT_ONCE: usize = 64;

/// Runs `AT_ONCE` loops of `call(n)` until the time is over; `n` counts over all loops.
pub async fn loops<F, Fut>(seconds: f64, call: F) -> Result<Run, CliError>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let call = Arc::new(call);
    let counter = Arc::new(AtomicU64::new(0));
    let mut total = Recorder::start();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (call, counter) = (Arc::clone(&call), Arc::clone(&counter));
        tasks.spawn(async move {
            let mut own = Recorder::start();
            while Instant::now() < until {
                let n = counter.fetch_add(1, Ordering::Relaxed);
                let started = Instant::now();
                call(n).await?;
                own.record(started.elapsed(), 1.0);
            }
            Ok::<_, Error>(own)
        });
    }
    while let Some(own) = tasks.join_next().await {
        total.merge(&own??);
    }
    Ok(total.finish())
}

/// Empty files, each new.
pub async fn create(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, root) = (client.clone(), root.to_owned());
    loops(seconds, move |n| {
        let (client, path) = (client.clone(), format!("{root}/f{n:09}"));
        async move { client.create_entry(&path.into(), 0o644, true, false).await.map(|_| ()) }
    })
    .await
}

/// Fills a directory with `entries` empty files.
pub async fn fill(client: &Client, path: &str, entries: u64) -> Result<(), CliError> {
    client.mkdir_all(path, 0o755).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..4 * AT_ONCE {
        let (client, path, next) = (client.clone(), path.to_owned(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= entries {
                    return Ok::<_, Error>(());
                }
                if n > 0 && n.is_multiple_of(100_000) {
                    eprintln!("  {n} entries made");
                }
                client.create_entry(&format!("{path}/file-{n:09}").into(), 0o644, true, false).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// One listing; the latency is that of the first entry.
pub async fn list(client: &Client, path: &str) -> Result<Run, CliError> {
    let started = Instant::now();
    let mut recorder = Recorder::start();
    let mut listing = client.list(path, ListingOptions::default());
    let mut first = None;
    let mut count = 0u64;
    while let Some(entry) = listing.next().await? {
        first.get_or_insert_with(|| started.elapsed());
        count += u64::from(!entry.name.as_bytes().is_empty());
    }
    recorder.record(first.unwrap_or_default(), count as f64);
    Ok(recorder.finish())
}

/// The same path again and again.
pub async fn stat(client: &Client, path: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, path) = (client.clone(), path.to_owned());
    loops(seconds, move |_| {
        let (client, path) = (client.clone(), path.clone());
        async move { client.stat(path.as_str()).await.map(|_| ()) }
    })
    .await
}

/// Plain iteration over as many rows of the same kind in a RocksDB of its own.
pub async fn iterate(directory: &Path, entries: u64) -> Result<Run, CliError> {
    let directory = directory.join("limit-rocksdb");
    let rate = tokio::task::spawn_blocking(move || cairn_meta::store::iteration_rate(&directory, entries))
        .await?
        .map_err(|e| CliError::io("iterate", "a RocksDB of the bench's own", std::io::Error::other(e)))?;
    Ok(Run { rate, ..Run::default() })
}
