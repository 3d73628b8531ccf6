//! `cairn fs put`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cairn_sdk::Client;
use cairn_sdk::types::{FsError, FsPath, Name};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::{destination, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::local::{LocalEntry, walk};
use crate::output::{human_bytes, line};
use crate::progress::Progress;

const READ_BYTES: usize = 1 << 20;

struct Job {
    entry: LocalEntry,
    to: FsPath,
}

pub async fn run(client: &Client, args: TransferArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let (from, to) = sources(&args.paths)?;
    let to = remote(to)?;
    if from == [OsString::from("-")] {
        return put_stdin(client, &to).await;
    }
    let jobs = plan(client, from, &to, args.recursive).await?;
    let total = jobs.iter().filter(|j| j.entry.meta.is_file()).map(|j| j.entry.meta.len()).sum();
    let progress = Arc::new(Progress::start(total, args.quiet || args.json));
    let (directories, files): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|j| j.entry.meta.is_dir());
    for job in &directories {
        make_directory(client, job).await?;
    }
    stream::iter(files.into_iter().map(|job| put_one(client, job, &progress)))
        .buffer_unordered(usize::from(args.jobs))
        .try_collect::<Vec<()>>()
        .await?;
    let (files, bytes) = progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return line(json!({"files": files, "bytes": bytes, "seconds": seconds}).to_string());
    }
    if !args.quiet && args.recursive {
        eprintln!("put {files} files, {} in {seconds:.2} s", human_bytes(bytes));
    }
    Ok(())
}

async fn plan(
    client: &Client,
    from: &[OsString],
    to: &FsPath,
    recursive: bool,
) -> Result<Vec<Job>, CliError> {
    let mut jobs = Vec::new();
    for source in from {
        let source = Path::new(source);
        let name = source.canonicalize().ok().and_then(|p| p.file_name().map(|n| n.as_bytes().to_vec()));
        let base = destination(client, to, name.as_deref()).await?;
        if from.len() > 1 && base == *to {
            return Err(CliError::Usage(format!("{to} is not a directory, and there are several sources")));
        }
        let meta = std::fs::metadata(source).map_err(|e| CliError::io("read", source.display(), e))?;
        if !meta.is_dir() {
            let entry = LocalEntry { path: source.to_owned(), relative: source.to_owned(), meta };
            jobs.push(Job { entry, to: base });
            continue;
        }
        if !recursive {
            return Err(CliError::Usage(format!("{} is a directory: use -r", source.display())));
        }
        let root = source.canonicalize().map_err(|e| CliError::io("read", source.display(), e))?;
        for entry in walk(&root)? {
            let to = below(&base, &entry.relative)?;
            jobs.push(Job { entry, to });
        }
    }
    Ok(jobs)
}

fn below(base: &FsPath, relative: &Path) -> Result<FsPath, CliError> {
    let mut path = base.clone();
    for part in relative.components() {
        let name = Name::new(part.as_os_str().as_bytes())
            .map_err(|e| CliError::Usage(format!("{}: {e}", relative.display())))?;
        path = path.join(name);
    }
    Ok(path)
}

async fn make_directory(client: &Client, job: &Job) -> Result<(), CliError> {
    let mode = job.entry.meta.permissions().mode() & 0o7777;
    match client.mkdir(&job.to, mode).await {
        Err(error) if error.fs() == Some(&FsError::Exists) => Ok(()),
        outcome => Ok(outcome.map(|_| ())?),
    }
}

async fn put_one(client: &Client, job: Job, progress: &Progress) -> Result<(), CliError> {
    let LocalEntry { path, meta, .. } = &job.entry;
    if meta.is_symlink() {
        let target =
            std::fs::read_link(path).map_err(|e| CliError::io("read the link", path.display(), e))?;
        return match client.symlink(target.as_os_str().as_bytes(), &job.to).await {
            Err(error) if error.fs() == Some(&FsError::Exists) => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        };
    }
    if !meta.is_file() {
        eprintln!("cairn: skipped {}: not a regular file, directory or symlink", path.display());
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o7777;
    let failed = |e| CliError::io("read", path.display(), e);
    if meta.len() <= READ_BYTES as u64 {
        let data = tokio::fs::read(path).await.map_err(failed)?;
        client.put(&job.to, mode, &data).await?;
        progress.add_bytes(data.len() as u64);
    } else {
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut writer = client.put_writer(&job.to, mode).await?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let n = file.read(&mut buffer).await.map_err(failed)?;
            if n == 0 {
                break;
            }
            writer.write(&buffer[..n]).await?;
            progress.add_bytes(n as u64);
        }
        writer.finish().await?;
    }
    progress.add_file();
    Ok(())
}

async fn put_stdin(client: &Client, to: &FsPath) -> Result<(), CliError> {
    let mut writer = client.put_writer(to, 0o644).await?;
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n = input.read(&mut buffer).await.map_err(|e| CliError::io("read", "standard input", e))?;
        if n == 0 {
            break;
        }
        writer.write(&buffer[..n]).await?;
    }
    writer.finish().await?;
    Ok(())
}
