//! What `put`, `get` and `cp` have in common: many files, several at once.

use std::ffi::{OsStr, OsString};
use std::time::Instant;

use cairn_sdk::types::{FsPath, Inode, Name};
use cairn_sdk::{Client, ListingOptions};
use futures::{StreamExt, stream};
use serde_json::json;

use super::tally::Tally;
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::output::{human_bytes, object};
use crate::progress::Progress;

/// One thing to bring to another place.
pub trait Job: Sized {
    /// What was done, as in "put 3 files".
    const DONE: &'static str;

    /// It is a directory: made before any file is brought.
    fn is_dir(&self) -> bool;

    /// Bytes that it will count to, as far as known.
    fn bytes(&self) -> u64;

    /// Makes the directory; one that is there is as good.
    async fn make_directory(&self, client: &Client) -> Result<(), CliError>;

    /// Brings what is no directory.
    async fn carry(self, client: &Client, progress: &Progress) -> Result<(), CliError>;
}

/// Plans what each source stands for (parents before children), makes the directories, brings the
/// files, so many at once, and tells what it came to. What fails is counted, the rest goes on.
pub async fn run<J: Job>(
    client: &Client,
    args: &TransferArgs,
    json: bool,
    from: &[OsString],
    mut tally: Tally,
    plan: impl AsyncFn(&OsStr) -> Result<Vec<J>, CliError>,
) -> Result<(), CliError> {
    let started = Instant::now();
    let mut jobs: Vec<J> = Vec::new();
    for source in from {
        let planned = plan(source.as_os_str()).await;
        jobs.extend(tally.count(planned)?.unwrap_or_default());
    }
    tally.expect(jobs.len());
    let total: u64 = jobs.iter().map(J::bytes).sum();
    let progress = Progress::start(total, args.quiet || json);
    let (directories, files): (Vec<J>, Vec<J>) = jobs.into_iter().partition(J::is_dir);
    for job in &directories {
        tally.count(job.make_directory(client).await)?;
    }
    let carried = files.into_iter().map(|job| job.carry(client, &progress));
    let mut running = stream::iter(carried).buffer_unordered(usize::from(args.jobs));
    while let Some(outcome) = running.next().await {
        tally.count(outcome)?;
    }
    finish(J::DONE, args, json, started, &progress, tally)
}

fn finish(
    done: &str,
    args: &TransferArgs,
    json: bool,
    started: Instant,
    progress: &Progress,
    tally: Tally,
) -> Result<(), CliError> {
    let (files, bytes) = progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    if json {
        let failed = tally.failed();
        object(&json!({"files": files, "bytes": bytes, "seconds": seconds, "failed": failed}))?;
    } else if !args.quiet && args.recursive {
        eprintln!("{done} {files} files, {} in {seconds:.2} s", human_bytes(bytes));
    }
    tally.end()
}

/// A file, directory or symlink of the namespace, and where it is to go.
pub struct Found<To> {
    pub from: FsPath,
    pub inode: Inode,
    pub to: To,
}

impl<To> Found<To> {
    /// Bytes of a plain file's content.
    pub fn content_bytes(&self) -> u64 {
        if self.inode.is_file() { self.inode.size } else { 0 }
    }
}

/// All that is under `root` and itself, parents before children; `below` names the place of an
/// entry under its directory's. Symlinks are not followed.
pub async fn walk<To>(
    client: &Client,
    root: Found<To>,
    below: impl Fn(&To, &Name) -> To,
) -> Result<Vec<Found<To>>, CliError> {
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(next) = waiting.pop() {
        if next.inode.is_dir() {
            let mut listing = client.list(&next.from, ListingOptions::default());
            while let Some(entry) = listing.next().await? {
                let to = below(&next.to, &entry.name);
                waiting.push(Found { from: next.from.join(entry.name), inode: entry.inode, to });
            }
        }
        found.push(next);
    }
    Ok(found)
}
