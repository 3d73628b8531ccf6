//! `cairn fs get`.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cairn_sdk::Client;

use super::cat::{copy_out, show};
use super::tally::Tally;
use super::transfer::{self, Found, Job};
use super::{is_directory, no_directory, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::progress::Progress;

type Get = Found<PathBuf>;

pub async fn run(client: &Client, args: TransferArgs, json: bool) -> Result<(), CliError> {
    let (from, to) = sources(&args.paths)?;
    let mut tally = Tally::over(from)?;
    if to == "-" {
        for path in from {
            tally.count(show(client, path, 0, u64::MAX).await)?;
        }
        return tally.end();
    }
    let to = Path::new(to);
    transfer::run(client, &args, json, from, tally, async |source| {
        plan(client, source, to, from.len() > 1, args.recursive).await
    })
    .await
}

async fn plan(
    client: &Client,
    source: &OsStr,
    to: &Path,
    several: bool,
    recursive: bool,
) -> Result<Vec<Get>, CliError> {
    let source = remote(source)?;
    let inode = client.stat(&source).await?;
    let base = match source.name() {
        Some(name) if to.is_dir() => to.join(OsStr::from_bytes(name.as_bytes())),
        _ => to.to_owned(),
    };
    if several && base == to {
        return Err(no_directory(to.display()));
    }
    if inode.is_dir() && !recursive {
        return Err(is_directory(source));
    }
    let root = Get { from: source, inode, to: base };
    transfer::walk(client, root, |directory, name| directory.join(OsStr::from_bytes(name.as_bytes()))).await
}

impl Job for Get {
    const DONE: &'static str = "got";

    fn is_dir(&self) -> bool {
        self.inode.is_dir()
    }

    fn bytes(&self) -> u64 {
        self.content_bytes()
    }

    async fn make_directory(&self, _: &Client) -> Result<(), CliError> {
        let made = std::fs::create_dir_all(&self.to);
        made.map_err(|e| CliError::io("make the directory", self.to.display(), e))
    }

    async fn carry(self, client: &Client, progress: &Progress) -> Result<(), CliError> {
        let failed = |e| CliError::io("write", self.to.display(), e);
        if let Some(target) = &self.inode.target {
            match std::os::unix::fs::symlink(OsStr::from_bytes(target), &self.to) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                outcome => outcome.map_err(failed)?,
            }
            return Ok(());
        }
        let file = client.open(&self.from).await?;
        // Written beside its place and renamed into it: a half-written file is never seen.
        let part = self.to.with_file_name(format!(".cairn-part-{}-{}", std::process::id(), file.ino().0));
        let mut out = std::fs::File::create(&part).map_err(failed)?;
        let copied = copy_out(&file, 0, u64::MAX, |piece| {
            progress.add_bytes(piece.len() as u64);
            out.write_all(piece).map_err(failed)
        })
        .await;
        let placed = copied.and_then(|()| {
            out.set_permissions(std::fs::Permissions::from_mode(self.inode.mode & 0o7777)).map_err(failed)?;
            std::fs::rename(&part, &self.to).map_err(failed)
        });
        if placed.is_err() {
            // What is left of a failed transfer is of no use; the failure is what is told.
            let _ = std::fs::remove_file(&part);
        }
        placed?;
        progress.add_file();
        Ok(())
    }
}
