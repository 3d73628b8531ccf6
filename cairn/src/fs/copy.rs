//! `cairn fs cp`: through this process; a copy that shares extents is not there yet.

use std::ffi::OsStr;
use std::time::Instant;

use cairn_sdk::types::{FsError, FsPath, Inode};
use cairn_sdk::{Client, ListingOptions};

use super::tally::Tally;
use super::transfer::{finish, run_all};
use super::{destination, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::progress::Progress;

const PIECE_BYTES: usize = 4 << 20;

struct Job {
    from: FsPath,
    inode: Inode,
    to: FsPath,
}

pub async fn run(client: &Client, args: TransferArgs, json: bool) -> Result<(), CliError> {
    let started = Instant::now();
    let (from, to) = sources(&args.paths)?;
    let mut tally = Tally::over(from)?;
    let to = remote(to)?;
    let mut jobs = Vec::new();
    for source in from {
        let planned = plan(client, source, &to, from.len() > 1, args.recursive).await;
        jobs.extend(tally.count(planned)?.unwrap_or_default());
    }
    tally.expect(jobs.len());
    let total = jobs.iter().filter(|j| j.inode.is_file()).map(|j| j.inode.size).sum();
    let progress = Progress::start(total, args.quiet || json);
    let (directories, files): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|j| j.inode.is_dir());
    for job in &directories {
        tally.count(make_directory(client, job).await)?;
    }
    let copies = files.into_iter().map(|job| copy_one(client, job, &progress));
    run_all(copies, args.jobs, &mut tally).await?;
    finish("copied", &args, json, started, &progress, tally)
}

/// Everything that a source stands for, parents before children.
async fn plan(
    client: &Client,
    source: &OsStr,
    to: &FsPath,
    several: bool,
    recursive: bool,
) -> Result<Vec<Job>, CliError> {
    let source = remote(source)?;
    let inode = client.stat(&source).await?;
    let base = destination(client, to, source.name().map(|n| n.as_bytes())).await?;
    if several && base == *to {
        return Err(CliError::Usage(format!("{to} is not a directory, and there are several sources")));
    }
    if inode.is_dir() && !recursive {
        return Err(CliError::Usage(format!("{source} is a directory: use -r")));
    }
    if base.starts_with(&source) {
        return Err(CliError::Usage(format!("{source} cannot be copied onto or into itself")));
    }
    let mut jobs = Vec::new();
    let mut waiting = vec![Job { from: source, inode, to: base }];
    while let Some(job) = waiting.pop() {
        if job.inode.is_dir() {
            let mut listing = client.list(&job.from, ListingOptions::default());
            while let Some(entry) = listing.next().await? {
                let (from, to) = (job.from.join(entry.name.clone()), job.to.join(entry.name));
                waiting.push(Job { from, inode: entry.inode, to });
            }
        }
        jobs.push(job);
    }
    Ok(jobs)
}

async fn make_directory(client: &Client, job: &Job) -> Result<(), CliError> {
    match client.mkdir(&job.to, job.inode.mode).await {
        Err(error) if error.fs() == Some(&FsError::Exists) => Ok(()),
        outcome => Ok(outcome.map(|_| ())?),
    }
}

async fn copy_one(client: &Client, job: Job, progress: &Progress) -> Result<(), CliError> {
    let Job { from, inode, to } = &job;
    if let Some(target) = &inode.target {
        client.symlink(target, to).await?;
        return Ok(());
    }
    let mut file = client.open(from).await?;
    let mut writer = client.put_writer(to, inode.mode).await?;
    loop {
        let piece = file.read(PIECE_BYTES).await?;
        if piece.is_empty() {
            break;
        }
        writer.write(&piece).await?;
        progress.add_bytes(piece.len() as u64);
    }
    writer.finish().await?;
    progress.add_file();
    Ok(())
}
