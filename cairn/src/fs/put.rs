//! `cairn fs put`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use cairn_sdk::Client;
use cairn_sdk::types::{FsError, FsPath, Name};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::tally::Tally;
use super::transfer::{self, Job};
use super::{destination, is_directory, no_directory, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::local::{LocalEntry, walk};
use crate::output::object;
use crate::progress::Progress;

const READ_BYTES: usize = 1 << 20;

struct Put {
    entry: LocalEntry,
    to: FsPath,
}

pub async fn run(client: &Client, args: TransferArgs, json: bool) -> Result<(), CliError> {
    let (from, to) = sources(&args.paths)?;
    let to = remote(to)?;
    if from == [OsString::from("-")] {
        return put_stdin(client, &to, json).await;
    }
    let tally = Tally::of(from.len());
    transfer::run(client, &args, json, from, tally, async |source| {
        plan(client, source, &to, from.len() > 1, args.recursive).await
    })
    .await
}

async fn plan(
    client: &Client,
    source: &OsStr,
    to: &FsPath,
    several: bool,
    recursive: bool,
) -> Result<Vec<Put>, CliError> {
    let source = Path::new(source);
    let name = source.canonicalize().ok().and_then(|p| p.file_name().map(|n| n.as_bytes().to_vec()));
    let meta = std::fs::metadata(source).map_err(|e| CliError::io("read", source.display(), e))?;
    let base = destination(client, to, name.as_deref()).await?;
    if several && base == *to {
        return Err(no_directory(to));
    }
    if !meta.is_dir() {
        let entry = LocalEntry { path: source.to_owned(), relative: source.to_owned(), meta };
        return Ok(vec![Put { entry, to: base }]);
    }
    if !recursive {
        return Err(is_directory(source.display()));
    }
    let root = source.canonicalize().map_err(|e| CliError::io("read", source.display(), e))?;
    let mut jobs = Vec::new();
    for entry in walk(&root)? {
        let to = below(&base, &entry.relative)?;
        jobs.push(Put { entry, to });
    }
    Ok(jobs)
}

fn below(base: &FsPath, relative: &Path) -> Result<FsPath, CliError> {
    let mut path = base.clone();
    for part in relative.components() {
        let refused = |refused| CliError::Path { path: relative.display().to_string(), refused };
        let name = Name::new(part.as_os_str().as_bytes()).map_err(refused)?;
        path = path.join(name);
    }
    Ok(path)
}

impl Job for Put {
    const DONE: &'static str = "put";

    fn is_dir(&self) -> bool {
        self.entry.meta.is_dir()
    }

    fn bytes(&self) -> u64 {
        if self.entry.meta.is_file() { self.entry.meta.len() } else { 0 }
    }

    async fn make_directory(&self, client: &Client) -> Result<(), CliError> {
        let mode = self.entry.meta.permissions().mode() & 0o7777;
        match client.mkdir(&self.to, mode).await {
            Err(error) if error.fs() == Some(&FsError::Exists) => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }

    async fn carry(self, client: &Client, progress: &Progress) -> Result<(), CliError> {
        let LocalEntry { path, meta, .. } = &self.entry;
        if meta.is_symlink() {
            let target =
                std::fs::read_link(path).map_err(|e| CliError::io("read the link", path.display(), e))?;
            return match client.symlink(target.as_os_str().as_bytes(), &self.to).await {
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
            client.put(&self.to, mode, &data).await?;
            progress.add_bytes(data.len() as u64);
        } else {
            let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
            let mut writer = client.put_writer(&self.to, mode).await?;
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
}

async fn put_stdin(client: &Client, to: &FsPath, json: bool) -> Result<(), CliError> {
    let started = Instant::now();
    let mut writer = client.put_writer(to, 0o644).await?;
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0_u64;
    loop {
        let n = input.read(&mut buffer).await.map_err(|e| CliError::io("read", "standard input", e))?;
        if n == 0 {
            break;
        }
        writer.write(&buffer[..n]).await?;
        bytes += n as u64;
    }
    writer.finish().await?;
    if !json {
        return Ok(());
    }
    let seconds = started.elapsed().as_secs_f64();
    object(&json!({"files": 1, "bytes": bytes, "seconds": seconds, "failed": 0}))
}
