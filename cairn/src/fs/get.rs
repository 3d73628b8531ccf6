//! `cairn fs get`.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, ListingOptions};

use super::cat::{copy_out, show};
use super::tally::Tally;
use super::transfer::{finish, run_all};
use super::{remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::progress::Progress;

struct Job {
    from: FsPath,
    inode: Inode,
    to: PathBuf,
}

pub async fn run(client: &Client, args: TransferArgs, json: bool) -> Result<(), CliError> {
    let started = Instant::now();
    let (from, to) = sources(&args.paths)?;
    let mut tally = Tally::over(from)?;
    if to == "-" {
        for path in from {
            tally.count(show(client, path, 0, u64::MAX).await)?;
        }
        return tally.end();
    }
    let mut jobs = Vec::new();
    for source in from {
        let planned = plan(client, source, Path::new(to), from.len() > 1, args.recursive).await;
        jobs.extend(tally.count(planned)?.unwrap_or_default());
    }
    tally.expect(jobs.len());
    let total = jobs.iter().filter(|j| j.inode.is_file()).map(|j| j.inode.size).sum();
    let progress = Progress::start(total, args.quiet || json);
    let (directories, files): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|j| j.inode.is_dir());
    for job in &directories {
        let made = std::fs::create_dir_all(&job.to);
        tally.count(made.map_err(|e| CliError::io("make the directory", job.to.display(), e)))?;
    }
    run_all(files.into_iter().map(|job| get_one(client, job, &progress)), args.jobs, &mut tally).await?;
    finish("got", &args, json, started, &progress, tally)
}

/// Everything that a source stands for, parents before children.
async fn plan(
    client: &Client,
    source: &OsStr,
    to: &Path,
    several: bool,
    recursive: bool,
) -> Result<Vec<Job>, CliError> {
    let source = remote(source)?;
    let inode = client.stat(&source).await?;
    let base = match source.name() {
        Some(name) if to.is_dir() => to.join(OsStr::from_bytes(name.as_bytes())),
        _ => to.to_owned(),
    };
    if several && base == to {
        return Err(CliError::Usage(format!(
            "{} is not a directory, and there are several sources",
            to.display()
        )));
    }
    if inode.is_dir() && !recursive {
        return Err(CliError::Usage(format!("{source} is a directory: use -r")));
    }
    let mut jobs = Vec::new();
    let mut waiting = vec![Job { from: source, inode, to: base }];
    while let Some(job) = waiting.pop() {
        if job.inode.is_dir() {
            let mut listing = client.list(job.inode.ino, ListingOptions::default());
            while let Some(entry) = listing.next().await? {
                let to = job.to.join(OsStr::from_bytes(entry.name.as_bytes()));
                waiting.push(Job { from: job.from.join(entry.name), inode: entry.inode, to });
            }
        }
        jobs.push(job);
    }
    Ok(jobs)
}

async fn get_one(client: &Client, job: Job, progress: &Progress) -> Result<(), CliError> {
    let failed = |e| CliError::io("write", job.to.display(), e);
    if let Some(target) = &job.inode.target {
        match std::os::unix::fs::symlink(OsStr::from_bytes(target), &job.to) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            outcome => outcome.map_err(failed)?,
        }
        return Ok(());
    }
    let file = client.open(&job.from).await?;
    // Written beside its place and renamed into it: a half-written file is never seen.
    let part = job.to.with_file_name(format!(".cairn-part-{}-{}", std::process::id(), file.ino().0));
    let mut out = std::fs::File::create(&part).map_err(failed)?;
    let copied = copy_out(&file, 0, u64::MAX, |piece| {
        progress.add_bytes(piece.len() as u64);
        out.write_all(piece).map_err(failed)
    })
    .await;
    let placed = copied.and_then(|()| {
        out.set_permissions(std::fs::Permissions::from_mode(job.inode.mode & 0o7777)).map_err(failed)?;
        std::fs::rename(&part, &job.to).map_err(failed)
    });
    if placed.is_err() {
        // What is left of a failed transfer is of no use; the failure is what is told.
        let _ = std::fs::remove_file(&part);
    }
    placed?;
    progress.add_file();
    Ok(())
}
