//! Metadata cases.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_sdk::{Client, Error, ListingOptions, RenameMode};
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
    loops_of(AT_ONCE, seconds, call).await
}

async fn loops_of<F, Fut>(at_once: usize, seconds: f64, call: F) -> Result<Run, CliError>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let call = Arc::new(call);
    let counter = Arc::new(AtomicU64::new(0));
    let mut total = Recorder::start();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
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

/// Files that one transaction makes where a directory is filled.
const FILLED_AT_ONCE: u64 = 256;
/// Transactions under way where a directory is filled.
const FILLING: usize = 8;
/// Targets of one `stat_all`.
const STATS_AT_ONCE: usize = 512;
/// Renames of a run.
const RENAMES: usize = 100;

/// Runs one loop of `call(n)` until the time is over, in a task of its own, as an echo's loop is.
pub async fn one_loop<F, Fut>(seconds: f64, call: F) -> Result<Run, CliError>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    loops_of(1, seconds, call).await
}

/// Empty files, each new, one after the other.
pub async fn create_alone(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, root) = (client.clone(), root.to_owned());
    one_loop(seconds, move |n| {
        let (client, path) = (client.clone(), format!("{root}/f{n:09}"));
        async move { client.create_entry(&path.into(), 0o644, true, false).await.map(|_| ()) }
    })
    .await
}

async fn make(client: &Client, root: &str, files: std::ops::Range<u64>) -> Result<(), Error> {
    let mut transaction = client.transaction();
    for n in files {
        transaction = transaction.create(format!("{root}/file-{n:09}"), 0o644, Vec::new());
    }
    transaction.commit().await.map(|_| ())
}

/// Empty files, 100 to a transaction; the latency is a transaction's.
pub async fn create_in_transactions(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    const FILES: u64 = 100;
    let (client, root) = (client.clone(), root.to_owned());
    let run = loops(seconds, move |n| {
        let (client, root) = (client.clone(), root.clone());
        async move { make(&client, &root, n * FILES..(n + 1) * FILES).await }
    })
    .await?;
    Ok(Run { rate: run.rate * FILES as f64, ..run })
}

/// Fills a directory with `entries` empty files, many to a transaction.
pub async fn fill_by_transactions(client: &Client, path: &str, entries: u64) -> Result<(), CliError> {
    client.mkdir_all(path, 0o755).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..FILLING {
        let (client, path, next) = (client.clone(), path.to_owned(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(FILLED_AT_ONCE, Ordering::Relaxed);
                if first >= entries {
                    return Ok::<_, Error>(());
                }
                if first > 0 && first % (FILLED_AT_ONCE * 4096) == 0 {
                    eprintln!("  {first} entries made");
                }
                make(&client, &path, first..entries.min(first + FILLED_AT_ONCE)).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Renames of a directory, there and back.
pub async fn rename(client: &Client, path: &str) -> Result<Run, CliError> {
    let other = format!("{path}-renamed");
    let mut recorder = Recorder::start();
    for n in 0..RENAMES {
        let (from, to) = if n % 2 == 0 { (path, other.as_str()) } else { (other.as_str(), path) };
        let started = Instant::now();
        client.rename(from, to, RenameMode::Replace).await?;
        recorder.record(started.elapsed(), 1.0);
    }
    Ok(recorder.finish())
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

/// As [`stat`], one after the other.
pub async fn stat_alone(client: &Client, path: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, path) = (client.clone(), path.to_owned());
    one_loop(seconds, move |_| {
        let (client, path) = (client.clone(), path.clone());
        async move { client.stat(path.as_str()).await.map(|_| ()) }
    })
    .await
}

/// As [`stat`], 512 to a call, a few calls at once; the rate counts stats.
pub async fn stat_many(client: &Client, path: &str, seconds: f64) -> Result<Run, CliError> {
    const CALLS: usize = 4;
    let (client, path) = (client.clone(), path.to_owned());
    let run = loops_of(CALLS, seconds, move |_| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            for outcome in client.stat_all(std::iter::repeat_n(path.as_str(), STATS_AT_ONCE)).await? {
                outcome?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(Run { rate: run.rate * STATS_AT_ONCE as f64, ..run })
}

/// Plain iteration over as many rows of the same kind in a RocksDB of its own.
pub async fn iterate(directory: &Path, entries: u64) -> Result<Run, CliError> {
    let directory = directory.join("limit-rocksdb");
    let rate = tokio::task::spawn_blocking(move || cairn_meta::store::iteration_rate(&directory, entries))
        .await?
        .map_err(|e| CliError::io("iterate", "a RocksDB of the bench's own", std::io::Error::other(e)))?;
    Ok(Run { rate, ..Run::default() })
}
