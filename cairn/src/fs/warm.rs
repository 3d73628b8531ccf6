//! `cairn fs warm`.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use cairn_sdk::types::FsError;
use cairn_sdk::{At, Client, TreeOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::Mutex;

use super::remote;
use super::tally::Tally;
use crate::cli::WarmArgs;
use crate::exit::CliError;
use crate::output::{human_bytes, object};
use crate::progress::Progress;

/// Bytes asked for at once.
const PIECE_BYTES: usize = 4 << 20;

pub async fn run(client: &Client, args: &WarmArgs, json: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(&args.paths)?;
    for path in &args.paths {
        tally.count(warm(client, path, args, json).await)?;
    }
    tally.end()
}

/// When the next bytes may be asked for: so many a second.
struct Pace {
    bytes_per_second: Option<u64>,
    // Guards the time up to which bytes were let through; held for as long as it is looked at.
    next: Mutex<Instant>,
}

impl Pace {
    async fn wait_for(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut next = self.next.lock().await;
        let at = (*next).max(Instant::now());
        *next = at + takes;
        drop(next);
        tokio::time::sleep_until(at.into()).await;
    }
}

async fn warm(client: &Client, path: &OsStr, args: &WarmArgs, json: bool) -> Result<(), CliError> {
    let top = remote(path)?;
    let began = Instant::now();
    let pace = Pace { bytes_per_second: args.bandwidth, next: Mutex::new(began) };
    let progress = Progress::start(0, args.quiet || json);
    let inode = client.stat(&top).await?;
    if inode.is_dir() {
        tree(client, &top.to_bytes(), args, &pace, &progress).await?;
    } else {
        progress.expect_bytes(inode.size);
        file(client, At::from(&top), &pace, &progress).await?;
    }
    let (files, bytes) = progress.finish();
    let seconds = began.elapsed().as_secs_f64();
    if json {
        let path = top.to_string();
        return object(&json!({"path": path, "files": files, "bytes": bytes, "seconds": seconds}));
    }
    if !args.quiet {
        eprintln!("read {files} files, {} in {seconds:.2} s", human_bytes(bytes));
    }
    Ok(())
}

async fn tree(
    client: &Client,
    top: &[u8],
    args: &WarmArgs,
    pace: &Pace,
    progress: &Progress,
) -> Result<(), CliError> {
    let mut listing = client.list_tree(top, TreeOptions::default());
    let mut running = FuturesUnordered::new();
    while let Some(entry) = listing.next().await? {
        let Some(inode) = entry.inode.filter(|inode| inode.is_file() && inode.size > 0) else { continue };
        progress.expect_bytes(inode.size);
        running.push(file(client, At::Inode(inode.ino), pace, progress));
        if running.len() >= usize::from(args.jobs)
            && let Some(outcome) = running.next().await
        {
            outcome?;
        }
    }
    while let Some(outcome) = running.next().await {
        outcome?;
    }
    Ok(())
}

/// Reads a file to its end; one that somebody removed meanwhile is not there to be read.
async fn file(client: &Client, at: At, pace: &Pace, progress: &Progress) -> Result<(), CliError> {
    let mut file = match client.open(at).await {
        Err(error) if matches!(error.fs(), Some(FsError::NotFound | FsError::Stale)) => return Ok(()),
        opened => opened?,
    };
    loop {
        pace.wait_for(PIECE_BYTES.min(usize::try_from(file.length()).unwrap_or(PIECE_BYTES))).await;
        let piece = file.read(PIECE_BYTES).await?;
        if piece.is_empty() {
            progress.add_file();
            return Ok(());
        }
        progress.add_bytes(piece.len() as u64);
        if piece.len() < PIECE_BYTES {
            progress.add_file();
            return Ok(());
        }
    }
}
