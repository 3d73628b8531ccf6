//! `cairn fs get`.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, ListingOptions};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::cat::copy_out;
use super::{remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::output::{self, human_bytes, line};
use crate::progress::Progress;

struct Job {
    from: FsPath,
    inode: Inode,
    to: PathBuf,
}

pub async fn run(client: &Client, args: TransferArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let (from, to) = sources(&args.paths)?;
    if to == "-" {
        for path in from {
            let file = client.open(remote(path)?.to_bytes()).await?;
            copy_out(&file, 0, u64::MAX, output::bytes).await?;
        }
        return Ok(());
    }
    let jobs = plan(client, from, Path::new(to), args.recursive).await?;
    let total = jobs.iter().filter(|j| j.inode.is_file()).map(|j| j.inode.size).sum();
    let progress = Arc::new(Progress::start(total, args.quiet || args.json));
    let (directories, files): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|j| j.inode.is_dir());
    for job in &directories {
        std::fs::create_dir_all(&job.to)
            .map_err(|e| CliError::io("make the directory", job.to.display(), e))?;
    }
    stream::iter(files.into_iter().map(|job| get_one(client, job, &progress)))
        .buffer_unordered(usize::from(args.jobs))
        .try_collect::<Vec<()>>()
        .await?;
    let (files, bytes) = progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return line(json!({"files": files, "bytes": bytes, "seconds": seconds}).to_string());
    }
    if !args.quiet && args.recursive {
        eprintln!("got {files} files, {} in {seconds:.2} s", human_bytes(bytes));
    }
    Ok(())
}

async fn plan(client: &Client, from: &[OsString], to: &Path, recursive: bool) -> Result<Vec<Job>, CliError> {
    let mut jobs = Vec::new();
    for source in from {
        let source = remote(source)?;
        let inode = client.stat(&source).await?;
        let base = match source.name() {
            Some(name) if to.is_dir() => to.join(OsStr::from_bytes(name.as_bytes())),
            _ => to.to_owned(),
        };
        if from.len() > 1 && base == to {
            return Err(CliError::Usage(format!(
                "{} is not a directory, and there are several sources",
                to.display()
            )));
        }
        if inode.is_dir() && !recursive {
            return Err(CliError::Usage(format!("{source} is a directory: use -r")));
        }
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
    let mut part = job.to.clone().into_os_string();
    part.push(".cairn-part");
    let part = PathBuf::from(part);
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
