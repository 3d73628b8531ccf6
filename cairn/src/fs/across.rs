//! Moves across the edge of a mount: copied, then removed where nothing changed meanwhile.

use cairn_sdk::types::{FsError, FsPath, Inode, TailRef};
use cairn_sdk::{Client, ListingOptions, RenameMode};
use futures::{StreamExt, TryStreamExt, stream};

use super::transfer::{self, Found, Job};
use crate::exit::CliError;
use crate::progress::Progress;

/// Files copied, and removed, at once.
const AT_ONCE: usize = 16;

fn refused(path: &FsPath, refused: FsError) -> CliError {
    CliError::Path { path: path.to_string(), refused }
}

/// Copies `source` with all below it to `target`, then removes it, name by name. What was changed while it was
/// copied stays, and is an error: both are there then. Nothing is removed before everything is copied.
///
/// # Errors
/// Those of a copy; `Exists` and `NotEmpty` as a rename has them.
pub async fn carry(
    client: &Client,
    source: &FsPath,
    target: &FsPath,
    mode: RenameMode,
) -> Result<(), CliError> {
    let inode = client.symlink_stat(source).await?;
    free(client, target, &inode, mode).await?;
    let root = Found { from: source.clone(), inode, to: target.clone() };
    let found = transfer::walk(client, root, |directory: &FsPath, name| directory.join(name.clone())).await?;
    let growing = found.iter().find_map(|found| Some((&found.from, found.inode.tail?.chunk)));
    if let Some((path, chunk)) = growing {
        return Err(refused(path, FsError::TailOpen { chunk }));
    }
    let progress = Progress::start(found.iter().map(Found::content_bytes).sum(), false);
    let mut files: Vec<(FsPath, Inode)> = Vec::new();
    let mut directories: Vec<FsPath> = Vec::new();
    let mut copies = Vec::new();
    for found in found {
        if found.is_dir() {
            found.make_directory(client).await?;
            directories.push(found.from);
        } else {
            files.push((found.from.clone(), found.inode.clone()));
            copies.push(found.carry(client, &progress));
        }
    }
    let copied: Result<Vec<()>, CliError> =
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect().await;
    progress.finish();
    copied?;
    let removals = files.iter().map(|(path, inode)| remove(client, path, inode));
    let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
    let mut outcome = Ok(());
    while let Some(removed) = removals.next().await {
        outcome = outcome.and(removed);
    }
    outcome?;
    // Parents come before what they hold.
    for directory in directories.iter().rev() {
        client.rmdir(directory).await?;
    }
    Ok(())
}

/// Looks whether a rename might take the target's place.
async fn free(client: &Client, target: &FsPath, source: &Inode, mode: RenameMode) -> Result<(), CliError> {
    let there = match client.symlink_stat(target).await {
        Err(error) if error.fs() == Some(&FsError::NotFound) => return Ok(()),
        there => there?,
    };
    let why = match (mode, source.is_dir(), there.is_dir()) {
        (RenameMode::NoReplace, ..) => FsError::Exists,
        (_, true, false) => FsError::NotDirectory,
        (_, false, true) => FsError::IsDirectory,
        (_, true, true) => {
            let one = ListingOptions { limit: 1, ..ListingOptions::default() };
            match client.list(target, one).next().await? {
                Some(_) => FsError::NotEmpty,
                None => return Ok(()),
            }
        }
        (_, false, false) => return Ok(()),
    };
    Err(refused(target, why))
}

/// Removes a file that is still the one that was copied.
async fn remove(client: &Client, path: &FsPath, copied: &Inode) -> Result<(), CliError> {
    let now = client.symlink_stat(path).await?;
    if let Some(TailRef { chunk, .. }) = now.tail {
        return Err(refused(path, FsError::TailOpen { chunk }));
    }
    if (now.ino, now.version) != (copied.ino, copied.version) {
        let (expected, actual) = (copied.version, now.version);
        return Err(refused(path, FsError::VersionMismatch { expected, actual }));
    }
    Ok(client.unlink(path).await?)
}
